"""Numbers about data sets, against what they are made of."""

import numpy as np
import pytest
import torch
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_relaxed import from_ase
from pyg_relaxed.datasets import split_groups
from pyg_relaxed.datasets.statistics import statistics, summarize

ATOMIC = {13: -1.0, 29: -3.5, 79: -2.25}


def summary(counts, energy=None, forces=None):
    atoms = bulk("Cu", cubic=True).repeat((3, 3, 3))[: sum(counts.values())]
    atoms.numbers[:] = [z for z, n in counts.items() for _ in range(n)]
    data = from_ase(atoms, 3.0, torch.float64)
    if energy is not None:
        data.energy = torch.tensor([energy])
    if forces is not None:
        data.forces = torch.as_tensor(forces)
    return summarize(data, {}, [])


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(st.lists(st.fixed_dictionaries({z: st.integers(1, 5) for z in ATOMIC}), min_size=1, max_size=8))
def test_energies_that_are_sums_over_atoms_are_found(compositions):
    found = statistics([summary(counts, sum(n * ATOMIC[z] for z, n in counts.items())) for counts in compositions])
    assert found.energy_rms < 1e-9
    ranks = np.linalg.matrix_rank([list(counts.values()) for counts in compositions])
    assert found.is_determined == (ranks == len(ATOMIC))
    if found.is_determined:
        assert found.atomic_energies == pytest.approx(ATOMIC)


def test_neighbours_and_forces():
    forces = np.full((4, 3), 2.0)
    one, two = summary({29: 4}, forces=forces), summary({29: 1})
    found = statistics([one, two])
    assert (found.num_structures, found.num_atoms, found.species) == (2, 5, (29,))
    assert found.mean_neighbors == (one["num_edges"] + two["num_edges"]) / 5
    assert found.forces_rms == 2.0
    assert (found.atomic_energies, found.energy_rms) == ({}, None)


def test_nan_is_no_label():
    data = from_ase(bulk("Cu", cubic=True), 3.0, torch.float64)
    data.energy, data.forces = torch.tensor([torch.nan]), torch.tensor([[torch.nan] * 3, *[[2.0] * 3] * 3])
    found = summarize(data, {"energy": "energy", "forces": "dft_forces"}, [])
    assert (found["labels"], found["energy"]) == ({"forces": "dft_forces"}, None)
    assert statistics([found]).forces_rms == 2.0


def test_an_empty_set_has_none():
    with pytest.raises(ValueError, match="is empty"):
        statistics([])


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(st.lists(st.integers(0, 9), max_size=60), st.integers(0, 99))
def test_groups_are_never_cut(groups, seed):
    parts = split_groups(groups, (0.6, 0.2, 0.2), seed)
    assert sorted(place for part in parts for place in part) == list(range(len(groups)))
    owners = {
        group: {n for n, part in enumerate(parts) for place in part if groups[place] == group} for group in groups
    }
    assert all(len(owner) == 1 for owner in owners.values())


@pytest.mark.parametrize("fractions", [(0.5, 0.4), (1.5, -0.5), (0.5, 0.5, 0.0)])
def test_fractions_add_up_to_one(fractions):
    with pytest.raises(ValueError, match="'fractions' must be positive and add up to 1"):
        split_groups([0, 1], fractions)
