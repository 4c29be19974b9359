import copy
import warnings

import numpy as np
import pytest
import torch
from ase.build import bulk, fcc111
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.analysis.elasticity import ElasticTensor
from pymatgen.analysis.piezo import PiezoTensor
from pymatgen.core import DummySpecies, Element, IMolecule, IStructure, Lattice, Molecule, Species, Structure
from pymatgen.electronic_structure.core import Magmom
from torch_geometric.data import Batch

from pyg_relaxed.adapters import from_ase, from_pymatgen, to_ase, to_pymatgen

F64 = torch.float64


def hang_on(draw, rng, num_atoms):
    """Draw species and whatever pymatgen keeps on sites and structures."""
    species = [Element.from_Z(int(z)) for z in rng.integers(1, 119, num_atoms)]
    if draw(st.booleans()):
        species = [
            Species(s.symbol, int(q)) if q else s for s, q in zip(species, rng.integers(-2, 3, num_atoms), strict=True)
        ]
        species[0] = Species("Fe", 2, spin=5)
    site = {}
    if draw(st.booleans()):
        site = {"magmom": rng.normal(size=num_atoms).tolist(), "charge": rng.normal(size=num_atoms).tolist()}
        site |= {"wyckoff": [f"{n}a" for n in range(num_atoms)], "site_index": list(range(num_atoms))}
        site |= {
            "velocities": rng.normal(size=(num_atoms, 3)).tolist(),
            "flags": rng.integers(0, 2, num_atoms).astype(bool).tolist(),
        }
    if draw(st.booleans()):
        site["selective_dynamics"] = rng.integers(0, 2, (num_atoms, 3)).astype(bool).tolist()
    labels = [f"{s.symbol}{n}" for n, s in enumerate(species)] if draw(st.booleans()) else None
    properties = (
        {"a": 1, "energy": -3.0, "energy_index": 0.5, "b": "text", "c": [1, 2], "d": {"e": 1}}
        if draw(st.booleans())
        else {}
    )
    if draw(st.booleans()):
        for name, rank in (("polarizability", 2), ("piezoelectric_tensor", 3), ("elastic_tensor", 4)):
            properties[name] = rng.normal(size=(3,) * rank).tolist()
    return {"species": species, "site_properties": site, "labels": labels, "properties": properties}


@st.composite
def crystals(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_atoms = draw(st.integers(1, 5))
    matrix = rng.normal(size=(3, 3)) * 1.5 + np.diag(rng.choice([-6.0, 6.0], 3))
    pbc = draw(st.sampled_from([(True, True, True), (True, True, False), (False, True, False)]))
    charge = draw(st.sampled_from([None, 0, 2, -1.5]))
    coords = rng.uniform(-2, 2, (num_atoms, 3))
    kind = draw(st.sampled_from([Structure, IStructure]))
    return kind(Lattice(matrix, pbc=pbc), coords=coords, charge=charge, **hang_on(draw, rng, num_atoms))


@st.composite
def molecules(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_atoms = draw(st.integers(1, 5))
    kind = draw(st.sampled_from([Molecule, IMolecule]))
    spin, charge = draw(st.sampled_from([None, 1, 2, 3])), draw(st.sampled_from([0, 1, -2]))
    given_ = hang_on(draw, rng, num_atoms)
    coords = rng.normal(size=(num_atoms, 3)) * 5
    return kind(coords=coords, charge=charge, spin_multiplicity=spin, charge_spin_check=False, **given_)


def assert_same(a, b):
    assert a.properties == b.properties
    assert a.site_properties == b.site_properties
    assert a.labels == b.labels
    assert [(type(s), s) for s in a.species] == [(type(s), s) for s in b.species]
    assert [getattr(s, "spin", None) for s in a.species] == [getattr(s, "spin", None) for s in b.species]
    assert np.array_equal(a.cart_coords, b.cart_coords)
    assert a._charge == b._charge
    if hasattr(a, "lattice"):
        assert np.array_equal(a.frac_coords, b.frac_coords)
        assert np.array_equal(a.lattice.matrix, b.lattice.matrix)
        assert a.lattice.pbc == b.lattice.pbc
    else:
        assert a.spin_multiplicity == b.spin_multiplicity


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(crystals(), molecules()))
def test_round_trip(structure):
    before = copy.deepcopy(structure)
    data = from_pymatgen(structure, cutoff=2.0, dtype=F64)
    assert_same(structure, before)
    back = to_pymatgen(data)
    assert_same(back, structure)
    assert type(back) is (Structure if isinstance(structure, IStructure) else Molecule)
    assert_same(to_pymatgen(Batch.from_data_list([data, data]).get_example(1)), structure)
    if hasattr(structure, "lattice"):
        assert back == structure


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(crystals(), molecules()))
def test_through_ase(structure):
    data = from_pymatgen(structure, cutoff=2.0, dtype=F64)
    back = from_ase(to_ase(data), cutoff=2.0, dtype=F64)
    lost = (
        {"frac_coords"} if data.get("fixed", torch.ones(1)).any() else {"frac_coords", "fixed"}
    )  # no empty mask in ASE
    assert set(back.keys()) == set(data.keys()) - lost
    for name, value in back.to_dict().items():
        same = (
            torch.equal(value.nan_to_num(), data[name].nan_to_num())
            if isinstance(value, torch.Tensor)
            else value == data[name]
        )
        assert same, name


