import pytest
import torch

from pyg_relaxed.compat import o3
from pyg_relaxed.kernels import TensorProductConv

CASES = [("4x0e+3x1o+2x2e", "0e+1o+2e"), ("2x0o+3x1e", "2x0e+1o"), ("3x1o", "1o+3o")]


def oracle(op):
    """e3nn's depthwise tensor product as its own convolutions build it."""
    unsorted, instructions = [], []
    for i, (mul, a) in enumerate(op.irreps_in):
        for j, (_, b) in enumerate(op.irreps_sh):
            for c in a * b:
                if c in op.irreps_out:
                    instructions.append((i, j, len(unsorted), "uvu", True))
                    unsorted.append((mul, c))
    irreps, position, _ = o3.Irreps(unsorted).sort()
    instructions = [(i, j, position[k], mode, train) for i, j, k, mode, train in instructions]
    return o3.TensorProduct(
        op.irreps_in, op.irreps_sh, irreps, instructions, shared_weights=False, internal_weights=False
    )


def inputs(op, nodes=6, edges=20, dtype=torch.float64):
    # Directed, with duplicate and self edges; the last node receives nothing.
    edge_index = torch.stack([torch.randint(0, nodes, (edges,)), torch.randint(0, nodes - 1, (edges,))])
    x, sh = torch.randn(nodes, op.irreps_in.dim), torch.randn(edges, op.irreps_sh.dim)
    return x.to(dtype), sh.to(dtype), torch.randn(edges, op.weight_numel).to(dtype), edge_index


@pytest.mark.parametrize(("irreps_in", "irreps_sh"), CASES)
@pytest.mark.parametrize("edges", [0, 20])
def test_equals_e3nn(float64, irreps_in, irreps_sh, edges):
    op = TensorProductConv(irreps_in, irreps_sh, lmax=2)
    x, sh, weight, edge_index = inputs(op, edges=edges)
    product = oracle(op)(x[edge_index[0]], sh, weight)
    expected = torch.zeros(len(x), op.irreps_out.dim).index_add(0, edge_index[1], product)
    torch.testing.assert_close(op(x, sh, weight, edge_index), expected, rtol=1e-12, atol=1e-12)
    assert op(x, sh, weight, edge_index)[-1].abs().max() == 0


def test_float32_agrees_with_float64(float64):
    op = TensorProductConv("4x0e+3x1o", "0e+1o+2e", lmax=2)
    x, sh, weight, edge_index = inputs(op)
    exact = op(x, sh, weight, edge_index)
    single = op.float()(x.float(), sh.float(), weight.float(), edge_index)
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=1e-5 * exact.abs().max().item())


def test_channels_innermost_layout_is_a_transposition(float64):
    ordinary = TensorProductConv("3x0e+2x1o", "0e+1o", lmax=1)
    transposed = TensorProductConv("3x0e+2x1o", "0e+1o", lmax=1, layout="ir_mul")

    def to_ir_mul(x, irreps):
        blocks = zip(irreps, irreps.slices(), strict=True)
        return torch.cat([x[:, s].view(len(x), mul, ir.dim).mT.flatten(1) for (mul, ir), s in blocks], dim=1)

    x, sh, weight, edge_index = inputs(ordinary)
    y = transposed(to_ir_mul(x, ordinary.irreps_in), sh, weight, edge_index)
    torch.testing.assert_close(y, to_ir_mul(ordinary(x, sh, weight, edge_index), ordinary.irreps_out))


def test_first_and_second_derivatives(float64):
    op = TensorProductConv("1x0e+1x1o", "0e+1o", lmax=1)
    x, sh, weight, edge_index = inputs(op, nodes=3, edges=4)
    args = [t.requires_grad_() for t in (x, sh, weight)]
    assert torch.autograd.gradcheck(lambda *a: op(*a, edge_index), args)
    assert torch.autograd.gradgradcheck(lambda *a: op(*a, edge_index), args)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TensorProductConv("1o", "1o"), "give either 'lmax' or 'irreps_out'"),
        (lambda: TensorProductConv("1o", "0e", irreps_out="2e"), "no path connects"),
        (lambda: TensorProductConv("1o", "0e", lmax=1, layout="xyz"), "'layout' must be 'mul_ir'"),
    ],
)
def test_bad_construction_is_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_bad_shapes_are_explained(float64):
    op = TensorProductConv("1x0e+1x1o", "0e+1o", lmax=1)
    x, sh, weight, edge_index = inputs(op)
    with pytest.raises(ValueError, match="'x' must have last dimension 4"):
        op(x[:, :3], sh, weight, edge_index)
    with pytest.raises(ValueError, match="'weight' must have shape"):
        op(x, sh, weight[:, 1:], edge_index)
    with pytest.raises(ValueError, match="'edge_index' must have shape"):
        op(x, sh, weight, edge_index.T)
