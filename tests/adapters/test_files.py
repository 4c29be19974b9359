"""Any structure file that ASE or pymatgen reads, with where its axes come from."""

import contextlib
import gzip
import json
import sys
from pathlib import Path

import ase.build
import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from pyg_relaxed import structures
from pyg_relaxed.adapters import as_atoms, from_ase, read_structure, to_ase


def by_ase(**options):
    return lambda path: ase.io.write(path, structures.load("BaTiO3_R3m"), **options)


def by_pymatgen(path):
    AseAtomsAdaptor.get_structure(structures.load("BaTiO3_R3m")).to(str(path))


@pytest.mark.parametrize(
    ("name", "write", "frame"),
    [
        ("child.extxyz", by_ase(), "cartesian"),
        ("POSCAR", by_ase(format="vasp"), "cartesian"),
        ("child.cif", by_ase(), "standard"),
        ("child.traj", by_ase(), "cartesian"),
        ("child.json", by_pymatgen, "cartesian"),  # ASE's database has the same suffix
        ("symmetrised.cif", by_pymatgen, "standard"),
    ],
)
def test_formats(tmp_path, name, write, frame):
    write(tmp_path / name)
    atoms = read_structure(tmp_path / name)
    expected = structures.load("BaTiO3_R3m")
    assert atoms.info["frame"] == frame
    assert sorted(atoms.numbers) == sorted(expected.numbers)
    np.testing.assert_allclose(atoms.cell.lengths(), expected.cell.lengths(), atol=1e-5)
    if frame == "cartesian":
        np.testing.assert_allclose(atoms.cell.array, expected.cell.array, atol=1e-8)
        np.testing.assert_allclose(atoms.positions, expected.positions, atol=1e-8)


def test_one_of_several_structures(tmp_path):
    phases = [structures.load(name) for name in ("BaTiO3_P4mm", "BaTiO3_R3m")]
    ase.io.write(tmp_path / "run.traj", phases)
    for name, expected in (("run.traj", phases[1]), ("run.traj@0", phases[0])):
        np.testing.assert_allclose(read_structure(tmp_path / name).positions, expected.positions)


@pytest.mark.parametrize("suffix", ["cif", "json"])
@pytest.mark.parametrize("species", [{"Sr": 0.5, "Ba": 0.5}, {"Sr": 0.9}])
def test_disorder_is_refused(tmp_path, species, suffix):
    Structure(Lattice.cubic(4.0), [species, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]).to(str(tmp_path / f"mixed.{suffix}"))
    with pytest.raises(ValueError, match=f"mixed.{suffix}: site 0"):
        read_structure(tmp_path / f"mixed.{suffix}")


def test_what_is_no_structure_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.cif"):
        read_structure(tmp_path / "none.cif")
    (tmp_path / "notes.txt").write_text("milk, bread")
    with pytest.raises(ValueError, match=r"notes\.txt: neither ASE .* nor pymatgen"):
        read_structure(tmp_path / "notes.txt")


def test_atoms_pass_through():
    atoms = structures.load("BaTiO3_P4mm")
    assert as_atoms(atoms) is atoms
    assert as_atoms(structures.path("BaTiO3_P4mm")) == read_structure(structures.path("BaTiO3_P4mm"))
    again = as_atoms(AseAtomsAdaptor.get_structure(atoms))
    np.testing.assert_allclose(again.positions, atoms.positions, rtol=0, atol=1e-14)  # pymatgen keeps fractions


FORMATS = {
    "CIF": ("all.cif", {}),
    "POSCAR": ("POSCAR", {"format": "vasp"}),
    "extxyz": ("all.extxyz", {}),
    "LAMMPS data": (
        "all.data",
        {"format": "lammps-data", "masses": True, "velocities": True, "atom_style": "charge"},
    ),
    "ASE db": ("all.db", {}),
    "pymatgen JSON": ("all.json", None),
}


