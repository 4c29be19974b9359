"""Relaxation of many structures at once: those that arrive leave the batch, and others take their place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian

from ..adapters.ase import fixed_components
from ..adapters.labels import drop_labels
from ..data import SkinNeighbourList, encode
from ..models import RelaxedPotential
from .cell import deformations, logarithm_forces
from .evaluation import (
    MAX_ATOMS,
    MAX_EDGES,
    Evaluation,
    Limits,
    OnError,
    check_on_error,
    not_finite,
    read_each,
    size_of,
)
from .fire import Fire, FireState
from .potentials import Potentials, with_results

if TYPE_CHECKING:
    from .evaluation import Structures

    OnStep = Callable[[int, int, Atoms], object]

GROWTH = 10  # times the edges of the start: so dense has become nothing that is still a structure


@dataclass(frozen=True)
class Relaxation(Evaluation):
    """One of many structures, relaxed.

    Args:
        index: Its place among those given.
        atoms: A copy of it where it ended, with results; after an error where it was last computed, or as given.
        error: Why it could not go on, empty if it could.
        steps: How many steps it took.
        converged: Whether all forces are below ``fmax``.
    """

    steps: int = 0
    converged: bool = False


def relax(
    model: RelaxedPotential | Sequence[RelaxedPotential],
    structures: Structures,
    *,
    cell: bool = False,
    pressure: float = 0.0,
    fmax: float = 0.05,
    steps: int = 500,
    fire: Fire | None = None,
    on_step: OnStep | None = None,
    max_atoms: int = MAX_ATOMS,
    max_edges: int = MAX_EDGES,
    skin: float = 0.5,
    on_error: OnError = "raise",
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Iterator[Relaxation]:
    r"""Relax any number of structures with :class:`Fire`, many at a time; yield them in their order.

    Each goes the way it would go alone with ``ase.optimize.FIRE``, and with ``cell`` that of FIRE on
    ``ase.filters.FrechetCellFilter``. The variables of the cell are all nine of the logarithm of its deformation, times
    the number of atoms, and their forces come from the full stress: where theta breaks the symmetry a cell turns until
    no torque is left, which the six numbers of ASE's filter do not know of. For a strict model both are the same.

    Positions are float64 whatever the dtype of the model, none of the structures given is changed, and fields and the
    charge in ``atoms.info`` stay as they are; labels (``energy``, ``REF_forces``, ...) go, as they are those of another
    geometry. ``FixAtoms`` and ``FixCartesian`` are respected (with ``cell`` only
    ``FixAtoms``, whose atoms keep their place in the cell); other constraints are refused. A structure whose energy,
    forces or positions are not finite, or whose atoms fall into one another, leaves with an ``error`` and does no harm
    to others.

    Args:
        model: The potential, or several, whose mean is taken.
        structures: Those of ASE or pymatgen, paths, or a file or folder of them; read when there is room for them.
        cell: Relax the cell too.
        pressure: From outside, on the cell, eV/Å³ (``10 * ase.units.GPa``); ``scalar_pressure`` of ASE's filters. The
            energy of the results is that of the structure, not the enthalpy.
        fmax: Largest force at which a structure has arrived, eV/Å, those on the cell (eV over the number of atoms)
            among them, as in ASE.
        steps: At most so many of each.
        fire: Its parameters, by default ASE's.
        on_step: Called with the index of a structure, its number of steps and a copy of it with results, from step 0
            on; what it raises ends all. ``trajectory.write(atoms)`` of an ``ase.io.Trajectory`` keeps a trajectory.
        max_atoms: Of a batch.
        max_edges: Of a batch, counted when a structure enters it.
        skin: By how much the search for neighbours goes beyond the cutoff, Å; no edge is missed.
        on_error: ``"report"`` goes on after a structure that cannot enter (be read, be one for the model) and says why
            in its ``error``. What goes wrong later, on the way, is always reported so.
        device: Where to compute. None leaves the models where they are.
        dtype: Of the models. None leaves it as it is.

    Raises:
        TypeError: If a model is no potential.
        ValueError: If models, limits or parameters are unfit; while it goes on also, with its index, for a structure
            that cannot be read, is none for the model, has other constraints or, with ``cell``, no volume.

    Example:
        >>> from ase.build import molecule
        >>> model = RelaxedPotential(["H", "O"], irreps_hidden="4x0e+4x1o", num_layers=1, repulsion=True)
        >>> for found in relax(model, [molecule("H2O"), molecule("O2")], fmax=1e-3, steps=2):
        ...     print(found.index, found.atoms.symbols, found.steps, found.atoms.get_forces().shape)
        0 OH2 2 (3, 3)
        1 O2 2 (2, 3)
    """
    if not 0 <= fmax < float("inf"):
        raise ValueError(f"'fmax' must be a finite force in eV/Å, not negative (got {fmax})")
    if steps < 0:
        raise ValueError(f"'steps' must not be negative (got {steps})")
    if not math.isfinite(pressure) or (pressure and not cell):
        raise ValueError(f"'pressure' must be finite, in eV/Å³, and needs cell=True (got {pressure}, cell={cell})")
    check_on_error(on_error)
    SkinNeighbourList(1.0, skin)  # says what is wrong with the skin
    potentials, limits = Potentials(model, device, dtype), Limits(max_atoms, max_edges)
    relaxer = _Relaxer(potentials, limits, fire or Fire(), cell, pressure, fmax, steps, skin, on_step)
    return _in_order(relaxer.run(structures, on_error))


def _in_order(found: Iterator[Relaxation]) -> Iterator[Relaxation]:
    early, first = {}, 0
    for one in found:
        early[one.index] = one
        while first in early:
            yield early.pop(first)
            first += 1


class _Moving:
    """A structure under way; ``x`` ``[R, 3]``, what is varied, are positions before any deformation and rows of U."""

    def __init__(self, index: int, atoms: Atoms, potentials: Potentials, cell: bool, skin: float) -> None:
        self.index, self.atoms = index, atoms
        drop_labels(atoms)  # of another geometry than where it goes
        self.first_cell = atoms.cell.array.copy()
        if cell and (not atoms.pbc.any() or not atoms.cell.volume > 0):
            raise ValueError(
                f"there is no cell to relax (cell {self.first_cell.tolist()}, pbc {atoms.pbc.tolist()}): give three "
                "independent vectors and set pbc along one of them, or relax it with cell=False"
            )
        rows_of_cell = 3 * cell
        self.x = np.vstack([atoms.positions, np.zeros((rows_of_cell, 3))])
        self.is_free = np.vstack([_free(atoms, cell), np.ones((rows_of_cell, 3), dtype=bool)])
        self.F = np.eye(3)
        self.steps = 0
        self.outputs: dict[str, np.ndarray] = {}
        self.forces = np.zeros_like(self.x)  # on the variables
        self.end: Relaxation | None = None
        self._neighbours = SkinNeighbourList(potentials.cutoff, skin)
        self.graph = potentials.graph(atoms, *self._neighbours(atoms.positions, self.first_cell, atoms.pbc))
        potentials.check(self.graph)
        self._first_edges = self.graph.edge_index.shape[1]

    @property
    def geometry(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions and cell that the variables stand for."""
        return self.x[: len(self.atoms)] @ self.F.T, self.first_cell @ self.F.T

    @property
    def logarithm(self) -> np.ndarray:
        return self.x[len(self.atoms) :] / len(self.atoms)

    def virial(self, pressure: float) -> np.ndarray:
        return -self.atoms.cell.volume * (self.outputs["stress"][0] + pressure * np.eye(3))

    def accept(self, outputs: dict[str, np.ndarray]) -> None:
        """Take over the geometry, which could be computed, and what was."""
        self.steps += bool(self.outputs)  # the first geometry is no step
        self.outputs = outputs
        self.atoms.positions[:], self.atoms.cell[:] = self.geometry

    def feel(self, on_logarithm: np.ndarray | None) -> None:
        """Set the forces on the variables."""
        forces = self.outputs["forces"] @ self.F
        if on_logarithm is not None:
            forces = np.vstack([forces, on_logarithm / len(self.atoms)])
        self.forces = np.where(self.is_free, forces, 0.0)

    def go(self, F: np.ndarray, max_edges: int) -> None:
        """Go where the variables say.

        Raises:
            ValueError: If no structure can be there.
        """
        self.F = F
        positions, cell = self.geometry
        self.graph.edge_index, self.graph.edge_cell_shift = self._neighbours(positions, cell, self.atoms.pbc)
        if (edges := self.graph.edge_index.shape[1]) > max(max_edges, GROWTH * self._first_edges):
            raise ValueError(f"it has {edges} edges, {self._first_edges} at the start: it has fallen into itself")
        for name, value in (("pos", positions), ("cell", cell)):
            self.graph[name] = encode(name, value, self.graph.pos.dtype)

    def snapshot(self) -> Atoms:
        """Return a copy of the structure where it was last computed, with results if it was."""
        atoms = self.atoms.copy()
        return with_results(atoms, self.outputs) if self.outputs else atoms

    def finish(self, converged: bool = False, error: str = "") -> None:
        self.end = Relaxation(self.index, self.snapshot(), error, self.steps, converged)


