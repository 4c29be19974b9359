"""Many structures, one by one: files, folders, databases, lists in memory."""

from __future__ import annotations

import hashlib
import warnings
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from .ase import from_ase
from .described import described
from .file_sources import FileSource, SingleSource, Source, open_file, unpacked
from .labels import results_of
from .pymatgen import from_pymatgen

if TYPE_CHECKING:
    from ase import Atoms

    from ..data import AtomicData
    from .pymatgen import AnyStructure

    Item: TypeAlias = Atoms | AnyStructure | str | Path

_SEVERAL = (".extxyz", ".xyz", ".traj", ".db", ".json", ".cif", ".mcif", ".xsf", ".pdb")  # of structures in one file
_SINGLE = (".vasp", ".poscar", ".res", ".cssr")
_POSCAR = ("poscar", "contcar")


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
    structure: Atoms | AnyStructure,
    cutoff: float,
    dtype: torch.dtype | None,
    frame: str | None,
    extras: bool,
    label_names: Mapping[str, str] | None = None,
) -> AtomicData:
    """Return the graph of a structure, whichever library it is of."""
    from ase import Atoms

    convert: Any = from_ase if isinstance(structure, Atoms) else from_pymatgen
    graph: AtomicData = convert(structure, cutoff, dtype, frame, extras, label_names)
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
    except (FileNotFoundError, ValueError) as error:  # the entry says it when it is read, and may be left out
        return _Unreadable(n, error)


def _open(path: Path) -> Source:
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file() and _is_structure(file)]
        if not files:
            raise ValueError(
                f"{path} holds no structures: files named *{', *'.join((*_SEVERAL, *_SINGLE))}, POSCAR*, CONTCAR* or "
                "XDATCAR* are, packed (.gz, .bz2, .xz) or not"
            )
        return _Chain([open_file(file) for file in files], path)
    if not path.exists() and Path(str(path).rpartition("@")[0]).is_file():
        return SingleSource(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file or folder {path}")
    return open_file(path)


def _is_structure(file: Path) -> bool:
    name = unpacked(file)
    known = name.endswith((*_SEVERAL, *_SINGLE)) or name.startswith((*_POSCAR, "xdatcar"))
    return known and not name.startswith(".")


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
            name = part.path.relative_to(self._folder) if isinstance(part, FileSource) and self._folder else ""
            total.update(f"{name} {part.digest()}\n".encode())
        return total.hexdigest()


class _Memory(Source):
    """A list of structures, from some place of a longer list on."""

    def __init__(self, items: list[Any], first: int = 0) -> None:
        self._items = items
        self._first = first

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, n: int) -> Atoms | AnyStructure:
        return self._items[n]

    def place(self, n: int) -> str:
        return f"item {self._first + n}"

    def digest(self) -> str:
        return described([_content(item) for item in self._items])


class _Unreadable(Source):
    """A path in a list at which there is nothing to read."""

    def __init__(self, n: int, error: Exception) -> None:
        self._n = n
        self._reason = str(error)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, n: int) -> Atoms | AnyStructure:
        raise ValueError(self._reason)

    def place(self, n: int) -> str:
        return f"item {self._n}"

    def digest(self) -> str:
        return described(self._reason)


def _content(item: Atoms | AnyStructure) -> Any:
    """Return all of a structure that its graph may hold."""
    from ase import Atoms
    from pymatgen.core.structure import SiteCollection

    if isinstance(item, Atoms):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which from_ase gives
            return [item.todict(), results_of(item)]
    if not isinstance(item, SiteCollection):
        return item
    lattice = getattr(item, "lattice", None)  # its other attributes change when they are asked for
    box = None if lattice is None else (lattice.matrix, lattice.pbc, item.frac_coords)
    species = [
        [(str(kind), getattr(kind, "oxi_state", None), getattr(kind, "spin", None), share) for kind, share in s.items()]
        for s in item.species_and_occu
    ]
    whole = (item._charge, None if lattice else item.spin_multiplicity, item.properties)
    return [box, species, item.cart_coords, item.labels, item.site_properties, whole]
