import numpy as np
import pytest
from ase import Atoms
from scipy.spatial.transform import Rotation

from pyg_relaxed import structures
from pyg_relaxed.discovery import map_child

PHASES = ["Pm-3m", "P4mm", "Amm2", "R3m"]


def parent():
    return structures.load("BaTiO3_Pm-3m")


@pytest.mark.parametrize("phase", PHASES)
def test_the_mapping_rebuilds_the_child(phase):
    mapping = map_child(parent(), structures.load(f"BaTiO3_{phase}"))
    assert np.abs(mapping.displacement.mean(0)).max() < 1e-12
    np.testing.assert_allclose(mapping.strain, mapping.strain.T)
    stretch = np.eye(3) + mapping.strain
    rebuilt = Atoms(
        mapping.parent.symbols,
        positions=mapping.parent.positions @ stretch + mapping.displacement,
        cell=mapping.parent.cell.array @ stretch,
        pbc=True,
    )
    again = map_child(parent(), rebuilt)
    assert abs(again.cost - mapping.cost) < 1e-9
    assert (mapping.cost < 1e-9) == (phase == "Pm-3m")


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("seed", range(3))
def test_axes_origin_order_and_setting_do_not_matter(phase, seed):
    rng = np.random.default_rng(seed)
    child = structures.load(f"BaTiO3_{phase}")
    expected = map_child(parent(), child)
    R = Rotation.random(random_state=seed).as_matrix()
    moved = child.repeat((1, 1, 1 + seed % 2))[rng.permutation(len(child) * (1 + seed % 2))]
    moved.set_cell(moved.cell.array @ R.T)
    moved.positions = moved.positions @ R.T + rng.normal(size=3)
    found = map_child(parent(), moved)
    assert abs(found.cost - expected.cost) < 1e-6
    np.testing.assert_allclose(np.linalg.eigvalsh(found.strain), np.linalg.eigvalsh(expected.strain), atol=1e-6)
    lengths = [np.sort(np.linalg.norm(m.displacement, axis=1)) for m in (found, expected)]
    np.testing.assert_allclose(*lengths, atol=1e-5)


def test_what_cannot_be_mapped_is_refused():
    tilted = structures.load("BaTiO3_Pm-3m").repeat((2, 1, 1))
    tilted.positions[1, 1] += 0.3
    with pytest.raises(ValueError, match="needs a supercell of the parent"):
        map_child(parent(), tilted)
    other = parent()
    other.numbers[other.numbers == 56] = 38
    with pytest.raises(ValueError, match="are different compounds"):
        map_child(parent(), other)
    molecule = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.74]])
    with pytest.raises(ValueError, match="discovery needs crystals"):
        map_child(molecule, molecule)
    stretched = parent()
    stretched.set_cell(stretched.cell.array * 1.5, scale_atoms=True)
    with pytest.raises(ValueError, match="no lattice of the child lies within"):
        map_child(parent(), stretched)
