import pytest
from parity import CASES, assert_parity, inputs

from pyg_relaxed.kernels import TensorProductConv, cuequivariance
from pyg_relaxed.kernels.cpu import sorted_edges

WIDE = [("8x0e+8x1o+16x2e", "2x0e+1o+2e"), ("16x0o+8x1e", "0e+1o")]


@pytest.mark.parametrize("layout", ["mul_ir", "ir_mul"])
@pytest.mark.parametrize(("irreps_in", "irreps_sh"), [*CASES, *WIDE])
def test_polynomial_in_plain_torch_equals_the_reference(float64, layout, irreps_in, irreps_sh):
    pytest.importorskip("cuequivariance_torch")
    op = TensorProductConv(irreps_in, irreps_sh, lmax=2, layout=layout)
    args, edge_index, receivers = inputs(op)

    def run(x, sh, w):
        order = sorted_edges(edge_index, len(x), receivers)
        return cuequivariance.convolve(x, sh, w, order, receivers, op.table.spec, layout == "mul_ir")

    assert_parity(run, op, args, edge_index, receivers, 1e-11)


@pytest.mark.parametrize(("irreps_in", "irreps_sh"), [*CASES, *WIDE])
def test_polynomial_has_the_form_that_the_kernels_take(irreps_in, irreps_sh):
    pytest.importorskip("cuequivariance_torch")
    op = TensorProductConv(irreps_in, irreps_sh, lmax=2)
    polynomial = cuequivariance.polynomial(op.table).flatten_coefficient_modes().squeeze_modes()
    extents = {operand.segment_shape for operand in polynomial.operands if operand.ndim == 1}
    assert all(operand.ndim <= 1 and operand.all_same_segment_shape() for operand in polynomial.operands)
    assert len(extents) <= 1


def test_channels_without_a_common_divisor_are_explained(monkeypatch):
    monkeypatch.setattr(cuequivariance, "PACKAGES", ())
    table = TensorProductConv("32x0e+17x1o", "1o", lmax=1).table
    assert "common divisor of at least 8 (got 1)" in cuequivariance.why_not(table.spec)
    table = TensorProductConv("32x0e+16x1o", "1o", lmax=1).table
    assert cuequivariance.why_not(table.spec) is None
