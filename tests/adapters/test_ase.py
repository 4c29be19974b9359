import warnings

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixBondLength, FixCartesian
from ase.io import read, write
from ase.spacegroup import crystal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data

from pyg_relaxed.adapters import from_ase, to_ase

F64 = torch.float64


@st.composite
def structures(draw):
    """Any ``Atoms``: every pbc, skewed, left-handed and missing cells, atoms anywhere, all that ASE hangs on them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_atoms = draw(st.integers(1, 6))
    pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    cell = rng.normal(size=(3, 3)) * draw(st.sampled_from([1.5, 4.0])) + np.diag(rng.choice([-6.0, 6.0], 3))
    if draw(st.booleans()):
        cell[~np.array(pbc)] = 0
    numbers = rng.integers(1, 119, num_atoms)
    atoms = Atoms(numbers, rng.normal(size=(num_atoms, 3)) * 10, cell=cell, pbc=pbc)
    if draw(st.booleans()):
        atoms.set_tags(rng.integers(0, 5, num_atoms))
        atoms.set_masses(rng.uniform(1, 9, num_atoms))
        atoms.set_momenta(rng.normal(size=(num_atoms, 3)))
        atoms.set_celldisp(rng.normal(size=3))
    if draw(st.booleans()):
        atoms.set_initial_charges(rng.normal(size=num_atoms))
        atoms.set_initial_magnetic_moments(rng.normal(size=(num_atoms, 3) if draw(st.booleans()) else num_atoms))
    if draw(st.booleans()):
        atoms.set_array("adjacency_index", rng.integers(0, 9, num_atoms))
        atoms.set_array("names", np.array([f"a{n}" for n in range(num_atoms)]))
        atoms.set_array("flags", rng.integers(0, 2, num_atoms).astype(bool))
        atoms.set_array("tensors", rng.normal(size=(num_atoms, 3, 3)))
    if draw(st.booleans()):
        atoms.info = {
            "a": 1,
            "b": 0.1,
            "c": "text",
            "d": True,
            "field": rng.normal(size=3),
            "e": [1, "x"],
            "f": {"g": 2},
        }
        atoms.info |= {"charge": -1, "spin": 2, "space_group_index": 225}
    if draw(st.booleans()):
        fixed = rng.integers(0, 2, num_atoms).astype(bool)
        atoms.set_constraint([FixAtoms(mask=fixed), FixCartesian(np.flatnonzero(~fixed)[:1], [True, False, True])])
    if draw(st.booleans()):
        stress = rng.normal(size=6)
        results = {"energy": rng.normal(), "free_energy": rng.normal(), "forces": rng.normal(size=(num_atoms, 3))}
        results |= {"stress": stress, "dipole": rng.normal(size=3), "charges": rng.normal(size=num_atoms)}
        results |= {"magmom": 1.5, "magmoms": rng.normal(size=num_atoms), "energies": rng.normal(size=num_atoms)}
        atoms.calc = SinglePointCalculator(atoms, **results)
    if draw(st.booleans()):
        for name, rank in (("polarizability", 2), ("piezoelectric_tensor", 3), ("elastic_tensor", 4)):
            atoms.info[name] = rng.normal(size=(3,) * rank)
            if draw(st.booleans()):
                atoms.info[f"REF_{name}"] = rng.normal(size=(3,) * rank)
    return atoms


def assert_same(a, b):
    """Bit for bit."""
    assert a.arrays.keys() == b.arrays.keys()
    for name, array in a.arrays.items():
        assert np.array_equal(array, b.arrays[name]), name
        assert array.dtype.kind == b.arrays[name].dtype.kind, name
    assert np.array_equal(a.cell.array, b.cell.array)
    assert np.array_equal(a.pbc, b.pbc)
    assert np.array_equal(a.get_celldisp(), b.get_celldisp())
    assert a.info.keys() == b.info.keys()
    for name, value in a.info.items():
        assert np.array_equal(value, b.info[name]), name
    masks = [np.zeros((len(atoms), 3), dtype=bool) for atoms in (a, b)]
    for mask, atoms in zip(masks, (a, b), strict=True):
        for constraint in atoms.constraints:
            mask[constraint.index] |= getattr(constraint, "mask", True)
    assert np.array_equal(*masks)
    results = [{} if atoms.calc is None else atoms.calc.results for atoms in (a, b)]
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        assert np.array_equal(value, results[1][name]), name


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(structures())
def test_round_trip(atoms):
    before = atoms.copy()
    before.calc = atoms.calc
    data = from_ase(atoms, cutoff=2.0, dtype=F64)
    assert_same(atoms, before)
    assert_same(to_ase(data), atoms)
    assert_same(to_ase(Batch.from_data_list([data, data]).get_example(1)), atoms)
    again = from_ase(to_ase(data), cutoff=2.0, dtype=F64)
    assert set(again.keys()) == set(data.keys())
    assert all(torch.equal(v, again[k]) for k, v in data.to_dict().items() if isinstance(v, torch.Tensor))


def test_default_dtype_follows_torch_and_the_edges_do_not():
    atoms = bulk("Cu") * 2
    single, double = from_ase(atoms, 4.0), from_ase(atoms, 4.0, F64)
    assert single.pos.dtype == single.cell.dtype == torch.get_default_dtype() == torch.float32
    assert torch.equal(single.edge_index, double.edge_index)
    assert torch.equal(single.edge_cell_shift, double.edge_cell_shift)
    np.testing.assert_allclose(to_ase(single).positions, atoms.positions, atol=1e-6)


STRESS = np.array([1.0, 2, 3, 4, 5, 6])
FULL = [[1, 6, 5], [6, 2, 4], [5, 4, 3]]


@pytest.mark.parametrize("form", [STRESS, np.array(FULL), np.array(FULL).reshape(9), FULL])
@pytest.mark.parametrize("name", ["stress", "REF_stress"])
def test_stress_shapes(form, name):
    atoms = bulk("Cu")
    atoms.info[name] = form
    data = from_ase(atoms, dtype=F64)
    assert data.stress.tolist() == [FULL]
    assert to_ase(data).get_stress().tolist() == STRESS.tolist()


def test_forces_on_their_side_are_refused():
    """As many numbers as N x 3."""
    atoms = molecule("CO")
    atoms.calc = SinglePointCalculator(atoms)
    atoms.calc.results["forces"] = np.arange(6.0).reshape(3, 2)
    with pytest.raises(ValueError, match=r"'forces' must have shape \(2, 3\) \(got \(3, 2\)\): correct it"):
        from_ase(atoms)


def test_labels_as_graphs_hold_them_and_tensors_row_by_row():
    atoms = molecule("CO")
    born = np.arange(18.0).reshape(2, 3, 3)
    atoms.info |= {"energy": np.array([-1.0]), "stress": np.array([FULL])}
    atoms.arrays["born_effective_charges"] = born.reshape(2, 9)
    data = from_ase(atoms, dtype=F64)
    assert data.energy.tolist() == [-1.0]
    assert data.stress.tolist() == [FULL]
    np.testing.assert_array_equal(data.born_effective_charges, born)


def test_tags_that_are_no_integers_are_refused():
    atoms = molecule("CO")
    atoms.set_array("tags", np.array([1.0, 1.5]))
    with pytest.raises(ValueError, match=r"'tags' must be integers \(got 1.5 at \[1\]\)"):
        from_ase(atoms)


@pytest.mark.parametrize("prefix", ["", "REF_"])
def test_tensors_that_ase_has_no_name_for(prefix):
    rng = np.random.default_rng(0)
    e, C, atoms = rng.normal(size=(3, 6)), rng.normal(size=(6, 6)), bulk("Cu")
    atoms.info[f"{prefix}piezoelectric_tensor"], atoms.info[f"{prefix}elastic_tensor"] = e, C
    atoms.info[f"{prefix}polarizability"] = np.arange(9.0)
    atoms.calc = SinglePointCalculator(atoms, energy=1.0)
    data = from_ase(atoms, dtype=F64)
    assert data.piezoelectric_tensor.shape == (1, 3, 3, 3)
    assert data.piezoelectric_tensor[0, 1, 1, 2] == data.piezoelectric_tensor[0, 1, 2, 1] == e[1, 3]
    assert data.elastic_tensor.shape == (1, 3, 3, 3, 3)
    assert data.elastic_tensor[0, 0, 2, 1, 0] == C[4, 5]
    assert data.polarizability.tolist() == [np.arange(9.0).reshape(3, 3).tolist()]
    back = to_ase(data)
    assert set(back.calc.results) == {"energy"}
    assert set(back.info) == {"polarizability", "piezoelectric_tensor", "elastic_tensor"}
    again = from_ase(back, dtype=F64)
    assert set(again.keys()) == set(data.keys())
    assert all(torch.equal(again[name], data[name]) for name in back.info)
    batch = Batch.from_data_list([data, again])
    assert batch.elastic_tensor.shape == (2, 3, 3, 3, 3)


def test_a_target_does_not_overwrite_what_is_not_read():
    atoms = bulk("Cu")
    atoms.info["REF_polarizability"], atoms.info["polarizability"] = np.eye(3), 2 * np.eye(3)
    data = from_ase(atoms, dtype=F64)
    assert torch.equal(data.polarizability[0], torch.eye(3, dtype=F64))
    assert_same(to_ase(data), atoms)


def test_tensors_through_a_file(tmp_path):
    atoms = bulk("Cu")
    atoms.info["elastic_tensor"] = np.random.default_rng(0).normal(size=(3, 3, 3, 3))
    write(tmp_path / "cu.extxyz", to_ase(from_ase(atoms, dtype=F64)))
    found = from_ase(read(tmp_path / "cu.extxyz"), dtype=F64)
    np.testing.assert_allclose(found.elastic_tensor[0], atoms.info["elastic_tensor"], rtol=1e-7)


def test_stress_with_a_torque_keeps_nine_numbers():
    atoms = bulk("Cu")
    atoms.info["stress"] = np.arange(9.0).reshape(3, 3)
    data = from_ase(atoms, dtype=F64)
    assert data.stress.tolist() == [np.arange(9.0).reshape(3, 3).tolist()]
    assert from_ase(to_ase(data), dtype=F64).stress.tolist() == data.stress.tolist()


def test_labels_by_priority():
    atoms = molecule("H2O")
    atoms.info["energy"] = 1.0
    assert from_ase(atoms).energy.tolist() == [1.0]
    atoms.calc = SinglePointCalculator(atoms, energy=2.0)
    assert from_ase(atoms).energy.tolist() == [2.0]
    atoms.info["REF_energy"] = 3.0
    atoms.arrays["REF_forces"] = np.ones((3, 3))
    data = from_ase(atoms)
    assert data.energy.tolist() == [3.0]
    assert data.forces.tolist() == np.ones((3, 3)).tolist()
    assert data.info_energy.tolist() == [1.0]  # not read, not lost
    assert to_ase(data).get_potential_energy() == 3.0


def test_labels_under_other_names_are_read_from_there_alone():
    atoms = molecule("H2O")
    atoms.info |= {"dft_energy": 1.0, "REF_energy": 2.0, "energy": 3.0}
    atoms.arrays["dft_forces"] = np.ones((3, 3))
    atoms.calc = SinglePointCalculator(atoms, energy=4.0, dipole=np.ones(3))
    data = from_ase(atoms, label_names={"energy": "dft_energy", "forces": "dft_forces"})
    assert data.energy.tolist() == [1.0]
    assert data.forces.tolist() == np.ones((3, 3)).tolist()
    assert data.dipole.tolist() == [[1.0, 1.0, 1.0]]
    assert data.info_energy.tolist() == [3.0]
    assert "energy" not in from_ase(atoms, label_names={"energy": "pbe_energy"})
    atoms.arrays["dft_forces"] = np.ones((3, 2))
    with pytest.raises(ValueError, match="'dft_forces' must have shape"):
        from_ase(atoms, label_names={"forces": "dft_forces"})
    atoms.calc = SinglePointCalculator(atoms, free_energy=6.0)  # where ASE's reader puts it
    assert from_ase(atoms, label_names={"energy": "free_energy"}).energy.tolist() == [6.0]
    with pytest.raises(ValueError, match="'enrgy' is no label"):
        from_ase(atoms, label_names={"enrgy": "dft_energy"})
    with pytest.raises(ValueError, match="'E' cannot be two labels"):
        from_ase(atoms, label_names={"energy": "E", "free_energy": "E"})


def test_no_labels():
    data = from_ase(molecule("H2O"))
    assert "energy" not in data
    assert to_ase(data).calc is None


def test_live_calculator_computes_nothing():
    atoms = bulk("Cu")
    atoms.calc = EMT()
    assert "energy" not in from_ase(atoms)
    energy = atoms.get_potential_energy()
    assert from_ase(atoms, dtype=F64).energy.item() == energy


def test_results_of_another_geometry_are_not_read():
    atoms = molecule("H2O")
    atoms.calc = SinglePointCalculator(atoms, energy=2.0)
    atoms.positions += 1
    with pytest.warns(UserWarning, match=r"results of atoms.calc \(energy\) belong to other positions"):
        assert "energy" not in from_ase(atoms)


@pytest.mark.parametrize(
    ("where", "name", "value", "message"),
    [
        ("info", "stress", np.ones(5), r"'stress' must have shape \(3, 3\) \(got \(5,\)\)"),
        ("info", "REF_energy", "low", "'REF_energy' must be numbers"),
        ("info", "energy", np.ones(2), r"'energy' must have shape \(\)"),
        (
            "info",
            "piezoelectric_tensor",
            np.ones((6, 3)),
            r"\(3, 3, 3\), or \(3, 6\) in Voigt's notation, \(got \(6, 3",
        ),
        ("info", "elastic_tensor", np.ones(36), r"\(3, 3, 3, 3\), or \(6, 6\) in Voigt's notation, \(got \(36,\)\)"),
        ("arrays", "forces", np.ones((3, 2)), r"'forces' must have shape \(3, 3\)"),
        ("arrays", "charges", np.ones((3, 1)), r"'charges' must have shape \(3,\) \(got \(3, 1\)\)"),
        ("info", "stress", np.ones((9, 1)), r"'stress' must have shape \(3, 3\)"),
        ("info", "dipole", np.ones((3, 1)), r"'dipole' must have shape \(3,\)"),
        ("info", "energy", np.ones((1, 1)), r"'energy' must have shape \(\)"),
    ],
)
def test_bad_labels(where, name, value, message):
    atoms = molecule("H2O")
    getattr(atoms, where)[name] = value
    with pytest.raises(ValueError, match=message):
        from_ase(atoms)


def test_partial_labels_stay_nan():
    atoms = molecule("H2O")
    atoms.arrays["forces"] = np.full((3, 3), np.nan)
    assert from_ase(atoms).forces.isnan().all()


def test_constraints_come_back_as_they_were():
    atoms = fcc111("Cu", (1, 1, 4), vacuum=5)
    atoms.set_constraint([FixAtoms([0, 1]), FixCartesian([2], [False, False, True])])
    data = from_ase(atoms)
    assert data.fixed.tolist() == [[True] * 3, [True] * 3, [False, False, True], [False] * 3]
    back = to_ase(data).constraints
    assert [type(c) for c in back] == [FixAtoms, FixCartesian]
    assert back[0].index.tolist() == [0, 1]
    assert back[1].mask.tolist() == [False, False, True]


def test_other_constraints_are_named():
    atoms = molecule("H2O")
    atoms.set_constraint([FixBondLength(0, 1)])
    with pytest.warns(UserWarning, match="the constraint FixBondLengths is not carried"):
        data = from_ase(atoms)
    assert "fixed" not in data


def test_info_keys_that_are_not_text():
    atoms = molecule("H2O")
    atoms.info[3] = 1
    with pytest.warns(UserWarning, match=r"atoms.info keys \[3\] are not text"):
        from_ase(atoms)


def test_extras_can_be_left_out():
    atoms = molecule("H2O")
    atoms.info["a"], atoms.arrays["b"] = 1, np.ones(3)
    atoms.set_tags([1, 2, 3])
    data = from_ase(atoms, extras=False)
    assert {"info_a", "site_b"}.isdisjoint(data.keys())
    assert data.tags.tolist() == [1, 2, 3]


def test_charge_and_spin():
    atoms = molecule("H2O")
    atoms.info = {"charge": 1, "spin": 2.0}
    data = from_ase(atoms)
    assert data.charge.tolist() == [1.0]
    assert data.spin.tolist() == [2]
    atoms.info = {"charge": "+1", "spin": 0.5}
    data = from_ase(atoms)
    assert {"charge", "spin"}.isdisjoint(data.keys())
    assert to_ase(data).info == atoms.info


def test_half_precision():
    data = from_ase(bulk("Cu")).apply(lambda t: t.bfloat16() if t.is_floating_point() else t)
    assert to_ase(data).cell.rank == 3


def test_frame():
    rutile = crystal(["Ti", "O"], [(0, 0, 0), (0.3, 0.3, 0)], spacegroup=136, cellpar=[4.6, 4.6, 2.95, 90, 90, 90])
    assert from_ase(rutile).frame == "standard"
    assert from_ase(rutile, frame="cartesian").frame == "cartesian"
    turned = rutile.copy()
    turned.rotate(30, "x", rotate_cell=True)
    assert from_ase(turned).frame == "cartesian"
    assert from_ase(bulk("Cu")).frame == "cartesian"
    back = to_ase(from_ase(bulk("Cu"), frame="standard"))
    assert from_ase(back).frame == "standard"
    with pytest.raises(ValueError, match="'frame' must be one of"):
        from_ase(rutile, frame="lab")


def test_dummy_atoms_and_none():
    with pytest.raises(ValueError, match="atom 1 has atomic number 0, which is no element"):
        from_ase(Atoms("HX", [[0, 0, 0], [0, 0, 1]]))
    with pytest.raises(ValueError, match="no atoms"):
        from_ase(Atoms())


def test_bad_geometry():
    with pytest.raises(ValueError, match="atom 0 has position"):
        from_ase(Atoms("H", [[np.nan, 0, 0]]))
    with pytest.raises(ValueError, match="span no volume"):
        from_ase(Atoms("H", pbc=True))
    with pytest.raises(ValueError, match="on top of each other"):
        from_ase(Atoms("H2"))


def test_batches_are_refused():
    batch = Batch.from_data_list([from_ase(molecule("H2O"))] * 2)
    with pytest.raises(ValueError, match=r"one graph \(got a batch of 2\): use data.to_data_list\(\)"):
        to_ase(batch)
    assert [len(to_ase(d)) for d in batch.to_data_list()] == [3, 3]


def test_graphs_of_others_and_of_a_training_run():
    plain = Data(
        z=torch.tensor([1, 1]), pos=torch.tensor([[0.0, 0, 0], [0, 0, 1]], requires_grad=True), y=torch.ones(1)
    )
    assert to_ase(plain).get_chemical_formula() == "H2"
    data = from_ase(bulk("Cu"), dtype=F64)
    data.energy = data.pos.requires_grad_().sum()[None]
    assert to_ase(data).get_potential_energy() == 0


def test_from_ase_is_quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_ase(from_ase(bulk("NaCl", "rocksalt", a=5.64)))


def test_a_label_that_is_named_goes_before_one_that_is_not():
    copper = bulk("Cu")
    copper.info["energy"] = 6.0
    data = from_ase(copper, label_names={"free_energy": "energy"})
    assert (data.free_energy.item(), "energy" in data) == (6.0, False)