def table():
    """Return the cells of docs/formats.md by format and row."""
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {name: {row[0]: row[n] for row in rows[2:]} for n, name in enumerate(rows[0][1:], start=1)}


def everything():
    """Return atoms with all that a format could keep, in axes that no reader would choose."""
    atoms = structures.load("BaTiO3_R3m")
    atoms.info = {"note": "text"}
    atoms.rotate(30, "x", rotate_cell=True)
    atoms.pbc = [True, True, False]
    atoms.set_tags([1, 2, 3, 4, 5])
    atoms.set_initial_charges([2, 4, -2, -2, -2])
    atoms.set_initial_magnetic_moments([0, 1, 0, 0, 0])
    atoms.set_momenta(np.ones((5, 3)))
    atoms.set_array("mine", np.arange(5.0))
    atoms.set_array("oxi_states", np.array([2.0, 4, -2, -2, -2]))
    return atoms


def written(path, atoms, options):
    if options is not None:
        ase.io.write(path, atoms, **options)
        return
    structure = AseAtomsAdaptor.get_structure(atoms)
    structure.lattice = Lattice(atoms.cell.array, pbc=atoms.pbc)
    structure.add_oxidation_state_by_site(atoms.arrays["oxi_states"].tolist())
    structure.add_site_property("forces", atoms.calc.results["forces"].tolist())
    structure.properties = {"energy": -1.0, "stress": np.diag([1.0, 2, 3]).tolist(), "note": "text"}
    structure.to(str(path))


def mask(atoms):
    """Return which components are fixed, by the two constraints that graphs carry."""
    fixed = np.zeros((len(atoms), 3), dtype=bool)
    for constraint in atoms.constraints:
        fixed[constraint.index] |= getattr(constraint, "mask", True)
    return fixed


def survivors(path, options):
    """Return the rows of the table that come back as they were written."""
    atoms, kept = everything(), {"positions, cell, elements"}
    constraints = {"fixed atoms": FixAtoms([1]), "fixed components": FixCartesian([1], [True, False, False])}
    results = {"energy": -1.0, "forces": np.full((5, 3), 0.1), "stress": np.array([1.0, 2, 3, 0, 0, 0])}
    for row, constraint in constraints.items():
        atoms.set_constraint(constraint)
        atoms.calc = SinglePointCalculator(atoms, **results)
        path.unlink(missing_ok=True)  # a database would grow
        written(path, atoms, options)
        back = read_structure(path)
        kept |= {row} if np.array_equal(mask(back), mask(atoms)) else set()

    np.testing.assert_array_equal(back.numbers, atoms.numbers)
    np.testing.assert_allclose(back.cell.cellpar(), atoms.cell.cellpar(), atol=1e-4)
    np.testing.assert_allclose(back.get_scaled_positions() % 1, atoms.get_scaled_positions() % 1, atol=1e-6)
    turn = np.linalg.solve(atoms.cell.array, back.cell.array)  # momenta turn with the axes
    read = getattr(back.calc, "results", {})
    comparisons = {
        "axes": (back.cell.array, atoms.cell.array),
        "pbc": (back.pbc, atoms.pbc),
        "energy, forces, stress": [
            np.hstack([np.ravel(source.get(name, 0)) for name in results]) for source in (read, results)
        ],
        "charges": (back.get_initial_charges(), atoms.get_initial_charges()),
        "magnetic moments": (back.get_initial_magnetic_moments(), atoms.get_initial_magnetic_moments()),
        "oxidation states": (back.arrays.get("oxi_states", 0), atoms.arrays["oxi_states"]),
        "momenta": (back.get_momenta(), atoms.get_momenta() @ turn),
        "tags": (back.get_tags(), atoms.get_tags()),
        "other arrays": (back.arrays.get("mine", 0), atoms.arrays["mine"]),
    }
    kept |= {row for row, (a, b) in comparisons.items() if np.shape(a) == np.shape(b) and np.allclose(a, b, atol=1e-4)}
    return kept | ({"other info"} if back.info.get("note") == "text" else set()), back.info["frame"]


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_keeps_what_the_table_says(tmp_path, kind):
    name, options = FORMATS[kind]
    kept, frame = survivors(tmp_path / name, options)
    cells = {row: cell for row, cell in table()[kind].items() if cell in ("yes", "no")}
    assert cells == {row: "yes" if row in kept else "no" for row in cells}
    assert len(cells) == 13
    assert frame == ("cartesian" if "axes" in kept else "standard")


