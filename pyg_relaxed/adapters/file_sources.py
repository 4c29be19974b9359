"""The structures of one file, one by one, whatever its format."""

from __future__ import annotations

import hashlib
import io
import json
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data import frame_of_file, level_of
from .files import check_counts, check_file, check_order, counts_of_xyz, head, structure_in, structure_of_document

if TYPE_CHECKING:
    from ase import Atoms

    from .pymatgen import AnyStructure

PACKED = (".gz", ".bz2", ".xz")


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


def unpacked(file: Path) -> str:
    """Return the name of a file in lower case, without what says that it is packed."""
    name = file.name.lower()
    for suffix in PACKED:
        name = name.removesuffix(suffix)
    return name


def open_file(path: Path) -> Source:
    """Return the structures in a file, by the format that its name says."""
    name = path.name.lower()
    if name.endswith((".extxyz", ".xyz")):
        return _Frames(path)
    if name.endswith(".traj"):
        return _Trajectory(path)
    if name.endswith((".json", ".json.gz")):
        return _json(path)
    if name.endswith((".db", ".aselmdb", ".lmdb")):
        return _Database(path)
    name = unpacked(path)
    if name.endswith((".extxyz", ".xyz", ".cif", ".mcif", ".xsf", ".pdb")) or name.startswith("xdatcar"):
        return _all_of(path)
    return SingleSource(path)


def _all_of(path: Path) -> Source:
    """Return all structures in a file of a format that may hold several, or the file alone if ASE sees one or none."""
    import ase.io

    if ".cif" in path.name.lower() and len(re.findall(r"^data_", head(path, None), re.MULTILINE | re.IGNORECASE)) < 2:
        return SingleSource(path)  # the most frequent case, and slow to parse
    try:
        check_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ase.io.read(str(path.absolute()), index=":", do_not_split_by_at_sign=True)
    except Exception:  # parsers raise anything; reading the entry will say what is wrong
        return SingleSource(path)
    return _Several(path, found) if len(found) > 1 else SingleSource(path)


class FileSource(Source):
    """Structures of one file; ``self._where[n]`` is what the place of each is called."""

    def __getitem__(self, n: int) -> Atoms | AnyStructure:
        raise NotImplementedError

    def __init__(self, path: Path) -> None:
        self.path = path
        self._where: Sequence[str] = [""]

    def __len__(self) -> int:
        return len(self._where)

    def place(self, n: int) -> str:
        """Return the file, and which of its structures it is."""
        return f"{self.path}, {self._where[n]}" if self._where[n] else str(self.path)

    def digest(self) -> str:
        """Return a hash of the file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()


class SingleSource(FileSource):
    """A file with one structure."""

    def __getitem__(self, n: int) -> Atoms:
        return structure_in(self.path)

    def digest(self) -> str:
        """Return a hash of the file, and of which structure in it is meant."""
        if self.path.exists() or "@" not in self.path.name:
            return super().digest()
        file, _, index = str(self.path).rpartition("@")
        return f"{FileSource(Path(file)).digest()}@{index}"


class _Several(FileSource):
    """The structures of a file that can only be read as a whole."""

    def __init__(self, path: Path, structures: list[Atoms]) -> None:
        super().__init__(path)
        self._structures = structures
        self._where = [f"frame {n}" for n in range(len(structures))]

    def __getitem__(self, n: int) -> Atoms:
        atoms = self._structures[n].copy()
        atoms.calc = self._structures[n].calc
        atoms.info.setdefault("frame", frame_of_file(self.path))
        check_order(atoms)
        return atoms


class _Frames(FileSource):
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


class _Trajectory(FileSource):
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


class _Database(FileSource):
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


class _Documents(FileSource):
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
