"""Data sets of structures: every source, what goes wrong, labels, parts."""

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from ase.db import connect
from crystals import CUTOFF, assert_equal, dataset, labelled, write_extxyz
from pymatgen.core import Molecule, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from torch_geometric.loader import DataLoader

from pyg_relaxed import from_ase, structures
from pyg_relaxed.adapters import open_source


@pytest.fixture
def graphs():
    return [from_ase(atoms, CUTOFF, torch.float64) for atoms in labelled()]


def write_traj(path):
    ase.io.write(path / "all.traj", labelled())
    return path / "all.traj"


def write_db(path):
    with connect(path / "all.db", append=False) as db:
        for atoms in labelled():
            db.write(atoms)
    return path / "all.db"


def write_folder(path):
    folder = path / "folder" / "inner"
    folder.mkdir(parents=True)
    for n, atoms in enumerate(labelled()):
        ase.io.write(folder / f"{n}.traj", atoms)
    (path / "folder" / "README.txt").write_text("no structure")
    return path / "folder"


def in_memory(path):
    return labelled()


@pytest.mark.parametrize("write", [write_extxyz, write_traj, write_db, write_folder, in_memory])
@pytest.mark.parametrize("on_disk", [False, True])
def test_every_source_gives_the_graphs_of_the_adapter(write, on_disk, graphs, tmp_path):
    source = write(tmp_path)
    found = dataset(source, root=tmp_path / "processed" if on_disk else None, in_memory=not on_disk)
    assert_equal(list(found), graphs)


def test_a_folder_of_cif_and_poscar_is_read_file_by_file(tmp_path):
    for n, name in enumerate(["BaTiO3_P4mm", "BaTiO3_R3m"]):
        ase.io.write(tmp_path / f"{n}.cif", structures.load(name))
        ase.io.write(tmp_path / f"POSCAR_{n}", structures.load(name), format="vasp")
    found = dataset(tmp_path)
    assert [graph.frame for graph in found] == ["standard", "standard", "cartesian", "cartesian"]
    assert [Path(found.place(n)).name for n in range(4)] == ["0.cif", "1.cif", "POSCAR_0", "POSCAR_1"]


@pytest.mark.parametrize("form", ["one", "list", "by name", "documents"])
def test_json_of_pymatgen(form, tmp_path):
    crystal = Structure([[4, 0, 0], [0, 4, 0], [0, 0, 4]], ["Ba", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]).as_dict()
    water = Molecule(["O", "H"], [[0, 0, 0], [0, 0, 1]]).as_dict()
    content = {
        "one": crystal,
        "list": [crystal, water],
        "by name": {"mp-1": crystal, "mp-2": water},
        "documents": [{"structure": crystal, "energy": -3.0, "material_id": "mp-1"}, {"structure": water}],
    }[form]
    (tmp_path / "all.json").write_text(json.dumps(content))
    found = dataset(tmp_path / "all.json")
    assert [graph.num_nodes for graph in found] == ([2] if form == "one" else [2, 2])
    assert found[0].pbc.all()
    assert ("mp-1" in found.place(0)) == (form == "by name")
    assert found.count_labels() == ({"energy": 1} if form == "documents" else {})


def test_json_cannot_name_what_is_imported(tmp_path):
    (tmp_path / "all.json").write_text(json.dumps([{"@module": "os", "@class": "system", "command": "true"}]))
    with pytest.raises(ValueError, match=r"entry 0: no structure among '@module', '@class', 'command'"):
        dataset(tmp_path / "all.json")


