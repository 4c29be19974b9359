"""Many structures at once go where each would go alone, which is where ASE's FIRE goes."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms, FixCartesian, Hookean
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from ase.units import GPa
from systems import assert_close, differentiate, system

import pyg_relaxed as pr
from pyg_relaxed.calculators import Fire, RelaxedCalculator, evaluate, relax
from pyg_relaxed.calculators.cell import deformations, logarithm_forces
from pyg_relaxed.data import neighbour_list
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
    return [molecule("CH3OH"), *crystals(), Atoms("C"), molecule("H2O"), *slabs(), system(8, False)]


def with_ase(model, atoms, cell, fmax, steps, pressure=0.0, **kwargs):
    """Energies on the way, whether it arrived, after how many steps, and where."""
    atoms = atoms.copy()
    atoms.calc = RelaxedCalculator(model)
    moved = FrechetCellFilter(atoms, scalar_pressure=pressure) if cell else atoms
    optimizer = FIRE(moved, logfile=None, **kwargs)
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


def assert_as_ase(model, structures, found, energies, cell, fmax, steps, **kwargs):
    for one, own, atoms in zip(found, energies, structures, strict=True):
        expected, converged, taken, end = with_ase(model, atoms, cell, fmax, steps, **kwargs)
        assert (one.converged, one.steps, one.error) == (converged, taken, "")
        np.testing.assert_allclose(own, expected, rtol=0, atol=1e-11)
        np.testing.assert_allclose(one.atoms.positions, end.positions, atol=1e-11)
        np.testing.assert_allclose(one.atoms.cell, end.cell, atol=1e-11)
        np.testing.assert_allclose(one.atoms.get_forces(), end.get_forces(), atol=1e-9)


@pytest.mark.parametrize("cell", [False, True])
def test_each_goes_where_fire_of_ase_goes(cell):
    structures = [*crystals(), *slabs()] if cell else everything()
    model = potential()
    found, energies = together(model, structures, cell=cell, fmax=0.02, steps=60)
    assert [one.index for one in found] == list(range(len(structures)))
    assert_as_ase(model, structures, found, energies, cell, 0.02, 60)
    assert any(one.converged for one in found)
    assert len({one.steps for one in found}) > 3


def test_a_pressure_pushes_on_the_cell():
    model, pressure = potential(), 5 * GPa
    found, energies = together(model, crystals(), cell=True, steps=30, pressure=pressure)
    assert_as_ase(model, crystals(), found, energies, True, 0.05, 30, pressure=pressure)
    free, _ = together(model, crystals(), cell=True, steps=30)
    assert all(one.atoms.cell.volume < other.atoms.cell.volume for one, other in zip(found, free, strict=True))


def test_an_ensemble_goes_where_its_mean_goes():
    models, structures = [potential(seed) for seed in range(2)], [molecule("H2O"), crystals()[0]]
    found, energies = together(models, structures, steps=20)
    assert_as_ase(models, structures, found, energies, False, 0.05, 20)
    assert found[1].atoms.calc.results["stress_std"].shape == (3, 3)


def test_fields_and_charges_come_along():
    model = potential(fields={"electric_field": "1o"}, charges=True, num_layers=2)
    structures = [molecule(name) for name in ("H2O", "OH", "CH3OH")]
    for n, atoms in enumerate(structures):
        atoms.info["electric_field"] = np.array([0.3 * n, -0.2, 0.1])
    structures[1].info["charge"] = -1
    found, energies = together(model, structures, steps=20, fmax=0.01)
    assert_as_ase(model, structures, found, energies, False, 0.01, 20)
    assert found[1].atoms.get_charges().sum() == pytest.approx(-1, abs=1e-12)


@pytest.mark.parametrize("cell", [False, True])
def test_fixed_atoms_stay(cell):
    """In place, or with the cell in their place of the cell."""
    model, structures = potential(), crystals()
    for n, atoms in enumerate(structures):
        atoms.set_constraint(FixAtoms([n % len(atoms)]))
    found, energies = together(model, structures, cell=cell, fmax=0.01, steps=60)
    assert_as_ase(model, structures, found, energies, cell, 0.01, 60)
    for n, (one, atoms) in enumerate(zip(found, structures, strict=True)):
        before, after = (a.get_scaled_positions(wrap=False)[n % len(a)] for a in (atoms, one.atoms))
        np.testing.assert_allclose(after, before, atol=1e-12)
        assert len(one.atoms.constraints) == 1


def test_fixed_components_stay():
    model, structures = potential(), [molecule("CH3OH"), crystals()[0]]
    for atoms in structures:
        atoms.set_constraint([FixCartesian([0, 1], [True, False, True]), FixAtoms([2])])
    found, energies = together(model, structures, steps=40)
    assert_as_ase(model, structures, found, energies, False, 0.05, 40)
    np.testing.assert_array_equal(found[0].atoms.positions[:2, [0, 2]], structures[0].positions[:2, [0, 2]])


def test_other_constraints_are_named():
    bound = molecule("H2O")
    bound.set_constraint([FixAtoms([0]), Hookean(0, 1, k=5.0, rt=1.0)])
    with pytest.raises(ValueError, match="structure 1: it has the constraints Hookean, only FixAtoms and FixCartesian"):
        list(relax(potential(), [molecule("H2O"), bound], steps=1))
    turned = crystals()[0]
    turned.set_constraint(FixCartesian([0], [True, False, False]))
    with pytest.raises(ValueError, match="FixCartesian, whose directions turn with the cell"):
        list(relax(potential(), [turned], cell=True))


def as_numbers(found):
    """All that a relaxation tells."""
    numbers = [one.atoms.positions.ravel() for one in found]
    return [(one.steps, one.converged) for one in found], np.concatenate(
        [*numbers, *(one.atoms.cell for one in found)], axis=None
    )


@pytest.mark.parametrize("cell", [False, True])
@pytest.mark.parametrize("limits", [{"max_atoms": 1}, {"max_atoms": 9}, {"max_edges": 500}])
def test_who_is_in_the_batch_changes_nothing(cell, limits):
    structures, model = [*crystals(), *slabs()], potential()
    order = np.random.default_rng(0).permutation(len(structures))
    steps, numbers = as_numbers(list(relax(model, structures, cell=cell, steps=25)))
    shuffled = list(relax(model, [structures[n] for n in order], cell=cell, steps=25, **limits))
    assert [one.index for one in shuffled] == list(range(len(structures)))
    found = as_numbers([shuffled[n] for n in np.argsort(order)])
    assert found[0] == steps
    np.testing.assert_allclose(found[1], numbers, atol=1e-9)


@pytest.fixture
def batches(monkeypatch):
    """All graphs that models are given."""
    seen, forward = [], RelaxedPotential.forward

    def seeing(self, data):
        seen.append(data)
        return forward(self, data)

    monkeypatch.setattr(RelaxedPotential, "forward", seeing)
    return seen


def test_those_that_arrive_make_room(batches):
    structures = [molecule(name) for name in ("H2O", "CH3OH", "C6H6", "CO2", "H2", "CH4", "C2H6", "O2") * 2]
    found = list(relax(potential(), structures, max_atoms=14, steps=40))
    assert all(len(batch.z) <= 14 for batch in batches)
    taken = [one.steps for one in found]
    assert len(batches) < sum(taken)
    refilled = [b.num_graphs - a.num_graphs for a, b in pairwise(batches)]
    assert min(refilled) < 0 < max(refilled)
    assert sum(batch.num_graphs for batch in batches) == sum(taken) + len(structures)


def test_structures_are_read_when_there_is_room():
    read = []

    def source():
        for n in range(10_000):
            read.append(n)
            yield molecule("H2O")

    relaxed, evaluated = (
        relax(potential(), source(), steps=2, max_atoms=6),
        evaluate(potential(), source(), max_atoms=6),
    )
    assert not read
    assert next(relaxed).index == 0
    assert len(read) < 10
    assert next(evaluated).index == 0
    assert len(read) < 20


@pytest.mark.parametrize("cell", [False, True])
@pytest.mark.parametrize("skin", [0.05, 0.5, 3.0])
def test_no_edge_is_missed(batches, cell, skin):
    list(relax(potential(), [*crystals(), *slabs()], cell=cell, skin=skin, steps=15, fire=Fire(max_step=1.0, dt=0.5)))
    for batch in batches:
        edges, shifts = neighbour_list(batch.pos, batch.cell, batch.pbc, CUTOFF, batch.batch)
        assert torch.equal(edges, batch.edge_index)
        assert torch.equal(shifts, batch.edge_cell_shift)


def test_what_is_not_finite_takes_no_other_with_it():
    model = potential()
    model.scale[model.species == 6] = np.nan
    structures = [molecule("H2O"), molecule("H2"), *crystals()[:2]]
    expected = as_numbers(list(relax(model, structures, steps=10)))
    broken = molecule("CH3OH")
    found = list(relax(model, [*structures[:2], broken, *structures[2:]], steps=10))
    assert (found[2].index, found[2].steps, found[2].converged, found[2].atoms.calc) == (2, 0, False, None)
    assert "not finite: energy, forces" in found[2].error
    np.testing.assert_array_equal(found[2].atoms.positions, broken.positions)
    others = as_numbers([one for one in found if not one.error])
    assert len(others[0]) == 4
    assert others[0] == expected[0]
    np.testing.assert_allclose(others[1], expected[1], atol=1e-9)


def test_what_explodes_takes_no_other_with_it():
    """Nuclei on top of each other are blown apart by 1e9 eV/Å, with no limit to a step further than numbers go."""
    fire = Fire(dt=0.3, max_step=1e12)
    structures = [molecule("H2O"), Atoms("Cu2", [[0, 0, 0], [0, 0, 2e-3]]), crystals()[0]]
    found = list(relax(potential(), structures, fire=fire, steps=4))
    alone = [next(relax(potential(), [atoms], fire=fire, steps=4)) for atoms in (structures[0], structures[2])]
    assert found[1].error.startswith("after 1 steps: atom 0 has position")
    assert np.isfinite(found[1].atoms.get_forces()).all()
    np.testing.assert_array_equal(found[1].atoms.positions, structures[1].positions)
    np.testing.assert_allclose(as_numbers(found[::2])[1], as_numbers(alone)[1], atol=1e-9)


class Pulling(RelaxedPotential):
    """Under tension whatever its volume."""

    def forward(self, data):
        out = super().forward(data)
        return out | {"stress": torch.eye(3).expand_as(out["stress"])}


def test_what_falls_into_itself_is_stopped_before_it_fills_the_memory():
    (found,) = relax(
        Pulling(["Cu"], CUTOFF, irreps_hidden="4x0e", num_layers=1), [crystals()[0]], cell=True, max_edges=1
    )
    assert "it has fallen into itself" in found.error
    assert found.steps < 100
    assert 0 < found.atoms.cell.volume < 0.2 * crystals()[0].cell.volume


def test_nothing_given_is_changed():
    model, structures = potential(), [molecule("H2O"), crystals()[0]]
    structures[0].info["mine"], structures[1].calc = [1], RelaxedCalculator(potential(1))
    before = [atoms.copy() for atoms in structures]
    energy = structures[1].get_potential_energy()
    for one in [*evaluate(model, structures), *relax(model, structures, steps=5)]:
        assert one.atoms is not structures[one.index]
    assert structures == before
    assert structures[0].calc is None
    assert structures[1].calc.results["energy"] == energy


def test_the_force_on_the_cell_is_the_derivative_of_the_energy():
    """All nine components, of a model that breaks symmetry, in a cell that has turned."""
    model, atoms = potential(broken=True, energy_scale=1.0), crystals()[2]
    rng = np.random.default_rng(0)
    start, direction = 0.2 * rng.normal(size=(2, 3, 3))

    def deformed(U):
        F = deformations(U[None])[0]
        moved = atoms.copy()
        moved.set_cell(atoms.cell @ F.T, scale_atoms=True)
        return next(evaluate(model, [moved])).atoms

    at_start = deformed(start)
    stress = at_start.calc.results["stress_tensor"]
    assert abs(stress - stress.T).max() > 1e-4
    force = logarithm_forces(start[None], -at_start.cell.volume * stress[None])[0]
    slope = differentiate(lambda h: deformed(start + h * direction).get_potential_energy())
    assert_close(-(force * direction).sum(), slope, abs(slope))


def test_a_torque_turns_the_cell():
    """Where ASE's filter, which has six numbers of the stress, has arrived, there is still a way down."""
    model = potential(seed=1, broken=True, energy_scale=1.0)
    for atoms in crystals()[:2]:
        *_, end = with_ase(model, atoms, True, 0.01, 150)
        stress = end.calc.results["stress_tensor"] * end.cell.volume / len(end)
        assert abs(stress - stress.T).max() > 0.02
        before = end.get_potential_energy()
        (one,) = relax(model, [end], cell=True, fmax=1e-3, steps=30)
        assert one.atoms.get_potential_energy() < before - 1e-3