@pytest.mark.parametrize("kind", FORMATS)
def test_several_structures_as_the_table_says(tmp_path, kind):
    name, _ = FORMATS[kind]
    atoms = [structures.load("BaTiO3_R3m"), structures.load("BaTiO3_Pm-3m")]
    if kind == "ASE db":
        for one in atoms:
            ase.io.write(tmp_path / name, one, append=True)
    elif kind in ("CIF", "extxyz"):
        ase.io.write(tmp_path / name, atoms)
    else:
        assert table()[kind]["several structures"] == "one"
        return
    assert table()[kind]["several structures"] == "last, `@n`"
    for suffix, expected in {"": atoms[1], "@0": atoms[0]}.items():
        volume = read_structure(f"{tmp_path / name}{suffix}").get_volume()
        assert volume == pytest.approx(expected.get_volume(), rel=1e-6)
    with pytest.raises(ValueError, match=r"'@:' names several structures: take one"):
        read_structure(f"{tmp_path / name}@:")


def test_disorder_as_the_table_says(tmp_path):
    """The other tests of disorder refuse CIF and pymatgen's JSON."""
    refused = [kind for kind in FORMATS if table()[kind]["disorder"] == "refused"]
    assert refused == ["CIF", "extxyz", "pymatgen JSON"]
    atoms = structures.load("BaTiO3_Pm-3m")
    atoms.info["occupancy"] = {"0": {"Ba": 0.5, "Sr": 0.5}}  # as ASE reads it from CIF
    ase.io.write(tmp_path / "mixed.extxyz", atoms)
    with pytest.raises(ValueError, match=r"mixed.extxyz: site 0 is disordered"):
        read_structure(tmp_path / "mixed.extxyz")
    atoms.info["occupancy"] = 0.5  # of somebody else
    ase.io.write(tmp_path / "own.extxyz", atoms)
    assert read_structure(tmp_path / "own.extxyz").info["occupancy"] == 0.5


@pytest.mark.parametrize("occupancy", ["0.5", "nan", "?", "many"])
def test_occupancies_of_cif_files(tmp_path, occupancy):
    ase.io.write(tmp_path / "a.cif", structures.load("BaTiO3_Pm-3m"))
    text = (tmp_path / "a.cif").read_text()
    assert text.count("1.0000\n") == 5
    (tmp_path / "a.cif").write_text(text.replace("1.0000\n", f"{occupancy}\n"))
    with pytest.raises(ValueError, match=r"a\.cif"):
        read_structure(tmp_path / "a.cif")


@pytest.mark.parametrize("name", ["run.data", "run.lmp", "data.run", "lmp.run", "run.data.gz"])
def test_lammps_says_its_elements_or_is_refused(tmp_path, name):
    atoms = structures.load("BaTiO3_Pm-3m")
    ase.io.write(tmp_path / name, atoms, format="lammps-data", masses=True)
    assert read_structure(tmp_path / name).get_chemical_formula() == "BaO3Ti"
    ase.io.write(tmp_path / name, atoms, format="lammps-data")
    with pytest.raises(ValueError, match=rf"{name}: nothing says which element each atom type is: add .* 'Masses'"):
        read_structure(tmp_path / name)


