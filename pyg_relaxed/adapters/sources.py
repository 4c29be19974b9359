"""Many structures, one by one: files that hold several, folders, databases, lists in memory."""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from ..data import frame_of_file, level_of
from .ase import from_ase
from .files import check_counts, check_file, check_order, counts_of_xyz, head, read_structure, structure_of_document
from .pymatgen import from_pymatgen

if TYPE_CHECKING:
    from ase import Atoms

    from ..data import AtomicData
    from .pymatgen import AnyStructure

    Item: TypeAlias = Atoms | AnyStructure | str | Path

_SEVERAL = (".extxyz", ".xyz", ".traj", ".db", ".json", ".cif", ".mcif", ".xsf", ".pdb")  # of structures in one file
_SINGLE = (".vasp", ".poscar", ".res", ".cssr")
_PACKED = (".gz", ".bz2", ".xz")
_POSCAR = ("poscar", "contcar")


class Source(ABC):
    """Structures by number; each is read when it is asked for."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of structures."""

    @abstractmethod
    def __getitem__(self, n: int) -> Atoms | AnyStructure:
        """Return a structure; whatever its reader raises is what is wrong with it."""

    @abstractmethod
    def place(self, n: int) -> str:
        """Return where a structure is, for a person."""

    @abstractmethod
    def digest(self) -> str:
        """Return a hash of all that is read."""


