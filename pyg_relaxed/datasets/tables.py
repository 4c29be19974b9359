"""Tables of computed dielectric, elastic and piezoelectric tensors, with the axes of every tensor checked.

They come in the source distribution of matminer 0.3.9 on PyPI, and are read from there; nothing is fetched::

    pip download --no-deps --no-binary :all: matminer==0.3.9

The sources to cite: Petousis et al., Sci. Data 4, 160134 (2017); de Jong et al., Sci. Data 2, 150009 (2015) and 150053
(2015). The terms of the data are theirs: read them before you pass the tables on.

A tensor is that of its structure only if both are written in the same axes; then the operations of the point group
leave it unchanged. Measured, violation :math:`|T - P_G T| / |T|` below 1 % (pymatgen 2026, spglib, symprec 0.01 Å):

==============  =====  ===========  ==============  ================  =======
table           rows   axes of the  IEEE axes (as   one of the two    neither
                       structure    pymatgen sets)
==============  =====  ===========  ==============  ================  =======
dielectric      1056   98.0 %       65.2 %          98.0 %            21
elastic         1181   92.4 %       86.3 %          92.4 %            90
piezoelectric   941    40.8 %       81.3 %          86.7 %            125
==============  =====  ===========  ==============  ================  =======

The dielectric and elastic tensors are in the axes of their structure: no other axes explain what violates the symmetry
(but for one row), and it is small, as noise of the calculation is (99.9 and 99.4 % are below 5 %).

The piezoelectric ones are in the axes of IEEE 176-1987: for 844 of the 855 rows with more symmetry than the identity,
the tensor has the form that the standard tabulates for its class, x3 along the polar or the principal axis. Where
pymatgen's rotation does not lead there, it chooses other axes:

* mm2 (77 rows in neither axes): orders the axes by length, where the standard puts the polar one along x3. The tensor
  is that of the axes ``yzx`` or ``zyx`` for 54 rows and ``xzy`` or ``zxy`` for 23: two that differ, so it is ambiguous.
* 4mm, 4, -4, -42m (15 rows): puts a along x3 wherever c < a. ``yzx`` or ``zyx``; in 4mm and -42m (12 of these rows)
  the same tensor but for its sign.
* -6m2 (23 rows, all P-62m) and 32 (4 rows, P312): a along x1, where the two-fold axes are between. ``yxz``.
* 2 (4 rows): several, ambiguous. One row of 3m and one of -6m2: no choice of axes at all.

The sign of a piezoelectric tensor stays uncertain wherever turning the axes changes nothing else, and the choice of x1
and x2 where the class leaves it open: :attr:`FrameReport.uncertain`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import torch

from ..adapters import from_pymatgen
from ..data import from_voigt
from .tensor_axes import Axes, Placement, place, turn

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from ..data import AtomicData

Frames = Literal["keep", "rotate", "drop"]

COMMAND: Final = "pip download --no-deps --no-binary :all: matminer==0.3.9"


@dataclass(frozen=True)
class _Table:
    """What is known of one table: its file, the column and key of its tensor, and the axes it is written in."""

    file: str
    sha256: str
    column: str
    key: str
    axes: Axes
    voigt: str = ""


_TABLES: dict[str, _Table] = {
    "dielectric": _Table(
        "dielectric_constant.csv",
        "ecbd410d33c95d5b05822cff6c7c0ba809a024b4ede3855ec5efc48d5e29ea77",
        "e_total",
        "dielectric_tensor",
        "structure",
    ),
    "elastic": _Table(
        "elastic_tensor.csv",
        "f7a18c91fe5dcd51012e5b7e3a37f73aaee9087a036d61bdf9d6464b6fca51a6",
        "elastic_tensor",
        "elastic_tensor",
        "structure",
        "stiffness",
    ),
    "piezoelectric": _Table(
        "piezoelectric_tensor.csv",
        "4be45c8df76a9600f789255ddcb05a92fc3807e0b96fd01e85713a58c34a2ae1",
        "piezoelectric_tensor",
        "piezoelectric_tensor",
        "ieee",
        "piezoelectric_stress",
    ),
}


@dataclass(frozen=True)
class Disagreement:
    """A row whose tensor has the symmetry of its structure neither in the structure's axes nor in the IEEE ones.

    Args:
        row: Its number in the file, from 0.
        material_id: As in the Materials Project.
        formula: Of the structure.
        point_group: Of the structure, Hermann-Mauguin.
        violation: ``|T - P_G T| / |T|``, the smaller of the two.
        axes: Which choices of axes would explain it: ``"zyx"`` says that the tensor's x, y, z are the z, y, x of the
            IEEE axes, up to signs. Empty if none does.
    """

    row: int
    material_id: str
    formula: str
    point_group: str
    violation: float
    axes: tuple[str, ...]


@dataclass(frozen=True)
class FrameReport:
    """In which axes the tensors of a table are.

    Args:
        table: Its name.
        frames: What was done, see :func:`tensor_table`.
        tol: Largest violation of the symmetry that still counts as agreement.
        rows: Of the file.
        agree: How many rows agree in the axes of the ``"structure"``, in the ``"ieee"`` axes, in ``"either"``.
        as_is: How many graphs hold the tensor as the file does.
        turned: How many graphs hold a tensor turned from the IEEE axes.
        dropped: How many rows became no graph.
        disagreeing: The rows that agree in neither, in the order of the file.
        uncertain: The material ids of graphs whose tensor is one of several that have the symmetry, given that the
            table is in axes of IEEE type: ``"sign"`` (they differ by it), ``"axes"`` (by more: which is x1, which x2).
    """

    table: str
    frames: Frames
    tol: float
    rows: int
    agree: dict[str, int]
    as_is: int
    turned: int
    dropped: int
    disagreeing: tuple[Disagreement, ...]
    uncertain: dict[str, tuple[str, ...]]

    @property
    def explained(self) -> dict[str, int]:
        """How many of the disagreeing rows each set of axes would explain."""
        return dict(sorted(Counter("/".join(entry.axes) or "none" for entry in self.disagreeing).items()))

    def __str__(self) -> str:
        shares = ", ".join(f"{n} ({n / max(self.rows, 1):.1%}) {name}" for name, n in self.agree.items())
        lines = [
            f"{self.table}: {self.rows} rows, {self.as_is} as they are, {self.turned} turned, {self.dropped} dropped",
            f"agree within {self.tol:g} in the axes of: {shares}",
            f"uncertain: {len(self.uncertain['sign'])} in sign, {len(self.uncertain['axes'])} in the choice of axes",
            f"disagreeing: {len(self.disagreeing)}, by the axes that would explain them: {self.explained}",
        ]
        return "\n".join(lines)


@dataclass(frozen=True, repr=False)
class TensorTable:
    """The graphs of a table of tensors, and a report on their axes.

    Args:
        name: ``"dielectric"``, ``"elastic"`` or ``"piezoelectric"``.
        graphs: One for each row kept, in the order of the file.
        report: In which axes the tensors were.
    """

    name: str
    graphs: list[AtomicData]
    report: FrameReport

    def __len__(self) -> int:
        return len(self.graphs)

    def __getitem__(self, n: int) -> AtomicData:
        return self.graphs[n]

    def summary(self) -> str:
        """Return the counts of the report, as text."""
        return str(self.report)

    def __repr__(self) -> str:
        r = self.report
        return (
            f"{self.__class__.__name__}({self.name}, {len(self)} graphs of {r.rows} rows: "
            f"{r.as_is} as they are, {r.turned} turned, {r.dropped} dropped)"
        )


def tensor_table(
    name: str,
    path: str | Path,
    cutoff: float = 5.0,
    dtype: torch.dtype | None = None,
    frames: Frames = "rotate",
    tol: float = 0.01,
) -> TensorTable:
    """Read a table of tensors: a graph for each row, in the axes of its POSCAR.

    Every graph has its target ``dielectric_tensor`` (electrons and ions; that of the electrons alone is
    ``info_electronic_dielectric_tensor``), ``elastic_tensor`` in GPa or ``piezoelectric_tensor`` in C/m^2, and
    ``info_material_id``, ``info_formula``, ``info_space_group``, ``info_point_group``, ``info_tensor_axes``
    (``"as is"`` or ``"turned"``) and ``info_uncertain`` (``""``, ``"sign"`` or ``"axes"``, see :class:`FrameReport`).

    Args:
        name: ``"dielectric"`` (1056 rows), ``"elastic"`` (1181) or ``"piezoelectric"`` (941).
        path: ``matminer-0.3.9.tar.gz``, or the file extracted from it.
        cutoff: In Å.
        dtype: Of every float. None is ``torch.get_default_dtype()``.
        frames: What to do with tensors in other axes than their structure. ``"rotate"`` turns those in IEEE axes and
            drops those in neither. Where both agree, tensors that differ by sign alone stay, and others go by the axes
            that most of the table is in. ``"drop"`` drops all that disagree as they are, ``"keep"`` changes and drops
            nothing. The report is made always.
        tol: Largest violation ``|T - P_G T| / |T|`` that counts as agreement, with P_G the mean over the point group.

    Raises:
        FileNotFoundError: If there is no such file; the message says how to get it.
        ValueError: For an unknown name, a file with another content than the known one, and rows that cannot be read.

    Example:
        >>> tensor_table("dielectric", "matminer-0.3.9.tar.gz")  # doctest: +SKIP
        TensorTable(dielectric, 1035 graphs of 1056 rows: 1035 as they are, 0 turned, 21 dropped)
    """
    from tqdm import tqdm

    if name not in _TABLES:
        raise ValueError(f"'name' must be one of {tuple(_TABLES)} (got {name!r})")
    if frames not in ("keep", "rotate", "drop"):
        raise ValueError(f"'frames' must be 'keep', 'rotate' or 'drop' (got {frames!r})")
    if not 0 < tol < 1:
        raise ValueError(f"'tol' must be a relative violation between 0 and 1, such as 0.01 (got {tol})")
    table = _TABLES[name]
    rows = _rows(_content(Path(path), table), str(path))
    graphs: list[AtomicData] = []
    places: list[tuple[int, dict[str, str], Placement]] = []
    for n, row in enumerate(tqdm(rows, desc=name, unit="row", disable=None)):
        try:
            structure, tensor, extras = _parse(row, table)
            placement = place(tensor, structure, table.axes, tol, frames == "rotate")
            places.append((n, row, placement))
            if frames == "keep" or (placement.agreeing if frames == "rotate" else "structure" in placement.agreeing):
                graphs.append(_graph(structure, tensor, extras, row, placement, table, cutoff, dtype))
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ValueError(
                f"{path}: row {n} (material {row.get('material_id') or 'unnamed'}) cannot be read, "
                f"{type(error).__name__}: {error}. Get the table again with '{COMMAND}'"
            ) from error
    return TensorTable(name, graphs, _report(name, frames, tol, places, graphs))


def _graph(
    structure: Structure,
    tensor: np.ndarray,
    extras: dict[str, np.ndarray],
    row: dict[str, str],
    placement: Placement,
    table: _Table,
    cutoff: float,
    dtype: torch.dtype | None,
) -> AtomicData:
    turns = placement.turns
    structure.properties = {
        table.key: placement.turned if turns else tensor,
        **{name: turn(value, placement.R.T) if turns else value for name, value in extras.items()},
        "material_id": row["material_id"],
        "formula": row["formula"],
        "space_group": int(float(row["space_group"])),
        "point_group": placement.point_group,
        "tensor_axes": "turned" if turns else "as is",
        "uncertain": placement.uncertain,
    }
    return from_pymatgen(structure, cutoff, dtype, frame="cartesian")


def _report(
    name: str,
    frames: Frames,
    tol: float,
    places: list[tuple[int, dict[str, str], Placement]],
    graphs: list[AtomicData],
) -> FrameReport:
    agree = {axes: sum(axes in p.agreeing for _, _, p in places) for axes in ("structure", "ieee")}
    agree["either"] = sum(bool(p.agreeing) for _, _, p in places)
    turned = sum(graph.info_tensor_axes == "turned" for graph in graphs)
    disagreeing = tuple(
        Disagreement(n, row["material_id"], row["formula"], p.point_group, min(p.violations.values()), p.explained)
        for n, row, p in places
        if not p.agreeing
    )
    uncertain = {
        kind: tuple(graph.info_material_id for graph in graphs if graph.info_uncertain == kind)
        for kind in ("sign", "axes")
    }
    counts = (len(graphs) - turned, turned, len(places) - len(graphs))
    return FrameReport(name, frames, tol, len(places), agree, *counts, disagreeing, uncertain)


def _content(path: Path, table: _Table) -> str:
    """Return the text of the table, if it is the known one."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: get it with '{COMMAND}', which writes matminer-0.3.9.tar.gz")
    if path.name.endswith((".tar.gz", ".tgz")):
        try:
            with tarfile.open(path, "r:gz") as archive:
                members = [m for m in archive if m.isfile() and m.name.endswith(f"matminer/datasets/{table.file}")]
                opened = archive.extractfile(members[0]) if members else None
                content = None if opened is None else opened.read()
        except (tarfile.TarError, OSError, EOFError) as error:
            raise ValueError(f"{path} is no whole .tar.gz ({error}): get it again with '{COMMAND}'") from None
        if content is None:
            raise ValueError(f"{path} holds no matminer/datasets/{table.file}: get the right file with '{COMMAND}'")
    else:
        content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != table.sha256:
        raise ValueError(
            f"{table.file} in {path} is not the known table: its SHA-256 is {digest}, expected {table.sha256}. "
            f"Get it again with '{COMMAND}'"
        )
    return content.decode("utf-8")


