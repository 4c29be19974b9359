import pytest
import torch
from parity import CASES, assert_parity, derivatives, inputs

from pyg_relaxed.kernels import TensorProductConv, perceptron
from pyg_relaxed.kernels.backends import PREFERENCE, module

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]
WIDE = [("32x0e+32x1o+64x2e", "0e+1o+2e"), ("8x0o+8x1e", "2x0e+3x1o"), ("128x0e+128x1o+128x2e", "0e+1o+2e+3o")]


def gpu(backend, irreps_in, irreps_sh, dtype=None, **kwargs):
    op = TensorProductConv(irreps_in, irreps_sh, lmax=2, backend=backend, **kwargs)
    reason = module(backend).why_not(op.table.spec)
    if reason is not None:
        pytest.skip(reason)
    return op.to("cuda", dtype)


@pytest.mark.parametrize("backend", PREFERENCE["cuda"])
@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("irreps_in", "irreps_sh"), [*CASES, *WIDE])
@pytest.mark.parametrize("edges", [0, 200])
def test_equals_the_reference(float64, backend, layout, dtype, irreps_in, irreps_sh, edges):
    op = gpu(backend, irreps_in, irreps_sh, dtype, layout=layout)
    for receivers in (15, 25):  # fewer and more than there are senders
        args, edge_index, _ = inputs(op, 20, receivers, edges, dtype, "cuda")
        tolerance = 1e-11 if dtype == torch.float64 else 1e-4
        assert_parity(lambda *a: op(*a, edge_index, receivers), op, args, edge_index, receivers, tolerance)  # noqa: B023


@pytest.mark.parametrize("backend", PREFERENCE["cuda"])
def test_repeats_exactly_where_that_is_asked_for(backend):
    if backend == "cuequivariance":
        pytest.skip("its sums are atomic")
    op = gpu(backend, "32x0e+32x1o", "0e+1o")
    args, edge_index, receivers = inputs(op, 20, 15, 2000, torch.float32, "cuda")
    torch.use_deterministic_algorithms(True)
    try:
        once, again = (derivatives(lambda *a: op(*a, edge_index, receivers), args) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_triton_passes_through_compile(float64):
    op = gpu("triton", "8x0e+8x1o", "0e+1o")
    args, edge_index, receivers = inputs(op, 20, 15, 200, device="cuda")
    compiled = torch.compile(op, fullgraph=True)
    torch.testing.assert_close(compiled(*args, edge_index, receivers), op(*args, edge_index, receivers))


def test_weights_of_a_network(float64):
    op = gpu("triton", "8x0e+8x1o", "0e+1o")
    (x, sh, _), edge_index, receivers = inputs(op, 20, 15, 200, device="cuda")
    t, *matrices = (torch.randn(a, b, device="cuda") for a, b in ((200, 3), (3, 4), (4, op.weight_numel)))
    whole = op(x, sh, perceptron(t, matrices), edge_index, receivers)
    torch.testing.assert_close(op.networked(x, sh, t, matrices, edge_index, receivers), whole)


@pytest.mark.parametrize("backend", PREFERENCE["cuda"])
def test_an_edge_from_nowhere_is_explained(backend):
    op = gpu(backend, "8x0e+8x1o", "0e+1o")
    args, edge_index, receivers = inputs(op, 20, 15, 200, torch.float32, "cuda")
    edge_index[0, 3] = 20
    with pytest.raises(ValueError, match="sends edge 3 from node 20"):
        op(*args, edge_index, receivers)
