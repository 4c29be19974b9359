from collections import Counter

import numpy as np
import pytest
import spglib
import torch
from ase.build import bulk
from ase.spacegroup import crystal
from torch_geometric.data import Batch, Data

import pyg_relaxed as pr
from pyg_relaxed.data import rotate
from pyg_relaxed.transforms import ModeDisplacement, Symmetrize, symmetry_modes
from pyg_relaxed.transforms.space_group import crystal_of, find_space_group

CUBIC = pr.from_ase(pr.structures.load("BaTiO3_Pm-3m"), cutoff=4.0, dtype=torch.float64)
RUTILE = crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.594, 4.594, 2.959, 90, 90, 90])
WURTZITE = bulk("ZnO", "wurtzite", a=3.25, c=5.2)
# 4/m and 23 have pairs of complex conjugate irreps, which count as one.
SCHEELITE = crystal(
    ["Ca", "W", "O"],
    [(0, 0.25, 0.625), (0, 0.25, 0.125), (0.15, 0.0086, 0.211)],
    spacegroup=88,
    setting=2,
    cellpar=[5.243, 5.243, 11.376, 90, 90, 90],
    primitive_cell=True,
)
TETARTOHEDRAL = crystal(["N"], [(0.05, 0.13, 0.21)], spacegroup=195, cellpar=[5.6, 5.6, 5.6, 90, 90, 90])
CRYSTALS = {
    "perovskite": (pr.structures.load("BaTiO3_Pm-3m"), {"T1u": 4, "T2u": 1}),
    "rutile": (RUTILE, {"A1g": 1, "A2g": 1, "B1g": 1, "B2g": 1, "Eg": 1, "A2u": 2, "B1u": 2, "Eu": 4}),
    "diamond": (bulk("Si"), {"T2g": 1, "T1u": 1}),
    "rocksalt": (bulk("NaCl", "rocksalt", a=5.64), {"T1u": 2}),
    # Which mirrors of 6mm come first is a convention: B1 elsewhere.
    "wurtzite": (WURTZITE, {"A1": 2, "B2": 2, "E1": 2, "E2": 2}),
    "scheelite": (SCHEELITE, {"Ag": 3, "Bg": 5, "Eg": 5, "Au": 5, "Bu": 3, "Eu": 5}),
    "23": (TETARTOHEDRAL, {"A": 3, "E": 3, "T": 9}),
}
every_crystal = pytest.mark.parametrize(("atoms", "expected"), CRYSTALS.values(), ids=CRYSTALS)


def space_group(data, symprec=1e-5):
    cell = data.cell[0].numpy()
    return spglib.get_spacegroup((cell, data.pos.numpy() @ np.linalg.inv(cell), data.z.numpy()), symprec=symprec)


@every_crystal
def test_the_modes_of_known_crystals(atoms, expected):
    modes = symmetry_modes(pr.from_ase(atoms, dtype=torch.float64))
    assert Counter(mode.label for mode in modes) == expected
    labels = [mode.label for mode in modes]
    assert labels == sorted(labels, key=labels.index)  # each irrep's copies stand together
    assert sum(len(mode.vectors) for mode in modes if mode.is_acoustic) == 3


@every_crystal
def test_they_are_a_basis(atoms, expected):
    modes = symmetry_modes(pr.from_ase(atoms, dtype=torch.float64))
    basis = torch.cat([mode.vectors.flatten(1) for mode in modes])
    torch.testing.assert_close(basis @ basis.T, torch.eye(3 * len(atoms)).double(), rtol=0, atol=1e-10)
    for mode in modes:
        shift = mode.vectors.mean(dim=1, keepdim=True)
        moved = mode.vectors - shift if mode.is_acoustic else shift
        torch.testing.assert_close(moved, torch.zeros_like(moved), rtol=0, atol=1e-12)


@every_crystal
def test_they_turn_as_their_irrep(atoms, expected):
    """D(g) e_j = sum_i M_ij(g) e_i for every operation of the crystal."""
    data = pr.from_ase(atoms, dtype=torch.float64)
    cell, scaled, numbers = crystal_of(data)
    found = find_space_group(cell, scaled, numbers, 0.01)
    for mode in symmetry_modes(data):
        vectors = mode.vectors.numpy()
        for W, images, M in zip(found.rotations, found.permutations, mode.irrep.matrices, strict=True):
            turned = np.zeros_like(vectors)
            turned[:, images] = vectors @ (cell.T @ W @ np.linalg.inv(cell.T)).T
            np.testing.assert_allclose(turned, np.tensordot(M.T, vectors, axes=1), atol=1e-10)


