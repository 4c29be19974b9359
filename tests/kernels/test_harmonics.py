"""Compiled spherical harmonics are e3nn's, with two orders of derivatives, on any vector."""

import pytest
import torch
from parity import assert_same
from torch.func import jacrev, vmap

from pyg_relaxed.compat import o3
from pyg_relaxed.kernels import SphericalHarmonics
from pyg_relaxed.kernels.cpu import find_compiler
from pyg_relaxed.kernels.cpu.harmonics import harmonics, harmonics_gradient

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


def derivatives(function, v, g, q):
    """Return values, first and second derivatives."""
    y = function(v)
    (dv,) = torch.autograd.grad(y, v, g, create_graph=True)
    return [y, dv, *torch.autograd.grad(dv, (v, g), q)]


@needs_compiler
@pytest.mark.parametrize("edges", [0, 1, 16, 37])
@pytest.mark.parametrize("irreps_sh", ["0e+1o", "0e+1o+2e", "0e+1o+2e+3o+4e", "2e+2x1o+0e", "0e+1e+2e"])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_values_and_two_orders_of_derivatives(dtype, irreps_sh, edges):
    torch.manual_seed(edges)
    ours = SphericalHarmonics(irreps_sh).to(dtype)
    v = torch.randn(3, edges, dtype=dtype).T.requires_grad_()
    g = torch.randn(edges, ours.irreps_sh.dim, dtype=dtype, requires_grad=True)
    found, expected = (derivatives(f, v, g, torch.ones_like(v)) for f in (ours, ours.reference))
    if edges:
        assert_same(found, expected, TOLERANCE[dtype])
        assert any(not torch.equal(a, b) for a, b in zip(found, expected, strict=True))  # it was compiled
    else:
        assert [t.shape for t in found] == [t.shape for t in expected]


@needs_compiler
def test_a_vector_of_no_length_has_the_harmonics_of_no_direction(float64):
    ours = SphericalHarmonics("0e+1o+2e")
    v, g, q = torch.zeros(1, 3, requires_grad=True), torch.randn(1, 9, requires_grad=True), torch.ones(1, 3)
    found, expected = (derivatives(f, v, g, q) for f in (ours, ours.reference))
    torch.testing.assert_close(found[:2], expected[:2])
    assert all(t.isfinite().all() for t in found)  # e3nn has no second derivative there


@needs_compiler
def test_gradcheck_and_the_rules_of_torch(float64):
    v, g = torch.randn(5, 3, requires_grad=True), torch.randn(5, 16, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: harmonics(v, 3), v)
    assert torch.autograd.gradgradcheck(lambda v: harmonics(v, 3), v)
    torch.library.opcheck(harmonics, (v, 3))
    torch.library.opcheck(harmonics_gradient, (v, g, 3))


@needs_compiler
@pytest.mark.parametrize("lmax", [1, 3])
def test_third_derivatives(float64, lmax):
    ours = SphericalHarmonics(o3.Irreps.spherical_harmonics(lmax))
    v = torch.randn(4, 3, requires_grad=True)
    results = []
    for function in (ours, ours.reference):
        y = function(v).pow(3).sum()
        for _ in range(3):
            (y,) = torch.autograd.grad(y.square().sum(), v, create_graph=True)
        results.append(y)
    torch.testing.assert_close(*results)


@needs_compiler
def test_results_do_not_depend_on_the_number_of_threads():
    v, before = torch.randn(1000, 3), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(harmonics(v, 2))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_functional_transforms_and_other_dtypes_have_those_of_e3nn():
    ours, v = SphericalHarmonics("0e+1o+2e"), torch.randn(4, 3)
    assert vmap(jacrev(ours))(v).shape == (4, 9, 3)
    assert ours(v.bfloat16()).dtype == torch.bfloat16
    expected = o3.spherical_harmonics([0, 1, 2], v, normalize=True, normalization="component")
    torch.testing.assert_close(ours(v), expected, rtol=1e-5, atol=1e-5)


def test_leading_dimensions_and_wrong_ones():
    ours, v = SphericalHarmonics("0e+1o+2e"), torch.randn(2, 4, 3)
    torch.testing.assert_close(ours(v), ours.reference(v), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours(v[0, 0]), ours.reference(v[0, 0]), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"must have shape \[..., 3\] \(got \(4, 2\)\)"):
        ours(torch.randn(4, 2))
