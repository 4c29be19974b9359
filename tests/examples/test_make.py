"""The programs that make data sets: the same bytes twice, labels that are derivatives, and what breaks no symmetry.

Their teachers are no dependencies of the package: `pip install torch==2.13.0`, then `pip install chgnet tblite`.
"""

import importlib.util
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.stress import voigt_6_to_full_3x3_stress
from scipy.spatial.transform import Rotation

import pyg_relaxed as pr

EXAMPLES = Path(__file__).parents[2] / "examples" / "materials"
FIELD = (0.001, -0.002, 0.005)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad:UserWarning"),  # CHGNet
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


surface, molecules = load("make_perovskite_surface"), load("make_molecules_in_field")


def made(monkeypatch, program, path, *options):
    monkeypatch.setattr(sys, "argv", [program.__file__, "--out", str(path), *map(str, options)])
    program.main()
    assert not path.with_name(path.name + ".part").exists()
    return path.read_bytes()


@pytest.fixture(scope="module")
def chgnet():
    pytest.importorskip("chgnet", reason="the teacher is not installed: pip install chgnet")
    return surface.teacher()


@pytest.fixture
def tblite():
    pytest.importorskip("tblite", reason="the teacher is not installed: pip install tblite")


class TestPerovskiteSurface:
    def test_the_same_command_twice(self, monkeypatch, tmp_path, chgnet):
        options = ["--material", "CaTiO3", "--num-structures", 3, "--seed", 7]
        first, second = (made(monkeypatch, surface, tmp_path / name, *options) for name in ("a.extxyz", "b.extxyz"))
        assert first == second
        assert first != made(monkeypatch, surface, tmp_path / "c.extxyz", *options[:-1], 8)

    def test_labels_survive_the_file(self, monkeypatch, tmp_path, chgnet):
        made(monkeypatch, surface, tmp_path / "a.extxyz", "--num-structures", 2)
        frames = ase.io.read(tmp_path / "a.extxyz", index=":")
        assert [atoms.info["teacher"] for atoms in frames] == ["CHGNet 0.3.0"] * 2
        for atoms in frames:
            data, expected = pr.from_ase(atoms, dtype=torch.float64), chgnet(atoms).results
            assert data.energy.item() == pytest.approx(expected["energy"], abs=1e-5)
            np.testing.assert_allclose(data.forces, expected["forces"], atol=1e-5)
            np.testing.assert_allclose(data.stress[0], voigt_6_to_full_3x3_stress(expected["stress"]), atol=1e-6)

    def test_labels_are_derivatives_of_the_energy(self, chgnet):
        atoms = bulk("MgO", "rocksalt", a=4.3, cubic=True)
        atoms.rattle(0.05, seed=0)
        strain = np.array([[0.3, 0.1, 0.0], [0.1, -0.2, 0.2], [0.0, 0.2, 0.5]])
        push = np.random.default_rng(0).normal(size=(len(atoms), 3)) / 2

        def energy(moved, strained):
            changed = Atoms(atoms)
            changed.positions += moved * push
            changed.set_cell(atoms.cell.array @ (np.eye(3) + strained * strain), scale_atoms=True)
            return chgnet(changed).results["energy"]

        results, h = chgnet(atoms).results, 0.01
        slope = (energy(h, 0) - energy(-h, 0)) / (2 * h)
        assert slope == pytest.approx(-(results["forces"] * push).sum(), rel=0.03)
        slope = (energy(0, h) - energy(0, -h)) / (2 * h) / atoms.get_volume()
        assert slope == pytest.approx((voigt_6_to_full_3x3_stress(results["stress"]) * strain).sum(), rel=0.03)

    def test_the_modes_lower_the_energy(self, chgnet):
        """Along the polar mode of BaTiO3 and the tilt of CaTiO3 there is a well before the end of the range."""
        polar, _ = surface.cubic("BaTiO3", (1, 1, 1))
        tilted, units = surface.cubic("CaTiO3", (2, 2, 2))
        a, _, tilt = surface.MATERIALS["CaTiO3"]
        _, (*shift, oxygen), _ = surface.MATERIALS["BaTiO3"]
        energies = {"polar": [], "tilt": []}
        for fraction in (0.0, 0.6, 1.0):
            moved = Atoms(polar)
            moved.positions += fraction * np.outer([*shift, oxygen, oxygen, oxygen], surface.AXES[2])
            energies["polar"].append(chgnet(moved).results["energy"])
            turned = Atoms(tilted)
            turned.positions += surface.rotations(units, np.deg2rad(fraction * tilt) * surface.AXES[0], a)
            energies["tilt"].append(chgnet(turned).results["energy"])
        for cubic, well, end in energies.values():
            assert well < cubic - 0.01
            assert well < end


