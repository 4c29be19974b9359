"""The report of a discovery: one page, the numbers beside it, the network to load again."""

import json
import re

import numpy as np
import pytest

import pyg_relaxed as pr
from pyg_relaxed import structures
from pyg_relaxed.report import write
from pyg_relaxed.report.geometry import arrow_scale, cell_edges, components, gauge_fixed, places, surface, with_images

FILES = {"index.html", "report.json", "model.safetensors"}
PICTURES = {"summary.png", "structure.png", "theta.png", "weights.png", "losses.png"}


@pytest.fixture(scope="module")
def result():
    parent, child = structures.load("BaTiO3_Pm-3m"), structures.load("BaTiO3_P4mm")
    return pr.discover(parent, child, num_seeds=2, steps=40)


@pytest.fixture(scope="module")
def page(result, tmp_path_factory):
    return write(result, tmp_path_factory.mktemp("report"))


def test_the_page_stands_alone(page, result):
    text = page.read_text(encoding="utf-8")
    own = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"(src|href)=[\"']?http", own)
    assert result.headline() in own
    for sentence in result.sentences():
        assert sentence.split(";")[0].replace("'", "&#39;") in own
    for domain in result.to_dict()["domains"]:
        assert domain["operation_name"] in own
    assert text.count("plotly-graph-div") >= 4


def test_files_beside_the_page(page, result):
    assert {file.name for file in page.parent.iterdir()} == FILES | PICTURES
    report = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
    assert {key: report[key] for key in result.to_dict()} == json.loads(json.dumps(result.to_dict()))
    assert report["versions"]["pyg-relaxed"] == pr.__version__
    model = pr.load(page.parent / "model.safetensors")
    graph = result.fits[result.best].graph
    assert (model(graph)["displacement"] == result.model(graph)["displacement"]).all()


def test_without_the_extra_there_is_a_page_without_figures(result, tmp_path, monkeypatch):
    directory = tmp_path / "new" / "directory"
    directory.mkdir(parents=True)
    (directory / "summary.png").write_bytes(b"of another run")
    monkeypatch.setattr("pyg_relaxed.report.page.find_spec", lambda name: None)
    page = write(result, tmp_path / "new" / "directory")
    assert {file.name for file in page.parent.iterdir()} == FILES
    assert "pyg-relaxed[viz]" in page.read_text(encoding="utf-8")


def test_a_report_that_fails_replaces_nothing(result, tmp_path, monkeypatch):
    write(result, tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("pyg_relaxed.report.pictures.summary", fail)
    with pytest.raises(OSError, match="disk full"):
        write(result, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_titles_are_text_and_not_markup(result, tmp_path):
    text = write(result, tmp_path, title="<script>alert(1)</script>").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in text


@pytest.mark.parametrize(("ir", "factor"), [("1o", -3.0), ("2e", 0.1), ("0e", 2.0)])
def test_what_is_drawn_does_not_depend_on_the_gauge_of_theta(ir, factor):
    theta = pr.RelaxedWeights("0e+1o+2e")
    value = np.random.default_rng(0).normal(size=9)
    scaled = value.copy()
    for other, s in theta.blocks():
        if str(other) == ir:
            scaled[s] *= factor
    effects = {"0e": 0.1, "1o": 0.2, "2e": 0.0}
    drawn = [gauge_fixed(theta.set_(v), effects) for v in (value, scaled)]
    np.testing.assert_allclose(*drawn, atol=1e-7)
    assert np.abs(gauge_fixed(theta, None) - gauge_fixed(theta.set_(value), None)).max() > 0.05


def test_the_surface_of_a_strict_theta_is_a_sphere():
    theta = pr.RelaxedWeights("0e+0o+1o+1e")
    points, values = surface(theta)
    np.testing.assert_allclose(np.linalg.norm(points, axis=-1), 1.0)
    theta.set_([1.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0])
    points, values = surface(theta)
    assert points[values.argmax() // values.shape[1], 0] @ [0, 0, 1] == pytest.approx(values.max())
    names, table = components(theta)
    assert names == ["0e", "0o", "1o", "1e"]
    assert table[2].tolist() == [0.0, 0.0, 0.5]
    assert np.isnan(table[0]).tolist() == [True, False, True]


def test_atoms_on_faces_are_drawn_on_each_of_them():
    atoms = structures.load("BaTiO3_Pm-3m")
    index, shifts = with_images(atoms)
    assert np.bincount(index).tolist() == [8, 1, 2, 2, 2]
    where = places(atoms, index, shifts)
    moved = atoms.copy()
    moved.positions += moved.cell.array[0]  # outside of the cell
    np.testing.assert_allclose(places(moved, *with_images(moved)), where)
    edges = cell_edges(atoms.cell.array)
    np.testing.assert_allclose(np.linalg.norm(edges[:, 1] - edges[:, 0], axis=1), atoms.cell.lengths()[0])


@pytest.mark.parametrize("longest", [0.0, 0.01, 0.3])
def test_arrows_are_as_long_as_fits(longest):
    scale = arrow_scale(np.array([[0, 0, longest]]), edge=4.0)
    assert scale * longest <= 4 / 3
    assert longest == 0 or scale * longest > 4 / 3 / 2.5
