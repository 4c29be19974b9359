"""Potentials whose theta breaks every symmetry it can, and graphs for them."""

import torch
from ase import Atoms
from ase.build import bulk, molecule
from systems import system

import pyg_relaxed as pr
from pyg_relaxed.models import RelaxedPotential

CUTOFF = 3.5


def potential(irreps_theta="0e+1o+2e", species=("H", "C", "O"), **kwargs):
    torch.manual_seed(0)
    kwargs = {
        "irreps_hidden": "4x0e+4x1o+2x2e",
        "num_layers": 2,
        "repulsion": True,
        "num_neighbors": 10.0,
        "energy_shift": -50.0,
    } | kwargs
    model = RelaxedPotential(list(species), CUTOFF, irreps_theta, **kwargs)
    for theta in pr.thetas(model).values():
        if irreps_theta is not None:
            theta.set_(theta() + 0.5 * theta.free @ torch.randn(theta.irreps_theta.dim))
    return model.eval()


def structures():
    """Molecules, one atom, atoms out of reach, and crystals of every periodicity."""
    yield from (molecule("CH3OH"), molecule("H2O"), Atoms("C"), Atoms("HO", [[0, 0, 0], [0, 0, 9]]))
    for n in range(8):
        yield system(n, [bool(n & 1), bool(n & 2), bool(n & 4)])
    yield bulk("C") * (2, 2, 2)


def graph(atoms, **fields):
    atoms = atoms.copy()
    atoms.info.update(fields)
    return pr.from_ase(atoms, CUTOFF)
