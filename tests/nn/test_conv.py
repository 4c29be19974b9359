import copy

import pytest
import torch
from torch_geometric.nn import MessagePassing

from pyg_relaxed.compat import o3
from pyg_relaxed.nn import RelaxedConv, RelaxedLinear

IRREPS = o3.Irreps("3x0e+2x0o+2x1o+2x1e+2x2e")
SH = "0e+1o+2e"
THETA = "0e+0o+1o+1e+2e+3o"


def graph(nodes=6, edges=20):
    edge_index = torch.stack([torch.randint(0, nodes, (edges,)), torch.randint(0, nodes - 1, (edges,))])
    return IRREPS.randn(nodes, -1), edge_index, torch.randn(edges, 3)


def error(layer, x, edge_index, edge_vec, R, rotated):
    """How far the output of the rotated input is from the rotated output, relative."""
    D = IRREPS.D_from_matrix(R)
    expected = layer(x, edge_index, edge_vec) @ D.T
    return ((rotated(x @ D.T, edge_index, edge_vec @ R.T) - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scalar_theta_is_the_strict_layer(float64, dtype):
    torch.set_default_dtype(dtype)
    relaxed, strict = RelaxedConv(IRREPS, IRREPS, SH, THETA), RelaxedConv(IRREPS, IRREPS, SH)
    strict.load_state_dict({k: v for k, v in relaxed.state_dict().items() if k in strict.state_dict()})
    x, edge_index, edge_vec = graph()
    assert torch.equal(relaxed(x, edge_index, edge_vec), strict(x, edge_index, edge_vec))


def test_linear_with_scalar_theta_is_e3nn(float64):
    relaxed, oracle = RelaxedLinear(IRREPS, IRREPS, THETA), o3.Linear(IRREPS, IRREPS)
    oracle.weight.data.copy_(relaxed.linear.weight)
    x = IRREPS.randn(5, -1)
    assert torch.equal(relaxed(x), oracle(x))


def test_projection_makes_the_layer_equivariant_under_the_group(float64):
    conv = RelaxedConv(IRREPS, IRREPS, SH, THETA)
    conv.theta.set_(torch.randn(conv.theta.irreps_theta.dim))
    conv.theta.project_("4mm")
    quarter_turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert error(conv, *graph(), quarter_turn, conv) < 1e-12
    assert error(conv, *graph(), -torch.eye(3), conv) > 1e-3


@pytest.mark.parametrize("theta", [None, THETA])
def test_is_a_message_passing_layer(float64, theta):
    conv = RelaxedConv(IRREPS, IRREPS, SH, theta)
    x, edge_index, edge_vec = graph()
    out = conv(x, edge_index, edge_vec)
    assert isinstance(conv, MessagePassing)
    assert str(conv).startswith(f"RelaxedConv({IRREPS}, {IRREPS}, sh=")
    assert (conv.in_channels, conv.out_channels) == (IRREPS.dim, IRREPS.dim)
    torch.testing.assert_close(conv((x, x), edge_index, edge_vec, size=(6, 6)), out)
    torch.testing.assert_close(copy.deepcopy(conv)(x, edge_index, edge_vec), out)

    # Hooks see the messages: the fused operation gives way to propagate.
    seen = []
    handle = conv.register_message_forward_hook(lambda *args: seen.append(args[-1].shape[0]))
    torch.testing.assert_close(conv(x, edge_index, edge_vec), out)
    handle.remove()
    assert seen == [20]

    permutation = torch.randperm(6)
    inverse = permutation.argsort()
    torch.testing.assert_close(conv(x[permutation], inverse[edge_index], edge_vec), out[permutation])


def test_theta_acts_on_an_isolated_atom(float64):
    conv = RelaxedConv("2x0e", "2x0e+1o", SH, "0e+1o")
    x, edge_index, edge_vec = torch.ones(1, 2), torch.zeros(2, 0, dtype=torch.long), torch.zeros(0, 3)
    assert conv(x, edge_index, edge_vec)[:, 2:].abs().max() == 0
    conv.theta.set_(torch.tensor([1.0, 0, 0, 1]))
    out = conv(x, edge_index, edge_vec)[0, 2:]
    assert out[:2].abs().max() == 0
    assert out[2].abs() > 1e-3


def test_messages_vanish_smoothly_at_the_cutoff(float64):
    conv = RelaxedConv("2x0e", "2x0e+1o", SH, cutoff=2.0, self_connection=False)
    edge_index = torch.tensor([[0], [1]])
    sizes = [conv(torch.ones(2, 2), edge_index, torch.tensor([[0.0, 0, 2 - h]])).norm().item() for h in (0.02, 0.01)]
    # The envelope vanishes with the third power, the Bessel functions with the first.
    assert sizes[1] < sizes[0] / 8
    assert conv(torch.ones(2, 2), edge_index, torch.tensor([[0.0, 0, 2.5]])).norm() == 0


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"aggr": "max"}, "'aggr' must be"),
        ({"irreps_theta": "1o"}, "must contain 0e"),
        ({"irreps_in": -1}, "'irreps_in' must be irreps such as"),
        ({"irreps_out": "2x0q"}, "'irreps_out' must be irreps such as"),
        ({"cutoff": 0}, "'cutoff' must be a positive"),
        ({"num_neighbors": 0}, "'num_neighbors' must be positive"),
        ({"decomposed_layers": 2}, "'decomposed_layers'"),
        ({"irreps_out": "5o", "irreps_theta": None}, "no path connects"),
    ],
)
def test_bad_construction_is_explained(kwargs, message):
    arguments = {"irreps_in": "2x0e", "irreps_out": "2x0e", "irreps_sh": SH, "irreps_theta": THETA} | kwargs
    with pytest.raises(ValueError, match=message):
        RelaxedConv(**arguments)