def open_source(source: str | Path | Sequence[Item] | Source) -> Source:
    """Return the structures in a file or a folder, or those of a list.

    Files are extxyz, ASE's trajectories and databases, JSON of pymatgen (one structure, a list, a dictionary by name,
    or documents with a ``"structure"``), and whatever else ASE or pymatgen reads; all structures in a file are taken.
    Of a folder, and all folders in it, the files with names of structures are taken, in the order of their paths.

    Args:
        source: A path (``"run.traj@0"`` for one structure of a file), or a list of ``Atoms``, pymatgen's structures and
            molecules, and paths.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If nothing in it is a structure.

    Example:
        >>> from pyg_relaxed import structures
        >>> children = open_source(structures.path("BaTiO3_P4mm"))
        >>> len(children), children[0].get_chemical_formula()
        (1, 'BaO3Ti')
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, str | Path):
        return _open(Path(source).expanduser())
    if not isinstance(source, Iterable):
        raise ValueError(f"'source' must be a path or a list of structures (got {type(source).__name__})")
    return _of_list(list(source))


def as_graph(
    structure: Atoms | AnyStructure, cutoff: float, dtype: torch.dtype | None, frame: str | None, extras: bool
) -> AtomicData:
    """Return the graph of a structure, whichever library it is of."""
    from ase import Atoms

    convert: Any = from_ase if isinstance(structure, Atoms) else from_pymatgen
    graph: AtomicData = convert(structure, cutoff, dtype, frame, extras)
    return graph


def _of_list(items: list[Item]) -> Source:
    if not items:
        raise ValueError("'source' is an empty list: give structures")
    parts: list[Source] = []
    for is_file, group in groupby(enumerate(items), key=lambda item: isinstance(item[1], str | Path)):
        members = list(group)
        if is_file:
            parts += [_of_item(n, item) for n, item in members]
        else:
            parts.append(_Memory([item for _, item in members], members[0][0]))
    return parts[0] if len(parts) == 1 else _Chain(parts)


def _of_item(n: int, item: Any) -> Source:
    try:
        return _open(Path(item).expanduser())
    except (FileNotFoundError, ValueError):  # the entry says it when it is read, and may be left out
        return _Memory([item], n)


def _open(path: Path) -> Source:
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file() and _is_structure(file)]
        if not files:
            raise ValueError(
                f"{path} holds no structures: files named *{', *'.join((*_SEVERAL, *_SINGLE))}, POSCAR*, CONTCAR* or "
                "XDATCAR* are, packed (.gz, .bz2, .xz) or not"
            )
        return _Chain([_open_file(file) for file in files], path)
    if not path.exists() and "@" in path.name:
        return _Single(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file or folder {path}")
    return _open_file(path)


def _is_structure(file: Path) -> bool:
    name = _unpacked(file)
    known = name.endswith((*_SEVERAL, *_SINGLE)) or name.startswith((*_POSCAR, "xdatcar"))
    return known and not name.startswith(".")


def _unpacked(file: Path) -> str:
    """Return the name of a file in lower case, without what says that it is packed."""
    name = file.name.lower()
    for suffix in _PACKED:
        name = name.removesuffix(suffix)
    return name


def _open_file(path: Path) -> Source:
    name = path.name.lower()
    if name.endswith((".extxyz", ".xyz")):
        return _Frames(path)
    if name.endswith(".traj"):
        return _Trajectory(path)
    if name.endswith((".json", ".json.gz")):
        return _json(path)
    if name.endswith((".db", ".aselmdb", ".lmdb")):
        return _Database(path)
    name = _unpacked(path)
    if name.endswith((".extxyz", ".xyz", ".cif", ".mcif", ".xsf", ".pdb")) or name.startswith("xdatcar"):
        return _all_of(path)
    return _Single(path)


def _all_of(path: Path) -> Source:
    """Return all structures in a file of a format that may hold several, or the file alone if ASE sees one or none."""
    import ase.io

    if ".cif" in path.name.lower() and len(re.findall(r"^data_", head(path, None), re.MULTILINE | re.IGNORECASE)) < 2:
        return _Single(path)  # the most frequent case, and slow to parse
    try:
        check_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ase.io.read(str(path.absolute()), index=":", do_not_split_by_at_sign=True)
    except Exception:  # parsers raise anything; reading the entry will say what is wrong
        return _Single(path)
    return _Several(path, found) if len(found) > 1 else _Single(path)


class _File(Source):
    """Structures of one file; ``self._where[n]`` is what the place of each is called."""

    def __getitem__(self, n: int) -> Atoms | AnyStructure:
        raise NotImplementedError

    def __init__(self, path: Path) -> None:
        self.path = path
        self._where: Sequence[str] = [""]

    def __len__(self) -> int:
        return len(self._where)

    def place(self, n: int) -> str:
        return f"{self.path}, {self._where[n]}" if self._where[n] else str(self.path)

    def digest(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()


class _Single(_File):
    """A file with one structure."""

    def __getitem__(self, n: int) -> Atoms:
        return read_structure(self.path)

    def digest(self) -> str:
        if self.path.exists() or "@" not in self.path.name:
            return super().digest()
        file, _, index = str(self.path).rpartition("@")
        return f"{_File(Path(file)).digest()}@{index}"


class _Several(_File):
    """The structures of a file that can only be read as a whole."""

    def __init__(self, path: Path, structures: list[Atoms]) -> None:
        super().__init__(path)
        self._structures = structures
        self._where = [f"frame {n}" for n in range(len(structures))]

    def __getitem__(self, n: int) -> Atoms:
        atoms = self._structures[n].copy()
        atoms.calc = self._structures[n].calc
        atoms.info.setdefault("frame", frame_of_file(self.path))
        check_order(self._where[n], atoms)
        return atoms


class _Frames(_File):
    """The frames of an (ext)xyz file: found by their numbers of atoms, parsed when they are asked for."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._begins: list[int] = []
        self._error = ""  # what ends the file before its end
        with path.open("rb") as file:
            self._find(file)
        self._where = [f"frame {n}" for n in range(len(self._begins) - (not self._error))]

    def _find(self, file: io.BufferedReader) -> None:
        number = 0  # of lines
        while True:
            self._begins.append(file.tell())
            line = file.readline()
            number += 1
            if not line.strip():
                if not file.read().strip():  # nothing but empty lines
                    return
                self._error = f"line {number} is empty, where the number of atoms of the next frame belongs"
                return
            if not line.strip().isdigit():
                self._error = f"line {number} must be a number of atoms (got {line[:40]!r})"
                return
            atoms = int(line)
            for n in range(atoms + 1):
                if not file.readline():
                    self._error = f"the file ends {atoms + 1 - n} lines early, in the frame of {atoms} atoms"
                    return
            number += atoms + 1

    def __getitem__(self, n: int) -> Atoms:
        import ase.io

        if self._error and n == len(self) - 1:
            raise ValueError(f"{self._error}; it and what follows it cannot be read")
        with self.path.open("rb") as file:
            file.seek(self._begins[n])
            text = file.read(self._begins[n + 1] - self._begins[n]).decode("utf-8")
        check_counts(counts_of_xyz(text), len(text))
        return ase.io.read(io.StringIO(text), format="extxyz")


class _Trajectory(_File):
    """The frames of one of ASE's trajectories."""

    def __init__(self, path: Path) -> None:
        from ase.io.trajectory import Trajectory

        super().__init__(path)
        with Trajectory(str(path)) as trajectory:
            self._where = [f"frame {n}" for n in range(len(trajectory))]

    def __getitem__(self, n: int) -> Atoms:
        from ase.io.trajectory import Trajectory

        with Trajectory(str(self.path)) as trajectory:
            return trajectory[n]


