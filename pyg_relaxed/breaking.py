"""What theta breaks, and whether the data ask for it: turned at random it must do worse."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from .compat import o3
from .o3 import representation
from .surgery import strict_, thetas
from .symmetry import stabilizer

Model = TypeVar("Model", bound=torch.nn.Module)


def theta_group(model: torch.nn.Module) -> str:
    """Return the point group that fixes every theta of a model, ``"?"`` if noise leaves none to name.

    Scalars, which every operation leaves alone, do not count: what breaks may be a small part of theta. Whether the
    data ask for it is another question: :func:`turn_test`.

    Args:
        model (torch.nn.Module): The model.

    Example::

        >>> import pyg_relaxed as pr
        >>> linear = pr.nn.RelaxedLinear("1o", "1o", "0e+1o")
        >>> theta_group(linear)
        '∞∞m'
        >>> _ = linear.theta.set_(torch.tensor([1.0, 0.0, 0.0, 0.1]))
        >>> theta_group(linear)
        '∞m'
    """
    breaking = [(ir, value.detach().double().cpu()) for ir, value in _breaking(model)]
    if not any(value.any() for _, value in breaking):
        return "∞∞m"
    irreps = o3.Irreps([(len(value) // ir.dim, ir) for ir, value in breaking])
    try:
        return stabilizer(torch.cat([value for _, value in breaking]), irreps, tol=1e-2).hermann_mauguin
    except ValueError:
        return "?"


@dataclass(frozen=True)
class TurnTest:
    """What the directions in theta are worth, by an error of the model.

    Args:
        error: With theta as it is.
        strict: With the scalar part of theta alone.
        turned: With theta turned at random, once for each turn.
    """

    error: float
    strict: float
    turned: tuple[float, ...]

    @property
    def probability(self) -> float:
        """Share of the turns, this one among them, that are at least as good.

        It is never zero: B. Phipson and G. K. Smyth, Stat. Appl. Genet. Mol. Biol. 9, 39 (2010).
        """
        return (1 + sum(other <= self.error for other in self.turned)) / (1 + len(self.turned))


def turn_test(model: Model, error: Callable[[Model], float], num_turns: int = 199, seed: int = 0) -> TurnTest:
    """Turn theta at random, and see whether the model is as good.

    Structures in random orientations take no notice of a turn, unless something beside them has a direction: then this
    is a permutation test of broken symmetry. Where structures share their axes (crystals, all set up alike), the
    weights have got used to the theta that they were trained with, broken symmetry or not: compare with a strict
    network, too. A theta of pseudoscalars alone has two directions: it is mirrored once, which is no test.

    Args:
        model (torch.nn.Module): The model; all its thetas are turned together, and back again.
        error (callable): Returns the error of a model, best on structures it has not learnt from.
        num_turns (int, optional): How many elements of O(3), drawn at random. (default: :obj:`199`)
        seed (int, optional): Of the turns. (default: :obj:`0`)

    Example::

        >>> import pyg_relaxed as pr
        >>> model = pr.nn.RelaxedLinear("1o", "1o", "0e+2e")
        >>> turn_test(model, lambda model: model(torch.ones(1, 3)).norm().item(), num_turns=9).probability
        1.0
    """
    from scipy.spatial.transform import Rotation

    found = error(model)
    degrees = {ir.l for ir, value in _breaking(model) if value.any()}
    if not degrees:
        return TurnTest(found, found, (found,) * num_turns)
    rng = np.random.default_rng((seed, num_turns))  # not the numbers that a field of the same seed was drawn with
    signs = rng.choice([-1, 1], size=(num_turns, 1, 1))
    R = Rotation.random(num_turns, rng=rng).as_matrix() * signs if degrees != {0} else -np.eye(3)[None]
    turned = tuple(error(other) for other in _turns(model, R))
    return TurnTest(found, error(strict_(copy.deepcopy(model))), turned)


def _breaking(model: torch.nn.Module) -> list[tuple[o3.Irrep, torch.Tensor]]:
    """Return the parts of all thetas that break symmetry."""
    parts = [(ir, theta()[s]) for theta in thetas(model).values() for ir, s in theta.blocks()]
    return [(ir, value) for ir, value in parts if not ir.is_scalar()]


def _turns(model: Model, R: np.ndarray) -> Iterator[Model]:
    """Yield the model with its thetas turned by each of several operations ``[n, 3, 3]``."""
    changed = copy.deepcopy(model)
    relaxed = [(theta, theta().detach().double().cpu()) for theta in thetas(changed).values()]
    for images in zip(*(representation(theta.irreps_theta, R) @ value for theta, value in relaxed), strict=True):
        for (theta, _), image in zip(relaxed, images, strict=True):
            theta.set_(image)
        yield changed
