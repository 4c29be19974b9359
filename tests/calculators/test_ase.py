"""The calculator in what ASE does all day."""

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.lj import LennardJones
from ase.calculators.mixing import SumCalculator
from ase.filters import FrechetCellFilter
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet
from ase.mep import NEB
from ase.optimize import BFGS
from ase.phonons import Phonons

import pyg_relaxed as pr
from pyg_relaxed.calculators import RelaxedCalculator
from pyg_relaxed.models import RelaxedPotential

CUTOFF = 4.0


@pytest.fixture(autouse=True)
def _float64(float64):
    torch.manual_seed(0)


def potential(species=("H", "C", "O"), seed=0, **kwargs):
    """A stiff solid or molecule: the repulsion of nuclei keeps atoms apart, a weak network does the rest."""
    torch.manual_seed(seed)
    kwargs = {"irreps_hidden": "4x0e+4x1o", "num_layers": 1, "energy_scale": 0.1, "repulsion": True} | kwargs
    return RelaxedPotential(list(species), CUTOFF, **kwargs)


def crystal(calc=None):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=0)
    atoms.calc = RelaxedCalculator(potential(["Cu"])) if calc is None else calc
    return atoms


def test_results_are_those_of_the_model():
    atoms = crystal()
    out = atoms.calc.models[0](pr.from_ase(atoms, CUTOFF))
    assert atoms.get_potential_energy() == pytest.approx(out["energy"].item(), abs=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), out["forces"], atol=1e-12)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), out["stress"][0], atol=1e-12)
    np.testing.assert_allclose(atoms.get_potential_energies(), out["energies"], atol=1e-12)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()


def test_one_pass_gives_all(monkeypatch):
    calls = []
    monkeypatch.setattr(RelaxedPotential, "forward", _counted(RelaxedPotential.forward, calls))
    atoms = crystal()
    atoms.get_stress(), atoms.get_forces(), atoms.get_potential_energy()
    assert len(calls) == 1
    atoms.set_initial_magnetic_moments([1.0] * 4)
    atoms.get_forces()
    assert len(calls) == 1
    atoms.positions[0, 0] += 0.01
    atoms.get_forces()
    assert len(calls) == 2


def _counted(forward, calls):
    def counting(self, data):
        calls.append(data)
        return forward(self, data)

    return counting


def test_a_molecule_has_no_stress():
    atoms = molecule("CH3OH")
    atoms.calc = RelaxedCalculator(potential())
    atoms.get_forces()
    for _ in range(2):
        with pytest.raises(PropertyNotImplementedError):
            atoms.get_stress()
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_dipole_moment()
    assert "dipole" not in atoms.calc.implemented_properties


@pytest.mark.parametrize("change", ["replaced", "in place"])
def test_a_change_of_a_field_alone_is_noticed(change):
    """A stale energy is what caches of calculators give otherwise."""
    atoms = molecule("H2O")
    atoms.info["electric_field"] = np.array([0.0, 0.0, 0.1])
    atoms.calc = RelaxedCalculator(potential(fields={"electric_field": "1o"}, num_layers=2))
    before = atoms.get_potential_energy(), atoms.get_dipole_moment()
    if change == "replaced":
        atoms.info["electric_field"] = [0.0, 0.0, 0.5]
    else:
        atoms.info["electric_field"][2] = 0.5
    after = atoms.get_potential_energy(), atoms.get_dipole_moment()
    assert before[0] != after[0]
    assert not np.allclose(before[1], after[1])


def test_a_change_of_the_charge_alone_is_noticed():
    atoms = molecule("OH")
    atoms.calc = RelaxedCalculator(potential(charges=True))
    assert atoms.get_charges().sum() == pytest.approx(0, abs=1e-12)
    atoms.info["charge"] = -1
    assert atoms.get_charges().sum() == pytest.approx(-1, abs=1e-12)
    assert atoms.get_dipole_moment().shape == (3,)


def test_a_missing_field_is_named():
    atoms = molecule("H2O")
    atoms.calc = RelaxedCalculator(potential(fields={"electric_field": "1o"}))
    with pytest.raises(ValueError, match="the graph needs 'electric_field'"):
        atoms.get_potential_energy()


