"""Linear maps and gates with channels innermost are those of e3nn, transposed."""

import pytest
import torch

from pyg_relaxed.compat import e3nn_nn, o3
from pyg_relaxed.nn import Gate, RelaxedConv
from pyg_relaxed.nn.gate import ACTIVATIONS
from pyg_relaxed.o3 import RelaxedLinear
from pyg_relaxed.o3.layout import ChangeOfLayout
from pyg_relaxed.o3.linear import BreakingLinear, Linear

CASES = [
    ("4x0e+2x1o+3x2e", "3x0e+5x1o+1x2e"),
    ("2x1o+4x0e+3x1o+2x0o", "2x1o+3x0e+1x1o"),
    ("3x0e", "2x1o+2x0e"),
]


def transposed(function, irreps_in, irreps_out):
    to_ir_mul, to_mul_ir = ChangeOfLayout(irreps_in, "ir_mul"), ChangeOfLayout(irreps_out, "mul_ir")
    return lambda x: to_mul_ir(function(to_ir_mul(x)))


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize(("irreps_in", "irreps_out"), CASES)
def test_linear(float64, irreps_in, irreps_out, biases):
    ours, oracle = (
        Linear(irreps_in, irreps_out, layout="ir_mul", biases=biases),
        o3.Linear(irreps_in, irreps_out, biases=biases),
    )
    if biases:
        torch.nn.init.normal_(ours.bias)
    oracle.load_state_dict(ours.state_dict())
    x = ours.irreps_in.randn(7, -1)
    torch.testing.assert_close(transposed(ours, irreps_in, irreps_out)(x), oracle(x), rtol=1e-12, atol=1e-12)
    same = Linear(irreps_in, irreps_out, biases=biases)
    same.load_state_dict(ours.state_dict())
    assert torch.equal(same(x), oracle(x))


@pytest.mark.parametrize(("irreps_in", "irreps_out"), CASES)
@pytest.mark.parametrize("channels", [None, 2])
def test_relaxed_linear(float64, irreps_in, irreps_out, channels):
    a, b = (
        RelaxedLinear(irreps_in, irreps_out, "0e+1o+1e+2e", channels=channels, layout=layout)
        for layout in ("mul_ir", "ir_mul")
    )
    b.load_state_dict(a.state_dict())
    for module in (a, b):
        module.theta.set_(torch.linspace(-1, 2, 12))
    x = a.irreps_in.randn(7, -1)
    torch.testing.assert_close(a(x), transposed(b, irreps_in, irreps_out)(x), rtol=1e-12, atol=1e-12)


def test_theta_acts_on_the_first_channels_alone(float64):
    breaking = BreakingLinear("4x0e+3x1o", "2x1o", "0e+1o+2e", channels=2)
    theta = torch.randn(9)
    used = [0, 1, *range(4, 10)]
    for column, x in enumerate(torch.eye(13)):
        assert (breaking(x[None], theta, torch.zeros(1, 6)).abs().max() > 0) == (column in used)


@pytest.mark.parametrize("irreps", ["4x0e+2x0o+3x1o+2x2e", "4x0e+2x1o", "3x0e", "2x1o+2x0e+1x2e+3x1o", "2x1e"])
def test_gate(float64, irreps):
    ours, transposed_gate, irreps = Gate(irreps), Gate(irreps, layout="ir_mul"), o3.Irreps(irreps)
    scalars = [(mul, ir) for mul, ir in irreps if ir.l == 0]
    gated = o3.Irreps([(mul, ir) for mul, ir in irreps if ir.l > 0])
    gates = o3.Irreps([(gated.num_irreps, "0e")]) if gated.num_irreps else o3.Irreps()
    oracle = e3nn_nn.Gate(
        o3.Irreps(scalars), [ACTIVATIONS[ir.p] for _, ir in scalars], gates, [ACTIVATIONS[1] for _ in gates], gated
    )
    assert ours.irreps_in == oracle.irreps_in
    assert ours.irreps_out == oracle.irreps_out
    x = ours.irreps_in.randn(7, -1)
    expected = oracle(x)
    torch.testing.assert_close(ours(x), expected, rtol=1e-12, atol=1e-12)
    found = transposed(transposed_gate, ours.irreps_in, ours.irreps_out)(x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
def test_constants_are_exact_in_float64_also_when_made_in_float32(layout):
    convert = RelaxedConv("4x0e+2x1o+3x2e", "3x0e+5x1o", "0e+1o+2e", "3x0e+2e", layout=layout).double()
    torch.set_default_dtype(torch.float64)
    try:
        made = RelaxedConv("4x0e+2x1o+3x2e", "3x0e+5x1o", "0e+1o+2e", "3x0e+2e", layout=layout)
        made.load_state_dict(convert.state_dict())
        inputs = torch.randn(5, made.in_channels), torch.randint(0, 5, (2, 20)), torch.randn(20, 3)
        convert.theta.set_(made.theta.set_(torch.randn(8)).weight)
        assert torch.equal(convert(*inputs), made(*inputs))
    finally:
        torch.set_default_dtype(torch.float32)


def test_constants_come_back_from_a_device_without_memory():
    linear = Linear("4x0e+2x1o", "3x1o", layout="ir_mul")
    exact = linear.scale.clone()
    assert torch.equal(linear.to("meta").to_empty(device="cpu").scale, exact)
