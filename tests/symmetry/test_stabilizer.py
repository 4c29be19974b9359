"""Stabilizers in all of O(3), and how far the next larger group is."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pyg_relaxed as pr
from pyg_relaxed.compat import o3
from pyg_relaxed.o3 import generators, projector, representation
from pyg_relaxed.o3.point_groups import CONTINUOUS, _crystallographic

IRREPS = o3.Irreps("0e+0o+1o+1e+2e+2o+3o+3e+4e+4o+6e")
GROUPS = [*sorted({group.hermann_mauguin for group in _crystallographic().values()}), *CONTINUOUS]
NOISE = 1e-4


def invariant(symbol, seed, noise=0.0):
    """A random theta with exactly this symmetry, in random axes, and those axes."""
    generator = torch.Generator().manual_seed(seed)
    R = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0].numpy()
    random = torch.randn(2, IRREPS.dim, generator=generator, dtype=torch.float64)
    theta = projector(pr.symmetry.point_group(symbol).conjugate(R), IRREPS) @ random[0]
    return theta / theta.norm() + noise * random[1] / random[1].norm(), R


@pytest.mark.parametrize("symbol", GROUPS)
def test_every_group_is_found_in_any_axes(symbol):
    theta, R = invariant(symbol, seed=len(symbol), noise=NOISE)
    found = pr.symmetry.stabilizer(theta, IRREPS)
    expected = pr.symmetry.point_group(symbol).conjugate(R)
    assert found.hermann_mauguin == symbol
    assert found.is_subgroup_of(expected, tol=20 * NOISE)
    assert found.order == expected.order
    if symbol != "∞∞m":
        assert found.is_subgroup_of(found.nearest_larger, tol=0.2)
        assert found.nearest_larger.order > found.order or found.is_continuous
        assert 1e-3 < found.distance < 1 + 1e-9


@pytest.mark.parametrize(
    ("irreps", "theta", "symbol"),
    [
        ("1o", [0.0, 0.6, 0.8], "∞m"),
        ("1e", [0.0, 0.6, 0.8], "∞/m"),
        ("1o+1e", [0.0, 0, 1, 0, 0, 1], "∞"),
        ("1o+1e", [0.0, 0, 1, 1, 0, 0], "m"),
        ("2e", [0.0, 0, 1, 0, 0], "∞/mm"),
        ("2e", [0.0, 0, 1, 0, 0.3], "mmm"),
        ("0o", [1.0], "∞∞"),
        ("0e", [1.0], "∞∞m"),
        ("3o", [0.0, 1, 0, 0, 0, 0, 0], "-43m"),
        ("1o", [0.0, 0, 0], "∞∞m"),
    ],
)
def test_known_stabilizers(irreps, theta, symbol):
    assert pr.symmetry.stabilizer(torch.tensor(theta), irreps).hermann_mauguin == symbol


def test_an_axis_is_reported():
    group = pr.symmetry.stabilizer(torch.tensor([0.0, 0.6, 0.8]), "1o")
    np.testing.assert_allclose(np.abs(group.axis @ [0, 0.6, 0.8]), 1, atol=1e-12)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(child=st.sampled_from(GROUPS[:32]), seed=st.integers(0, 2**31 - 1))
def test_projection_and_orbit(child, seed):
    """Identity 7: projecting on G leaves at least G; orbit length times stabilizer order is the parent's order."""
    generator = torch.Generator().manual_seed(seed)
    theta = projector(child, IRREPS) @ torch.randn(IRREPS.dim, generator=generator, dtype=torch.float64)
    parent = "6/mmm" if "6" in child or "3" in child else "m-3m"
    if not pr.symmetry.point_group(child).is_subgroup_of(pr.symmetry.point_group(parent)):
        parent = child
    found = pr.symmetry.stabilizer(theta, IRREPS, parent)
    assert pr.symmetry.point_group(child).is_subgroup_of(found)
    assert len(pr.symmetry.orbit(theta, IRREPS, parent)) * len(found) == len(pr.symmetry.point_group(parent))


def test_the_nearest_larger_group_within_a_parent():
    found = pr.symmetry.stabilizer(torch.tensor([0.0, 0.05, 1.0]), "1o", parent="m-3m")
    assert found.hermann_mauguin == "m"
    assert found.nearest_larger.hermann_mauguin == "4mm"
    assert found.distance == pytest.approx(0.05, rel=0.01)
    # At the tolerance of that distance the larger group is the answer.
    loose = pr.symmetry.stabilizer(torch.tensor([0.0, 0.05, 1.0]), "1o", parent="m-3m", tol=0.15)
    assert loose.hermann_mauguin == "4mm"


def test_generators_generate():
    L = generators(IRREPS)
    for axis in range(3):
        R = torch.linalg.matrix_exp(0.7 * generators("1o")[axis])
        torch.testing.assert_close(
            torch.linalg.matrix_exp(0.7 * L[axis]), representation(IRREPS, R), rtol=0, atol=1e-12
        )


def test_bad_input_is_explained():
    with pytest.raises(ValueError, match="'theta' must be finite"):
        pr.symmetry.stabilizer(torch.tensor([0.0, float("nan"), 0.0]), "1o")
