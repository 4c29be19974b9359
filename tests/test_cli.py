"""The command line: what it prints where, and its exit codes."""

import io
import json
import warnings

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from pymatgen.core import Lattice, Structure

import pyg_relaxed as pr
from pyg_relaxed import cli, structures

PARENT, CHILD = (str(structures.path(f"BaTiO3_{phase}")) for phase in ("Pm-3m", "P4mm"))
QUICK = ["--num-seeds", "1", "--steps", "80"]


def test_discover_prints_the_findings_and_writes_the_report(tmp_path, capsys):
    assert cli.main(["discover", PARENT, CHILD, "--out", str(tmp_path / "report"), *QUICK]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "m-3m to 4mm: polar vector along [001], one of 6 domains"
    assert str(tmp_path / "report" / "index.html") in out
    assert [line.split(":")[0] for line in err.splitlines()][:2] == ["strict network", "relaxed network, seed 0"]
    assert (tmp_path / "report" / "index.html").is_file()


def test_json_is_the_only_thing_on_standard_output(capsys):
    assert cli.main(["discover", PARENT, PARENT, "--json", "--quiet", "--num-seeds", "1", "--steps", "60"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["residual_group"]["hermann_mauguin"] == "m-3m"
    assert err == ""


def test_doubtful_findings_have_an_exit_code_of_their_own(capsys):
    assert cli.main(["discover", PARENT, CHILD, "--num-seeds", "1", "--steps", "3"]) == 1
    assert "Warning" in capsys.readouterr().out


def test_seed_and_theta_reach_the_network(capsys):
    arguments = ["discover", PARENT, PARENT, "--json", "--quiet", "--seed", "7", "--theta", "0e+1o", *QUICK[:2]]
    cli.main([*arguments, "--steps", "1"])
    report = json.loads(capsys.readouterr().out)
    assert report["seeds"] == [7]
    assert set(report["theta_effects_angstrom"][0]) == {"0e", "1o"}


def test_relax_writes_what_arrives_and_names_what_does_not(tmp_path, capsys):
    pr.save(pr.models.RelaxedPotential(["H", "O"], num_layers=1, repulsion=True), tmp_path / "model.safetensors")
    ase.io.write(tmp_path / "in.extxyz", [molecule(name) for name in ("H2O", "CO", "H2")])
    arguments = ["relax", str(tmp_path / "model.safetensors"), str(tmp_path / "in.extxyz"), "--steps", "3"]
    assert cli.main([*arguments, "--out", str(tmp_path / "out.extxyz"), "--fmax", "1e-9"]) == 3
    out, err = capsys.readouterr()
    assert out.startswith("0 converged, 2 not converged, 1 failed")
    assert "frame 1: atom 1 has atomic number 6, the model knows only" in err
    written = ase.io.read(tmp_path / "out.extxyz", ":")
    assert [(str(atoms.symbols), atoms.info["steps"]) for atoms in written] == [("OH2", 3), ("H2", 3)]
    assert all(atoms.arrays["predicted_forces"].any() for atoms in written)
    assert all(atoms.calc is None for atoms in written)
    assert cli.main([*arguments, "--out", str(tmp_path / "out.extxyz")]) == 2
    assert cli.main([*arguments, "--out", str(tmp_path / "all.extxyz"), "--fmax", "1e9"]) == 3
    ase.io.write(tmp_path / "in.extxyz", molecule("H2O"))
    for fmax, code in (("1e-9", 1), ("1e9", 0)):
        assert cli.main([*arguments, "--out", str(tmp_path / f"{code}.extxyz"), "--fmax", fmax]) == code
    pr.save(pr.models.RelaxedTensor(["H", "O"], "i", "dipole", num_layers=1), tmp_path / "model.safetensors")
    assert cli.main([*arguments, "--out", str(tmp_path / "none.extxyz")]) == 2
    assert "holds a RelaxedTensor" in capsys.readouterr().err


def test_relax_refuses_what_it_cannot_do_before_it_starts(tmp_path, capsys):
    pr.save(pr.models.RelaxedPotential(["H"], num_layers=1), tmp_path / "model.safetensors")
    ase.io.write(tmp_path / "in.extxyz", molecule("H2"))
    arguments = ["relax", str(tmp_path / "model.safetensors"), str(tmp_path / "in.extxyz"), "--out"]
    assert cli.main([*arguments, str(tmp_path / "out.cif")]) == 2
    assert "out.cif: extxyz is written, give a name that ends in .extxyz" in capsys.readouterr().err
    assert cli.main([*arguments, str(tmp_path / "out.xyz"), "--pressure", "1"]) == 2
    assert "give --cell too" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 2


def test_relax_writes_the_whole_stress_of_where_it_ended_and_drops_older_predictions(tmp_path):
    torch.manual_seed(0)
    model = pr.models.RelaxedPotential(["Cu", "Au"], irreps_theta="0e+1o+2e", irreps_hidden="4x0e+4x1o", num_layers=1)
    for theta in pr.thetas(model).values():
        theta.set_(theta() + torch.randn(theta.irreps_theta.dim))
    model = model.double()
    pr.save(model, tmp_path / "model.safetensors")
    alloy = bulk("Cu", cubic=True)
    alloy.symbols[0] = "Au"
    alloy.rattle(0.1, seed=0)
    alloy.info |= {"predicted_by": "pyg-relaxed:0 dipole", "predicted_dipole": np.ones(3), "predicted_gap": 1.0}
    ase.io.write(tmp_path / "in.extxyz", alloy)
    arguments = ["relax", str(tmp_path / "model.safetensors"), str(tmp_path / "in.extxyz"), "--fmax", "1e9"]
    assert cli.main([*arguments, "--out", str(tmp_path / "out.extxyz")]) == 0
    found = ase.io.read(tmp_path / "out.extxyz")
    stress = model(pr.from_ase(alloy, model.cutoff, torch.float64))["stress"][0].numpy(force=True)
    np.testing.assert_allclose(found.info["predicted_stress"], stress, rtol=0, atol=1e-6)
    assert abs(stress - stress.T).max() > 1e-4
    assert found.info["predicted_by"].split()[1:] == ["energy", "energies", "forces", "stress"]
    assert {"predicted_energies", "predicted_forces"} <= set(found.arrays)
    assert found.info["predicted_gap"] == 1.0
    assert "predicted_dipole" not in found.info


def test_relax_leaves_out_labels_of_other_names_too(tmp_path):
    """Those of which the file of the model says where they stood in its training."""
    model = pr.models.RelaxedPotential(["H", "O"], num_layers=1, repulsion=True)
    names = {"energy": "dft_energy", "forces": "dft_forces"}
    provenance = {"config": {"data": {"label_names": names}}}
    pr.save(model, tmp_path / "model.safetensors", provenance=provenance)
    water = molecule("H2O")
    water.info |= {"dft_energy": 1.0, "name": "one"}
    water.arrays["dft_forces"] = np.ones((3, 3))
    ase.io.write(tmp_path / "in.extxyz", water)
    arguments = ["relax", str(tmp_path / "model.safetensors"), str(tmp_path / "in.extxyz"), "--steps", "2"]
    assert cli.main([*arguments, "--out", str(tmp_path / "out.extxyz")]) == 1
    found = ase.io.read(tmp_path / "out.extxyz")
    assert found.info["name"] == "one"
    assert "dft_energy" not in found.info
    assert "dft_forces" not in found.arrays


def disordered(path):
    Structure(Lattice.cubic(4.0), [{"Sr": 0.5, "Ba": 0.5}], [[0, 0, 0]]).to(str(path))


def empty(path):
    path.write_text("")


def a_directory(path):
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        (lambda path: None, "none.cif", "no file"),
        (a_directory, "POSCAR", "a directory"),
        (empty, "POSCAR", "neither ASE"),
        (disordered, "mixed.cif", "disordered"),
    ],
)
def test_bad_files_are_explained_and_nothing_is_written(tmp_path, capsys, make, name, message):
    make(tmp_path / name)
    assert cli.main(["discover", PARENT, str(tmp_path / name), "--out", str(tmp_path / "report")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("option", "value"), [("--steps", "0"), ("--theta", "1o"), ("--cutoff", "-1"), ("--symprec", "0")]
)
def test_senseless_options_are_explained(tmp_path, capsys, option, value):
    assert cli.main(["discover", PARENT, CHILD, "--num-seeds", "1", option, value]) == 2
    assert option.strip("-").split("-")[0] in capsys.readouterr().err


def test_a_file_is_no_directory(tmp_path, capsys):
    (tmp_path / "report").write_text("mine")
    assert cli.main(["discover", PARENT, CHILD, "--out", str(tmp_path / "report")]) == 2
    assert "is a file" in capsys.readouterr().err
    assert (tmp_path / "report").read_text() == "mine"


def test_interrupting_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli._Progress, "__call__", interrupt)
    assert cli.main(["discover", PARENT, CHILD, "--out", str(tmp_path / "report")]) == 130
    assert not (tmp_path / "report").exists()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_in_a_terminal_and_lines_elsewhere():
    for stream, expected in ((Terminal(), "100%"), (io.StringIO(), "a: 2 steps, 0.0 s\n")):
        with cli._Progress(stream, quiet=False) as progress:
            progress("a", 1, 2)
            progress("a", 2, 2)
        assert expected in stream.getvalue()


def test_warnings_are_a_line_without_the_code_they_come_from(monkeypatch):
    lines = []

    def warning(options):
        lines.append(warnings.formatwarning("rounded", UserWarning, "somewhere.py", 7))
        return 0

    monkeypatch.setattr(cli, "_info", warning)
    before = warnings.formatwarning
    assert cli.main(["info", "model"]) == 0
    assert lines == ["pyg-relaxed: warning: rounded\n"]
    assert warnings.formatwarning is before


def test_python_errors_of_our_own_are_not_hidden(monkeypatch):
    def wrong(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr("pyg_relaxed.discovery.discover", wrong)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["discover", PARENT, CHILD])