@pytest.mark.parametrize("material", surface.MATERIALS)
def test_the_parent_is_cubic(material):
    atoms, units = surface.cubic(material, (2, 1, 3))
    assert len(atoms) == 5 * len(units) == 30
    distances = pr.from_ase(atoms, cutoff=2.2, dtype=torch.float64)
    a = surface.MATERIALS[material][0]
    torch.testing.assert_close(
        pr.data.edge_vectors(distances).norm(dim=1), torch.full((6 * 6 * 2,), a / 2, dtype=torch.float64)
    )
    assert {tuple(sorted(edge)) for edge in atoms.numbers[distances.edge_index.T.numpy()].tolist()} == {(8, 22)}
    np.testing.assert_allclose(units * a, atoms.positions[::5])


def test_tilts_keep_the_octahedra():
    """To first order in the angle no Ti-O distance changes, and every oxygen moves."""
    atoms, units = surface.cubic("CaTiO3", (2, 2, 2))
    bonds = pr.from_ase(atoms, cutoff=2.2, dtype=torch.float64)
    moved = surface.rotations(units, np.array([0.001, 0.001, 0.001]), surface.MATERIALS["CaTiO3"][0])
    atoms.positions += moved
    lengths = pr.data.edge_vectors(pr.from_ase(atoms, cutoff=2.2, dtype=torch.float64)).norm(dim=1)
    assert len(lengths) == bonds.num_edges
    assert np.ptp(lengths.numpy()) < 1e-5
    assert (np.linalg.norm(moved, axis=1) > 1e-3).tolist() == (atoms.numbers == 8).tolist()


