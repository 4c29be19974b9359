import csv
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Poscar
from scipy.spatial.transform import Rotation
from torch_geometric.data import Batch

from pyg_relaxed.data import from_voigt, to_voigt
from pyg_relaxed.datasets import TensorTable, tables, tensor_table
from pyg_relaxed.symmetry import point_group

R = Rotation.from_euler("zyx", [20, 35, -50], degrees=True).as_matrix()
E14 = np.zeros((3, 6))
E14[[0, 1, 2], [3, 4, 5]] = 0.16
COLUMNS = {"dielectric": ["e_electronic", "e_total"], "elastic": ["elastic_tensor"]}
COLUMNS["piezoelectric"] = ["piezoelectric_tensor"]


def turn(tensor, R):
    for axis in range(np.ndim(tensor)):
        tensor = np.moveaxis(np.tensordot(R, tensor, (1, axis)), 0, axis)
    return tensor


def zinc_blende(R=np.eye(3)):
    primitive = 2.7 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return Structure(Lattice(primitive @ R.T), ["Zn", "S"], [[0, 0, 0], [0.25] * 3])


def polar_orthorhombic():
    """Pmm2 with the polar axis neither the shortest nor the longest."""
    return Structure(Lattice.orthorhombic(4.0, 6.0, 5.0), ["Zn", "S"], [[0, 0, 0], [0.5, 0.5, 0.2]])


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a table in the format of matminer's, and take its digest for the known one."""

    def written(name, structures, tensors, change=lambda rows: rows, packed=False, number_twice=True):
        header = ["idx", *COLUMNS[name], "meta", "poscar", "space_group", "formula", "material_id"]
        rows = []
        for n, (structure, tensor) in enumerate(zip(structures, tensors, strict=True)):
            numbers = [json.dumps(np.asarray(t).tolist()) for t in ([tensor] * len(COLUMNS[name]))]
            poscar = Poscar(structure).get_str(significant_figures=8)
            rows.append([n] * (1 + number_twice) + [*numbers, "{u'incar': u''}", poscar, 216.0, "ZnS", f"mp-{n}"])
        text = io.StringIO(newline="")
        text.write("# ref: A. Author, B. Author. Sci. Data 2 (2015).\n")
        csv.writer(text).writerows([header, *change(rows)])
        content = text.getvalue().encode()
        table = tables._TABLES[name]
        digests = {**tables._TABLES, name: replace(table, sha256=hashlib.sha256(content).hexdigest())}
        monkeypatch.setattr(tables, "_TABLES", digests)
        path = tmp_path / ("matminer-0.3.9.tar.gz" if packed else table.file)
        if not packed:
            path.write_bytes(content)
            return path
        with tarfile.open(path, "w:gz") as archive:
            member = tarfile.TarInfo(f"matminer-0.3.9/matminer/datasets/{table.file}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        return path

    return written


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("number_twice", [False, True])
def test_own_and_ieee_axes(write, packed, number_twice):
    """In its own axes, in turned ones with the tensor turned along, and in turned ones with the tensor left behind."""
    own = from_voigt(E14, "piezoelectric_stress", "pymatgen")
    along = to_voigt(turn(own, R), "piezoelectric_stress", "pymatgen")
    structures = [zinc_blende(), zinc_blende(R), zinc_blende(R)]
    path = write("piezoelectric", structures, [E14, along, E14], packed=packed, number_twice=number_twice)
    table = tensor_table("piezoelectric", path, cutoff=3.0, dtype=torch.float64)
    assert isinstance(table, TensorTable)
    assert [g.info_tensor_axes for g in table.graphs] == ["as is", "as is", "turned"]
    np.testing.assert_allclose(table[0].piezoelectric_tensor[0], own, atol=1e-7)
    np.testing.assert_allclose(table[1].piezoelectric_tensor[0], turn(own, R), atol=1e-7)
    # the sign is the one of a choice of cubic axes
    signs = [np.abs(table[2].piezoelectric_tensor[0].numpy() - s * turn(own, R)).max() for s in (1, -1)]
    assert min(signs) < 1e-6
    assert table.report.uncertain == {"sign": ("mp-0", "mp-2"), "axes": ()}  # mp-1 in its own axes alone
    assert table.report.agree == {"structure": 2, "ieee": 2, "either": 3}
    assert (table.report.as_is, table.report.turned, table.report.dropped) == (2, 1, 0)
    assert table.report.disagreeing == ()
    assert table[2].info_material_id == "mp-2"
    assert table[2].info_point_group == "-43m"
    assert Batch.from_data_list(table.graphs).piezoelectric_tensor.shape == (3, 3, 3, 3)
    assert repr(table) == "TensorTable(piezoelectric, 3 graphs of 3 rows: 2 as they are, 1 turned, 0 dropped)"
    assert "3 (100.0%) either" in table.summary()
    assert table.report == tensor_table("piezoelectric", path, cutoff=3.0, dtype=torch.float64).report


def test_keep_and_drop(write):
    path = write("piezoelectric", [zinc_blende(), zinc_blende(R)], [E14, E14])
    kept = tensor_table("piezoelectric", path, frames="keep", dtype=torch.float64)
    assert [g.info_tensor_axes for g in kept.graphs] == ["as is", "as is"]
    np.testing.assert_allclose(to_voigt(kept[1].piezoelectric_tensor[0], "piezoelectric_stress", "ase"), E14)
    dropped = tensor_table("piezoelectric", path, frames="drop")
    assert [g.info_material_id for g in dropped.graphs] == ["mp-0"]
    assert dropped.report.dropped == 1
    assert dropped.report.agree == kept.report.agree


def test_what_agrees_nowhere_is_listed(write):
    rng = np.random.default_rng(0)
    path = write("piezoelectric", [zinc_blende(), zinc_blende()], [E14, rng.normal(size=(3, 6))])
    table = tensor_table("piezoelectric", path)
    assert len(table) == 1
    (entry,) = table.report.disagreeing
    assert (entry.row, entry.material_id, entry.formula, entry.point_group, entry.axes) == (
        1,
        "mp-1",
        "ZnS",
        "-43m",
        (),
    )
    assert 0.5 < entry.violation <= 1
    assert table.report.explained == {"none": 1}
    assert len(tensor_table("piezoelectric", path, frames="keep")) == 2


def test_other_choices_of_axes_are_named(write):
    """The standard puts the polar axis of mm2 along x3, pymatgen the shortest."""
    e = np.zeros((3, 6))
    e[2, :3], e[0, 4], e[1, 3] = [0.1, 0.2, 0.7], 0.4, 0.5
    structure = polar_orthorhombic()
    structure = Structure(structure.lattice.matrix @ R.T, structure.species, structure.frac_coords)
    table = tensor_table("piezoelectric", write("piezoelectric", [structure], [e]))
    assert len(table) == 0
    (entry,) = table.report.disagreeing
    assert entry.point_group == "mm2"
    assert entry.axes in (("xzy", "zxy"), ("yzx", "zyx"))


def test_dielectric_and_elastic(write):
    path = write("dielectric", [zinc_blende(R)], [8.0 * np.eye(3)])
    graph = tensor_table("dielectric", path, dtype=torch.float64)[0]
    assert torch.equal(graph.dielectric_tensor[0], 8 * torch.eye(3, dtype=torch.float64))
    assert graph.info_electronic_dielectric_tensor.shape == (1, 3, 3)
    assert graph.info_uncertain == ""
    C = np.diag([0.0, 0, 0, 46, 46, 46])
    C[:3, :3] = 65 + 39 * np.eye(3)
    path = write("elastic", [zinc_blende()], [C], number_twice=False)
    graph = tensor_table("elastic", path, dtype=torch.float64)[0]
    np.testing.assert_allclose(graph.elastic_tensor[0], from_voigt(C, "stiffness", "pymatgen"))


def test_a_file_with_other_content(write):
    path = write("piezoelectric", [zinc_blende()], [E14])
    known = tables._TABLES["piezoelectric"].sha256
    path.write_bytes(path.read_bytes() + b"\n")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=rf"SHA-256 is {digest}, expected {known}.*pip download"):
        tensor_table("piezoelectric", path)


