"""What models share that embed species and read a network."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..compat import o3
from ..o3.constants import ExactConstants
from .e3nn_network import RelaxedE3NN

OWN = ("irreps_in", "irreps_out", "irreps_global", "pool")  # of the network, chosen by the model


class OnNetwork(ExactConstants):
    """A model on a :class:`RelaxedE3NN`, for the elements in ``species``."""

    species: Tensor
    network: RelaxedE3NN
    strict_frame = False

    @property
    def irreps_theta(self) -> o3.Irreps | None:
        """Irreps of theta, :obj:`None` for the strict model."""
        return self.network.irreps_theta

    def reset_parameters(self) -> None:
        """Draw new weights and return theta to its equivariant starting point."""
        self.network.reset_parameters()

    def _network_config(self, *own: str) -> dict[str, Any]:
        """Return the config of the network without what the model chooses: the four above, and ``own``."""
        return {name: value for name, value in self.network.config.items() if name not in (*OWN, *own)}
