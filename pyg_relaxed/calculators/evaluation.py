"""Energies, forces and stresses of many structures, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import torch
from ase import Atoms

from ..adapters import Source, as_atoms, open_source
from ..adapters.files import is_transient
from ..data import AtomicData, neighbour_list
from ..models import RelaxedPotential
from .potentials import Potentials, with_results

if TYPE_CHECKING:
    from typing import TypeAlias

    from ..adapters.sources import Item

    Structures: TypeAlias = Iterable[Item] | Source | str | Path

OnError = Literal["raise", "report"]
Made = TypeVar("Made")

MAX_ATOMS, MAX_EDGES = 1_000, 50_000


@dataclass(frozen=True)
class Evaluation:
    """One of many structures, evaluated.

    Args:
        index: Its place among those given.
        atoms: A copy of it; ``atoms.calc.results`` are what :class:`RelaxedCalculator` gives. Without results, and
            maybe without atoms, if there was an error.
        error: What is wrong with it, empty if nothing is.
    """

    index: int
    atoms: Atoms
    error: str = ""


@dataclass(frozen=True)
class Limits:
    """How much a batch may hold; a structure larger than that is a batch alone.

    Args:
        max_atoms: Atoms in all.
        max_edges: Edges in all, on which time and memory depend.

    Raises:
        ValueError: If one of them is not positive.
    """

    max_atoms: int = MAX_ATOMS
    max_edges: int = MAX_EDGES

    def __post_init__(self) -> None:
        if min(self.max_atoms, self.max_edges) < 1:
            raise ValueError(
                f"'max_atoms' and 'max_edges' must be at least 1 (got {self.max_atoms} and {self.max_edges})"
            )

    def allow(self, load: np.ndarray, size: np.ndarray) -> bool:
        """Return whether a graph of some size has room in a batch that has a load; an empty one takes any."""
        return not load.any() or bool((load + size <= (self.max_atoms, self.max_edges)).all())


def size_of(graph: AtomicData) -> np.ndarray:
    """Return the numbers of atoms and of edges."""
    return np.array([len(graph.z), graph.edge_index.shape[1]])


def evaluate(
    model: RelaxedPotential | Sequence[RelaxedPotential],
    structures: Structures,
    *,
    max_atoms: int = MAX_ATOMS,
    max_edges: int = MAX_EDGES,
    on_error: OnError = "raise",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Iterator[Evaluation]:
    """Compute energy, forces and stress of any number of structures, in their order.

    Structures are read when a batch needs them, and none is changed.

    Args:
        model: The potential, or several, whose means and standard deviations are taken.
        structures: Those of ASE or pymatgen, paths, or a file or folder of them. Fields and the charge are read from
            ``atoms.info``.
        max_atoms: Of a batch.
        max_edges: Of a batch.
        on_error: ``"report"`` goes on after a structure that cannot be computed and says why in its ``error``.
        device: Where to compute. None leaves the models where they are.
        dtype: Of the models. None leaves it as it is.

    Raises:
        TypeError: If a model is no potential.
        ValueError: If models or limits are unfit; while it goes on also, with its index, for a structure that cannot
            be read or computed.

    Example:
        >>> from ase.build import molecule
        >>> model = RelaxedPotential(["H", "O"], irreps_hidden="4x0e+4x1o", num_layers=1)
        >>> for found in evaluate(model, [molecule("H2O"), molecule("O2")]):
        ...     print(found.index, found.atoms.symbols, found.atoms.get_forces().shape)
        0 OH2 (3, 3)
        1 O2 (2, 3)
    """
    potentials, limits = Potentials(model, device, dtype), Limits(max_atoms, max_edges)
    check_on_error(on_error)
    return _evaluations(potentials, structures, limits, on_error)


def _evaluations(
    potentials: Potentials, structures: Structures, limits: Limits, on_error: OnError
) -> Iterator[Evaluation]:
    def graph_of(index: int, atoms: Atoms) -> AtomicData:
        edges = neighbour_list(atoms.positions, atoms.cell.array, atoms.pbc, potentials.cutoff)
        graph = potentials.graph(atoms, *edges)
        potentials.check(graph)
        return graph

    batch: list[tuple[Evaluation, AtomicData | None]] = []
    load = np.zeros(2, dtype=np.int64)
    for entry, graph in read_each(structures, graph_of, on_error):
        if graph is not None:
            if not limits.allow(load, size_of(graph)):
                yield from _evaluated(potentials, batch, on_error)
                batch, load = [], np.zeros(2, dtype=np.int64)
            load += size_of(graph)
        batch.append((entry, graph))
    yield from _evaluated(potentials, batch, on_error)


def _evaluated(
    potentials: Potentials, batch: list[tuple[Evaluation, AtomicData | None]], on_error: OnError
) -> Iterator[Evaluation]:
    graphs = [graph for _, graph in batch if graph is not None]
    outputs = iter(potentials(graphs) if graphs else [])
    for entry, graph in batch:
        if graph is None:
            yield entry
        elif error := not_finite(found := next(outputs)):
            yield failed(entry.index, entry.atoms, ValueError(error), on_error)
        else:
            yield Evaluation(entry.index, with_results(entry.atoms, found))


def read_each(
    structures: Structures, make: Callable[[int, Atoms], Made], on_error: OnError
) -> Iterator[tuple[Evaluation, Made | None]]:
    """Yield a copy of each structure and what ``make`` makes of its index and it, or None beside what is wrong."""
    if isinstance(structures, str | Path):
        structures = open_source(structures)
    items: Any = range(len(structures)) if isinstance(structures, Source) else structures
    for index, item in enumerate(items):
        atoms = Atoms()
        try:
            atoms = as_atoms(structures[item] if isinstance(structures, Source) else item).copy()
            made = make(index, atoms)
        except Exception as error:  # parsers raise anything
            if is_transient(error):
                raise
            yield failed(index, atoms, error, on_error), None
        else:
            yield Evaluation(index, atoms), made


def failed(index: int, atoms: Atoms, error: Exception, on_error: OnError) -> Evaluation:
    """Return what is known of a structure that cannot be computed.

    Raises:
        ValueError: In place of that, if errors are to be raised.
    """
    text = str(error) or type(error).__name__
    if on_error == "raise":
        raise ValueError(f"structure {index}: {text}") from error
    return Evaluation(index, atoms, text)


def not_finite(outputs: dict[str, np.ndarray], names: Sequence[str] = ("energy", "forces")) -> str:
    """Return what is wrong with the outputs of a structure, empty if all are finite."""
    bad = [name for name in names if not np.isfinite(outputs[name]).all()]
    return f"not finite: {', '.join(bad)}; atoms may be too close, or the model far from its data" if bad else ""


def check_on_error(on_error: str) -> None:
    """Raise unless ``on_error`` is one of the two.

    Raises:
        ValueError: If it is not.
    """
    if on_error not in ("raise", "report"):
        raise ValueError(f"'on_error' must be 'raise' or 'report' (got {on_error!r})")
