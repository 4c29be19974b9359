import numpy as np
import pytest
import torch

import pyg_relaxed as pr
from pyg_relaxed.compat import o3
from pyg_relaxed.o3.point_groups import CONTINUOUS, _crystallographic

GROUPS = sorted({group.hermann_mauguin for group in _crystallographic().values()})
IRREPS = "0e+0o+1o+1e+2e+2o+3o+4e"


def test_there_are_32_and_each_names_itself():
    assert len(GROUPS) == 32
    for symbol in GROUPS:
        group = pr.symmetry.point_group(symbol)
        R = o3.rand_matrix(dtype=torch.float64).numpy()
        turned = pr.symmetry.PointGroup.from_operations(group.conjugate(R).operations)
        assert (turned.hermann_mauguin, turned.schoenflies) == (symbol, group.schoenflies)
        assert pr.symmetry.point_group(group.schoenflies) is group


@pytest.mark.parametrize("symbol", [*GROUPS, *CONTINUOUS])
def test_projector_is_the_orthogonal_projector_on_the_invariants(symbol):
    P = pr.o3.projector(symbol, IRREPS)
    torch.testing.assert_close(P @ P, P, rtol=0, atol=1e-12)
    torch.testing.assert_close(P.T, P, rtol=0, atol=0)
    D = pr.o3.representation(IRREPS, pr.symmetry.point_group(symbol).operations)
    torch.testing.assert_close(D @ P, P.expand_as(D), rtol=0, atol=1e-12)
    assert len(pr.symmetry.invariants(symbol, IRREPS)) == round(P.trace().item())


@pytest.mark.parametrize(
    ("symbol", "counts"),
    [
        ("m-3m", {"1o": 0, "2e": 0, "3o": 0, "4e": 1}),
        ("4mm", {"1o": 1, "1e": 0, "2e": 1, "3o": 1, "4e": 2}),
        ("mm2", {"2e": 2, "3o": 2, "4e": 3}),
        ("∞m", {"1o": 1, "1e": 0, "2e": 1}),
        ("∞/m", {"1o": 0, "1e": 1, "2e": 1}),
        ("∞/mm", {"1o": 0, "1e": 0, "2e": 1}),
        ("∞∞", {"0o": 1, "1o": 0}),
        ("∞∞m", {"0e": 1, "0o": 0, "4e": 0}),
    ],
)
def test_known_numbers_of_invariants(symbol, counts):
    assert {ir: len(pr.symmetry.invariants(symbol, ir)) for ir in counts} == counts


def test_representation_is_a_homomorphism_to_rounding(float64):
    R = pr.symmetry.point_group("m-3m").operations
    Q = o3.rand_matrix(dtype=torch.float64).numpy()
    D = pr.o3.representation
    torch.testing.assert_close(D(IRREPS, R @ Q), D(IRREPS, R) @ D(IRREPS, Q), rtol=0, atol=1e-13)
    generic = torch.as_tensor(Q)
    torch.testing.assert_close(D(IRREPS, generic), o3.Irreps(IRREPS).D_from_matrix(generic), rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("direction", "group", "domains"), [([0, 0, 1], "4mm", 6), ([0, 1, 1], "mm2", 12), ([1, 1, 1], "3m", 8)]
)
def test_a_polar_vector_in_a_cube(direction, group, domains):
    theta = torch.tensor(direction).double()
    assert pr.symmetry.stabilizer(theta, "1o", parent="m-3m").hermann_mauguin == group
    assert len(pr.symmetry.orbit(theta, "1o", parent="m-3m")) == domains


@pytest.mark.parametrize("child", ["4mm", "-42m", "222", "m-3", "-3m", "2/m", "1"])
def test_orbit_stabilizer_theorem(child):
    generator = torch.Generator().manual_seed(0)
    irreps = o3.Irreps("1o+2e+3o+4e")
    theta = pr.o3.projector(child, irreps) @ torch.randn(irreps.dim, generator=generator, dtype=torch.float64)
    stabilizer = pr.symmetry.stabilizer(theta, irreps, parent="m-3m")
    common = [R for R in pr.symmetry.point_group(child).operations if pr.symmetry.point_group("m-3m").contains(R)]
    assert all(stabilizer.contains(R) for R in common)
    assert len(pr.symmetry.orbit(theta, irreps, parent="m-3m")) * len(stabilizer) == 48


def test_errors_name_the_way_out():
    with pytest.raises(ValueError, match=r"unknown point group '4mmm'\. Did you mean"):
        pr.symmetry.point_group("4mmm")
    with pytest.raises(ValueError, match="not closed under multiplication"):
        pr.symmetry.PointGroup.from_operations(np.diag([1.0, -1, 1])[None])
    with pytest.raises(ValueError, match="is continuous: name a finite one"):
        pr.symmetry.stabilizer(torch.zeros(3), "1o", parent="∞m")
    with pytest.raises(ValueError, match="'theta' must have last dimension 3"):
        pr.symmetry.stabilizer(torch.zeros(4), "1o", parent="m-3m")
