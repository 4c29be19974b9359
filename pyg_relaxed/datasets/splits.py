"""Cut a data set in parts: at random, or so that what belongs together stays together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from torch_geometric.data import Data

from ..symmetry.crystals import symmetry_dataset
from ..transforms.space_group import crystal_of


def split_groups(groups: Sequence[Hashable], fractions: Sequence[float], seed: int = 0) -> list[list[int]]:
    """Return the places of each part, in rising order; members of one group are in one part.

    Groups are taken in random order, each by the part that lacks most of what it should have; groups of one member give
    a random split with parts of exactly the sizes asked for, but for rounding.

    Args:
        groups: To which group each entry belongs.
        fractions: The share of each part; they add up to 1.
        seed: Of the order.

    Raises:
        ValueError: If a fraction is not positive, or they do not add up to 1.

    Example:
        >>> split_groups(["a", "b", "a", "b", "c", "a"], (0.5, 0.5))
        [[1, 3, 4], [0, 2, 5]]
    """
    if not all(fraction > 0 for fraction in fractions) or not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
        raise ValueError(f"'fractions' must be positive and add up to 1 (got {tuple(fractions)})")
    members: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    lists = list(members.values())
    parts: list[list[int]] = [[] for _ in fractions]
    for n in np.random.default_rng(seed).permutation(len(lists)):
        lacking = [fraction * len(groups) - len(part) for fraction, part in zip(fractions, parts, strict=True)]
        parts[int(np.argmax(lacking))] += lists[n]
    return [sorted(part) for part in parts]


def composition(summary: dict[str, Any]) -> str:
    """Return the reduced formula of a summary of :func:`~pyg_relaxed.datasets.statistics.summarize`.

    Example:
        >>> composition({"z": {"8": 6, "22": 2, "56": 2}})
        'Ba1Ti1O3'
    """
    from ase.data import chemical_symbols

    divisor = math.gcd(*summary["z"].values())
    return "".join(
        f"{chemical_symbols[int(z)]}{n // divisor}"
        for z, n in sorted(summary["z"].items(), key=lambda item: -int(item[0]))
    )


def prototype(data: Data, symprec: float = 0.01) -> str:
    """Return which structure type a crystal has: its space group and the site symmetries of its kinds of atoms.

    Elements do not count, only how often they occur. Site symmetries do not depend on the origin, as Wyckoff letters
    do, so BaTiO3 and SrTiO3 in Pm-3m agree however they are written. Some types with equal site symmetries are not told
    apart; they then stay in one part of a split.

    Args:
        data: A graph, periodic along three directions.
        symprec: Tolerance of spglib, Å.

    Raises:
        ValueError: If it is no crystal, or spglib finds no space group.

    Example:
        >>> from pyg_relaxed import from_ase, structures
        >>> prototype(from_ase(structures.load("BaTiO3_Pm-3m")))
        '221: 1 m-3m; 1 m-3m; 3 4/mm.m'
    """
    cell, scaled, z = crystal_of(data)
    dataset = symmetry_dataset(cell, scaled, z, symprec)
    divisor = math.gcd(*Counter(z.tolist()).values())
    kinds = []
    for element in np.unique(z):
        orbits = Counter(dataset.crystallographic_orbits[z == element].tolist())
        sites = sorted((n, dataset.site_symmetry_symbols[atom]) for atom, n in orbits.items())
        kinds.append(" + ".join(f"{n / divisor:g} {symbol}" for n, symbol in sites))
    return f"{dataset.number}: {'; '.join(sorted(kinds))}"