class _Database(_File):
    """The rows of one of ASE's databases, with their key-value pairs and data as labels."""

    def __init__(self, path: Path) -> None:
        from ase.db import connect

        super().__init__(path)
        self._ids = sorted(row.id for row in connect(path).select(include_data=False))
        self._where = [f"id {number}" for number in self._ids]

    def __getitem__(self, n: int) -> Atoms:
        from ase.db import connect

        row = connect(self.path).get(id=self._ids[n])
        atoms = row.toatoms()
        for name, value in {**row.key_value_pairs, **row.data}.items():
            is_array = level_of(name.removeprefix("REF_")) == "node"
            (atoms.arrays if is_array else atoms.info)[name] = value
        return atoms


class _Documents(_File):
    """Structures in a JSON document of pymatgen."""

    def __init__(self, path: Path, documents: dict[str, Any]) -> None:
        super().__init__(path)
        self._documents = list(documents.values())
        self._where = list(documents)

    def __getitem__(self, n: int) -> AnyStructure:
        structure = _structure_and_labels(self._documents[n])
        structure.properties.setdefault("frame", frame_of_file(self.path))
        return structure


def _json(path: Path) -> Source:
    """Return the structures in a JSON file, of ASE's database or of pymatgen."""
    try:
        content = json.loads(head(path, None))
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if isinstance(content, dict) and "nextid" in content:
        return _Database(path)
    if isinstance(content, list):
        return _Documents(path, {f"entry {n}": document for n, document in enumerate(content)})
    if isinstance(content, dict) and not {"@class", "structure", "sites"} & content.keys():
        return _Documents(path, content)
    return _Documents(path, {"": content})


def _structure_and_labels(document: Any) -> AnyStructure:
    """Return what a document holds, with all else in it as properties."""
    if not isinstance(document, dict):
        raise ValueError(f"no structure but {document!r:.80}")
    if "sites" in document:
        return structure_of_document(document)
    if not isinstance(document.get("structure"), dict):
        raise ValueError(f"no structure among {', '.join(map(repr, document))}: 'structure' or 'sites' is expected")
    structure = _structure_and_labels(document["structure"])
    labels = {name: value for name, value in document.items() if name != "structure" and not name.startswith("@")}
    structure.properties = {**structure.properties, **labels}
    return structure


class _Chain(Source):
    """The structures of several files, one after the other."""

    def __init__(self, parts: list[Source], folder: Path | None = None) -> None:
        self._parts = parts
        self._folder = folder
        self._ends = list(accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def _find(self, n: int) -> tuple[Source, int]:
        part = bisect_right(self._ends, n)
        return self._parts[part], n - (self._ends[part - 1] if part else 0)

    def __getitem__(self, n: int) -> Atoms | AnyStructure:
        part, number = self._find(n)
        return part[number]

    def place(self, n: int) -> str:
        part, number = self._find(n)
        return part.place(number)

    def digest(self) -> str:
        total = hashlib.blake2b()
        for part in self._parts:
            name = part.path.relative_to(self._folder) if isinstance(part, _File) and self._folder else ""
            total.update(f"{name} {part.digest()}\n".encode())
        return total.hexdigest()


class _Memory(Source):
    """A list of structures, and paths of what cannot be opened, from some place of a longer list on."""

    def __init__(self, items: list[Item], first: int = 0) -> None:
        self._items = items
        self._first = first

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, n: int) -> Atoms | AnyStructure:
        item = self._items[n]
        return read_structure(item) if isinstance(item, str | Path) else item

    def place(self, n: int) -> str:
        item = self._items[n]
        return f"item {self._first + n}" + (f", {item}" if isinstance(item, str | Path) else "")

    def digest(self) -> str:
        total = hashlib.blake2b()
        for item in self._items:
            total.update(_described(item).encode())
        return total.hexdigest()


def _described(item: Item) -> str:
    """Return all that a structure holds, as text."""
    if isinstance(item, str | Path):
        return _Single(Path(item)).digest()
    if hasattr(item, "as_dict"):
        content: Any = item.as_dict()
    else:
        content = [item.todict(), getattr(item.calc, "results", {})]
    return json.dumps(content, default=_as_json, sort_keys=True)


def _as_json(value: Any) -> Any:
    from ase.io.jsonio import MyEncoder

    try:
        return MyEncoder().default(value)
    except TypeError:
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
