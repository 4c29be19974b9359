"""A potential, or an ensemble of them, as ASE sees it: what it reads of ``Atoms``, and its results."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.outputs import Properties, all_outputs
from torch import Tensor
from torch_geometric.data import Batch

from ..checks import as_device
from ..data import AtomicData, encode, info_key, to_numpy, to_tensor, to_voigt
from ..models import Ensemble, RelaxedPotential
from ..models.outputs import split_outputs
from ..models.potential import ELECTRIC


class Potentials:
    """One potential or several of one cutoff, whose means are taken, between ASE's structures and ASE's results.

    Args:
        model: The potential, or several; they are put in evaluation mode.
        device: Where to compute. None leaves the models where they are.
        dtype: Of the models. None leaves it as it is.

    Raises:
        TypeError: If a model is no potential.
        ValueError: If there is none, they differ in cutoff or fields, or there is no such device.

    Example:
        >>> from ase.build import molecule
        >>> from pyg_relaxed.data import neighbour_list
        >>> water = molecule("H2O")
        >>> potentials = Potentials(RelaxedPotential(["H", "O"], irreps_hidden="4x0e", num_layers=1))
        >>> graph = potentials.graph(water, *neighbour_list(water.positions, water.cell, water.pbc, potentials.cutoff))
        >>> [sorted(results(outputs)) for outputs in potentials([graph, graph])]
        [['energies', 'energy', 'forces', 'free_energy'], ['energies', 'energy', 'forces', 'free_energy']]
    """

    def __init__(
        self,
        model: RelaxedPotential | Sequence[RelaxedPotential],
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if isinstance(model, str | Path):
            raise TypeError(f"'model' must be a RelaxedPotential, or several (got a path): give load('{model}')")
        if isinstance(model, Ensemble):
            model = list(model.models)  # type: ignore[arg-type]
        models = [model] if isinstance(model, torch.nn.Module) else list(model)
        if not models:
            raise ValueError("'model' is an empty list: give at least one potential")
        for one in models:
            if not isinstance(one, RelaxedPotential):
                raise TypeError(f"'model' must be a RelaxedPotential, or several (got {type(one).__name__})")
        device = None if device is None else as_device(device)
        self.models = [one.to(device=device, dtype=dtype).eval() for one in models]
        kinds = [_kind(one) for one in self.models]
        if differ := [what for what in kinds[0] if any(kind[what] != kinds[0][what] for kind in kinds)]:
            raise ValueError(f"the models differ in {', '.join(differ)}: they are no ensemble")
        self.cutoff = self.models[0].cutoff
        self._ensemble = Ensemble(self.models)
        self._charges = self.models[0].charges
        self._fields = list(self.models[0].fields)
        names = dict.fromkeys([*self._fields, *(["charge"] if self._charges or ELECTRIC in self._fields else [])])
        self._inputs = {name: info_key(name) for name in names}
        self.info_read = list(self._inputs.values())

    @property
    def properties(self) -> list[str]:
        """What ASE can ask for."""
        names = ["energy", "free_energy", "energies", "forces", "stress"]
        names += ["charges"] * self._charges
        return names + ["dipole"] * (self._charges or ELECTRIC in self._fields)

    @property
    def _device(self) -> torch.device:
        return next(self.models[0].parameters()).device

    def graph(self, atoms: Atoms, edge_index: Tensor, edge_cell_shift: Tensor) -> AtomicData:
        """Return the graph of a structure with what the models read, in their dtype, and nothing else.

        Args:
            atoms: The structure; fields and the charge are read from ``atoms.info``.
            edge_index: All its edges within the cutoff, shape ``[2, E]``.
            edge_cell_shift: Lattice vectors added to their neighbours, shape ``[E, 3]``.

        Raises:
            ValueError: If a field or the charge is no number, or not finite.
        """
        values: dict[str, Any] = {"z": atoms.numbers, "pos": atoms.positions, "cell": atoms.cell.array}
        values |= {"pbc": atoms.pbc, "cutoff": self.cutoff, "frame": atoms.info.get("frame", "cartesian")}
        # What some structures have all graphs of a batch must have.
        values |= {"charge": 0.0} if "charge" in self._inputs else {}
        values |= {name: np.zeros(self.models[0].fields[name].dim) for name in self.models[0].learned}
        for name, key in self._inputs.items():
            if (value := atoms.info.get(key)) is not None:
                numbers = to_tensor(value, torch.float64)
                if numbers is None or not numbers.isfinite().all():
                    raise ValueError(f"atoms.info['{key}'] must be numbers, and finite (got {value!r})")
                values[name] = to_numpy(numbers)
        dtype = next(self.models[0].parameters()).dtype
        tensors = {name: encode(name, value, dtype) for name, value in values.items()}
        return AtomicData(edge_index=edge_index, edge_cell_shift=edge_cell_shift, **tensors)

    def check(self, graph: AtomicData) -> None:
        """Raise if the models cannot compute a graph, so that it does not take the others of a batch with it.

        Raises:
            ValueError: For no atoms, elements or axes that a model is not for, and fields that are missing.
        """
        if graph.num_nodes == 0:
            raise ValueError("the structure has no atoms: leave it out")
        there = copy.copy(graph).to(self._device)
        for model in self.models:
            model.check(there)

    def __call__(self, graphs: Sequence[AtomicData]) -> list[dict[str, np.ndarray]]:
        """Return what the models give for each graph, computed as one batch, in float64."""
        outputs = self._ensemble(Batch.from_data_list(list(graphs)).to(self._device))
        parts = split_outputs(outputs, [len(graph.z) for graph in graphs])
        return [{name: to_numpy(value) for name, value in part.items()} for part in parts]


def _kind(model: RelaxedPotential) -> dict[str, Any]:
    """Return in what the models of an ensemble must agree."""
    return {
        "cutoff": model.cutoff,
        "fields": model.fields,
        "learned fields": list(model.learned),
        "charges": model.charges,
        "species": model.species.tolist(),
        "dtype": next(model.parameters()).dtype,
    }


def results(outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return ASE's results of one structure.

    They hold ASE's properties, the stress as six numbers, and ``"stress_tensor"``, the whole of it; of several models
    also ``"energy_std"`` (eV), ``"forces_std"`` ``[N, 3]`` (eV/Å) and ``"stress_std"`` ``[3, 3]`` (eV/Å³). What a
    structure does not have (a molecule no stress, a crystal no dipole) is left out.

    Args:
        outputs: As :class:`Potentials` returns them.
    """
    energy = float(outputs["energy"][0])
    found: dict[str, Any] = {"energy": energy, "free_energy": energy}
    found |= {name: outputs[name] for name in ("energies", "forces", "charges") if name in outputs}
    if "dipole" in outputs and not np.isnan(outputs["dipole"]).any():
        found["dipole"] = outputs["dipole"][0]
    has_stress = "stress" in outputs and not np.isnan(outputs["stress"]).any()
    if has_stress:
        tensor = outputs["stress"][0]
        found["stress"] = to_voigt((tensor + tensor.T) / 2, "stress", "ase")
        found["stress_tensor"] = tensor
    if "energy_std" in outputs:
        found |= {"energy_std": float(outputs["energy_std"][0]), "forces_std": outputs["forces_std"]}
    if has_stress and "stress_std" in outputs:
        found["stress_std"] = outputs["stress_std"][0]
    return found


def exported(found: Mapping[str, Any]) -> Properties:
    """Return those of the results that ASE has a name for, as it hands them on."""
    return Properties({name: value for name, value in found.items() if name in all_outputs})


class Results(SinglePointCalculator):
    """ASE's keeper of results, with some that it has no name for."""

    def export_properties(self) -> Properties:
        """Return the results that ASE knows."""
        return exported(self.results)


def with_results(atoms: Atoms, outputs: Mapping[str, np.ndarray]) -> Atoms:
    """Give ``atoms`` a ``SinglePointCalculator`` that holds its results, and return it."""
    found = results(outputs)
    atoms.calc = Results(atoms, **{name: found[name] for name in all_properties if name in found})
    atoms.calc.results |= {name: value for name, value in found.items() if name not in all_properties}
    return atoms
