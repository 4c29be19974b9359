"""The irreps of a point group: characters, matrices and Mulliken labels, from its operations alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..compat import o3
from ..o3 import PointGroup, point_group, representation
from ..o3.point_groups import rotation_axis, rotation_order

CARRIER_LMAX = 9  # far above what the 32 groups need


@dataclass(frozen=True, eq=False)
class PointGroupIrrep:
    """A real irreducible representation of a point group.

    Two complex conjugate irreps count as one, since theta and everything it acts on is real.

    Args:
        label (str): Mulliken symbol, e.g. ``"T1u"``.
        characters (ndarray): ``[n]``, one for each operation of the group.
        matrices (ndarray): Orthogonal matrices ``[n, dim, dim]``.
        carrier (o3.Irrep): The irrep of O(3) of lowest degree that contains it, e.g. ``1o`` for T1u of m-3m.
        basis (ndarray): Orthonormal rows ``[dim, carrier.dim]`` in which :attr:`matrices` are written.
    """

    label: str
    characters: np.ndarray
    matrices: np.ndarray
    carrier: o3.Irrep
    basis: np.ndarray

    @property
    def dim(self) -> int:
        """Dimension over the real numbers."""
        return self.matrices.shape[-1]

    @property
    def norm(self) -> int:
        """Scalar product of the characters with themselves: 1, or 2 for a pair of complex conjugate irreps."""
        return round(float((self.characters**2).mean()))

    @property
    def is_trivial(self) -> bool:
        """Whether every operation acts as 1: no symmetry is broken by it."""
        return bool(np.allclose(self.characters, 1))

    def projector(self, D: np.ndarray) -> np.ndarray:
        """Return the projector on the part of a representation ``[n, dim, dim]`` that transforms like this irrep."""
        return np.einsum("g,gij->ij", self.characters, D) * (self.dim / self.norm / len(D))

    def transfers(self, D: np.ndarray) -> np.ndarray:
        """Return, for each of its components, the map of a representation onto that of the first: ``[dim, d, d]``.

        For a vector ``v`` of the representation the columns ``transfers(D) @ v`` hold the components of ``v`` in this
        irrep, copy by copy (projection operators, e.g. Dresselhaus et al., Group Theory, eq. 4.20).
        """
        return np.einsum("gi,gab->iab", self.matrices[:, 0], D) * (self.dim / self.norm / len(D))

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.label}, dim {self.dim}, in {self.carrier})"


@lru_cache(maxsize=128)
def point_group_irreps(group: str | PointGroup) -> tuple[PointGroupIrrep, ...]:
    """Return the real irreps of a finite point group, in the order of Mulliken's labels.

    Of two classes of secondary axes the primed one, which decides the subscripts 1 and 2, is the one nearest x (of
    mirrors, the one whose normal is nearest y). B1, B2 and B3 of 222 and mmm keep the twofold axis nearest z, y, x.

    Args:
        group (str or PointGroup): Symbol or group.

    Raises:
        ValueError: If the group is continuous, or Mulliken's rules give two irreps one label.

    Example::

        >>> [irrep.label for irrep in point_group_irreps("4mm")]
        ['A1', 'A2', 'B1', 'B2', 'E']
    """
    group = point_group(group)
    if group.is_continuous:
        raise ValueError(f"the group {group.hermann_mauguin} is continuous: name a finite one")
    landmarks = _Landmarks(group)
    carriers = [o3.Irrep(l, p) for l in range(CARRIER_LMAX + 1) for p in ((-1) ** l, -((-1) ** l))]
    irreps = []
    for characters in _characters(group.operations):
        carrier = next((ir for ir in carriers if _multiplicity(characters, group.operations, ir)), None)
        if carrier is None:
            raise ValueError(f"no irrep of O(3) up to l = {CARRIER_LMAX} holds an irrep of {group.hermann_mauguin}")
        D = representation(o3.Irreps([(1, ir) for ir in [carrier]]), group.operations).numpy()
        basis = _one_copy(characters, D)
        irreps.append(PointGroupIrrep(landmarks.label(characters), characters, basis @ D @ basis.T, carrier, basis))
    labels = [irrep.label for irrep in irreps]
    if len(set(labels)) < len(labels):
        raise ValueError(f"Mulliken's rules give two irreps of {group.hermann_mauguin} one label: {', '.join(labels)}")
    return tuple(sorted(irreps, key=lambda irrep: _order_of_labels(irrep.label)))


def subduce(irreps: o3.Irreps | str, group: str | PointGroup) -> dict[str, dict[str, int]]:
    """Return how irreps of O(3) split in a point group.

    Args:
        irreps (o3.Irreps or str): Irreps of O(3); multiplicities multiply.
        group (str or PointGroup): One of the 32 point groups, or any whose irreps Mulliken's labels can tell apart.

    Returns:
        dict: For each irrep of O(3) the multiplicity of each irrep of the group, by its Mulliken label.

    Raises:
        ValueError: If the group is continuous or has no Mulliken labels.

    Example::

        >>> subduce("1o+2e", "m-3m")
        {'1o': {'T1u': 1}, '2e': {'Eg': 1, 'T2g': 1}}
    """
    group = point_group(group)
    table: dict[str, dict[str, int]] = {}
    for mul, ir in o3.Irreps(irreps):
        row = table.setdefault(str(ir), {})
        for irrep in point_group_irreps(group):
            if n := mul * _multiplicity(irrep.characters, group.operations, ir):
                row[irrep.label] = row.get(irrep.label, 0) + n
    return table


def _characters(operations: np.ndarray) -> list[np.ndarray]:
    """Return the characters of the real irreps, from a random symmetric matrix that commutes with the group algebra."""
    n = len(operations)
    products = np.einsum("aij,bjk->abik", operations, operations)
    table = np.abs(products[:, :, None] - operations).max((3, 4)).argmin(2)  # table[a, b] is the index of a b
    inverse = (table == 0).argmax(1)
    weight = np.random.default_rng(0).normal(size=n)
    values, vectors = np.linalg.eigh((weight + weight[inverse])[table[inverse]])
    found: list[np.ndarray] = []
    for columns in np.split(vectors, np.flatnonzero(np.diff(values) > 1e-8) + 1, axis=1):
        Q = columns @ columns.T
        characters = Q[table, np.arange(n)].sum(1)
        if all(np.abs(characters - other).max() > 1e-6 for other in found):
            found.append(characters)
    return found


def _multiplicity(characters: np.ndarray, operations: np.ndarray, ir: o3.Irrep) -> int:
    trace = representation(str(ir), operations).diagonal(dim1=1, dim2=2).sum(1).numpy()
    return round(float((characters * trace).mean() / (characters**2).mean()))


def _one_copy(characters: np.ndarray, D: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis ``[dim, d]`` of one copy of an irrep in a representation."""
    P = np.einsum("g,gij->ij", characters, D)
    # Splits the copies, should there be several; axes in order of preference keep the basis simple.
    preference = np.diag(np.arange(D.shape[-1], 0.0, -1))
    commuting = P @ (D @ preference @ D.transpose(0, 2, 1)).mean(0) @ P
    values, vectors = np.linalg.eigh((commuting + commuting.T) / 2)
    dim = round(characters[0])
    columns = vectors[:, np.abs(values).argsort(kind="stable")[::-1][:dim]]
    # The projector's own columns, orthonormalised, do not depend on how LAPACK mixes equal eigenvalues.
    Q = columns @ columns.T
    rows: list[np.ndarray] = []
    for row in Q:
        rest = row - sum((other * (other @ row) for other in rows), np.zeros(len(row)))
        if np.linalg.norm(rest) > 1e-6 and len(rows) < dim:
            rows.append(rest / np.linalg.norm(rest))
    return np.array(rows)