@dataclass(frozen=True)
class _Relaxer:
    potentials: Potentials
    limits: Limits
    fire: Fire
    cell: bool
    pressure: float
    fmax: float
    steps: int
    skin: float
    on_step: OnStep | None

    def run(self, structures: Structures, on_error: OnError) -> Iterator[Relaxation]:
        """Yield structures as they end."""
        entries = read_each(structures, self._enter, on_error)
        entry = next(entries, None)
        moving: list[_Moving] = []
        state = FireState()
        while moving or entry is not None:
            load = sum((size_of(one.graph) for one in moving), np.zeros(2, dtype=np.int64))
            while entry is not None:
                evaluation, new = entry
                if new is None:
                    yield Relaxation(evaluation.index, evaluation.atoms, evaluation.error)
                elif self.limits.allow(load, size_of(new.graph)):
                    moving.append(new)
                    load = load + size_of(new.graph)
                    state = self.fire.join(state, [len(new.x)])
                else:
                    break
                entry = next(entries, None)
            for act in (self._compute, self._step):
                if moving:
                    state = act(moving, state)
                    yield from (one.end for one in moving if one.end is not None)
                    stays = [one.end is None for one in moving]
                    state, moving = state.keep(stays), [one for one in moving if one.end is None]

    def _enter(self, index: int, atoms: Atoms) -> _Moving:
        return _Moving(index, atoms, self.potentials, self.cell, self.skin)

    def _compute(self, moving: list[_Moving], state: FireState) -> FireState:
        """Compute all structures, end those that have arrived, and those that cannot be computed."""
        names = ("energy", "forces", "stress") if self.cell else ("energy", "forces")
        for one, outputs in zip(moving, self.potentials([one.graph for one in moving]), strict=True):
            if error := not_finite(outputs, names):
                one.finish(error=error)
            else:
                one.accept(outputs)
        moving = [one for one in moving if one.end is None]
        for one, on_logarithm in zip(moving, self._on_logarithms(moving), strict=True):
            one.feel(on_logarithm)
            if self.on_step is not None:
                self.on_step(one.index, one.steps, one.snapshot())
            converged = bool(np.linalg.norm(one.forces, axis=1).max() < self.fmax)
            if converged or one.steps >= self.steps:
                one.finish(converged)
        return state

    def _on_logarithms(self, moving: list[_Moving]) -> Sequence[np.ndarray | None]:
        if not (self.cell and moving):
            return [None] * len(moving)
        logarithms = np.stack([one.logarithm for one in moving])
        return list(logarithm_forces(logarithms, np.stack([one.virial(self.pressure) for one in moving])))

    def _step(self, moving: list[_Moving], state: FireState) -> FireState:
        """Take a step, and end those whose step leads nowhere."""
        state, step = self.fire.step(state, np.concatenate([one.forces for one in moving]))
        for one, own in zip(moving, np.split(step, np.cumsum(state.sizes)[:-1]), strict=True):
            one.x = one.x + own
        Fs = deformations(np.stack([one.logarithm for one in moving])) if self.cell else [one.F for one in moving]
        for one, F in zip(moving, Fs, strict=True):
            try:
                one.go(F, self.limits.max_edges)
            except ValueError as error:
                one.finish(error=f"after {one.steps + 1} steps: {error}")
        return state


def _free(atoms: Atoms, cell: bool) -> np.ndarray:
    """Return which Cartesian components may move, shape ``[N, 3]``.

    Raises:
        ValueError: For constraints other than those on Cartesian components.
    """
    others = sorted({type(one).__name__ for one in atoms.constraints if not isinstance(one, FixAtoms | FixCartesian)})
    if others:
        raise ValueError(
            f"it has the constraints {', '.join(others)}, only FixAtoms and FixCartesian are respected here: remove "
            "them, or use an optimiser of ASE with RelaxedCalculator"
        )
    fixed = fixed_components(atoms)
    if fixed is None:
        return np.ones((len(atoms), 3), dtype=bool)
    if cell and (fixed != fixed[:, :1]).any():
        raise ValueError(
            "it has the constraint FixCartesian, whose directions turn with the cell: use FixAtoms, or relax it with "
            "cell=False"
        )
    return ~fixed
