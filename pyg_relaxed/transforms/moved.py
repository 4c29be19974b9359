"""A graph whose atoms have moved: what belonged to the old positions goes."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Final

from torch import Tensor
from torch_geometric.data import Data

from ..data import TARGETS
from .radius_graph import RadiusGraph

# What Symmetrize leaves on a graph: in another cell it leads back to nothing.
SYMMETRY: Final = ("site_displacement", "info_strain", "info_space_group", "info_space_group_number")


def targets_to_keep(keep: Iterable[str]) -> tuple[str, ...]:
    """Return the names of targets that stay when atoms move.

    Args:
        keep: Names of targets.

    Raises:
        ValueError: If one of them is none.

    Example:
        >>> targets_to_keep(["energy"])
        ('energy',)
    """
    names = (keep,) if isinstance(keep, str) else tuple(keep)
    for name in names:
        if name not in TARGETS:
            raise ValueError(f"'keep' names {name!r}, which is no target: choose among {', '.join(TARGETS)}")
    return names


def moved(data: Data, pos: Tensor, cell: Tensor | None = None, keep: Iterable[str] = ()) -> Data:
    """Return a graph with its atoms elsewhere, without what belonged to the old positions.

    Targets (energy, forces, stress, ...) and ``frac_coords`` go, and with the cell what :class:`Symmetrize` left. Edges
    within a ``cutoff`` are found anew; edges without one, which the caller has chosen, stay, less their ``edge_vec``.

    Args:
        data: One graph; it is not changed.
        pos: New positions, shape ``[N, 3]``, in Å.
        cell: New lattice vectors as rows, shape ``[1, 3, 3]``, in Å; None keeps the old ones.
        keep: Names of targets that stay on purpose.

    Example:
        >>> import torch
        >>> data = Data(pos=torch.zeros(1, 3), energy=torch.ones(1), charges=torch.ones(1))
        >>> moved(data, torch.ones(1, 3), keep=["energy"]).energy
        tensor([1.])
    """
    found = copy.copy(data)
    found.pos = pos
    if cell is not None:
        found.cell = cell
    for name in (*TARGETS, "frac_coords", "edge_vec", *(SYMMETRY if cell is not None else ())):
        if name in found and name not in keep:
            del found[name]
    if "edge_index" in found and "cutoff" in found:
        return RadiusGraph(found.cutoff.item())(found)
    return found
