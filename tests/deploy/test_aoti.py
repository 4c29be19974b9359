"""A compiled package gives what the model gives, for structures it has never seen the size of."""

import subprocess
import sys

import pytest
import torch
from ase.build import molecule
from potentials import CUTOFF, graph, potential, structures
from systems import system
from torch_geometric.data import Batch

import pyg_relaxed as pr
from pyg_relaxed import cli
from pyg_relaxed.compat import default_dtype
from pyg_relaxed.deploy import export_aoti, load_aoti
from pyg_relaxed.kernels.cpu import find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="AOTInductor needs a compiler")
FIELD = {"electric_field": [0.1, -0.2, 0.3]}
MODELS = {
    "relaxed": ({}, {}),
    "compiled kernels": ({}, {"kernels": "compiled"}),
    "in a field": ({"fields": {"electric_field": "1o"}, "repulsion": False}, {}),
    "a field given": ({"irreps_theta": None, "fields": {"electric_field": "1o"}}, {"fields": FIELD}),
}


@pytest.fixture(autouse=True)
def _float64(float64):
    pass


LONG = [pytest.param(name, marks=pytest.mark.slow) for name in list(MODELS)[1:]]  # compilers take their time


@pytest.fixture(scope="module", params=["relaxed", *LONG])
def exported(request, tmp_path_factory):
    """Compile each model once: it takes a while."""
    arguments, options = MODELS[request.param]
    with default_dtype(torch.float64):
        model = potential(**{"irreps_hidden": "3x0e+2x0o+3x1o+2x2e"} | arguments)
        path = export_aoti(model, tmp_path_factory.mktemp("aoti") / "model.pt2", **options)
    return model, path, request.param


def test_a_package_is_the_model(exported):
    model, path, _ = exported
    package = load_aoti(path)
    sizes = set()
    for atoms in structures():
        data = graph(atoms, **FIELD if model.fields else {})
        sizes.add((min(data.num_nodes, 2), min(data.num_edges, 2)))
        out, expected = package(data), model(data)
        if package.header["given_fields"]:
            expected = {name: value for name, value in expected.items() if name not in ("dipole", "polarization")}
        assert set(out) == set(expected)
        for name, value in expected.items():
            torch.testing.assert_close(out[name], value, rtol=0, atol=1e-10, msg=lambda m: f"{name}: {m}")  # noqa: B023
    assert sizes >= {(1, 0), (2, 0), (1, 2), (2, 2)}


def test_it_takes_tensors_as_the_model_does(exported):
    model, path, _ = exported
    package = load_aoti(path)
    data = graph(system(3, [True, True, True]), **FIELD if model.fields else {})
    expected = package(data)
    data.pos, data.edge_cell_shift = data.pos.T.contiguous().T, data.edge_cell_shift.T.contiguous().T
    data.z, data.edge_index = data.z.int(), data.edge_index.int()
    found = package(data)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value)
    data.cell = data.cell.float()
    with pytest.raises(TypeError, match="cell"):
        package(data)


def test_a_charged_molecule_feels_the_field(exported):
    model, path, _ = exported
    if not model.fields:
        pytest.skip("no field")
    data = graph(molecule("H2O"), charge=-1.0, **FIELD)
    found, expected = load_aoti(path)(data), model(data)
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-10, msg=lambda m: f"{name}: {m}")  # noqa: B023
    data.electric_field = data.electric_field[:, :1]
    if "electric_field" not in load_aoti(path).header["given_fields"]:
        with pytest.raises(ValueError, match="'electric_field' has 3 components"):
            load_aoti(path)(data)


ALONE = """
import sys
import torch
run = torch._inductor.aoti_load_package(sys.argv[1])
tensors = torch.load(sys.argv[2], weights_only=True)
print(repr(run(*tensors)[0].item()))
assert not {"pyg_relaxed", "e3nn", "torch_geometric"} & set(sys.modules)
"""