@pytest.mark.parametrize("value", ["0 0 0.1", [0.0, 0.0, np.nan], [0.0, 0.0, np.inf]])
def test_a_field_that_is_no_number_is_named(value):
    atoms = molecule("H2O")
    atoms.calc = RelaxedCalculator(potential(fields={"electric_field": "1o"}))
    atoms.info["electric_field"] = value
    with pytest.raises(ValueError, match=r"atoms.info\['electric_field'\] must be numbers, and finite"):
        atoms.get_potential_energy()


def test_a_tensor_of_torch_is_a_field():
    atoms = molecule("H2O")
    atoms.calc = RelaxedCalculator(potential(fields={"electric_field": "1o"}))
    atoms.info["electric_field"] = [0.0, 0.0, 0.1]
    expected = atoms.get_potential_energy()
    atoms.info["electric_field"] = torch.tensor([0.0, 0.0, 0.1])
    assert atoms.get_potential_energy() == expected
    assert pr.to_ase(pr.from_ase(atoms, CUTOFF)).info["electric_field"] == pytest.approx([0.0, 0.0, 0.1])


def test_a_path_is_no_model():
    with pytest.raises(TypeError, match=r"got a path\): give load\('model.safetensors'\)"):
        RelaxedCalculator("model.safetensors")


def test_relaxations():
    atoms = crystal()
    assert BFGS(atoms, logfile=None).run(fmax=0.01, steps=200)
    strained = crystal()
    strained.set_cell(strained.cell * 0.95, scale_atoms=True)
    before = abs(strained.get_stress()).max()
    BFGS(FrechetCellFilter(strained), logfile=None).run(fmax=0.01, steps=100)
    assert abs(strained.get_stress()).max() < 0.1 * before


def test_energy_is_conserved():
    atoms = crystal()
    atoms.set_momenta(np.random.default_rng(0).normal(scale=1.3, size=(4, 3)))  # some 300 K
    dynamics, energies = VelocityVerlet(atoms, 0.5 * units.fs), []
    dynamics.attach(lambda: energies.append(atoms.get_total_energy()))
    dynamics.run(200)
    assert np.ptp(energies) < 2e-4 * len(atoms)
    searches = atoms.calc._neighbours.num_searches
    assert searches < 100
    Langevin(atoms, 1 * units.fs, temperature_K=300, friction=0.01, fixcm=False).run(10)


def test_paths_and_phonons(tmp_path):
    first, last = molecule("CH3OH"), molecule("CH3OH")
    last.positions[-1] += [0.2, 0.1, 0.0]
    images = [first, first.copy(), first.copy(), last]
    calculator = RelaxedCalculator(potential())
    for image in images:
        image.calc = calculator
    band = NEB(images, allow_shared_calculator=True, method="improvedtangent")
    band.interpolate()
    assert np.isfinite(band.get_forces()).all()
    phonons = Phonons(bulk("Cu"), RelaxedCalculator(potential(["Cu"])), supercell=(2, 2, 2), name=tmp_path / "phonons")
    phonons.run()
    phonons.read(acoustic=True)
    energies = phonons.get_band_structure(bulk("Cu").cell.bandpath("GX", npoints=3)).energies
    np.testing.assert_allclose(energies[0, 0], 0, atol=1e-4)


def test_beside_other_calculators():
    both = SumCalculator([RelaxedCalculator(potential(["Cu"])), LennardJones(rc=4.0)])
    atoms = crystal(both)
    parts = [calc.get_stress(atoms) for calc in both.mixer.calcs]
    np.testing.assert_allclose(atoms.get_stress(), sum(parts))