def test_single_precision():
    model, structures = potential(), [molecule("CH3OH"), *crystals()]
    double = list(relax(model, structures, fmax=0.05))
    single = list(relax(model, structures, fmax=0.05, dtype=torch.float32))
    for one, other in zip(single, double, strict=True):
        assert one.converged
        assert one.atoms.positions.dtype == np.float64
        assert one.atoms.get_potential_energy() == pytest.approx(other.atoms.get_potential_energy(), abs=1e-3)


def test_no_steps_and_no_forces():
    first, last = relax(potential(), [molecule("H2O"), Atoms("C")], fmax=1e-3, steps=0)
    assert (first.steps, first.converged, first.error) == (0, False, "")
    assert first.atoms.get_forces().any()
    assert (last.steps, last.converged) == (0, True)
    assert list(relax(potential(), [])) == []


def test_a_molecule_has_no_cell_to_relax():
    with pytest.raises(ValueError, match="structure 0: there is no cell to relax"):
        list(relax(potential(), [molecule("H2O")], cell=True))
    found = list(relax(potential(), [molecule("H2O"), crystals()[0]], cell=True, steps=2, on_error="report"))
    assert "no cell to relax" in found[0].error
    assert (found[1].error, found[1].steps) == ("", 2)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"fmax": -1.0}, "'fmax' must be"),
        ({"fmax": float("nan")}, "'fmax' must be"),
        ({"pressure": float("inf"), "cell": True}, "'pressure' must be finite"),
        ({"pressure": 1.0}, "needs cell=True"),
        ({"steps": -1}, "'steps' must not be negative"),
        ({"skin": 0.0}, "'skin' must be"),
        ({"max_atoms": 0}, "'max_atoms' and 'max_edges' must be at least 1"),
        ({"on_error": "ignore"}, "'on_error' must be 'raise' or 'report'"),
    ],
)
def test_bad_parameters_are_refused_at_once(kwargs, message):
    with pytest.raises(ValueError, match=message):
        relax(potential(), [], **kwargs)
    with pytest.raises(ValueError, match="'dt' must be positive"):
        Fire(dt=0.0)


def test_labels_of_the_geometry_it_started_from_do_not_come_along():
    """They are not those of where it ends; what else it came with does."""
    water = rattled(molecule("H2O"))
    water.info |= {"REF_energy": 1.0, "energy": 2.0, "polarizability": np.eye(3), "name": "one", "charge": 0}
    water.arrays["REF_forces"] = np.ones((3, 3))
    (found,) = relax(potential(), [water], steps=2)
    assert set(found.atoms.info) == {"name", "charge"}
    assert set(found.atoms.arrays) == {"numbers", "positions"}
    assert pr.from_ase(found.atoms, CUTOFF).energy.item() == found.atoms.get_potential_energy() != 1.0
    assert water.info["REF_energy"] == 1.0
