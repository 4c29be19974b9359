"""Folding changes nothing but the number of matrices."""

import pytest
import torch
from ase import Atoms
from ase.build import bulk
from potentials import CUTOFF, graph, potential, structures

import pyg_relaxed as pr
from pyg_relaxed.deploy import fold

FIELDS = {"electric_field": "1o", "magnetic_field": "1e"}
VALUES = {"electric_field": [0.1, -0.2, 0.3], "magnetic_field": [1.0, 2.0, -1.0]}


@pytest.fixture(autouse=True)
def _float64(float64):
    pass


def energies(folded, data, field=None):
    field = torch.empty(0) if field is None else field
    return folded(data.z, data.edge_index, pr.data.edge_vectors(data), field)


def assert_same(folded, model, **fields):
    for atoms in structures():
        data = graph(atoms, **fields)
        torch.testing.assert_close(energies(folded, data), model(data)["energies"], rtol=0, atol=1e-11)


MODELS = {
    "strict": {"irreps_theta": None},
    "relaxed": {},
    "odd scalars": {"irreps_theta": "0e+0o+1o", "irreps_hidden": "4x0e+3x0o+4x1o+2x1e+2x2e"},
    "scalars last": {"irreps_hidden": "2x1o+3x0o+4x0e"},
    "scalars alone": {"irreps_theta": "0e+1o", "irreps_hidden": "8x0e"},
    "charges": {"charges": True, "num_layers": 1, "repulsion": False},
    "one theta": {"share_theta": True, "radial_hidden": (16, 8)},
    "high degrees": {"irreps_theta": 3, "irreps_hidden": "4x0e+2x1o+2x3o", "lmax": 3},
}


@pytest.mark.parametrize("kernels", ["torch", "compiled"])
@pytest.mark.parametrize("name", MODELS)
def test_energies_are_those_of_the_model(name, kernels):
    model = potential(**MODELS[name])
    assert_same(fold(model, kernels=kernels), model)


@pytest.mark.parametrize("name", MODELS)
def test_it_is_torchscript_and_holds_no_operator_of_ours(name, tmp_path):
    model = potential(**MODELS[name])
    torch.jit.save(torch.jit.script(fold(model)), tmp_path / "model.pt")
    scripted = torch.jit.load(tmp_path / "model.pt")
    assert_same(scripted, model)
    assert "aten::bmm" in str(scripted.inlined_graph)
    assert "pyg_relaxed::" not in str(scripted.inlined_graph)


@pytest.mark.parametrize("given", [{}, {"electric_field": [0.1, -0.2, 0.3]}])
def test_learned_fields_are_part_of_it(given):
    model = potential(fields={"electric_field": "1o"}, learn_fields=["electric_field"])
    model.learned["electric_field"].set_(torch.tensor([0.2, 0.1, -0.4]))
    assert_same(fold(model, fields=given), model, **given)
    data = graph(bulk("C"), **given)
    field = data.electric_field[0] if given else torch.zeros(3)
    torch.testing.assert_close(energies(fold(model), data, field), model(data)["energies"], rtol=0, atol=1e-11)


@pytest.mark.parametrize("irreps_theta", [None, "0e+2e"])
def test_fields_are_inputs_or_part_of_it(irreps_theta):
    model = potential(irreps_theta, fields=FIELDS)
    data = graph(next(structures()), **VALUES)
    field = torch.tensor([value for values in VALUES.values() for value in values])
    expected = model(data)["energies"]
    for kernels in ("torch", "compiled"):
        torch.testing.assert_close(energies(fold(model, kernels=kernels), data, field), expected, rtol=0, atol=1e-11)
    assert_same(fold(model, VALUES), model, **VALUES)
    other = graph(next(structures()), **VALUES | {"electric_field": [0.0, 0.0, 0.0]})
    assert (model(other)["energies"] - expected).abs().max() > 1e-6


def test_tables_are_left_out_and_the_model_is_left_alone():
    model = potential()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = [model(graph(atoms))["energy"].item() for atoms in structures()]
    folded = fold(pr.nn.tabulate_(model).train())
    assert model.training
    assert not folded.training
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    found = [energies(folded, graph(atoms)).sum().item() for atoms in structures()]
    assert found == pytest.approx(expected, abs=1e-10)


def test_repulsion_ends_with_the_edges_where_nuclei_are_larger():
    model = potential(species=["Cs"])
    data = graph(Atoms("Cs2", [[0, 0, 0], [0, 0, CUTOFF - 0.1]]))
    torch.testing.assert_close(energies(fold(model), data), model(data)["energies"], rtol=0, atol=1e-11)


def test_in_float32_shifts_keep_their_digits():
    model = potential().float()
    folded = fold(model)
    assert folded.embedding.dtype == torch.float32
    assert folded.shift.dtype == torch.float64
    data = graph(next(structures()))
    data = data.apply(lambda t: t.float() if t.is_floating_point() else t)
    torch.testing.assert_close(energies(folded, data), model(data)["energies"], rtol=0, atol=1e-4)
    assert (energies(folded, data) + 50).abs().max() < 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"fields": {"electric_field": [0, 0, 1]}},
            r"'fields' must give values of \['electric_field', 'magnetic_field'",
        ),
        ({"fields": VALUES | {"electric_field": [1.0]}}, "the field 'electric_field' in 1x1o has 3 finite components"),
        ({"kernels": "fast"}, r"'kernels' must be one of torch, compiled \(got 'fast'\)"),
    ],
)
def test_bad_input_is_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        fold(potential(fields=FIELDS), **arguments)
    with pytest.raises(TypeError, match=r"'model' must be a RelaxedPotential \(got Linear\)"):
        fold(torch.nn.Linear(1, 1))
