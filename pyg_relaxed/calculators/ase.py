"""The ASE calculator of a potential, or of an ensemble of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.outputs import Properties

from ..data import SkinNeighbourList, to_numpy
from ..io import load
from ..models import RelaxedPotential
from .potentials import Potentials, exported, results


class RelaxedCalculator(Calculator):
    """Energy, forces and stress by a :class:`~pyg_relaxed.models.RelaxedPotential`, for all that ASE does with them.

    All is computed in one pass and kept until positions, species, cell, periodicity, or an entry of ``atoms.info`` that
    the model reads (fields, the charge) change. Neighbours are searched anew only when they must be.

    ``results`` hold ASE's properties, the stress as six numbers, and ``"stress_tensor"``, the whole of it: where theta
    breaks the symmetry its antisymmetric part is a torque per volume, which six numbers drop. With several models they
    are means, and ``"energy_std"`` (eV), ``"forces_std"`` ``[N, 3]`` (eV/Å) and ``"stress_std"`` ``[3, 3]`` (eV/Å³) the
    standard deviations between models.

    Args:
        model: The potential, or several of one cutoff whose mean is taken; they are put in evaluation mode.
        skin: By how much the search for neighbours goes beyond the cutoff, Å.
        device: Where to compute. None leaves the models where they are.
        dtype: Of the model. None leaves it as it is.
        **kwargs: Additional arguments of :class:`ase.calculators.calculator.Calculator`.

    Raises:
        TypeError: If a model is no potential.
        ValueError: If there is none, or they differ in cutoff or fields; when it computes also if ``atoms.info`` lacks
            a field of the model.

    Example:
        >>> from ase.build import molecule
        >>> water = molecule("H2O")
        >>> model = RelaxedPotential(["H", "O"], irreps_hidden="4x0e+4x1o", num_layers=1)
        >>> water.calc = RelaxedCalculator(model)
        >>> water.get_forces().shape
        (3, 3)
    """

    # Nothing of the model depends on them.
    ignored_changes: ClassVar[set[str]] = {"initial_charges", "initial_magmoms"}

    def __init__(
        self,
        model: RelaxedPotential | Sequence[RelaxedPotential],
        skin: float = 0.5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        self._potentials = Potentials(model, device, dtype)
        self.models = self._potentials.models
        self.implemented_properties = self._potentials.properties
        self._info: dict[str, Any] = {}
        self._neighbours = SkinNeighbourList(self._potentials.cutoff, skin)
        super().__init__(**kwargs)

    @classmethod
    def from_file(cls, path: str | Path | Sequence[str | Path], skin: float = 0.5, **kwargs: Any) -> RelaxedCalculator:
        """Return the calculator of a model file, or of several.

        Args:
            path: What :func:`pyg_relaxed.save` has written.
            skin: As above.
            **kwargs: As above.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no model file.
            TypeError: If the model is no potential.
        """
        paths = [path] if isinstance(path, str | Path) else path
        return cls([load(one) for one in paths], skin, **kwargs)  # type: ignore[misc]

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what has changed since the last calculation, entries of ``info`` that are read included."""
        changes: list[str] = super().check_state(atoms, tol=tol)
        if self.atoms is not None:
            read = self._potentials.info_read
            changes += [name for name in read if not _equal(self._info.get(name), atoms.info.get(name))]
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute all there is, whatever is asked for."""
        if not system_changes and getattr(self, "results", None):
            return  # what is not there now, such as the stress of a molecule, is not there
        super().calculate(atoms, list(properties), list(system_changes))
        self._info = {name: copy.deepcopy(self.atoms.info.get(name)) for name in self._potentials.info_read}
        edges = self._neighbours(self.atoms.positions, self.atoms.cell.array, self.atoms.pbc)
        (outputs,) = self._potentials([self._potentials.graph(self.atoms, *edges)])
        self.results: dict[str, Any] = results(outputs)

    def export_properties(self) -> Properties:
        """Return the results that ASE knows."""
        return exported(self.results)


def _equal(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    return bool(np.array_equal(to_numpy(a), to_numpy(b)))
