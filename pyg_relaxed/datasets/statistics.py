"""What a training wants to know about a data set: sizes, neighbours, energies of the elements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from torch_geometric.data import Data

from ..data import TARGETS, to_numpy

SUMMARY: Final = 2  # version of what summarize returns; 1 did not say where labels were read
# What some structures of a set may have and others not, and what it is for those: so that graphs batch.
OPTIONAL: Final = {"charge": 0.0, "electric_field": 0.0, "magnetic_field": 0.0, "initial_magmoms": 0.0, "fixed": False}


@dataclass(frozen=True)
class Statistics:
    """Numbers about a data set.

    Args:
        num_structures: How many there are.
        num_atoms: In all of them.
        mean_neighbors: Edges for each atom, for ``num_neighbors`` of layers.
        species: Atomic numbers that occur, rising.
        atomic_energies: For each of them its share of the energy, eV, by least squares: the energies are fitted by sums
            over the atoms. Empty without energies.
        is_determined: Whether the compositions fix those; if not they are the smallest of all that fit as well.
        energy_rms: Root mean square of what is left of the energy, for each atom, eV.
        forces_rms: Root mean square of the components of the forces, eV/Å; None without forces.
    """

    num_structures: int
    num_atoms: int
    mean_neighbors: float
    species: tuple[int, ...]
    atomic_energies: dict[int, float]
    is_determined: bool
    energy_rms: float | None
    forces_rms: float | None


def summarize(data: Data, places: Mapping[str, str], others: Sequence[str]) -> dict[str, Any]:
    """Return what is to be known of a graph, so that it need not be read again; NaN counts as no label.

    Args:
        data: The graph.
        places: From which key each of its labels was read; one that is not there was made by a transform.
        others: Keys of other numbers in the structure.
    """
    held = data.to_dict()
    targets = {name: to_numpy(held[name], np.float64) for name in TARGETS if name in held}
    labels = [name for name, value in targets.items() if not np.isnan(value).all()]
    forces = targets.get("forces", np.zeros(0))
    forces = forces[~np.isnan(forces)]
    return {
        "z": {str(z): n for z, n in sorted(Counter(data.z.tolist()).items())},
        "num_atoms": data.num_nodes,
        "num_edges": data.num_edges,
        "labels": {name: places.get(name, "pre_transform") for name in labels},
        "others": list(others),
        "inputs": [name for name in OPTIONAL if name in held],
        "energy": targets["energy"].item() if "energy" in labels else None,
        "forces": [len(forces), float((forces**2).sum())],
    }


def statistics(summaries: Sequence[dict[str, Any]]) -> Statistics:
    """Return the statistics of graphs from their summaries.

    Raises:
        ValueError: If there are none.
    """
    if not summaries:
        raise ValueError("the data set is empty: there is nothing to make statistics of")
    num_atoms = sum(s["num_atoms"] for s in summaries)
    species = sorted({int(z) for s in summaries for z in s["z"]})
    energies, is_determined, energy_rms = _atomic_energies([s for s in summaries if s["energy"] is not None])
    components, squares = np.sum([s["forces"] for s in summaries], axis=0)
    return Statistics(
        num_structures=len(summaries),
        num_atoms=num_atoms,
        mean_neighbors=sum(s["num_edges"] for s in summaries) / num_atoms,
        species=tuple(species),
        atomic_energies=energies,
        is_determined=is_determined,
        energy_rms=energy_rms,
        forces_rms=float(squares / components) ** 0.5 if components else None,
    )


def _atomic_energies(summaries: list[dict[str, Any]]) -> tuple[dict[int, float], bool, float | None]:
    if not summaries:
        return {}, False, None
    species = sorted({int(z) for s in summaries for z in s["z"]})
    counts = np.array([[s["z"].get(str(z), 0) for z in species] for s in summaries], dtype=float)
    energies, size = np.array([s["energy"] for s in summaries]), counts.sum(axis=1, keepdims=True)
    # For each atom, so that large structures do not count for more.
    shares, _, rank, _ = np.linalg.lstsq(counts / size, energies / size[:, 0], rcond=None)
    left = (energies - counts @ shares) / size[:, 0]
    found = dict(zip(species, shares.tolist(), strict=True))
    return found, int(rank) == len(species), float(np.sqrt(np.mean(left**2)))
