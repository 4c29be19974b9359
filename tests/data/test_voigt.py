import numpy as np
import pytest
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_strain, voigt_6_to_full_3x3_stress
from pymatgen.analysis.elasticity import ComplianceTensor, ElasticTensor
from pymatgen.analysis.piezo import PiezoTensor
from pymatgen.core.tensors import Tensor

from pyg_relaxed.data import from_voigt, to_voigt
from pyg_relaxed.data.voigt import ORDERS

SHAPES = {
    "stress": (6,),
    "strain": (6,),
    "piezoelectric_stress": (3, 6),
    "piezoelectric_strain": (3, 6),
    "stiffness": (6, 6),
    "compliance": (6, 6),
}
rng = np.random.default_rng(0)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("tensor", SHAPES)
@pytest.mark.parametrize("leading", [(), (2,), (0,), (2, 3)])
def test_there_and_back(tensor, order, leading):
    voigt = rng.normal(size=(*leading, *SHAPES[tensor]))
    full = from_voigt(voigt, tensor, order)
    np.testing.assert_allclose(to_voigt(full, tensor, order), voigt, atol=1e-13)
    np.testing.assert_allclose(full, full.swapaxes(-1, -2), atol=1e-13)


def test_as_ase():
    voigt = rng.normal(size=6)
    np.testing.assert_allclose(from_voigt(voigt, "stress", "ase"), voigt_6_to_full_3x3_stress(voigt))
    strained = voigt_6_to_full_3x3_strain(voigt)  # ASE adds the unit matrix
    np.testing.assert_allclose(from_voigt(voigt, "strain", "ase") + np.eye(3), strained)
    full = from_voigt(voigt, "stress", "ase")
    np.testing.assert_allclose(to_voigt(full, "stress", "ase"), full_3x3_to_voigt_6_stress(full))


def test_as_pymatgen():
    six, pair = rng.normal(size=(3, 6)), rng.normal(size=(6, 6))
    pair = pair + pair.T
    np.testing.assert_allclose(from_voigt(six, "piezoelectric_stress", "pymatgen"), PiezoTensor.from_voigt(six))
    np.testing.assert_allclose(from_voigt(pair, "stiffness", "pymatgen"), ElasticTensor.from_voigt(pair))
    np.testing.assert_allclose(
        from_voigt(pair, "compliance", "pymatgen"), ComplianceTensor.from_voigt(pair), atol=1e-13
    )
    np.testing.assert_allclose(from_voigt(six[0], "stress", "pymatgen"), Tensor.from_voigt(six[0]))


@pytest.mark.parametrize("order", ORDERS)
def test_physics_does_not_depend_on_the_notation(order):
    """Stress = stiffness : strain, and compliance is its inverse, in six numbers and in Cartesian components."""
    C, strain = rng.normal(size=(6, 6)), rng.normal(size=6)
    C = C @ C.T + 6 * np.eye(6)
    full = np.einsum("ijkl,kl->ij", from_voigt(C, "stiffness", order), from_voigt(strain, "strain", order))
    np.testing.assert_allclose(to_voigt(full, "stress", order), C @ strain)
    S, stress = np.linalg.inv(C), C @ strain
    back = np.einsum("ijkl,kl->ij", from_voigt(S, "compliance", order), from_voigt(stress, "stress", order))
    np.testing.assert_allclose(to_voigt(back, "strain", order), strain)
    e, d = rng.normal(size=(3, 6)), None
    d = e @ S  # the strain coefficients of the same crystal
    polarisation = np.einsum(
        "ijk,jk->i", from_voigt(e, "piezoelectric_stress", order), from_voigt(strain, "strain", order)
    )
    np.testing.assert_allclose(polarisation, e @ strain)
    same = np.einsum("ijk,jk->i", from_voigt(d, "piezoelectric_strain", order), from_voigt(stress, "stress", order))
    np.testing.assert_allclose(same, polarisation)


def test_vasp_and_ase_differ_in_the_shears_alone():
    full = from_voigt(np.arange(1.0, 7), "stress", "ase")
    assert to_voigt(full, "stress", "vasp").tolist() == [1, 2, 3, 6, 4, 5]


def test_what_six_numbers_cannot_hold_is_refused():
    with pytest.raises(ValueError, match=r"'stress' is not symmetric in a pair of indices \(by 1\)"):
        to_voigt([[0, 2, 0], [0, 0, 0], [0, 0, 0]], "stress", "ase")


@pytest.mark.parametrize(
    ("values", "tensor", "order", "message"),
    [
        (np.ones(5), "stress", "ase", r"must end with \(6,\) \(got \(5,\)\)"),
        (np.ones((6, 3)), "piezoelectric_stress", "ase", r"must end with \(3, 6\)"),
        (np.ones(6), "pressure", "ase", "'tensor' must be one of"),
        (np.ones(6), "stress", "voigt", "'order' must be one of"),
    ],
)
def test_bad_input(values, tensor, order, message):
    with pytest.raises(ValueError, match=message):
        from_voigt(values, tensor, order)
    if tensor == "stress" and order == "ase":
        with pytest.raises(ValueError, match="must end with 2 dimensions of 3"):
            to_voigt(np.ones((3, 2)), tensor, order)