def test_tensors_in_voigts_notation():
    rng = np.random.default_rng(0)
    e, C = rng.normal(size=(3, 6)), rng.normal(size=(6, 6))
    C = C + C.T
    properties = {"piezoelectric_tensor": PiezoTensor.from_voigt(e).voigt, "elastic_tensor": C.tolist()}
    data = from_pymatgen(Structure(4 * np.eye(3), ["H"], [[0, 0, 0]], properties=properties), dtype=F64)
    np.testing.assert_allclose(data.piezoelectric_tensor[0], PiezoTensor.from_voigt(e))
    np.testing.assert_allclose(data.elastic_tensor[0], ElasticTensor.from_voigt(C))
    again = from_pymatgen(to_pymatgen(data), dtype=F64)
    assert torch.equal(again.elastic_tensor, data.elastic_tensor)
    assert torch.equal(again.piezoelectric_tensor, data.piezoelectric_tensor)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("stress", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [[[1, 6, 5], [6, 2, 4], [5, 4, 3]]]),
        ("forces", [[0.0, 0.0, 1.0]], [[0, 0, 1]]),
        ("energy", "unknown", None),
        ("stress", np.zeros((3, 6)).tolist(), r"'stress' must have shape \(3, 3\)"),
        ("elastic_tensor", np.zeros((3, 6)).tolist(), "'elastic_tensor' must have shape"),
    ],
)
def test_labels_are_read_in_their_shapes_or_refused(name, value, expected):
    structure = Structure(4 * np.eye(3), ["H"], [[0, 0, 0]], properties={name: value})
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            from_pymatgen(structure)
    elif expected is None:
        assert from_pymatgen(structure)[f"info_{name}"] == value
    else:
        assert from_pymatgen(structure)[name].tolist() == expected


def test_magnetic_moments_as_objects():
    structure = Structure(4 * np.eye(3), ["Fe", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    structure.add_site_property("magmom", [Magmom([0.0, 1.0, 2.0]), Magmom(0.5)])
    data = from_pymatgen(structure)
    torch.testing.assert_close(data.initial_magmoms, torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.0, 0.5]]))


def test_velocities_are_no_momenta():
    """In Å/fs from a POSCAR, in ASE's unit from pymatgen's trajectories: nothing says which."""
    velocities = [[0.1, 0.0, 0.0], [0.0, 0.2, 0.0]]
    site = {"velocities": velocities}
    data = from_pymatgen(Structure(4 * np.eye(3), ["H", "O"], [[0, 0, 0], [0.5] * 3], site_properties=site), dtype=F64)
    assert data.site_velocities.tolist() == velocities
    assert "momenta" not in data
    assert to_pymatgen(data).site_properties["velocities"] == velocities
    assert not to_ase(data).get_momenta().any()


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match=r"'structure' must be a pymatgen Structure or Molecule \(got Atoms"):
        from_pymatgen(bulk("Cu"))


def test_ase_through_pymatgen():
    atoms = fcc111("Cu", (1, 1, 3), vacuum=5)
    atoms.set_constraint([FixAtoms([0]), FixCartesian([1], [True, False, False])])
    atoms.set_momenta(np.ones((3, 3)))
    atoms.info |= {"spin": 3, "charge": 1.0, "note": "text"}
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.ones((3, 3)), stress=np.arange(6.0))
    data = from_ase(atoms, dtype=F64)
    structure = to_pymatgen(data)
    assert structure.lattice.pbc == (True, True, False)
    back = from_pymatgen(structure, dtype=F64)
    assert set(back.keys()) == set(data.keys()) | {"frac_coords"}
    for name in set(data.keys()) - {"frame", "edge_index", "edge_cell_shift"}:
        if isinstance(data[name], str):
            assert back[name] == data[name]
        else:
            torch.testing.assert_close(back[name], data[name], rtol=0, atol=1e-13, msg=name)