class _Landmarks:
    """The operations whose characters decide Mulliken's symbol."""

    def __init__(self, group: PointGroup) -> None:
        # Index, order and axis of the rotations, and of the rotations times the inversion.
        proper: list[tuple[int, int, Any]] = []
        improper: list[tuple[int, int, Any]] = []
        for i, R in enumerate(group.operations):
            is_proper = np.linalg.det(R) > 0
            (proper if is_proper else improper).append(
                (i, rotation_order(R if is_proper else -R), rotation_axis(R if is_proper else -R))
            )
        self.inversion = next((i for i, order, _ in improper if order == 1), None)
        mirrors = [(i, axis) for i, order, axis in improper if order == 2]
        twofold = [(i, axis) for i, order, axis in proper if order == 2]
        rotoinversions = [(i, axis) for i, order, axis in improper if order == 4]

        self.order = max(order for _, order, _ in proper)
        highest = [(i, axis) for i, order, axis in proper if order == self.order and axis is not None]
        if self.order <= 2 and rotoinversions:  # -4 and -42m
            self.order, highest = 4, rotoinversions
        threefold = [axis for _, order, axis in proper if order == 3]
        self.is_cubic = any(abs(axis @ threefold[0]) < 0.9 for axis in threefold)
        self.three_axes = self.order == 2 and len(twofold) == 3
        self.principal: int | None = highest[0][0] if highest else None
        self.secondary: int | None = None
        self.horizontal: int | None = None
        if self.is_cubic:
            fourfold = [i for i, order, _ in proper if order == 4] + [i for i, _ in rotoinversions]
            self.principal = fourfold[0] if fourfold else None
        elif self.three_axes:
            self.twofold = [max(twofold, key=lambda entry: abs(entry[1][k]))[0] for k in (2, 1, 0)]
        else:
            n = highest[0][1] if highest else None
            flat = [(i, axis) for i, axis in twofold if n is not None and abs(axis @ n) < 0.1]
            vertical = [(i, axis) for i, axis in mirrors if n is not None and abs(axis @ n) < 0.1]
            if flat:
                self.secondary = max(flat, key=lambda entry: round(abs(entry[1][0]), 6))[0]
            elif vertical:
                self.secondary = max(vertical, key=lambda entry: round(abs(entry[1][1]), 6))[0]
            if self.order % 2:
                self.horizontal = next((i for i, axis in mirrors if n is None or abs(axis @ n) > 0.9), None)

    def label(self, characters: np.ndarray) -> str:
        dim = round(characters[0])
        subscript = ""
        if dim == 3 or (dim == 1 and self.is_cubic):
            letter = "A" if dim == 1 else "T"
            if self.principal is not None:
                subscript = "1" if characters[self.principal] > 0 else "2"
        elif dim == 1 and self.three_axes:
            kept = [k for k, i in enumerate(self.twofold) if characters[i] > 0]
            letter, subscript = ("A", "") if len(kept) == 3 else ("B", str(kept[0] + 1))
        elif dim == 1:
            turns = self.principal is not None and self.order % 2 == 0
            letter = "B" if turns and characters[self.principal] < 0 else "A"
            if self.secondary is not None:
                subscript = "1" if characters[self.secondary] > 0 else "2"
        else:
            letter = "E"
            if self.order > 4 and not self.is_cubic:
                angle = np.arccos(np.clip(characters[self.principal] / 2, -1, 1))
                subscript = str(round(float(angle) * self.order / (2 * np.pi)))
        if self.inversion is not None:
            return letter + subscript + ("g" if characters[self.inversion] > 0 else "u")
        if self.horizontal is not None:
            return letter + subscript + ("'" if characters[self.horizontal] > 0 else "''")
        return letter + subscript


def _order_of_labels(label: str) -> tuple[bool, str]:
    return label.endswith(("u", "''")), label