def test_bad_input_is_explained(float64):
    conv = RelaxedConv(IRREPS, IRREPS, SH)
    x, edge_index, edge_vec = graph()
    with pytest.raises(ValueError, match="'x' must have last dimension"):
        conv(x[:, 1:], edge_index, edge_vec)
    with pytest.raises(ValueError, match="'edge_vec' must have shape"):
        conv(x, edge_index, edge_vec[1:])
    with pytest.raises(TypeError, match=r"'edge_vec' is torch\.float32"):
        conv(x, edge_index, edge_vec.float())
    with pytest.raises(TypeError, match=r"'x' is torch\.float64 on meta but the layer is torch\.float64 on cpu"):
        conv(x.to("meta"), edge_index, edge_vec)
    with pytest.raises(ValueError, match=r"'x' must have shape \(N, 27\)"):
        conv(x[0], edge_index, edge_vec)
    with pytest.raises(TypeError, match="'edge_index' must be int64"):
        conv(x, edge_index.double(), edge_vec)
    with pytest.raises(ValueError, match="this layer takes no 'edge_attr'"):
        conv(x, edge_index, edge_vec, torch.ones(20, 1))


def test_reset_does_not_depend_on_what_the_memory_held(float64):
    layer = RelaxedLinear("1o", "1o", "0e+2e")
    layer.theta.freeze("2e")
    with torch.no_grad():
        layer.theta.weight.fill_(float("nan"))
        layer.theta.frozen.fill_(float("inf"))
    layer.reset_parameters()
    assert layer.theta().tolist() == [1, 0, 0, 0, 0, 0]
    layer.theta.set_(torch.arange(6.0))
    assert layer.theta().tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
@pytest.mark.parametrize("irreps_theta", [None, "0e+1o"])
def test_autocast(irreps_theta, layout):
    conv = RelaxedConv("8x0e", "8x0e+4x1o", "0e+1o", irreps_theta, layout=layout)
    if irreps_theta:
        conv.theta.set_(torch.tensor([1.0, 0.0, 0.5, 1.0]))
    x, edge_index, edge_vec = torch.randn(3, 8), torch.randint(0, 3, (2, 6)), torch.randn(6, 3, requires_grad=True)
    expected = conv(x, edge_index, edge_vec)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = conv(x, edge_index, edge_vec)
        found.float().sum().backward()
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.1 * expected.abs().max().item())
    assert edge_vec.grad.isfinite().all()