def test_missing_and_broken_files(write, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*pip download --no-deps --no-binary :all: matminer==0.3.9"):
        tensor_table("elastic", tmp_path / "none.csv")
    path = write("piezoelectric", [zinc_blende()], [E14], packed=True)
    with pytest.raises(ValueError, match=r"holds no matminer/datasets/elastic_tensor\.csv"):
        tensor_table("elastic", path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"is no whole .tar.gz"):
        tensor_table("piezoelectric", path)


def no_tensor(rows):
    rows[1][2] = "[[0.0"
    return rows


def other_shape(rows):
    rows[1][2] = "[1.0, 2.0]"
    return rows


def not_finite(rows):
    rows[1][2] = json.dumps(np.full((3, 6), np.nan).tolist())
    return rows


def no_structure(rows):
    rows[1][4] = "no POSCAR"
    return rows


def too_short(rows):
    del rows[1][3:5]
    return rows


@pytest.mark.parametrize("change", [no_tensor, other_shape, not_finite, no_structure, too_short])
def test_corrupt_rows_are_named(write, change):
    path = write("piezoelectric", [zinc_blende(), zinc_blende()], [E14, E14], change)
    with pytest.raises(ValueError, match=r"row 1 \(material mp-1\)"):
        tensor_table("piezoelectric", path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "piezo"}, "'name' must be one of"),
        ({"frames": "turn"}, "'frames' must be 'keep', 'rotate' or 'drop'"),
        ({"tol": 0.0}, "'tol' must be"),
    ],
)
def test_bad_arguments(given, message):
    with pytest.raises(ValueError, match=message):
        tensor_table(**{"name": "elastic", "path": "none", **given})


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("matminer")
    command = [sys.executable, "-m", *tables.COMMAND.split(), "--dest", str(folder)]
    got = subprocess.run(command, capture_output=True, text=True, timeout=500)
    found = list(folder.glob("matminer-0.3.9.tar.gz"))
    if got.returncode or not found:
        pytest.skip(f"the sdist cannot be downloaded: {got.stderr.strip()[-200:]}")
    return found[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rows", "agree", "kept"),
    [
        ("dielectric", 1056, {"structure": 0.980, "ieee": 0.652, "either": 0.980}, (1035, 0, 21)),
        ("elastic", 1181, {"structure": 0.924, "ieee": 0.863, "either": 0.924}, (1091, 0, 90)),
        ("piezoelectric", 941, {"structure": 0.408, "ieee": 0.813, "either": 0.867}, (243, 573, 125)),
    ],
)
def test_real_tables(sdist, name, rows, agree, kept):
    table = tensor_table(name, sdist, cutoff=3.0)
    report = table.report
    assert report.rows == rows
    assert {axes: n / rows for axes, n in report.agree.items()} == pytest.approx(agree, abs=0.002)
    assert (report.as_is, report.turned, report.dropped) == pytest.approx(kept, abs=3)
    assert len(table) == rows - report.dropped


@pytest.mark.slow
def test_piezoelectric_tensors_have_the_form_that_ieee_tabulates(sdist):
    """Whatever the axes of the structure: x3 is the polar axis of mm2, the four-fold one of 4mm and -42m."""
    kept = tensor_table("piezoelectric", sdist, cutoff=3.0, dtype=torch.float64, frames="keep")
    for symbol, rows in (("-43m", 129), ("-42m", 100), ("4mm", 37), ("mm2", 161), ("222", 27), ("6mm", 55)):
        graphs = [g for g in kept.graphs if g.info_point_group == symbol]
        assert len(graphs) == rows
        for graph in graphs:
            tensor = graph.piezoelectric_tensor[0].numpy()
            mean = np.mean([turn(tensor, g) for g in point_group(symbol).operations], axis=0)
            assert np.linalg.norm(tensor - mean) <= 0.01 * np.linalg.norm(tensor), graph.info_material_id