def test_it_needs_nothing_of_ours_unless_it_was_asked_for(exported, tmp_path):
    model, path, name = exported
    data = graph(molecule("CH3OH"), **FIELD if model.fields else {})
    tensors = [data.z, data.pos, torch.zeros(3, 3), data.edge_index, torch.zeros(data.num_edges, 3, dtype=torch.long)]
    if "electric_field" in load_aoti(path).header["inputs"]:
        tensors.append(data.electric_field[0])
    torch.save(tensors, tmp_path / "tensors.pt")
    command = [sys.executable, "-W", "ignore", "-c", ALONE, str(path), str(tmp_path / "tensors.pt")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    if name == "compiled kernels":
        assert done.returncode != 0
        assert "pyg_relaxed::" in done.stderr
    else:
        assert float(done.stdout) == pytest.approx(model(data)["energy"].item(), abs=1e-10)


def test_it_says_what_it_is_and_refuses_what_it_is_not_for(exported):
    model, path, _ = exported
    package, fields = load_aoti(path), FIELD if model.fields else {}
    header = package.header
    assert (header["species"], header["cutoff"], header["dtype"]) == ([1, 6, 8], CUTOFF, "float64")
    assert header["units"] == {"length": "Å", "energy": "eV"}
    assert header["theta"] == {name: theta.norms() for name, theta in pr.thetas(model).items()}
    assert header["versions"]["torch"] == torch.__version__
    water = graph(molecule("H2O"), **fields)
    with pytest.raises(ValueError, match="one graph at a time"):
        package(Batch.from_data_list([water, water]))
    with pytest.raises(ValueError, match="atom 0 has atomic number 14"):
        package(graph(molecule("SiH4"), **fields))
    with pytest.raises(ValueError, match=r"the model needs those within 3\.5"):
        package(pr.from_ase(molecule("H2O"), cutoff=2.0))
    with pytest.raises(TypeError, match=r"got Atoms\): give pr.from_ase\(atoms, 3.5, torch.float64, extras=False\)"):
        package(molecule("H2O"))
    with pytest.raises(
        TypeError, match=r"'pos' is torch.float32 .* compiled for torch.float64 on cpu: give pr.from_ase"
    ):
        package(graph(molecule("H2O"), **fields).apply(lambda t: t.float() if t.is_floating_point() else t))
    for name, change, message in (
        ("pos", lambda pos: pos[:2], r"'pos' must have shape \(3, 3\), as 'z' has 3 atoms"),
        ("pos", lambda pos: pos * torch.nan, "atom 0 has position"),
        ("edge_index", lambda edges: edges + 1, "joins atoms .* the graph has 3"),
        ("edge_index", lambda edges: edges[:, 1:], "'edge_cell_shift' must have shape"),
        ("edge_cell_shift", lambda shift: shift + 1, "a periodic graph needs"),
        ("pbc", lambda pbc: ~pbc, None),
    ):
        wrong = graph(molecule("H2O"), **fields)
        wrong[name] = change(wrong[name])
        if message is None:
            del wrong["cell"]
        with pytest.raises(ValueError, match=message or "a periodic graph needs"):
            package(wrong)
    if "electric_field" in header["inputs"]:
        with pytest.raises(ValueError, match="the graph needs 'electric_field'"):
            package(graph(molecule("H2O")))


def test_bad_files_are_explained(tmp_path):
    model = potential()
    with pytest.raises(ValueError, match=r"a package ends in .pt2 \(got 'model.pt'\)"):
        export_aoti(model, tmp_path / "model.pt")
    with pytest.raises(FileNotFoundError, match="create it first"):
        export_aoti(model, tmp_path / "none" / "model.pt2")
    with pytest.raises(FileNotFoundError, match="no package at"):
        load_aoti(tmp_path / "model.pt2")
    (tmp_path / "model.pt2").write_bytes(b"no package")
    with pytest.raises(ValueError, match="not a package of AOTInductor"):
        load_aoti(tmp_path / "model.pt2")
    (tmp_path / "model.pt2").rename(tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"a \.pt of metatomic is for its engines"):
        load_aoti(tmp_path / "model.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_the_command_line_writes_it(tmp_path, capsys):
    model = potential(None, irreps_hidden="2x0e", num_layers=1)
    pr.save(model, tmp_path / "model.safetensors")
    out = str(tmp_path / "model.pt2")
    command = ["export", str(tmp_path / "model.safetensors"), "--to", "aoti", "--out", out, "--dtype", "float32"]
    assert cli.main(command) == 0
    assert out in capsys.readouterr().out
    assert load_aoti(out).header["dtype"] == "float32"
    assert cli.main([*command[:-3], str(tmp_path / "model.so")]) == 2
    assert "a package ends in .pt2" in capsys.readouterr().err


def test_without_a_compiler_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", (None, "/no/compiler"))
    pr.save(potential(None, irreps_hidden="2x0e", num_layers=1), tmp_path / "model.safetensors")
    command = ["export", str(tmp_path / "model.safetensors"), "--to", "aoti", "--out", str(tmp_path / "model.pt2")]
    assert cli.main(command) == 2
    assert "No working C++ compiler found" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
