"""Several models of one kind, whose spread says how sure they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data


class Ensemble(torch.nn.Module):
    """Means of the outputs of several models, and their standard deviations.

    Args:
        models (sequence of torch.nn.Module): Models that return dictionaries, such as
            :class:`~pyg_relaxed.models.RelaxedPotential` trained with different seeds.

    Shapes:
        - **output:** for each output that all of them have its mean, in float64, and with several models
          ``"<name>_std"``, the standard deviation between them (with Bessel's correction)

    Raises:
        ValueError: If there is no model.

    Example::

        >>> import pyg_relaxed as pr
        >>> models = [pr.models.RelaxedTensor(["Ba", "Ti", "O"], "i", "dipole", num_layers=1) for _ in range(3)]
        >>> sorted(Ensemble(models)(pr.from_ase(pr.structures.load("BaTiO3_P4mm"))))
        ['dipole', 'dipole_std']
    """

    def __init__(self, models: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        if not len(models):
            raise ValueError("'models' is empty: give at least one")
        self.models = torch.nn.ModuleList(models)

    def forward(self, data: Data) -> dict[str, Tensor]:
        """Return means and standard deviations."""
        outputs = [model(data) for model in self.models]
        names = [name for name in outputs[0] if all(name in out for out in outputs)]
        stacked = {name: torch.stack([out[name].double() for out in outputs]) for name in names}
        means = {name: value.mean(dim=0) for name, value in stacked.items()}
        if len(outputs) == 1:
            return means
        return means | {f"{name}_std": value.std(dim=0) for name, value in stacked.items()}
