"""Values, first and second derivatives of a backend beside those of plain torch."""

import torch

from pyg_relaxed.kernels import TensorProductConv

# Several irreps; copies of one irrep among the edges; unequal multiplicities, none a power of two; a high degree;
# with outputs up to l = 2, an irrep of x and one of the edges that no path needs.
CASES = [
    ("4x0e+3x1o+2x2e", "0e+1o+2e"),
    ("5x0o+5x1e", "2x0e+3x1o"),
    ("3x1o+70x0e", "1o+3o"),
    ("8x0e+8x6e", "1o+3o+0e"),
]


def inputs(op, nodes=6, receivers=5, edges=20, dtype=torch.float64, device="cpu"):
    # Directed, with duplicate and self edges; the last sender sends nothing, the last receiver receives nothing.
    edge_index = torch.stack([torch.randint(0, nodes - 1, (edges,)), torch.randint(0, receivers - 1, (edges,))])
    shapes = [(nodes, op.irreps_in.dim), (edges, op.irreps_sh.dim), (edges, op.weight_numel)]
    args = [torch.randn(shape, dtype=dtype, device=device, requires_grad=True) for shape in shapes]
    return args, edge_index.to(device), receivers


def derivatives(run, args):
    """Return the value, its derivatives along a direction, and theirs, in the arguments and in that direction."""
    args = [t.detach().clone().requires_grad_() for t in args]
    value = run(*args)
    generator = torch.Generator().manual_seed(1)
    out, *along = (torch.randn(t.shape, generator=generator, dtype=t.dtype).to(t.device) for t in (value, *args))
    out.requires_grad_()
    first = torch.autograd.grad(value, args, out, create_graph=True)
    second = torch.autograd.grad(first, [*args, out], along, materialize_grads=True)
    return [value, *first, *second]


def assert_same(found, expected, tolerance):
    """Check tensors beside others, relative to the largest number of each."""
    for actual, wanted in zip(found, expected, strict=True):
        scale = wanted.abs().max().item() if wanted.numel() else 0.0
        torch.testing.assert_close(actual, wanted, rtol=tolerance, atol=tolerance * scale)


def assert_parity(run, op, args, edge_index, receivers, tolerance=1e-12):
    """Check a convolution, called with x, sh and weights, against the reference of an operator."""
    reference = TensorProductConv(
        op.irreps_in, op.irreps_sh, irreps_out=op.irreps_out, layout=op.layout, backend="torch"
    )
    reference = reference.to(args[0].device, args[0].dtype)
    expected = derivatives(lambda *a: reference(*a, edge_index, receivers), args)
    assert_same(derivatives(run, args), expected, tolerance)