def test_properties_of_sites_cannot_name_what_is_imported_either(tmp_path, monkeypatch):
    (tmp_path / "hostile.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    document = Structure(np.eye(3) * 4, ["Ba"], [[0, 0, 0]]).as_dict()
    document["sites"][0]["properties"] = {"thing": {"@module": "hostile", "@class": "Thing"}}
    (tmp_path / "all.json").write_text(json.dumps([document]))
    assert len(dataset(tmp_path / "all.json")) == 1


def test_labels_of_a_database_are_its_key_value_pairs_and_data_too(tmp_path):
    with connect(tmp_path / "all.db") as db:
        db.write(bulk("Cu"), key_value_pairs={"REF_energy": -1.5}, data={"REF_forces": np.ones((1, 3))})
    (graph,) = dataset(tmp_path / "all.db")
    assert (graph.energy.item(), graph.forces.tolist()) == (-1.5, [[1.0, 1.0, 1.0]])


def test_it_is_a_data_set_of_pyg():
    found = dataset(labelled())
    assert [graph.num_nodes for graph in found[1:3]] == [found[1].num_nodes, found[2].num_nodes]
    assert len(found[torch.tensor([True, False] * 3)]) == 3
    assert sorted(graph.energy.item() for graph in found.shuffle()) == sorted(graph.energy.item() for graph in found)
    batch = next(iter(DataLoader(found, batch_size=6)))
    assert batch.num_graphs == 6
    assert batch.energy.shape == (6,)


def test_workers_of_a_loader_read_from_disk(tmp_path, graphs):
    found = dataset(labelled(), root=tmp_path, in_memory=False)
    assert_equal([batch[0] for batch in DataLoader(found, batch_size=1, num_workers=2)], graphs)


@pytest.mark.parametrize(
    "name", ["a.extxyz", "a.xyz", "a.traj", "a.db", "a.cif", "XDATCAR", "a.xsf", "a.pdb", "a.xyz.gz"]
)
def test_all_structures_of_a_file_are_taken(name, tmp_path):
    frames = [bulk("Cu", cubic=True) for _ in range(3)]
    for n, atoms in enumerate(frames):
        atoms.positions[1, 2] += 0.05 * n
    text = "vasp-xdatcar" if name == "XDATCAR" else None
    ase.io.write(tmp_path / name, frames, format="extxyz" if name.endswith("gz") else text)
    for source in (tmp_path / name, tmp_path, [tmp_path / name, bulk("Au")]):
        found = dataset(source)
        assert len(found) == 3 + isinstance(source, list)
        heights = [graph.pos[1, 2].item() - frames[0].positions[1, 2] for graph in found[:3]]
        np.testing.assert_allclose(heights, [0.0, 0.05, 0.1], atol=2e-3)
    (first,) = dataset(f"{tmp_path / name}@0") if name in ("a.extxyz", "a.cif") else [None]
    assert first is None or first.num_nodes == 4


def test_errors_name_a_file_once(tmp_path):
    (tmp_path / "notes.cif").write_text("milk, bread")
    for source in (tmp_path, tmp_path / "notes.cif", [tmp_path / "notes.cif"], [tmp_path / "none.cif", bulk("Cu")]):
        with pytest.raises(ValueError, match=r"neither ASE|no file") as caught:
            dataset(source)
        assert str(caught.value).count(str(tmp_path)) == 1


@pytest.fixture
def corrupt(tmp_path):
    """Six frames, of which the third has a word for a number and the fifth atoms on top of each other."""
    frames = labelled()
    frames[4].positions[1] = frames[4].positions[0]
    frames[4].calc = None
    path = tmp_path / "corrupt.extxyz"
    ase.io.write(path, frames, format="extxyz")
    text = path.read_text().split("Lattice")
    text[3] = text[3].replace("Cu", "Cu oops", 1)
    path.write_text("Lattice".join(text))
    return path


def test_a_corrupt_entry_is_named(corrupt):
    with pytest.raises(ValueError, match=r"corrupt.extxyz, frame 2: .*on_error='skip'"):
        dataset(corrupt)


def test_corrupt_entries_are_skipped_by_choice_and_counted(corrupt, tmp_path):
    message = r"2 of 6 entries are left out, the first is .*frame 2: "
    for _ in range(2):  # processed, and from disk
        with pytest.warns(UserWarning, match=message):
            found = dataset(corrupt, root=tmp_path / "processed", on_error="skip")
        assert [Path(failure.place).name for failure in found.failures] == [
            "corrupt.extxyz, frame 2",
            "corrupt.extxyz, frame 4",
        ]
        assert "on top of each other" in found.failures[1].reason
        assert [found.place(n)[-7:] for n in range(len(found))] == ["frame 0", "frame 1", "frame 3", "frame 5"]
    with pytest.raises(ValueError, match="frame 2"):
        dataset(corrupt, root=tmp_path / "processed")


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("4\nonly\nCu 0 0 0\n", "the file ends 3 lines early"),
        ("two\n", "must be a number of atoms"),
        ("\n\n2\n", "is empty"),
    ],
)
def test_a_file_that_ends_in_the_middle_gives_what_comes_before(tmp_path, ending, reason):
    path = write_extxyz(tmp_path)
    path.write_text(path.read_text() + ending)
    with pytest.warns(UserWarning, match=rf"1 of 7 entries are left out, .*frame 6: .*{reason}"):
        assert len(dataset(path, on_error="skip")) == 6


