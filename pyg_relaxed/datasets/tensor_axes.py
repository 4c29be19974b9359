"""The axes of a tensor: in which of some it has the symmetry of its structure."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from ..symmetry.crystals import symmetry_dataset

if TYPE_CHECKING:
    from pymatgen.core import Structure

Axes = Literal["structure", "ieee"]

SYMPREC: Final = 0.01  # Å, as pymatgen's for the IEEE axes


@dataclass(frozen=True)
class Placement:
    """What turning the tensor of a row to its structure gives.

    Args:
        point_group: Of the structure.
        violations: In the axes of the structure, and when turned from the IEEE axes.
        agreeing: Those below the tolerance.
        R: From the axes of the structure to the IEEE ones.
        turned: The tensor, turned from the IEEE axes.
        turns: Whether that is the one to take, and is another than the tensor as it is.
        uncertain: Whether other axes give other tensors that have the symmetry: by their ``"sign"`` or by more.
        explained: The axes that give the symmetry where neither of the two does.
    """

    point_group: str
    violations: dict[Axes, float]
    agreeing: tuple[Axes, ...]
    R: np.ndarray
    turned: np.ndarray
    turns: bool
    uncertain: Literal["", "sign", "axes"]
    explained: tuple[str, ...]


def place(tensor: np.ndarray, structure: Structure, axes: Axes, tol: float, may_turn: bool) -> Placement:
    """Measure in which axes a tensor has the symmetry of its structure; ``axes`` are those of most of its table."""
    from pymatgen.core.tensors import Tensor

    point_group, operations = _point_group(structure)
    R = np.asarray(Tensor.get_ieee_rotation(structure))
    turned = turn(tensor, R.T)
    violations: dict[Axes, float] = {
        "structure": _violation(tensor, operations),
        "ieee": _violation(turned, operations),
    }
    preferred: tuple[Axes, ...] = ("ieee", "structure") if axes == "ieee" else ("structure", "ieee")
    agreeing = tuple(choice for choice in preferred if violations[choice] < tol)
    turns = may_turn and agreeing[:1] == ("ieee",) and not _same(turned, tensor, tol)
    if "structure" in agreeing and _same(-turned, tensor, tol):
        turns = False  # the sign is as uncertain in either
    uncertain: Literal["", "sign", "axes"] = ""
    explained: set[str] = set()
    if axes == "ieee" or not agreeing:
        taken = turned if turns else tensor
        for label, Q in _axis_choices():
            other = turn(tensor, (Q @ R).T)
            if _violation(other, operations) >= tol:
                continue
            if not agreeing:
                explained.add(label)
            elif not _same(other, taken, tol):
                by_sign = _same(-other, taken, tol)
                uncertain = "sign" if by_sign and uncertain != "axes" else "axes"
    return Placement(
        *(point_group, violations, agreeing, R, turned, turns), uncertain=uncertain, explained=tuple(sorted(explained))
    )


def _point_group(structure: Structure) -> tuple[str, np.ndarray]:
    """Return the symbol and the operations ``[n, 3, 3]`` in the axes of the structure."""
    cell = structure.lattice.matrix
    found = symmetry_dataset(cell, structure.frac_coords, np.array(structure.atomic_numbers), SYMPREC)
    rotations = np.unique(found.rotations, axis=0)  # centred lattices repeat theirs
    return str(found.pointgroup), cell.T @ rotations @ np.linalg.inv(cell.T)


def turn(tensor: np.ndarray, R: np.ndarray) -> np.ndarray:
    """Return the tensor with each of its indices turned by ``R``, or by all of ``[n, 3, 3]``."""
    result = np.broadcast_to(tensor, (*R.shape[:-2], *tensor.shape))
    for _ in range(tensor.ndim):  # the first index goes, turned, to the end: after one round all are back in place
        first = result.reshape(*R.shape[:-2], 3, -1)
        result = (R @ first).swapaxes(-1, -2).reshape(*R.shape[:-2], *tensor.shape)
    return result


def _violation(tensor: np.ndarray, operations: np.ndarray) -> float:
    norm = float(np.linalg.norm(tensor))
    return float(np.linalg.norm(tensor - turn(tensor, operations).mean(axis=0))) / norm if norm > 0 else 0.0


def _same(a: np.ndarray, b: np.ndarray, tol: float) -> bool:
    """Return whether two tensors differ by no more than either may violate its symmetry."""
    return bool(np.linalg.norm(a - b) <= 2 * tol * np.linalg.norm(b))


def _axis_choices() -> list[tuple[str, np.ndarray]]:
    """Return the 24 proper rotations that exchange the axes, with the axes that take the places of x, y and z."""
    choices = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            Q = np.zeros((3, 3))
            Q[range(3), order] = signs
            if np.linalg.det(Q) > 0:
                choices.append(("".join("xyz"[axis] for axis in order), Q))
    return choices
