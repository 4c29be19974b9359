"""Read a structure from any file that ASE or pymatgen reads."""

from __future__ import annotations

import re
import sqlite3
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..data import FRAMES, frame_of_file

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Molecule, Structure

_PACKED = r"(\.gz|\.bz2|\.xz)?"
_DOCUMENTS = (".json", ".mson", ".yaml", ".yml")
_DOCUMENT = re.compile(rf".*\.(json|mson|yaml|yml){_PACKED}", re.IGNORECASE | re.DOTALL)
_LAMMPS = re.compile(rf"(.*\.(lmp|data|lammps|lammps-data)|(data|lmp)\..*){_PACKED}", re.IGNORECASE)
_POSCAR = re.compile(r".*(POSCAR|CONTCAR|CENTCAR|\.vasp).*", re.IGNORECASE)


def read_structure(path: str | Path) -> Atoms:
    """Return the structure in a file, the last one if it holds several (``"run.traj@0"`` takes the first).

    ASE reads it, else pymatgen (of several structures, always the first). Where the axes come from stands in
    ``atoms.info["frame"]``. What each format keeps is in ``docs/formats.md``. No code and no class is loaded by a name
    in the file.

    Args:
        path (str or Path): The file, in any format of ASE or pymatgen.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If neither can read it, it holds no atoms, its sites are disordered, or nothing says which elements
            its atoms are.

    Example::

        >>> from pyg_relaxed import structures
        >>> read_structure(structures.path("BaTiO3_R3m")).get_chemical_formula()
        'BaO3Ti'
    """
    try:
        return structure_in(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def structure_in(path: str | Path) -> Atoms:
    """Return what :func:`read_structure` does; the file is not named in errors about what it holds."""
    name, index = str(path), "-1"
    if not Path(name).exists() and "@" in name:
        name, _, index = name.rpartition("@")
    file = Path(name)
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}{' (a directory)' if file.is_dir() else ''}")
    if not re.fullmatch(r"[+-]?\d+", index):
        raise ValueError(f"'@{index}' names several structures: take one, e.g. '@0'")
    atoms = _read(file, int(index))
    if len(atoms) == 0:
        raise ValueError("it holds no atoms: it may be cut off, or of another format than its name says")
    check_order(atoms)
    if atoms.info.get("frame") not in FRAMES:  # what to_ase left there is no guess
        atoms.info["frame"] = frame_of_file(file)
    return atoms


def as_atoms(structure: Atoms | Structure | str | Path, extras: bool = False) -> Atoms:
    """Return a structure of ASE or pymatgen, or that in a file, as ASE's; an ``Atoms`` object is returned as it is.

    Args:
        structure: The structure.
        extras: Also carry properties of pymatgen's that no key of the table is for.

    Raises:
        ValueError: If a site of a pymatgen structure is disordered.
    """
    from ase import Atoms

    if isinstance(structure, Atoms):
        return structure
    if isinstance(structure, str | Path):
        return read_structure(structure)
    from .ase import to_ase
    from .pymatgen import from_pymatgen

    # A graph without edges; float32 would cost digits of the positions.
    return to_ase(from_pymatgen(structure, cutoff=0.1, dtype=torch.float64, extras=extras))


def is_transient(error: BaseException) -> bool:
    """Return whether an error is no fault of what is read: no memory, a drive that is gone, a locked database."""
    if isinstance(error, OSError):
        return error.errno is not None  # the system's; parsers raise theirs without a number
    return isinstance(error, MemoryError | torch.OutOfMemoryError | sqlite3.OperationalError)


class _RefusedError(ValueError):
    """What no other reader should try."""


def _read(file: Path, index: int) -> Atoms:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parsers, about what they can live with
        # ... but not that: hydrogen, helium, lithium
        warnings.filterwarnings("error", message="Elements in POSCAR cannot be determined")
        try:  # parsers raise anything on a file that is not theirs
            check_file(file)
            document = _document(file) if _is_document(file) else None
            if document is None:
                return _by_ase(file, index)
            _check_index(index, 1)
            return as_atoms(document)
        except _RefusedError:
            raise
        except Exception as error:
            _raise_transient(error, file)
            if _is_document(file):  # pymatgen would import what it names
                raise ValueError(str(error) if type(error) is ValueError else _described(error, file)) from None
            return _by_pymatgen(file, index, _described(error, file))


def _by_ase(file: Path, index: int) -> Atoms:
    is_lammps = bool(_LAMMPS.fullmatch(file.name))
    try:
        found = _frames(file, slice(index, index + 1 or None), is_lammps)
    except AssertionError:  # ASE's, where a format holds one structure
        found = []
    if not found:
        _check_index(index, len(_frames(file, slice(None), is_lammps)))
    (atoms,) = found
    if is_lammps and "masses" not in atoms.arrays and (atoms.numbers == atoms.arrays["type"]).all():
        labels = re.search(r"^\s*Atom Type Labels.*?^\s*1\s+H\b", head(file, None), re.MULTILINE | re.DOTALL)
        if not labels:  # ASE would take type 1 for hydrogen, 2 for helium
            raise _RefusedError(
                "nothing says which element each atom type is: add a section 'Masses' or 'Atom Type Labels' to it"
            )
    return atoms


def _frames(file: Path, at: slice, is_lammps: bool) -> list[Atoms]:
    import ase.io

    # An absolute path: ASE takes one that begins with "postgres" for a server.
    kind = "lammps-data" if is_lammps else None
    return list(ase.io.read(str(file.absolute()), index=at, format=kind, do_not_split_by_at_sign=True))


