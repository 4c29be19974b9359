"""What can be known of a hidden field: by sum rules without a model, by turns of theta, and by the whole example."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from scipy.spatial.transform import Rotation
from torch_geometric.data import Batch

import pyg_relaxed as pr

PROGRAM = Path(__file__).parents[2] / "examples" / "materials" / "molecule_in_hidden_field.py"
FIELD = np.array([0.1, -0.15, 0.18])  # V/Å
CHARGES = {1: 0.35, 7: -1.05, 8: -0.7}  # e

pytestmark = pytest.mark.filterwarnings("ignore:::lightning.*", "ignore::DeprecationWarning")

spec = importlib.util.spec_from_file_location(PROGRAM.stem, PROGRAM)
example = importlib.util.module_from_spec(spec)
sys.modules[PROGRAM.stem] = example  # its dataclass looks itself up
spec.loader.exec_module(example)


def frame(rng, name="H2O", charge=0.0, field=FIELD):
    """A molecule of springs and point charges in a field, turned at random."""
    parent = molecule(name)
    atoms = Atoms(
        parent.numbers, Rotation.random(rng=rng).apply(parent.positions + rng.normal(scale=0.02, size=(len(parent), 3)))
    )
    rest = parent.get_all_distances()
    vectors = atoms.positions[:, None] - atoms.positions
    lengths = np.linalg.norm(vectors, axis=2) + np.eye(len(atoms))
    stretch = (lengths - rest - np.eye(len(atoms)))[..., None]
    charges = np.array([CHARGES[z] for z in atoms.numbers]) + charge / len(atoms)
    forces = -30 * (stretch * vectors / lengths[..., None]).sum(axis=1) + np.outer(charges, field)
    dipole = charges @ atoms.positions
    energy = 30 / 4 * (stretch**2).sum() - dipole @ field
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, dipole=dipole)
    atoms.info = {"hidden_field": field} | ({"charge": charge} if charge else {})
    return atoms


def frames(number, *names, **kwargs):
    rng = np.random.default_rng(5)
    return [frame(rng, names[n % len(names)], **kwargs) for n in range(number)]


def test_the_synthetic_labels_are_derivatives():
    atoms = frame(np.random.default_rng(0))
    assert atoms.get_forces().sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-12)
    torque = np.cross(atoms.positions, atoms.get_forces()).sum(axis=0)
    assert torque == pytest.approx(np.cross(atoms.get_dipole_moment(), FIELD))


@pytest.mark.parametrize("charge", [0.0, -1.0])
def test_sum_rules_give_the_field(charge):
    assert example.by_sum_rules(frames(20, "H2O", "NH3", charge=charge)) == pytest.approx(FIELD)


@pytest.fixture
def relaxed():
    torch.manual_seed(0)
    model = pr.models.RelaxedPotential(
        ["H", "N", "O"], 4.0, "0e+1o+2e", "4x0e+4x1o+2x2e", 2, share_theta=True, num_neighbors=2
    ).eval()
    batch = Batch.from_data_list([pr.from_ase(atoms, 4.0, extras=False) for atoms in frames(30, "H2O", "NH3")])
    return model, batch


class TestTurnsOfTheta:
    AXIS = np.array([2.0, -1.0, 2.0]) / 3

    def test_labels_of_a_model_that_breaks_symmetry(self, relaxed):
        model, batch = relaxed
        (theta,) = pr.thetas(model).values()
        theta.set_(torch.tensor([1.0, *(-0.3 * self.AXIS), *[0.0] * 5]))
        batch.forces = model(batch)["forces"] + 0.01 * torch.randn_like(batch.pos)
        finding = example.find(model, batch)
        assert finding.is_broken
        assert finding.probability == 1 / 200
        assert finding.group == "∞m"
        assert min(example.angle(finding.axis, self.AXIS), example.angle(finding.axis, -self.AXIS)) < 1e-3
        text = example.words(finding)
        assert "axis [-21-2] or its opposite" in text
        assert "Sign and magnitude of the field cannot be known" in text

    def test_a_theta_that_fits_nothing_is_none(self, relaxed):
        """Noise in theta is no discovery: turned at random it is as good."""
        model, batch = relaxed
        (theta,) = pr.thetas(model).values()
        strict = model(batch)["forces"]
        theta.set_(torch.tensor([1.0, *(0.01 * self.AXIS), *[0.01] * 5]))
        batch.forces = strict + 0.1 * torch.randn_like(strict)
        finding = example.find(model, batch)
        assert finding.effect > 0
        assert not finding.is_broken
        assert finding.axis is None
        assert example.words(finding).startswith("No symmetry is broken")

    def test_no_theta_at_all(self, relaxed):
        model, batch = relaxed
        finding = example.find(model, batch)
        assert (finding.probability, finding.effect) == (1.0, 0.0)


def test_what_is_switched_off_stays_off(relaxed):
    model, batch = relaxed
    (theta,) = pr.thetas(model).values()
    theta.set_(torch.tensor([1.0, 0.1, 0.1, 0.1, *[0.0] * 5]))
    before = example.force_error(model, batch)
    example.polish(model, batch, {"energy": 1.0, "forces": 1.0}, iterations=10)
    assert example.force_error(model.eval(), batch) < before
    assert theta.norms()["2e"] == 0.0
    assert theta.norms()["1o"] != pytest.approx(0.1 * 3**0.5, rel=1e-3)


def test_irreps_that_nothing_asks_for_are_switched_off(relaxed):
    model, batch = relaxed
    (theta,) = pr.thetas(model).values()
    theta.set_(torch.tensor([1.0, 0.3, 0.3, -0.3, *[0.0] * 5]))
    forces = model(batch)["forces"]
    batch.forces = forces + 0.1 * forces.std() * torch.randn_like(forces)
    theta.set_(theta() + torch.tensor([0.0] * 4 + [1e-3] * 5))
    example.prune(model, batch)
    assert theta.norms() == pytest.approx({"0e": 1.0, "1o": 0.3 * 3**0.5, "2e": 0.0})


@pytest.mark.slow
def test_ions_show_the_vector(tmp_path):
    ase.io.write(tmp_path / "ions.extxyz", frames(400, "H2O", "NH3", charge=1.0))
    model, held_out = example.learn(tmp_path / "ions.extxyz", "vector", iterations=250)
    finding = example.find(model, held_out)
    assert finding.is_broken
    assert example.angle(finding.field, FIELD) < 1
    assert np.linalg.norm(finding.field) == pytest.approx(np.linalg.norm(FIELD), rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("dipoles", [False, True])
def test_the_whole_example(tmp_path, dipoles):
    ase.io.write(tmp_path / "field.extxyz", frames(600, "H2O", "NH3"))
    command = [sys.executable, str(PROGRAM), str(tmp_path / "field.extxyz"), "--out", str(tmp_path / "out")]
    printed = subprocess.run(command + ["--dipoles"] * dipoles, check=True, capture_output=True, text=True).stdout
    assert "Symmetry is broken (p = 0.005): residual group ∞m" in printed
    assert ("cannot be known" in printed) is not dipoles
    (line,) = [line for line in printed.splitlines() if "from the field of the labels" in line]
    assert float(line.split("°")[0].split()[-1]) < 1
    if dipoles:
        assert abs(float(line.split("off by ")[1].split()[0])) < 2
    drift = float(printed.split("conserved within ")[1].split()[0])
    assert drift < 1  # meV
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.safetensors", "field.png"}


@pytest.mark.slow
def test_without_a_field_no_symmetry_is_broken(tmp_path):
    ase.io.write(tmp_path / "none.extxyz", frames(600, "H2O", "NH3", field=np.zeros(3)))
    command = [sys.executable, str(PROGRAM), str(tmp_path / "none.extxyz"), "--out", str(tmp_path / "out")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "No symmetry is broken" in printed
