"""Irreps of point groups and their Mulliken labels."""

import numpy as np
import pytest
import torch

import pyg_relaxed as pr
from pyg_relaxed.compat import o3
from pyg_relaxed.o3 import representation
from pyg_relaxed.o3.point_groups import _crystallographic
from pyg_relaxed.symmetry import point_group_irreps, subduce

GROUPS = sorted({group.hermann_mauguin for group in _crystallographic().values()})


@pytest.mark.parametrize("symbol", GROUPS)
def test_irreps_are_orthogonal_complete_representations(symbol):
    group = pr.symmetry.point_group(symbol)
    irreps = point_group_irreps(symbol)
    table = np.array([irrep.characters for irrep in irreps])
    np.testing.assert_allclose(table @ table.T / len(group), np.diag([irrep.norm for irrep in irreps]), atol=1e-12)
    assert sum(irrep.dim**2 // irrep.norm for irrep in irreps) == len(group)
    R = group.operations
    products = np.abs((R[:, None] @ R[None])[:, :, None] - R).max((3, 4)).argmin(2)
    for irrep in irreps:
        np.testing.assert_allclose(irrep.matrices[:, None] @ irrep.matrices[None], irrep.matrices[products], atol=1e-12)
        np.testing.assert_allclose(np.trace(irrep.matrices, axis1=1, axis2=2), irrep.characters, atol=1e-12)


@pytest.mark.parametrize("symbol", GROUPS)
def test_isotypic_projectors_resolve_the_identity(symbol):
    D = representation("1o+2e+3o", pr.symmetry.point_group(symbol).operations).numpy()
    parts = [irrep.projector(D) for irrep in point_group_irreps(symbol)]
    np.testing.assert_allclose(sum(parts), np.eye(15), atol=1e-12)
    for P in parts:
        np.testing.assert_allclose(P @ P, P, atol=1e-12)


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (
            "m-3m",
            {"1o": "T1u", "1e": "T1g", "2e": "Eg+T2g", "2o": "Eu+T2u", "3o": "A2u+T1u+T2u", "4e": "A1g+Eg+T1g+T2g"},
        ),
        ("-43m", {"1o": "T2", "1e": "T1", "2e": "E+T2", "3o": "A1+T1+T2", "0o": "A2"}),
        ("432", {"1o": "T1", "2e": "E+T2", "3o": "A2+T1+T2"}),
        ("4mm", {"1o": "A1+E", "1e": "A2+E", "2e": "A1+B1+B2+E"}),
        ("4/mmm", {"1o": "A2u+Eu", "1e": "A2g+Eg", "2e": "A1g+B1g+B2g+Eg"}),
        ("-42m", {"1o": "B2+E", "1e": "A2+E", "2e": "A1+B1+B2+E"}),
        ("mm2", {"1o": "A1+B1+B2", "1e": "A2+B1+B2", "2e": "2A1+A2+B1+B2"}),
        ("mmm", {"1o": "B1u+B2u+B3u", "1e": "B1g+B2g+B3g", "2e": "2Ag+B1g+B2g+B3g"}),
        ("3m", {"1o": "A1+E", "1e": "A2+E", "2e": "A1+2E"}),
        ("-3m", {"1o": "A2u+Eu", "1e": "A2g+Eg", "2e": "A1g+2Eg"}),
        ("6mm", {"1o": "A1+E1", "1e": "A2+E1", "2e": "A1+E1+E2", "3o": "A1+B1+B2+E1+E2"}),
        ("-6m2", {"1o": "E'+A2''", "1e": "A2'+E''", "2e": "A1'+E'+E''"}),
        ("2/m", {"1o": "Au+2Bu", "1e": "Ag+2Bg"}),
        ("m", {"1o": "2A'+A''", "1e": "A'+2A''"}),
        ("-4", {"1o": "B+E", "2e": "A+2B+E"}),
        ("m-3", {"1o": "Tu", "2e": "Eg+Tg"}),
    ],
)
def test_tables_of_the_textbooks(group, expected):
    def text(row):
        return "+".join(f"{n if n > 1 else ''}{label}" for label, n in row.items())

    assert {ir: text(row) for ir, row in subduce("+".join(expected), group).items()} == expected


@pytest.mark.parametrize("symbol", ["m-3m", "4/mmm", "6mm", "3", "-43m"])
def test_dimensions_add_up(symbol):
    dims = {irrep.label: irrep.dim for irrep in point_group_irreps(symbol)}
    for _, ir in o3.Irreps("+".join(f"{l}{p}" for l in range(7) for p in "eo")):
        assert sum(n * dims[label] for label, n in subduce(str(ir), symbol)[str(ir)].items()) == ir.dim


def test_transfers_find_the_direction_of_an_order_parameter():
    group = pr.symmetry.point_group("m-3m")
    D = representation("2x1o", group.operations).numpy()
    direction = np.array([0.36, 0.48, 0.8])
    vector = np.concatenate([0.3 * direction, -1.7 * direction])
    irrep = next(irrep for irrep in point_group_irreps("m-3m") if irrep.label == "T1u")
    components = irrep.transfers(D) @ vector
    found = irrep.basis.T @ np.linalg.svd(components.T)[2][0]
    assert abs(found @ direction) == pytest.approx(1)


def test_a_continuous_group_is_refused():
    with pytest.raises(ValueError, match="is continuous"):
        subduce("1o", "∞m")
    assert torch.is_tensor(pr.symmetry.invariants("∞m", "1o"))
