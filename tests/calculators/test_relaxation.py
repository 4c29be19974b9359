"""Many structures at once go where each would go alone, which is where ASE's FIRE goes."""

from itertools import product

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from systems import system

import pyg_relaxed as pr
from pyg_relaxed.calculators import RelaxedCalculator, relax
from pyg_relaxed.models import RelaxedPotential

CUTOFF = 4.0
PBC = list(product([False, True], repeat=3))


@pytest.fixture(autouse=True)
def _float64(float64):
    pass


def potential(seed=0, broken=False, **kwargs):
    """The repulsion of nuclei keeps atoms apart, a weak network does the rest."""
    torch.manual_seed(seed)
    kwargs = {"irreps_hidden": "4x0e+4x1o", "num_layers": 1, "energy_scale": 0.1, "repulsion": True} | kwargs
    model = RelaxedPotential(["H", "C", "O", "Cu"], CUTOFF, irreps_theta="0e+1o+2e" if broken else None, **kwargs)
    for theta in pr.thetas(model).values():
        theta.set_(theta() + torch.randn(theta.irreps_theta.dim))
    return model


def rattled(atoms, seed=0):
    atoms.rattle(0.05, seed=seed)
    return atoms


def crystals():
    copper = rattled(bulk("Cu", cubic=True), 1)
    sheared = bulk("Cu", "bcc", a=2.9, cubic=True)
    sheared.set_cell(sheared.cell @ [[1.0, 0.05, 0.0], [0.02, 0.97, 0.0], [0.0, 0.0, 1.04]], scale_atoms=True)
    return [copper, rattled(sheared, 2), *(system(seed, True) for seed in range(3))]


def slabs():
    """Periodic along some of their vectors, but of a volume."""
    return [system(seed, pbc) for seed, pbc in enumerate(PBC) if any(pbc)]


def everything():
    return [molecule("CH3OH"), *crystals(), Atoms("C"), molecule("H2O"), *slabs(), rattled(molecule("C6H6"))]


def with_ase(model, atoms, cell, fmax, steps, **kwargs):
    """Energies on the way, whether it arrived, after how many steps, and where."""
    atoms = atoms.copy()
    atoms.calc = RelaxedCalculator(model)
    optimizer = FIRE(FrechetCellFilter(atoms) if cell else atoms, logfile=None, **kwargs)
    energies = []
    optimizer.attach(lambda: energies.append(atoms.get_potential_energy()))
    converged = optimizer.run(fmax=fmax, steps=steps)
    return energies, converged, optimizer.nsteps, atoms


def together(model, structures, **kwargs):
    """Relaxations and the energies on the way."""
    energies = [[] for _ in structures]

    def keep(index, step, atoms):
        assert step == len(energies[index])
        energies[index].append(atoms.get_potential_energy())

    return list(relax(model, structures, on_step=keep, **kwargs)), energies


@pytest.mark.parametrize("cell", [False, True])
def test_each_goes_where_fire_of_ase_goes(cell):
    structures = [*crystals(), *slabs()] if cell else everything()
    model = potential()
    found, energies = together(model, structures, cell=cell, fmax=0.02, steps=150)
    assert [one.index for one in found] == list(range(len(structures)))
    for one, own, atoms in zip(found, energies, structures, strict=True):
        expected, converged, steps, end = with_ase(model, atoms, cell, 0.02, 150)
        assert (one.converged, one.steps, one.error) == (converged, steps, "")
        np.testing.assert_allclose(own, expected, rtol=0, atol=1e-9)
        np.testing.assert_allclose(one.atoms.positions, end.positions, atol=1e-8)
        np.testing.assert_allclose(one.atoms.cell, end.cell, atol=1e-8)
        np.testing.assert_allclose(one.atoms.get_forces(), end.get_forces(), atol=1e-7)
    assert any(one.converged for one in found)
    assert len({one.steps for one in found}) > 3
