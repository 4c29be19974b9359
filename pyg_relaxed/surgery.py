"""Relaxed weights of any module tree: find them, rotate them, project them, make them strict."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from .o3 import RelaxedWeights

if TYPE_CHECKING:
    import numpy as np

    from .o3 import PointGroup

Model = TypeVar("Model", bound=torch.nn.Module)


def thetas(model: torch.nn.Module) -> dict[str, RelaxedWeights]:
    """Return the relaxed weights of a model by the path of their module, shared ones once.

    Example::

        >>> import pyg_relaxed as pr
        >>> list(thetas(pr.nn.RelaxedLinear("1o", "1o", "0e+2e")))
        ['theta']
    """
    return {name: module for name, module in model.named_modules() if isinstance(module, RelaxedWeights)}


def rotate_(model: Model, R: Tensor | np.ndarray) -> Model:
    r"""Rotate every theta of a model: afterwards :math:`f_{D(R)\theta}(R x) = D(R) f_\theta(x)`.

    Args:
        model (torch.nn.Module): The model, changed in place.
        R (Tensor): Any element of O(3), shape ``[3, 3]``.
    """
    for theta in thetas(model).values():
        theta.rotate_(R)
    return model


def project_(model: Model, group: str | PointGroup | np.ndarray) -> Model:
    """Make a model exactly equivariant under a point group, from here on.

    Args:
        model (torch.nn.Module): The model, changed in place.
        group (str, PointGroup or ndarray): Symbol such as ``"4mm"``, a group, or its operations ``[n, 3, 3]``.

    Raises:
        ValueError: If the group is none, or does not commute with the restrictions of a theta; nothing is changed then.
    """
    relaxed = list(thetas(model).values())
    projected = [copy.deepcopy(theta).project_(group) for theta in relaxed]
    for theta, new in zip(relaxed, projected, strict=True):
        theta.load_state_dict(new.state_dict())
    return model


def strict_(model: Model) -> Model:
    """Make a model exactly E(3)-equivariant: the non-scalar part of every theta becomes zero."""
    for theta in thetas(model).values():
        theta.strict_()
    return model