def _rows(text: str, place: str) -> list[dict[str, str]]:
    """Return the rows by column, after the line that says what to cite."""
    lines: Iterator[list[str]] = csv.reader(io.StringIO(text, newline=""))
    header = next((line for line in lines if line and not line[0].startswith("#")), None)
    if header is None:
        raise ValueError(f"{place} has no header: get it again with '{COMMAND}'")
    rows = []
    for n, line in enumerate(lines):
        if len(line) - len(header) not in (0, 1):
            material = next((field for field in line if field.startswith(("mp-", "mvc-"))), "unnamed")
            raise ValueError(f"{place}: row {n} (material {material}) has {len(line)} fields, expected {len(header)}")
        # two of the tables number their rows twice, with one name for both columns
        rows.append(dict(zip(header, line[len(line) - len(header) :], strict=True)))
    return rows


def _parse(row: dict[str, str], table: _Table) -> tuple[Structure, np.ndarray, dict[str, np.ndarray]]:
    """Return the structure of a row in the axes of its POSCAR, its Cartesian tensor, and other tensors."""
    from pymatgen.io.vasp import Poscar

    structure = Poscar.from_str(row["poscar"]).structure
    tensor = _numbers(row, table.column)
    if table.voigt:
        tensor = from_voigt(tensor, table.voigt, "pymatgen")
    elif tensor.shape != (3, 3):
        raise ValueError(f"'{table.column}' must be 3 x 3 (got {tensor.shape})")
    extras = {}
    if table.key == "dielectric_tensor":
        extras["electronic_dielectric_tensor"] = _numbers(row, "e_electronic")
    return structure, tensor, extras


def _numbers(row: dict[str, str], column: str) -> np.ndarray:
    numbers = np.asarray(json.loads(row[column]), dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(f"'{column}' holds numbers that are not finite ({row[column]:.60})")
    return numbers