def test_positions_win_over_stale_fractional_coordinates():
    data = from_pymatgen(Structure(4 * np.eye(3), ["H"], [[0.1, 0.2, 0.3]]), dtype=F64)
    data.pos = data.pos + 1
    np.testing.assert_allclose(to_pymatgen(data).frac_coords, [[0.35, 0.45, 0.55]])


def test_isotopes():
    heavy_water = Molecule(["O", "D", "H"], [[0, 0, 0], [0, 0, 1], [0, 1, 0]])
    data = from_pymatgen(heavy_water)
    assert data.z.tolist() == [8, 1, 1]
    assert to_ase(data).get_masses()[1] == pytest.approx(2.014, abs=1e-3)
    assert [s.name for s in to_pymatgen(data).species] == ["O", "D", "H"]
    assert to_pymatgen(data) == heavy_water


def test_isotopes_with_oxidation_states():
    structure = Structure(4 * np.eye(3), [Species("D", 1), Species("O", -2)], [[0, 0, 0], [0.5] * 3])
    assert to_pymatgen(from_pymatgen(structure)) == structure


def test_selective_dynamics():
    free = [[True] * 3, [False] * 3]
    structure = Structure(
        4 * np.eye(3), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3], site_properties={"selective_dynamics": free}
    )
    data = from_pymatgen(structure)
    assert data.fixed.tolist() == [[False] * 3, [True] * 3]
    assert to_ase(data).constraints[0].index.tolist() == [1]


def test_site_properties_that_are_not_numbers_stay_lists():
    site = {"magmom": [1.0, None], "names": ["a", "b"], "ragged": [[1], [1, 2]]}
    data = from_pymatgen(Structure(4 * np.eye(3), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3], site_properties=site))
    assert data.site_names == ["a", "b"]
    assert data.site_magmom == [1.0, None]
    assert to_pymatgen(data).site_properties == site


def test_molecule_with_a_cell_keeps_it():
    data = from_pymatgen(Structure(Lattice(4 * np.eye(3), pbc=(False,) * 3), ["H"], [[0, 0, 0]]), dtype=F64)
    found = to_pymatgen(data)
    assert isinstance(found, Molecule)
    assert from_pymatgen(found, dtype=F64).cell.tolist() == data.cell.tolist()


def test_disordered_sites_are_named():
    structure = Structure(4 * np.eye(3), ["O", {"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0], [0.5] * 3])
    with pytest.raises(ValueError, match=r"site 1 is disordered \(Fe:0.5, Ni:0.5\): choose one species"):
        from_pymatgen(structure)
    with pytest.raises(ValueError, match="site 0 is disordered"):
        from_pymatgen(Structure(4 * np.eye(3), [{"Fe": 0.5}], [[0, 0, 0]]))


def test_dummy_species_are_named():
    with pytest.raises(ValueError, match=r"site 0 holds X.*, which is no element"):
        from_pymatgen(Structure(4 * np.eye(3), [DummySpecies("X")], [[0, 0, 0]]))


def test_batches_and_missing_vectors_are_refused():
    data = from_pymatgen(Molecule(["H"], [[0, 0, 0]]))
    with pytest.raises(ValueError, match=r"got a batch of 1\): use data.to_data_list"):
        to_pymatgen(Batch.from_data_list([data]))
    data.pbc[0, 0] = True
    with pytest.raises(ValueError, match="pymatgen needs three lattice vectors"):
        to_pymatgen(data)


def test_frame_and_extras():
    structure = Structure(4 * np.eye(3), ["H"], [[0, 0, 0]], site_properties={"a": [1]}, properties={"b": 2})
    data = from_pymatgen(structure, frame="standard", extras=False)
    assert data.frame == "standard"
    assert {"site_a", "info_b"}.isdisjoint(data.keys())
    back = to_pymatgen(data)
    assert from_pymatgen(back).frame == "standard"
    assert "info_frame" not in from_pymatgen(back)
    with pytest.raises(ValueError, match="'frame' must be one of"):
        from_pymatgen(structure, frame="lab")


def test_from_pymatgen_is_quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_pymatgen(from_pymatgen(Structure(5 * np.eye(3), ["Na+", "Cl-"], [[0, 0, 0], [0.5] * 3], charge=1)))
