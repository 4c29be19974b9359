"""The examples print what their first lines promise, and with small options keep what symmetry demands."""

import importlib.util
import itertools
import re
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator

import pyg_relaxed as pr
from pyg_relaxed.datasets import tables

EXAMPLES = Path(__file__).parents[2] / "examples" / "materials"

# What Lightning and TensorBoard warn of on import and on small machines.
pytestmark = pytest.mark.filterwarnings("ignore:::lightning.*", "ignore::DeprecationWarning")


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name, *options):
    """Run an example as its first lines say; return what it prints."""
    command = [sys.executable, "-W", "error::UserWarning:__main__", str(EXAMPLES / f"{name}.py"), *map(str, options)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def numbers(text, before):
    """Return the numbers that directly follow a text wherever it occurs."""
    return [float(x) for x in re.findall(re.escape(before) + r"\s*([-+]?[\d.]+(?:e[-+]\d+)?)", text)]


@pytest.mark.slow
def test_the_phases_of_barium_titanate(tmp_path):
    command = [sys.executable, str(EXAMPLES / "batio3.py"), "--out", str(tmp_path)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    rows = {fields[0]: fields for fields in map(str.split, lines) if fields}
    expected = {"P4mm": ["4mm", "6", "T1u"], "Amm2": ["mm2", "12", "T1u"], "R3m": ["3m", "8", "T1u"]}
    for phase, row in expected.items():
        assert rows[phase][1:4] == row
        amplitude, published = (float(x) for x in rows[phase] if x.startswith("0.1"))
        assert amplitude == pytest.approx(published, abs=0.003)
        assert (tmp_path / phase / "index.html").is_file()
    assert rows["Pm-3m"][1:4] == ["m-3m", "1", "none"]
    assert (tmp_path / "phases.png").is_file()


class TestDistortionField:
    def test_what_symmetry_demands_holds_after_a_few_steps(self, float64, tmp_path, capsys):
        with np.printoptions():
            load("batio3_distortion_field").main(["--out", str(tmp_path), "--steps", "20"])
        printed = capsys.readouterr().out
        assert "m-3m to 4mm, 6 domains" in printed
        assert numbers(printed, "strict twin [ 0.0018  0.0018  0.0018], displacements below")[0] < 1e-12
        assert numbers(printed, "without 1o of theta:")[0] > 0.05
        assert (tmp_path / "domains.png").is_file()

    @pytest.mark.slow
    def test_the_displacements(self, tmp_path):
        printed = run("batio3_distortion_field", "--out", tmp_path)
        rows = re.findall(r"moves by \[(.*?)\] Å, in the child by \[(.*?)\]", printed)
        found, wanted = (np.array([row[n].split() for row in rows], dtype=float) for n in (0, 1))
        assert found.shape == (5, 3)
        np.testing.assert_allclose(found, wanted, atol=5e-4)
        for irrep in ("1e", "2o", "3o", "3e"):
            assert numbers(printed, f"without {irrep} of theta:") == [0.0]


def labelled_perovskites(path, number):
    """Write distorted BaTiO3 with the energy of Lennard-Jones spheres."""
    surface = load("make_perovskite_surface")
    options = surface.parser.parse_args(["--out", str(path), "--num-structures", str(number)])
    rng = np.random.default_rng(0)
    parent, units = surface.cubic("BaTiO3", (1, 1, 1))
    frames = [surface.distorted(parent, units, options, rng) for _ in range(number)]
    for atoms in frames:
        atoms.calc = LennardJones(sigma=1.8, epsilon=1.0, rc=4.5, smooth=True)
        results = {name: atoms.calc.get_property(name, atoms) for name in ("energy", "forces", "stress")}
        atoms.calc = SinglePointCalculator(atoms, **results)
    ase.io.write(path, frames)


class TestPerovskitePotential:
    def test_a_short_one(self, tmp_path, capsys):
        labelled_perovskites(tmp_path / "small.extxyz", 40)
        options = ["--out", tmp_path / "out", "--epochs", 4, "--steps", 10, "--supercell", 2, 1]
        load("perovskite_potential").main([str(x) for x in (tmp_path / "small.extxyz", *options)])
        printed = capsys.readouterr().out
        assert all(np.isfinite(numbers(printed, f"{label}: mean absolute error")) for label in ("energy", "forces"))
        assert len(re.findall(r"lowest frequency at [GXMR]", printed)) == 4
        assert abs(numbers(printed, "drift")[0]) < 20  # of some dozen fs
        assert (tmp_path / "out" / "potential.png").is_file()

    @pytest.mark.slow
    def test_the_soft_modes(self, tmp_path):
        pytest.importorskip("chgnet", reason="the teacher is not installed: pip install chgnet")
        run("make_perovskite_surface", "--num-structures", 400, "--out", tmp_path / "a.extxyz")
        large = ["--num-structures", 120, "--supercell", 2, 2, 2, "--seed", 1]
        run("make_perovskite_surface", *large, "--out", tmp_path / "b.extxyz")
        printed = run("perovskite_potential", tmp_path / "a.extxyz", tmp_path / "b.extxyz", "--out", tmp_path / "out")
        assert numbers(printed, "energy: mean absolute error")[0] < 0.5
        assert numbers(printed, "forces: mean absolute error")[0] < 30
        for point in "GXMR":
            ((found, teacher),) = re.findall(rf"at {point} (\S+) THz, teacher (\S+) THz", printed)
            assert float(found) == pytest.approx(float(teacher), abs=1.0)
        assert abs(numbers(printed, "drift")[0]) < 0.02


class TestDielectricTensors:
    def test_a_short_one(self, monkeypatch, tmp_path, capsys):
        """Tensors along the bonds of tetragonal crystals, in place of the table."""
        example, rng = load("dielectric_tensors"), np.random.default_rng(0)
        graphs = []
        for salt in itertools.product(("Li", "Na", "K", "Rb", "Cs"), ("F", "Cl", "Br", "I")):
            atoms = bulk("".join(salt), "cesiumchloride", a=rng.uniform(3.5, 4.5))
            atoms.set_cell(atoms.cell.array * [1, 1, rng.uniform(0.9, 1.1)], scale_atoms=True)
            atoms.info["dielectric_tensor"] = np.diag([3.0, 3.0, 3.0 + atoms.cell[2, 2] - atoms.cell[0, 0]])
            graphs.append(pr.from_ase(atoms, cutoff=1.0, dtype=torch.float64))
        monkeypatch.setattr(pr.datasets, "tensor_table", lambda *args, **kwargs: graphs)
        monkeypatch.setattr(example, "RARE", 4)
        example.main(["none.tar.gz", "--out", str(tmp_path), "--epochs", "2"])
        printed = capsys.readouterr().out
        assert len(numbers(printed, "network ")) == 2
        assert numbers(printed, "symmetry: table 0e+00, network")[0] < 1e-12
        assert (tmp_path / "dielectric.png").is_file()

    @pytest.mark.slow
    def test_better_than_the_mean(self, tmp_path):
        command = [sys.executable, "-m", *tables.COMMAND.split(), "--dest", str(tmp_path)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("the table cannot be downloaded")
        printed = run("dielectric_tensors", tmp_path / "matminer-0.3.9.tar.gz", "--out", tmp_path / "out")
        network, mean, median = (numbers(printed, name)[0] for name in ("network", "isotropic", "median"))
        assert network < 0.9 * median < mean
        assert numbers(printed, ", network")[0] < 1e-12


class TestSlabWithNormal:
    def test_a_strict_network_cannot_leave_the_plane(self, tmp_path, capsys):
        load("slab_with_normal").main(["--out", str(tmp_path), "--layers", "10", "--epochs", "2"])
        printed = capsys.readouterr().out
        error, size = re.findall(r"surface, strict: .* normal (\S+) of (\S+) Å, across", printed)[0]
        assert error == size
        assert numbers(printed, "inside, relaxed: root mean square error along the normal")[0] < 1e-6
        assert (tmp_path / "normal.png").is_file()

    @pytest.mark.slow
    def test_the_normal_is_found(self, tmp_path):
        printed = run("slab_with_normal", "--out", tmp_path)
        strict, relaxed, inside = printed.split("root mean square error along the normal ")[1:]
        assert 5 * float(relaxed.split()[0]) < float(strict.split()[0])
        assert "m-3m of m-3m is kept" in strict
        assert "4mm of m-3m is kept" in relaxed
        assert "∞m about" in relaxed
        assert float(re.search(r"(\S+)° from the normal", relaxed)[1]) < 2
        assert "left unchanged by ∞∞m" in inside