def test_an_ensemble_knows_how_sure_it_is():
    models = [potential(["Cu"], seed) for seed in range(3)]
    atoms = crystal(RelaxedCalculator(models))
    energies = [model(pr.from_ase(atoms, CUTOFF))["energy"].item() for model in models]
    assert atoms.get_potential_energy() == pytest.approx(np.mean(energies))
    assert atoms.calc.results["energy_std"] == pytest.approx(np.std(energies, ddof=1))
    assert atoms.calc.results["forces_std"].shape == (4, 3)
    with pytest.raises(ValueError, match="the models differ in cutoff: they are no ensemble"):
        RelaxedCalculator([models[0], RelaxedPotential(["Cu"], 5.0)])
    with pytest.raises(ValueError, match="'model' is an empty list"):
        RelaxedCalculator([])
    with pytest.raises(TypeError, match=r"'model' must be a RelaxedPotential, or several \(got Linear"):
        RelaxedCalculator(torch.nn.Linear(1, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_files(dtype, tmp_path):
    pr.save(potential(["Cu"]), tmp_path / "a.safetensors")
    pr.save(potential(["Cu"], 1), tmp_path / "b.safetensors")
    one = crystal(RelaxedCalculator.from_file(tmp_path / "a.safetensors", dtype=dtype))
    two = crystal(RelaxedCalculator.from_file([tmp_path / "a.safetensors", tmp_path / "b.safetensors"]))
    assert next(one.calc.models[0].parameters()).dtype == dtype
    np.testing.assert_allclose(one.get_forces(), crystal().get_forces(), atol=1e-12 if dtype == torch.float64 else 1e-4)
    assert two.get_forces().shape == two.calc.results["forces_std"].shape
    assert two.calc.results["energy_std"] > 0


def test_the_torque_of_a_broken_symmetry_is_kept():
    model = potential(["Cu"], irreps_theta="0e+1o+2e")
    for theta in pr.thetas(model).values():
        theta.set_(theta() + torch.randn(theta.irreps_theta.dim))
    atoms = crystal(RelaxedCalculator(model))
    stress, tensor = atoms.get_stress(voigt=False), atoms.calc.results["stress_tensor"]
    np.testing.assert_allclose(stress, (tensor + tensor.T) / 2, atol=1e-15)
    assert abs(tensor - tensor.T).max() > 1e-8


def test_one_calculator_for_structure_after_structure():
    calculator = RelaxedCalculator(potential())
    for atoms in (molecule("H2O"), molecule("CH3OH"), Atoms("C"), molecule("H2O")):
        atoms.calc = calculator
        expected = calculator.models[0](pr.from_ase(atoms.copy(), CUTOFF))["energy"].item()
        assert atoms.get_potential_energy() == pytest.approx(expected, abs=1e-12)


def test_models_that_differ_are_no_ensemble():
    for other, what in (
        (potential(["Cu"], charges=True), "charges"),
        (potential(["Cu", "Au"]), "species"),
        (potential(["Cu"]).float(), "dtype"),
        (potential(["Cu"], fields={"electric_field": "1o"}), "fields"),
    ):
        with pytest.raises(ValueError, match=f"differ in {what}"):
            RelaxedCalculator([potential(["Cu"]), other])
    ensemble = pr.models.Ensemble([potential(["Cu"]), potential(["Cu"], 1)])
    assert crystal(RelaxedCalculator(ensemble)).get_potential_energy() != crystal().get_potential_energy()


def test_ase_can_hand_on_what_it_has_names_for():
    atoms = crystal()
    assert set(atoms.get_properties(["energy", "stress"])) >= {"energy", "stress"}
    two = RelaxedCalculator([potential(["Cu"]), potential(["Cu"], 1)])
    assert "forces" in crystal(two).get_properties(["forces"])
    (found,) = pr.calculators.evaluate(potential(["Cu"]), [crystal()])
    assert "forces" in found.atoms.calc.export_properties()


def test_a_field_by_another_name_stands_in_info():
    model = potential(fields={"info_pull": "1o"}, num_layers=2)
    atoms = molecule("H2O")
    atoms.info["pull"] = np.array([0.0, 0.0, 0.3])
    expected = model.eval()(pr.from_ase(atoms, CUTOFF))["energy"].item()
    atoms.calc = RelaxedCalculator(model)
    assert atoms.get_potential_energy() == pytest.approx(expected, abs=1e-12)
    atoms.info["pull"] = [0.0, 0.0, 0.5]
    assert atoms.get_potential_energy() != pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match=r"it has 'info_pull', as from_ase calls what stands in atoms.info"):
        potential(fields={"pull": "1o"})(pr.from_ase(atoms, CUTOFF))
    atoms.info["pull"] = [0.0, 0.0, 0.5]
    with pytest.raises(ValueError, match=r"'info_pull' must be a tensor \(got \[0.0, 0.0, 0.5\]\): give"):
        model(pr.from_ase(atoms, CUTOFF))
    del atoms.info["pull"]
    with pytest.raises(ValueError, match=r"set atoms.info\['pull'\]"):
        atoms.get_potential_energy()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"electric_field": "2x1o"}, "'electric_field' is 1o"),
        ({"magnetic_field": "1o"}, "'magnetic_field' is 1e"),
        ({"energy": "0e"}, "which graphs have for something else"),
        ({"batch": "1o"}, "which graphs have for something else"),
    ],
)
def test_fields_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        potential(fields=fields)