@pytest.mark.parametrize(
    ("direction", "symbol"), [([0, 0, 1], "P4mm (99)"), ([1, 1, 0], "Amm2 (38)"), ([1, 1, 1], "R3m (160)")]
)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_directions_of_a_polar_mode_give_the_phases_of_barium_titanate(n, direction, symbol):
    mode = [mode for mode in symmetry_modes(CUBIC) if mode.label == "T1u"][n]
    displaced = ModeDisplacement(mode.along(direction), amplitude=0.1)(CUBIC)
    assert space_group(displaced) == symbol
    displacement = displaced.pos - CUBIC.pos
    assert displacement.norm().item() == pytest.approx(0.1)
    # The direction is that of the cubic axes with the same name: the others see nothing of it.
    across = displacement[:, torch.tensor(direction) == 0]
    torch.testing.assert_close(across, torch.zeros_like(across), rtol=0, atol=1e-12)


def test_the_acoustic_mode_changes_nothing():
    acoustic = symmetry_modes(CUBIC)[0]
    assert acoustic.is_acoustic
    assert space_group(ModeDisplacement(acoustic.along([1, 2, 3]), 0.3)(CUBIC)) == "Pm-3m (221)"


def test_symmetric_modes_keep_the_group():
    data = pr.from_ase(WURTZITE, dtype=torch.float64)
    (free,) = [mode for mode in symmetry_modes(data) if mode.label == "A1" and not mode.is_acoustic]
    assert space_group(ModeDisplacement(free.along([1]), 0.1)(data)) == "P6_3mc (186)"


def test_modes_turn_with_the_axes():
    R = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    projectors = []
    for data in (CUBIC, rotate(CUBIC, R)):
        vectors = torch.cat([mode.vectors.flatten(1) for mode in symmetry_modes(data) if mode.label == "T2u"])
        projectors.append((vectors.T @ vectors).reshape(5, 3, 5, 3))
    turned = torch.einsum("ab,ibjc,dc->iajd", R, projectors[0], R)
    torch.testing.assert_close(projectors[1], turned, rtol=0, atol=1e-9)


def test_a_conventional_cell_has_the_modes_of_the_primitive_one():
    """Those of other k-points, which the larger cell holds too, are left out."""
    modes = symmetry_modes(pr.from_ase(bulk("NaCl", "rocksalt", a=5.64, cubic=True), dtype=torch.float64))
    assert [mode.label for mode in modes] == ["T1u", "T1u"]
    optical = modes[1].along([0, 0, 1])
    torch.testing.assert_close(optical[0::2], optical[:1].expand(4, 3))


def test_a_measured_cell_has_modes_at_its_tolerance():
    child = pr.from_ase(pr.structures.load("BaTiO3_R3m"), dtype=torch.float64)
    measured = symmetry_modes(child, symprec=0.3)
    exact = symmetry_modes(Symmetrize(symprec=0.3)(child))
    for one, other in zip(measured, exact, strict=True):
        torch.testing.assert_close(one.vectors, other.vectors, rtol=0, atol=1e-8)


def test_amplitudes_are_drawn_within_their_bounds():
    mode = torch.eye(3)[:2]
    draw = ModeDisplacement(mode, amplitude=(-0.1, 0.2), generator=torch.Generator().manual_seed(0))
    batch = draw(Batch.from_data_list([Data(pos=torch.zeros(2, 3)) for _ in range(50)]))
    A = batch.info_amplitude
    assert A.shape == (50,)
    assert -0.1 <= A.min() < -0.05
    assert 0.15 < A.max() <= 0.2
    torch.testing.assert_close(batch.pos.reshape(50, 2, 3), A[:, None, None] * mode / 2**0.5)


def test_bad_input_is_explained():
    with pytest.raises(ValueError, match=r"'mode' must hold finite displacements of shape \(N, 3\), not all zero"):
        ModeDisplacement(torch.zeros(2, 3), 0.1)
    with pytest.raises(ValueError, match=r"'mode' must hold finite displacements"):
        ModeDisplacement(torch.ones(3), 0.1)
    for amplitude in ((0.2, 0.1), (1, 2, 3), float("inf")):
        with pytest.raises(ValueError, match="'amplitude' must be a number in Å, or a lower and an upper bound"):
            ModeDisplacement(torch.ones(1, 3), amplitude)
    with pytest.raises(ValueError, match="'mode' displaces 1 atoms, the graph has 5"):
        ModeDisplacement(torch.ones(1, 3), 0.1)(CUBIC)
    mode = symmetry_modes(CUBIC)[0]
    for direction in ([0, 0, 0], [1, 0]):
        with pytest.raises(
            ValueError, match="'direction' must be 3 numbers, not all zero, one for each component of T1u"
        ):
            mode.along(direction)
    with pytest.raises(ValueError, match="it is a supercell of another shape, give a primitive or conventional cell"):
        symmetry_modes(pr.from_ase(bulk("Cu", cubic=True) * (2, 1, 1)))
    assert repr(ModeDisplacement(torch.ones(1, 3), 0.1)) == "ModeDisplacement(1 atoms, amplitude=0.1)"
    assert repr(ModeDisplacement(torch.ones(1, 3), (0, 1))) == "ModeDisplacement(1 atoms, amplitude=(0.0, 1.0))"