def _check_index(index: int, number: int) -> None:
    if not -number <= index < number:
        last = f"take one of '@0' to '@{number - 1}'" if number > 1 else "take it without '@'"
        are = "is 1 structure" if number == 1 else f"are {number} structures"
        raise _RefusedError(f"there {are} in the file, and none is '@{index}': {last}")


def _by_pymatgen(file: Path, index: int, by_ase: str) -> Atoms:
    from pymatgen.core import Structure

    try:
        structure = Structure.from_file(str(file))
    except Exception as error:
        _raise_transient(error, file)
        by_pymatgen = _described(error, file)
        raise ValueError(f"neither ASE ({by_ase}) nor pymatgen ({by_pymatgen}) can read it") from None
    _check_index(index, 1)
    return as_atoms(structure)


def _raise_transient(error: Exception, file: Path) -> None:
    beside = isinstance(error, FileNotFoundError) and file.is_file()  # a format's second file is missing
    if is_transient(error) and not beside:
        raise error


def _described(error: Exception, file: Path) -> str:
    text = " ".join(str(error).split())
    for name in (str(file.absolute()), str(file)):  # which the message names already
        text = text.replace(name, "the file")
    return f"{type(error).__name__}: {text[:200]}{'...' if len(text) > 200 else ''}"


def _is_document(file: Path) -> bool:
    """Return whether pymatgen would take a file for JSON or YAML: it goes by these, anywhere in the name."""
    return any(part in file.name.lower() for part in _DOCUMENTS)


def _document(file: Path) -> Structure | Molecule | None:
    """Return pymatgen's structure or molecule in a JSON or YAML file; None if the file is ASE's, or neither."""
    is_named = _DOCUMENT.fullmatch(file.name)
    kind = (is_named[1] if is_named else file.name).lower()
    try:
        content = _content(head(file, None), is_yaml="yaml" in kind or "yml" in kind)
    except Exception:
        if is_named:
            raise
        return None
    if isinstance(content, dict) and isinstance(content.get("structure"), dict):
        content = content["structure"]
    if isinstance(content, dict) and "sites" in content:
        return structure_of_document(content)
    if isinstance(content, dict) and ({"nextid", "__ase_objtype__"} & content.keys()):
        return None
    if not is_named and not isinstance(content, dict):  # "run.yaml.xyz", any text is YAML
        return None
    raise _RefusedError("no structure of pymatgen ('sites' are missing) and no database of ASE ('nextid' is missing)")


def _content(text: str, is_yaml: bool) -> Any:
    import json

    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(text) if is_yaml else json.loads(text)


def structure_of_document(document: dict[str, Any]) -> Structure | Molecule:
    """Return pymatgen's structure or molecule in a document with ``"sites"``: nothing is imported by a name in it."""
    from pymatgen.core import Molecule, Structure

    return (Structure if "lattice" in document else Molecule).from_dict(_without_classes(document))


def _without_classes(content: Any) -> Any:
    """Return a document without the names of modules that pymatgen would import for the properties of its sites."""
    if isinstance(content, dict):
        return {k: _without_classes(value) for k, value in content.items() if k not in ("@module", "@class")}
    return [_without_classes(value) for value in content] if isinstance(content, list) else content


def check_file(file: Path) -> None:
    """Raise if a file promises more than it can hold: readers make room for it before they look."""
    size = file.stat().st_size
    if size == 0:
        raise _RefusedError("the file is empty, neither ASE nor pymatgen can read it")
    if _LAMMPS.fullmatch(file.name):
        counts = re.findall(r"^\s*(\d+)\s+atoms\b", head(file, 65536), re.MULTILINE)
    elif _POSCAR.fullmatch(file.name):
        counts = re.findall(r"(?<!\S)\d+(?!\S)", "\n".join(head(file, 65536).splitlines()[3:10]))
    elif re.fullmatch(rf".*xyz{_PACKED}", file.name, re.IGNORECASE):
        counts = counts_of_xyz(head(file, None))
    else:
        return
    check_counts(counts, size)


def counts_of_xyz(text: str) -> list[str]:
    """Return the large numbers of atoms of a frame and of columns of an array that an (ext)xyz text promises."""
    return re.findall(r"^\s*\+?(\d{7,})\s*$", text, re.MULTILINE) + re.findall(r":[A-Za-z]:\+?(\d{7,})", text)


def check_counts(counts: list[str], size: int) -> None:
    """Raise if a file of so many bytes cannot hold the largest of the numbers of atoms or columns it promises.

    Raises:
        ValueError: If it cannot.
    """
    most = max((count.lstrip("0") for count in counts), key=lambda count: (len(count), count), default="")
    if len(most) > 18 or int(most or 0) > 1000 * size:  # compressed files are no smaller than that
        raise _RefusedError(f"it promises {most:.20} atoms (or columns) in {size} bytes: correct the count")


def head(file: Path, characters: int | None) -> str:
    """Return the text of a file, unpacked, or so many characters of it."""
    from ase.io.formats import open_with_compression

    with open_with_compression(str(file), "rb") as stream:
        content: bytes = stream.read(characters) if characters else stream.read()
    return content.decode("utf-8", errors="replace")


def check_order(atoms: Atoms) -> None:
    """Raise if the occupancies that ASE read from a CIF file are not all 1."""
    occupancy = atoms.info.get("occupancy")
    for site, kinds in occupancy.items() if isinstance(occupancy, dict) else ():
        if not isinstance(kinds, dict):
            return  # not ASE's
        numbers = [value for value in kinds.values() if isinstance(value, int | float)]
        if len(numbers) != 1 or not numbers[0] >= 1:
            raise ValueError(f"site {site} is disordered ({kinds}): order it first, e.g. with pymatgen")