def test_a_frame_that_promises_more_than_it_holds_is_named(tmp_path):
    """ASE would make room for all columns before it reads one."""
    path = write_extxyz(tmp_path)
    path.write_text(path.read_text() + "1\nProperties=species:S:1:pos:R:3:mine:R:999999999\nH 0 0 0\n")
    with pytest.raises(ValueError, match=r"frame 6: it promises 999999999 .* correct the count"):
        dataset(path)


def test_labels_asked_for_must_be_there():
    unlabelled = [bulk("Cu"), bulk("Au")]
    with pytest.raises(ValueError, match=r"0 of 2 structures have 'stress'\. Labels found: none"):
        dataset(unlabelled, labels=["stress"])
    with pytest.raises(ValueError, match=r"0 of 6 structures have 'dipole'\. Labels found: energy \(6\), forces \(6\)"):
        dataset(labelled(), labels=["energy", "dipole"])
    with pytest.raises(ValueError, match=r"'enrgy' is no label: did you mean 'energy'\?"):
        dataset(labelled(), labels=["enrgy"])


def renamed(atoms):
    atoms = atoms.copy()
    atoms.info["dft_energy"], atoms.arrays["dft_forces"] = -1.0, np.ones((len(atoms), 3))
    return atoms


def write_renamed_db(path):
    with connect(path / "all.db", append=False) as db:
        db.write(bulk("Cu"), key_value_pairs={"dft_energy": -1.0}, data={"dft_forces": np.ones((1, 3))})
    return path / "all.db"


def write_renamed_extxyz(path):
    ase.io.write(path / "all.extxyz", renamed(bulk("Cu")))
    return path / "all.extxyz"


def of_pymatgen(path):
    copper = AseAtomsAdaptor.get_structure(bulk("Cu"))
    copper.properties |= {"dft_energy": -1.0, "energy": 5.0}
    copper.add_site_property("dft_forces", np.ones((1, 3)))
    return [copper]


@pytest.mark.parametrize(
    "make", [lambda path: [renamed(bulk("Cu"))], write_renamed_extxyz, write_renamed_db, of_pymatgen]
)
def test_labels_may_have_other_names(make, tmp_path):
    names = {"energy": "dft_energy", "forces": "dft_forces"}
    found = dataset(make(tmp_path), tmp_path / "cache", labels=["energy", "forces"], label_names=names)
    assert found[0].energy.tolist() == [-1.0]
    assert found[0].forces.tolist() == [[1.0, 1.0, 1.0]]
    with pytest.raises(ValueError, match=r"'energy' \(as 'pbe_energy'\). Labels found: .*; other numbers: dft_energy"):
        dataset(make(tmp_path), tmp_path / "cache", labels=["energy"], label_names={"energy": "pbe_energy"})
    with pytest.raises(ValueError, match=r"'enrgy' is no label: did you mean 'energy'\?"):
        dataset(make(tmp_path), label_names={"enrgy": "dft_energy"})


def test_labels_are_told_with_where_they_were_read(tmp_path):
    """Of each label, and of what is there beside: a typing error is seen."""
    reference = bulk("Cu")
    reference.info |= {"REF_energy": 1.0, "dft_energy": 2.0, "id": 7, "name": "one", "bonds": [[0, 1], [1]]}
    found = dataset([*labelled(2), reference], tmp_path / "cache", label_names={"dipole": "mu"})
    assert found.label_keys()["energy"] == {"atoms.calc": 2, "REF_energy": 1}
    message = r"have 'dipole' \(as 'mu'\), 'charges'. Labels found: .*; other numbers: dft_energy, id\. "
    with pytest.raises(ValueError, match=message):
        found.check_labels("dipole", "charges", "energy")
    with pytest.raises(ValueError, match="where they stand is said by 'label_names'"):
        dataset([reference], labels={"energy": "dft_energy"})


def test_labels_that_some_lack_are_nan_and_batch():
    found = dataset([*labelled(2), bulk("Cu"), molecule("H2O")], labels=["energy", "forces"])
    assert found.count_labels() == {"energy": 2, "forces": 2, "stress": 2}
    batch = next(iter(DataLoader(found, batch_size=4)))
    assert batch.energy.isnan().tolist() == [False, False, True, True]
    assert batch.forces.isnan().any(dim=1).sum() == 1 + 3
    assert "stress" not in batch


