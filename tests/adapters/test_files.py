"""Any structure file that ASE or pymatgen reads, with where its axes come from."""

import ase.io
import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from pyg_relaxed import structures
from pyg_relaxed.adapters import as_atoms, read_structure


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