def test_lammps_labels_of_types(tmp_path):
    ase.io.write(tmp_path / "a.data", structures.load("BaTiO3_Pm-3m"), format="lammps-data")
    text = (tmp_path / "a.data").read_text()
    labels = "Atom Type Labels\n\n1 Ba\n2 O\n3 Ti\n\nAtoms"
    (tmp_path / "a.data").write_text(text.replace("Atoms", labels))
    assert read_structure(tmp_path / "a.data").get_chemical_formula() == "BaO3Ti"


def test_poscar_without_elements(tmp_path):
    (tmp_path / "POSCAR").write_text("my crystal\n1.0\n4 0 0\n0 4 0\n0 0 4\n1 1\nDirect\n0 0 0\n.5 .5 .5\n")
    with pytest.raises(ValueError, match=r"POSCAR: neither .* Elements in POSCAR cannot be determined"):
        read_structure(tmp_path / "POSCAR")


def test_pymatgen_documents(tmp_path):
    structure = AseAtomsAdaptor.get_structure(structures.load("BaTiO3_P4mm"))
    molecule = AseAtomsAdaptor.get_molecule(ase.build.molecule("H2O"))
    structure.to(str(tmp_path / "a.yaml"))
    (tmp_path / "entry.json").write_text(json.dumps({"structure": structure.as_dict(), "band_gap": 1.0}))
    (tmp_path / "water.json").write_text(json.dumps(molecule.as_dict()))
    with gzip.open(tmp_path / "a.json.gz", "wt") as file:
        file.write(structure.to_json())
    for name in ("a.yaml", "entry.json", "a.json.gz"):
        assert read_structure(tmp_path / name).get_chemical_formula() == "BaO3Ti"
    assert read_structure(tmp_path / "water.json").pbc.tolist() == [False] * 3
    for content in (json.dumps([structure.as_dict()]), '{"a": 1}', "3"):
        (tmp_path / "list.json").write_text(content)
        with pytest.raises(ValueError, match=r"list\.json: no structure of pymatgen"):
            read_structure(tmp_path / "list.json")
    (tmp_path / "broken.json").write_text('{"sites": [')
    with pytest.raises(ValueError, match=r"broken\.json: JSONDecodeError"):
        read_structure(tmp_path / "broken.json")


def test_no_module_is_imported_by_a_name_in_the_file(tmp_path, monkeypatch):
    """pymatgen imports what '@module' names in the properties of a site."""
    (tmp_path / "evil_module.py").write_text("raise SystemExit('code of the file has run')")
    monkeypatch.syspath_prepend(tmp_path)
    document = AseAtomsAdaptor.get_structure(structures.load("BaTiO3_P4mm")).as_dict()
    document["sites"][0]["properties"]["note"] = {"@module": "evil_module", "@class": "Anything"}
    (tmp_path / "evil.json").write_text(json.dumps(document))
    assert read_structure(tmp_path / "evil.json").get_chemical_formula() == "BaO3Ti"


@pytest.mark.parametrize("kind", ["json", "mson", "yaml", "yml"])
@pytest.mark.parametrize(
    "name", ["a.{}", "a.{}.bak", "a.{}.1", "a.{}~", "a.{}\n", "A.{}.OLD", "a.{}.cif", "a.b{}", "POSCAR.{}"]
)
def test_no_module_is_imported_whatever_the_name_of_the_file(tmp_path, monkeypatch, kind, name):
    """pymatgen goes by parts of the name."""
    (tmp_path / "evil_module.py").write_text("raise SystemExit('code of the file has run')")
    monkeypatch.syspath_prepend(tmp_path)
    document = AseAtomsAdaptor.get_structure(structures.load("BaTiO3_P4mm")).as_dict()
    file = tmp_path / name.format(kind if name.islower() else kind.upper())
    file.write_text(json.dumps(document))  # it is YAML too
    formula = None
    with contextlib.suppress(ValueError):
        formula = read_structure(file).get_chemical_formula()
    document["sites"][0]["properties"]["note"] = {"@module": "evil_module", "@class": "Anything"}
    document["sites"][1]["properties"]["note"] = {"@module": "evil_module", "@callable": "Anything"}
    file.write_text(json.dumps(document))
    with contextlib.suppress(ValueError):
        assert read_structure(file).get_chemical_formula() == formula
    assert "evil_module" not in sys.modules
    assert formula in ("BaO3Ti", None if "b{}" in name else "BaO3Ti")


