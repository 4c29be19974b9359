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

from ..data import AtomicData, SkinNeighbourList, encode, to_numpy, to_voigt
from ..io import load
from ..models import Ensemble, RelaxedPotential
from ..models.potential import ELECTRIC


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
        models = [model] if isinstance(model, torch.nn.Module) else list(model)
        if not models:
            raise ValueError("'model' is an empty list: give at least one potential")
        for one in models:
            if not isinstance(one, RelaxedPotential):
                raise TypeError(f"'model' must be a RelaxedPotential, or several (got {type(one).__name__})")
            if (one.cutoff, one.fields) != (models[0].cutoff, models[0].fields):
                raise ValueError("the models differ in cutoff or fields: they are no ensemble")
        self.models = [one.to(device=device, dtype=dtype).eval() for one in models]
        self._ensemble = Ensemble(self.models)
        first = self.models[0]
        self.implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]
        self.implemented_properties += ["charges"] * first.charges
        self.implemented_properties += ["dipole"] * (first.charges or ELECTRIC in first.fields)
        self._info_read = [*first.fields, *(["charge"] if first.charges else [])]
        self._info: dict[str, Any] = {}
        self._neighbours = SkinNeighbourList(first.cutoff, skin)
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
            changes += [name for name in self._info_read if not _equal(self._info.get(name), atoms.info.get(name))]
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
        self._info = {name: copy.deepcopy(self.atoms.info.get(name)) for name in self._info_read}
        means = {name: value.cpu().numpy() for name, value in self._ensemble(self._graph(self.atoms)).items()}
        energy = float(means["energy"][0])
        self.results: dict[str, Any] = {"energy": energy, "free_energy": energy}
        self.results |= {name: means[name] for name in ("energies", "forces", "charges") if name in means}
        if "dipole" in means and not np.isnan(means["dipole"]).any():
            self.results["dipole"] = means["dipole"][0]
        if "stress" in means:
            tensor = means["stress"][0]
            self.results["stress"] = to_voigt((tensor + tensor.T) / 2, "stress", "ase")
            self.results["stress_tensor"] = tensor
        if "energy_std" in means:
            self.results |= {"energy_std": float(means["energy_std"][0]), "forces_std": means["forces_std"]}
        if "stress_std" in means:
            self.results["stress_std"] = means["stress_std"][0]

    def _graph(self, atoms: Atoms) -> AtomicData:
        parameter = next(self.models[0].parameters())
        edge_index, shift = self._neighbours(atoms.positions, atoms.cell.array, atoms.pbc)
        frame = atoms.info.get("frame", "cartesian")
        values: dict[str, Any] = {"z": atoms.numbers, "pos": atoms.positions, "cell": atoms.cell.array}
        values |= {"pbc": atoms.pbc, "cutoff": self.models[0].cutoff, "frame": frame}
        values |= {name: atoms.info[name] for name in self._info_read if name in atoms.info}
        tensors = {name: encode(name, value, parameter.dtype) for name, value in values.items()}
        graph: AtomicData = AtomicData(edge_index=edge_index, edge_cell_shift=shift, **tensors).to(parameter.device)
        return graph


def _equal(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    return bool(np.array_equal(to_numpy(a), to_numpy(b)))
