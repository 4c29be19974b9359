"""How far a model is from respecting an operation."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..o3 import PointGroup, point_group, representation

if TYPE_CHECKING:
    from torch_geometric.data import Data

    from ..compat import o3

VECTORS = ("pos", "cell", "edge_vec")  # attributes of a graph whose last axis is Cartesian


@torch.no_grad()
def equivariance_error(
    model: torch.nn.Module, data: Data, operations: str | PointGroup | np.ndarray | Tensor
) -> Tensor | dict[str, Tensor]:
    r"""Return for each operation how far :math:`f(g x)` lies from :math:`D(g) f(x)`.

    Positions, cell and edge vectors turn as vectors, ``x`` and ``u`` by the model's ``irreps_in`` and
    ``irreps_global``. An output turns by the model's ``irreps_out``; outputs by name are Cartesian tensors, of the rank
    that their axes after the first have.

    Args:
        model (torch.nn.Module): A model that takes ``data``.
        data (Data): A graph or a batch of graphs.
        operations (str, PointGroup, ndarray or Tensor): A finite group, its symbol, or elements of O(3), ``[n, 3, 3]``.

    Returns:
        Tensor or dict of Tensors: ``[n]``, float64: the root mean square of the difference over the nodes (or graphs),
        in the unit of the output.

    Raises:
        ValueError: If the group is continuous: give some of its operations.

    Example::

        >>> import pyg_relaxed as pr
        >>> from torch_geometric.data import Data
        >>> net = pr.models.RelaxedE3NN("0e", "1o", "8x0e+8x1o", "0e+1o", num_layers=1)
        >>> pair = torch.tensor([[0, 1], [1, 0]])
        >>> data = Data(x=torch.ones(2, 1), pos=torch.tensor([[0.0, 0, 0], [0, 0, 1]]), edge_index=pair)
        >>> bool(equivariance_error(net, data, "4mm").max() < 1e-5)
        True
    """
    if isinstance(operations, str | PointGroup):
        group = point_group(operations)
        if group.is_continuous:
            raise ValueError(f"{group.hermann_mauguin} has infinitely many operations: give some of them, [n, 3, 3]")
        operations = group.operations
    R = torch.as_tensor(operations, dtype=torch.float64).reshape(-1, 3, 3)
    before = _by_name(model(data))
    errors: dict[str, list[float]] = {name: [] for name in before}
    irreps_out = getattr(model, "irreps_out", None)
    for g in R:
        after = _by_name(model(_turned(data, model, g)))
        for name, value in before.items():
            expected = _turn(value, g, irreps_out if name == "" else None)
            difference = (after[name].double() - expected).flatten(1)
            errors[name].append(difference.square().sum(1).mean().sqrt().item())
    found = {name: torch.tensor(values, dtype=torch.float64) for name, values in errors.items()}
    return found.get("", found)


def _by_name(out: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
    return {"": out} if isinstance(out, Tensor) else out


def _turned(data: Data, model: Any, R: Tensor) -> Data:
    turned = copy.copy(data)
    for name in VECTORS:
        if name in data:
            turned[name] = (data[name].double() @ R.T.to(data[name].device)).to(data[name])
    for name, irreps in (("x", "irreps_in"), ("u", "irreps_global")):
        if name in data and hasattr(model, irreps):
            turned[name] = _turn(data[name], R, getattr(model, irreps)).to(data[name])
    return turned


def _turn(value: Tensor, R: Tensor, irreps: o3.Irreps | None) -> Tensor:
    """Return ``D(R) value`` in float64; without irreps a Cartesian tensor with one row each along the first axis."""
    value, R = value.double(), R.to(value.device)
    if irreps is not None:
        return value @ representation(irreps, R.cpu()).to(value.device).T
    for axis in range(1, value.dim()):
        value = torch.tensordot(value, R, dims=([axis], [1])).movedim(-1, axis)
    return value