@pytest.mark.parametrize("name", ["a.json.cif", "a.yaml.extxyz"])
def test_names_with_a_part_of_another_format(tmp_path, name):
    ase.io.write(tmp_path / name, structures.load("BaTiO3_P4mm"))
    assert read_structure(tmp_path / name).get_chemical_formula() == "BaO3Ti"


@pytest.mark.parametrize("name", ["a.traj", "a.extxyz", "a.cif", "a.db", "a.xsf", "POSCAR", "a.json"])
@pytest.mark.parametrize("index", [7, -7])
def test_an_index_beyond_the_end_is_told_how_many_there_are(tmp_path, name, index):
    """ASE takes the nearest, or says nothing but StopIteration."""
    atoms = structures.load("BaTiO3_P4mm")
    number = 1 if name in ("POSCAR", "a.json") else 3
    if name == "a.json":
        AseAtomsAdaptor.get_structure(atoms).to(str(tmp_path / name))
    else:
        ase.io.write(tmp_path / name, [atoms] * number, format="vasp" if name == "POSCAR" else None)
    are = "is 1 structure" if number == 1 else "are 3 structures"
    with pytest.raises(ValueError, match=rf"there {are} in the file, and none is '@{index}'") as caught:
        read_structure(f"{tmp_path / name}@{index}")
    assert str(caught.value).count(str(tmp_path)) == 1


def test_an_error_names_the_file_once(tmp_path):
    (tmp_path / "notes.txt").write_text("milk, bread")
    with pytest.raises(ValueError, match="neither ASE") as caught:
        read_structure(tmp_path / "notes.txt")
    assert str(caught.value).count("notes.txt") == 1


def test_no_memory_is_no_fault_of_the_file(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise MemoryError

    ase.io.write(tmp_path / "a.traj", structures.load("BaTiO3_P4mm"))
    monkeypatch.setattr(ase.io, "read", fail)
    with pytest.raises(MemoryError):
        read_structure(tmp_path / "a.traj")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("POSCAR", "c\n1\n4 0 0\n0 4 0\n0 0 4\nH\n999999999\nDirect\n0 0 0\n"),
        ("a.extxyz", "999999999\n\nH 0 0 0\n"),
        ("b.extxyz", "1\nProperties=species:S:1:pos:R:3:mine:R:999999999\nH 0 0 0\n"),
        ("a.data", "c\n999999999 atoms\n1 atom types\n\nAtoms # atomic\n\n1 1 0 0 0\n"),
    ],
)
def test_promises_of_more_than_the_file_holds(tmp_path, name, content):
    """ASE makes room for all of it, or looks for it, before it reads."""
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=rf"{name}: it promises 999999999 .* correct the count"):
        read_structure(tmp_path / name)


def test_files_without_atoms(tmp_path):
    (tmp_path / "a.extxyz").write_text("")
    with pytest.raises(ValueError, match=r"a\.extxyz: the file is empty"):
        read_structure(tmp_path / "a.extxyz")
    (tmp_path / "a.extxyz").write_text("0\n\n")
    with pytest.raises(ValueError, match=r"a\.extxyz: it holds no atoms"):
        read_structure(tmp_path / "a.extxyz")


def test_the_frame_that_to_ase_leaves_is_kept(tmp_path):
    ase.io.write(tmp_path / "a.extxyz", to_ase(from_ase(structures.load("BaTiO3_P4mm"), frame="standard")))
    assert read_structure(tmp_path / "a.extxyz").info["frame"] == "standard"
