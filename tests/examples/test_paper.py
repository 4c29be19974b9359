"""What the scripts of examples/paper print, held to the figures that their first lines promise."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch_geometric.data import Batch

import pyg_relaxed as pr
from pyg_relaxed.datasets import fields, shapes

PAPER = Path(__file__).parents[2] / "examples" / "paper"
SIGNAL = "0e+1o+2e"


@pytest.fixture
def paper(float64, monkeypatch):
    """The scripts and the modules they share."""
    monkeypatch.syspath_prepend(str(PAPER))
    names = [path.stem for path in PAPER.glob("*.py")]
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    for name in names:
        del sys.modules[name]


def run_main(script, fits, monkeypatch, out):
    """Run a script's main on networks already trained."""
    monkeypatch.setattr(script, "solve", lambda seed: fits)
    script.main(["--out", str(out)])


def check_shape(paper, name, relaxed, group):
    data = shapes.deformation(name)
    residual = paper.training.residual_group(relaxed.model, data)
    assert residual.group.hermann_mauguin == paper.training.theta_group(relaxed.model).hermann_mauguin == group
    assert residual.kept < 1e-6 < 0.1 < residual.broken
    assert paper.training.forbidden(relaxed.model, group) < 1e-12
    assert paper.training.nonzero(relaxed.model) == paper.training.allowed(group, relaxed.model)


def check_cube(paper, relaxed, penalised):
    check_shape(paper, "cube", relaxed, "m-3m")
    assert relaxed.loss < 1e-6
    assert penalised.loss < 1e-6
    for theta in pr.thetas(penalised.model).values():
        assert all(norm == 0 for ir, norm in theta.norms().items() if ir != "0e")


def check_prism(paper, relaxed):
    check_shape(paper, "prism", relaxed, "4/mmm")
    assert relaxed.loss < 1e-6
    assert max(theta.norms()["2e"] for theta in pr.thetas(relaxed.model).values()) > 1e-2


def check_less_symmetric(paper, relaxed):
    check_shape(paper, "less_symmetric", relaxed, "1")
    assert relaxed.loss < 1e-3


def least_strict_loss(name):
    """What is left of the targets when their mean over the operations of the cube is taken away."""
    data, group = shapes.deformation(name), pr.symmetry.point_group("m-3m").operations
    mean = torch.zeros_like(data.y)
    for g in group:
        image = torch.cdist(data.pos @ torch.as_tensor(g).T, data.pos).argmin(1)
        mean[image] += data.y @ pr.o3.representation(SIGNAL, g).T / len(group)
    return (data.y - mean).square().sum().item()


def test_cube_to_cube(paper, monkeypatch, tmp_path, capsys):
    relaxed, penalised, strict = fits = paper.cube_to_cube.solve(0)
    check_cube(paper, relaxed, penalised)
    assert strict.loss < 1e-6
    run_main(paper.cube_to_cube, fits, monkeypatch, tmp_path)
    assert (tmp_path / "figure_1_cube_to_cube.png").is_file()
    assert "not exactly zero: 0e\n" in capsys.readouterr().out


def test_cube_to_prism(paper, monkeypatch, tmp_path, capsys):
    relaxed, strict = fits = paper.cube_to_prism.solve(0)
    check_prism(paper, relaxed)
    assert strict.loss == pytest.approx(least_strict_loss("prism"), rel=1e-6)
    run_main(paper.cube_to_prism, fits, monkeypatch, tmp_path)
    rows = {fields[0]: fields for fields in map(str.split, capsys.readouterr().out.splitlines()) if fields}
    assert rows["2e"][1:10] == ["2", "of", "5"] * 3  # allowed, the paper's and ours
    assert rows["4e"][1:10] == ["3", "of", "9"] * 3
    assert {path.name for path in tmp_path.glob("*.png")} == {"figure_2_cube_to_prism.png", "figure_4_losses.png"}


def test_cube_to_less_symmetric(paper, monkeypatch, tmp_path):
    relaxed, strict = fits = paper.less_symmetric.solve(0)
    check_less_symmetric(paper, relaxed)
    assert strict.loss == pytest.approx(least_strict_loss("less_symmetric"), rel=1e-6)
    run_main(paper.less_symmetric, fits, monkeypatch, tmp_path)
    assert (tmp_path / "figure_3_less_symmetric.png").is_file()


def test_the_residual_group_is_broken_by_the_right_operations(paper):
    """A theta of 1o along z: 4mm, and nothing else in m-3m."""
    data = shapes.deformation("cube")
    model = pr.models.RelaxedE3NN("0e", SIGNAL, "4x0e+4x1o+4x2e", "0e+1o", num_layers=1, cutoff=shapes.CUTOFF)
    assert paper.training.residual_group(model, data).group.hermann_mauguin == "m-3m"
    for theta in pr.thetas(model).values():
        theta.set_(torch.tensor([1.0, 0.0, 0.0, 0.5]))
    residual = paper.training.residual_group(model, data)
    assert residual.group.hermann_mauguin == paper.training.theta_group(model).hermann_mauguin == "4mm"
    assert residual.group.is_subgroup_of(pr.symmetry.point_group("4mm"))


def test_fields_are_read_with_their_sign(paper, monkeypatch):
    """From a law of motion with known fields, friction and a part quadratic in the velocity."""
    E, B = torch.randn(2, 3)
    friction, quadratic = 0.3 * torch.eye(3), torch.randn(3, 3, 3)

    def law(model, v):
        return fields.lorentz(v, E, B) - v @ friction + torch.einsum("...i,...j,ijk->...k", v, v, quadratic)

    monkeypatch.setattr(paper.charged_particle, "force", law)
    found = paper.charged_particle.read_fields(None)
    torch.testing.assert_close(found.E, E)
    torch.testing.assert_close(found.B, B)
    assert found.rest == pytest.approx(0.3 * 3**0.5)


def check_particle(paper, five, strict):
    script = paper.charged_particle
    unseen = Batch.from_data_list(fields.charged_particle()[5:])
    found = script.read_fields(five.model)
    for field, true in ((found.E, torch.tensor(script.ELECTRIC)), (found.B, torch.tensor(script.MAGNETIC))):
        assert script.degrees(field, true) < 1
        assert field.norm().item() == pytest.approx(true.norm().item(), rel=0.02)
    assert strict.loss > 100 * five.loss
    assert script.error(strict.model, unseen) > 100 * script.error(five.model, unseen)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_cube_to_cube_from_other_seeds(paper, seed):
    relaxed, penalised, _ = paper.cube_to_cube.solve(seed)
    check_cube(paper, relaxed, penalised)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_cube_to_prism_from_other_seeds(paper, seed):
    relaxed, _ = paper.cube_to_prism.solve(seed)
    check_prism(paper, relaxed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_cube_to_less_symmetric_from_other_seeds(paper, seed):
    relaxed, _ = paper.less_symmetric.solve(seed)
    check_less_symmetric(paper, relaxed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_charged_particle(paper, seed):
    five, _, strict = paper.charged_particle.solve(seed)
    check_particle(paper, five, strict)


@pytest.mark.slow
def test_the_script_of_the_charged_particle(tmp_path):
    command = [sys.executable, str(PAPER / "charged_particle.py"), "--out", str(tmp_path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "on 1 start(s): 3 of 4 can be told apart" in printed
    assert "on 5 start(s): 4 of 4 can be told apart" in printed
    assert (tmp_path / "figure_5_charged_particle.png").is_file()