@pytest.mark.parametrize(("program", "teacher"), [(surface, "chgnet"), (molecules, "tblite")])
def test_a_missing_teacher_is_named(monkeypatch, tmp_path, program, teacher):
    for name in (teacher, f"{teacher}.model", f"{teacher}.interface"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit, match=f"pip install {teacher}"):
        made(monkeypatch, program, tmp_path / "none.extxyz", "--num-structures", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("program", "options", "message"),
    [
        (surface, ["--num-structures", 0], "must be positive"),
        (surface, ["--supercell", 1, 0, 1], "must be positive"),
        (molecules, ["--num-structures", 0], "must be positive"),
        (molecules, ["--molecules", "H2O", "unobtainium"], "ase.build.molecule has no 'unobtainium'"),
        (molecules, ["--molecules", "O2"], "O2 has unpaired electrons"),
    ],
)
def test_bad_options_are_refused(monkeypatch, tmp_path, capsys, program, options, message):
    with pytest.raises(SystemExit):
        made(monkeypatch, program, tmp_path / "none.extxyz", *options)
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("tblite")
class TestMoleculesInField:
    def test_the_same_command_twice(self, monkeypatch, tmp_path):
        options = ["--num-structures", 8, "--seed", 3]
        first, second = (made(monkeypatch, molecules, tmp_path / name, *options) for name in ("a.extxyz", "b.extxyz"))
        assert first == second
        assert first != made(monkeypatch, molecules, tmp_path / "c.extxyz", "--num-structures", 8, "--seed", 4)

    def test_labels_survive_the_file(self, monkeypatch, tmp_path):
        made(monkeypatch, molecules, tmp_path / "a.extxyz", "--num-structures", 4, "--field", *FIELD)
        frames = ase.io.read(tmp_path / "a.extxyz", index=":")
        assert [len(atoms) for atoms in frames] == [3, 4, 9, 5]
        for atoms in frames:
            assert atoms.info["teacher"] == "GFN2-xTB (tblite)"
            np.testing.assert_allclose(atoms.info["hidden_field"], np.array(FIELD) * 51.4220675, rtol=1e-6)  # V/Å
            data, expected = pr.from_ase(atoms, dtype=torch.float64), molecules.label(atoms, FIELD).results
            assert data.energy.item() == pytest.approx(expected["energy"], abs=1e-6)
            np.testing.assert_allclose(data.forces, expected["forces"], atol=1e-6)
            np.testing.assert_allclose(data.dipole[0], expected["dipole"], atol=1e-6)

    @pytest.mark.parametrize("name", ["H2O", "NH3", "CH3CH2OH", "CH4"])
    def test_forces_are_derivatives_in_the_field(self, name):
        atoms, h = molecule(name), 1e-3
        atoms.rattle(0.05, seed=1)
        forces = molecules.label(atoms, FIELD).results["forces"]
        np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-9)  # the molecule is neutral
        for n, axis in [(0, 0), (1, 1), (2, 2)]:
            energies = []
            for step in (h, -h):
                moved = Atoms(atoms)
                moved.positions[n, axis] += step
                energies.append(molecules.label(moved, FIELD).results["energy"])
            assert -(energies[0] - energies[1]) / (2 * h) == pytest.approx(forces[n, axis], abs=1e-4)

    def test_the_dipole_is_minus_the_derivative_by_the_field(self):
        atoms, h = molecule("NH3"), 1e-4
        dipole = molecules.label(atoms, FIELD).results["dipole"]
        for axis, step in enumerate(h * np.eye(3)):
            energies = [molecules.label(atoms, FIELD + sign * step).results["energy"] for sign in (1, -1)]
            by_field = -(energies[0] - energies[1]) / (2 * h * 51.4220675)
            assert by_field == pytest.approx(dipole[axis], abs=1e-4)

    def test_only_the_field_breaks_the_symmetry(self):
        R = Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix()
        atoms = molecule("CH3CH2OH")
        turned = Atoms(atoms.numbers, atoms.positions @ R.T)
        here, there = molecules.label(atoms, FIELD).results, molecules.label(turned, R @ FIELD).results
        assert there["energy"] == pytest.approx(here["energy"], abs=1e-6)
        np.testing.assert_allclose(there["forces"], here["forces"] @ R.T, atol=1e-5)
        np.testing.assert_allclose(there["dipole"], R @ here["dipole"], atol=1e-5)
        assert abs(molecules.label(turned, FIELD).results["energy"] - here["energy"]) > 1e-3


def test_periodic_structures_are_refused():
    with pytest.raises(ValueError, match=r"periodic structure is not defined \(pbc is \[True, True, True\]\)"):
        molecules.label(bulk("Si"), FIELD)


def test_molecules_are_turned_not_mirrored():
    """A chiral arrangement of atoms keeps its hand."""
    parent, rng = molecule("CH3CH2OH"), np.random.default_rng(0)
    hand = np.linalg.det(parent.positions[[3, 4, 5]] - parent.positions[0])
    for _ in range(5):
        atoms = molecules.turned(parent, 0.0, rng)
        assert np.linalg.det(atoms.positions[[3, 4, 5]] - atoms.positions[0]) == pytest.approx(hand)
        np.testing.assert_allclose(atoms.get_center_of_mass(), 0, atol=1e-12)
