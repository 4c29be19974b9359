"""A model from its config and the data."""

from __future__ import annotations

from typing import Any

import torch

from ..compat import default_dtype
from ..datasets import AtomsDataset
from ..models import RelaxedPotential, RelaxedTensor
from ..o3.cartesian import CartesianTensor
from .config import Config, PotentialConfig, TensorConfig


def build(config: Config, train: AtomsDataset) -> RelaxedPotential | RelaxedTensor:
    """Return an untrained model; what the config leaves open is read from the training structures.

    Elements and the mean number of neighbours are those of the data; an energy is shifted by the sum over its atoms
    that fits best and scaled by the root mean square of the forces; a tensor is shifted by the mean of its scalars and
    scaled by the root mean square of what is left.

    Args:
        config: The config.
        train: The training structures.
    """
    statistics = train.statistics()
    arguments = config.model.model_dump(exclude={"kind"})
    arguments["species"] = arguments["species"] or list(statistics.species)
    arguments["num_neighbors"] = arguments["num_neighbors"] or max(1.0, statistics.mean_neighbors)
    if isinstance(config.model, PotentialConfig):
        if arguments["energy_scale"] is None:
            arguments["energy_scale"] = statistics.forces_rms or statistics.energy_rms or 1.0
        if arguments["energy_shift"] is None:
            arguments["energy_shift"] = _shifts(arguments["species"], statistics.atomic_energies)
        cls: Any = RelaxedPotential
    else:
        shift, scale = _scalars(config.model, train)
        arguments["shift"] = shift if arguments["shift"] is None else arguments["shift"]
        arguments["scale"] = arguments["scale"] or scale
        arguments["lmax"] = max(
            arguments["lmax"], _tensor(config.model.formula).irreps.lmax if config.model.formula else 0
        )
        cls = RelaxedTensor
    with torch.random.fork_rng(devices=[]), default_dtype(getattr(torch, config.trainer.dtype)):
        torch.manual_seed(config.trainer.seed)
        model: RelaxedPotential | RelaxedTensor = cls(**arguments)
    return model


def _shifts(species: list[str | int], energies: dict[int, float]) -> dict[str | int, float]:
    from ase.data import atomic_numbers

    numbers = {element: element if isinstance(element, int) else atomic_numbers.get(element, 0) for element in species}
    return {element: energies.get(number, 0.0) for element, number in numbers.items()}


def _tensor(formula: str) -> CartesianTensor:
    return CartesianTensor(formula)


def _scalars(model: TensorConfig, train: AtomsDataset) -> tuple[list[float], float]:
    """Return the mean of each scalar of the tensor, for each atom if they are summed, and the size of the rest."""
    rows = []
    for data in train:
        x = data[model.name].double().cpu()
        x = _tensor(model.formula).double().to_irreps(x) if model.formula else x.view(-1, 1)
        rows.append(x / data.num_nodes if model.pool == "sum" and not model.per_atom else x)
    values = torch.cat(rows)
    values = values[~values.isnan().any(dim=1)]
    is_scalar = torch.ones(1, dtype=torch.bool)
    if model.formula:
        is_scalar = torch.tensor([ir.l == 0 for mul, ir in _tensor(model.formula).irreps for _ in range(mul * ir.dim)])
    shift = values.mean(dim=0) * is_scalar
    scale = (values - shift).square().mean().sqrt().item()
    return shift[is_scalar].tolist(), scale or 1.0
