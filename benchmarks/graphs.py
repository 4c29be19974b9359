"""Graphs to measure on: perovskite crystals of any size, and a batch of small molecules."""

from __future__ import annotations

import numpy as np
import torch
from ase.build import molecule
from ase.collections import g2
from torch import Tensor
from torch_geometric.data import Batch, Data

import pyg_relaxed as pr
from pyg_relaxed.data import edge_vectors

CUTOFF = 5.0  # Å


def crystal(repeat: int | tuple[int, int, int] = 5, noise: float = 0.05, dtype: torch.dtype = torch.float32) -> Data:
    """Return BaTiO3, 5 atoms in each of the cells, thermally disordered."""
    atoms = pr.structures.load("BaTiO3_Pm-3m").repeat(repeat)
    atoms.positions += np.random.default_rng(0).normal(0, noise, atoms.positions.shape)
    return pr.from_ase(atoms, cutoff=CUTOFF, dtype=dtype, extras=False)


def molecules(number: int = 64, dtype: torch.dtype = torch.float32) -> Data:
    """Return a batch of the first small organic molecules of the G2 set."""
    names = [name for name in g2.names if set(molecule(name).symbols) <= set("CHON") and len(molecule(name)) >= 5]
    atoms = [molecule(name) for name in (names * number)[:number]]
    return Batch.from_data_list([pr.from_ase(a, cutoff=CUTOFF, dtype=dtype, extras=False) for a in atoms])


def edges(data: Data) -> tuple[Tensor, Tensor]:
    """Return senders and receivers ``[2, E]`` and edge vectors ``[E, 3]``."""
    return data.edge_index, edge_vectors(data)
