"""A model from its config and the data."""

from __future__ import annotations

from typing import Any

import torch

from ..compat import default_dtype, o3
from ..datasets import AtomsDataset
from ..models import RelaxedPotential, RelaxedTensor
from ..models.species import atomic_numbers
from ..models.tensor import irrep_of_each
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
            energies = statistics.atomic_energies
            arguments["energy_shift"] = {z: energies.get(z, 0.0) for z in atomic_numbers(arguments["species"])}
        cls: Any = RelaxedPotential
    else:
        tensor = CartesianTensor(config.model.formula).double() if config.model.formula else None
        shift, scale = _scalars(config.model, tensor, train)
        arguments["shift"] = shift if arguments["shift"] is None else arguments["shift"]
        arguments["scale"] = arguments["scale"] or scale
        if tensor is not None:
            arguments["lmax"] = max(arguments["lmax"], tensor.irreps.lmax)
        cls = RelaxedTensor
    with torch.random.fork_rng(devices=[]), default_dtype(getattr(torch, config.trainer.dtype)):
        torch.manual_seed(config.trainer.seed)
        model: RelaxedPotential | RelaxedTensor = cls(**arguments)
    return model


def _scalars(model: TensorConfig, tensor: CartesianTensor | None, train: AtomsDataset) -> tuple[list[float], float]:
    """Return the mean of each scalar of the tensor, for each atom if they are summed, and the size of the rest."""
    rows = []
    for data in train:
        x = data[model.name].double().cpu()
        x = x.view(-1, 1) if tensor is None else tensor.to_irreps(x)
        rows.append(x / data.num_nodes if model.pool == "sum" and not model.per_atom else x)
    values = torch.cat(rows)
    values = values[~values.isnan().any(dim=1)]
    irreps = o3.Irreps("0e") if tensor is None else tensor.irreps
    is_scalar = torch.tensor([ir.is_scalar() for ir in irrep_of_each(irreps)])
    shift = values.mean(dim=0) * is_scalar
    scale = (values - shift).square().mean().sqrt().item()
    return shift[is_scalar].tolist(), scale or 1.0