def test_labels_of_some_structures_batch_in_any_order():
    for source in ([bulk("Cu"), *labelled(1)], [*labelled(1), bulk("Cu")]):
        batch = next(iter(DataLoader(dataset(source), batch_size=2)))
        assert batch.energy.isnan().sum() == 1
        assert batch.energy.dtype == torch.float64


def test_inputs_of_some_structures_are_zero_for_the_others():
    ion, fixed = molecule("OH"), molecule("H2O")
    ion.info["charge"] = -1
    fixed.set_constraint(FixAtoms([0]))
    fixed.info["electric_field"] = [0.0, 0.0, 0.1]
    for source in ([ion, fixed], [fixed, ion]):
        batch = next(iter(DataLoader(dataset(source), batch_size=2)))
        order = [source.index(ion), source.index(fixed)]
        assert batch.charge[order].tolist() == [-1.0, 0.0]
        assert batch.electric_field[order].tolist() == [[0.0, 0.0, 0.0], [0.0, 0.0, 0.1]]
        assert batch.fixed.any(dim=1).sum() == 1


def test_what_is_neither_input_nor_label_is_carried_on_request():
    tagged = bulk("Cu")
    tagged.set_tags([3])
    tagged.info["name"] = "copper"
    assert "tags" not in dataset([tagged])[0]
    (graph,) = dataset([tagged], extras=True)
    assert (graph.tags.tolist(), graph.info_name) == ([3], "copper")


@pytest.mark.parametrize(
    ("by", "fractions"),
    [("random", (0.5, 0.25, 0.25)), ("composition", (0.5, 0.25, 0.25)), ("prototype", (0.5, 0.5))],
)
def test_parts_are_disjoint_and_complete(by, fractions):
    found = dataset(labelled(12, ("Cu", "Au", "Ag", "Al")))
    parts = found.split(fractions, by)
    assert sorted(i for part in parts for i in part.indices()) == list(range(12))
    again = found.split(fractions, by)
    assert [part.indices() for part in parts] == [part.indices() for part in again]
    if by == "random":
        assert [len(part) for part in parts] == [6, 3, 3]
        assert found.split(fractions, by, seed=1)[0].indices() != parts[0].indices()


def test_compositions_stay_together():
    parts = dataset(labelled(12, ("Cu", "Au", "Ag", "Al"))).split((0.5, 0.25, 0.25), "composition")
    species = [set(torch.cat([graph.z for graph in part]).tolist()) for part in parts]
    assert [len(found) for found in species] == [2, 1, 1]
    assert not set.intersection(*species)


def test_structure_types_stay_together_whatever_their_elements_and_origins():
    perovskites = [structures.load(name) for name in ("BaTiO3_Pm-3m", "BaTiO3_P4mm")]
    other = perovskites[0].copy()
    other.numbers[other.numbers == 56] = 38
    other.positions += [0.3, 0.1, 0.2]
    parts = dataset([*perovskites, other, bulk("Cu")]).split((0.5, 0.5), "prototype")
    together = next(part for part in parts if 0 in part.indices())
    assert 2 in together.indices()


def test_a_part_without_a_label_is_an_error():
    with pytest.raises(ValueError, match=r"part \d of the split: 0 of 1 structures have 'energy'"):
        dataset([*labelled(1), bulk("Cu")], labels=["energy"]).split((0.5, 0.5))


def test_a_part_without_a_structure_is_an_error():
    with pytest.raises(ValueError, match="part 1 of the split is empty: 4 structures in 1 groups by composition"):
        dataset(labelled(4, ("Cu",))).split((0.5, 0.5), "composition")


def test_prototypes_are_those_of_crystals():
    with pytest.raises(ValueError, match="item 0: space groups are those of crystals"):
        dataset([molecule("H2O")]).split(by="prototype")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_error": "ignore"}, "'on_error' must be"),
        ({"in_memory": False}, "without 'root'"),
        ({"labels": "energy"}, "must be a list of names"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        dataset(labelled(1), **arguments)


def test_sources_that_are_none_are_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        dataset(tmp_path / "missing.extxyz")
    with pytest.raises(ValueError, match="holds no structures: files named"):
        dataset(tmp_path)
    with pytest.raises(ValueError, match="is an empty list"):
        dataset([])
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match=r"broken.json is no JSON"):
        open_source(tmp_path / "broken.json")
