"""A network that distorts a crystal: a displacement for each atom and a strain for the cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import scatter

from ..o3.contraction import clebsch_gordan
from .e3nn_network import RelaxedE3NN
from .on_network import OnNetwork

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..typing import IrrepsLike, ThetaLike


class RelaxedDistortion(OnNetwork):
    """Displacements and strain of a crystal from its species and positions.

    Args:
        species (sequence of int): Atomic numbers the network knows.
        irreps_theta (o3.Irreps, str, int or None, optional): Irreps of theta. (default: :obj:`None`, strict)
        irreps_hidden (o3.Irreps or str, optional): Irreps between the layers.
        displacement_scale (float, optional): Å that one unit of the output stands for. (default: :obj:`0.1`)
        strain_scale (float, optional): Strain that one unit of the output stands for. (default: :obj:`0.02`)
        **kwargs (optional): Additional arguments of :class:`RelaxedE3NN`.

    Shapes:
        - **input:** graph with ``z``, ``pos``, ``cell``, ``edge_index``, ``edge_cell_shift``
        - **output:** ``{"displacement": [N, 3] in Å, mean zero over a graph, "strain": [B, 3, 3], symmetric}``

    Raises:
        ValueError: If the graph holds a species the network does not know; with ``strict_frame`` also if its axes were
            rebuilt and theta breaks symmetry, which brings a :class:`~pyg_relaxed.data.FrameWarning` otherwise.
    """

    change_of_basis: Tensor

    def __init__(
        self,
        species: Sequence[int],
        irreps_theta: ThetaLike = None,
        irreps_hidden: IrrepsLike | None = None,
        displacement_scale: float = 0.1,
        strain_scale: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        species = sorted({int(z) for z in species})
        self.register_buffer("species", torch.tensor(species), persistent=False)
        self.displacement_scale = displacement_scale
        self.strain_scale = strain_scale
        self.network = RelaxedE3NN(f"{len(species)}x0e", "1o+0e+2e", irreps_hidden, irreps_theta, **kwargs)
        self.config: dict[str, Any] = {
            **self._network_config(),
            "species": species,
            "displacement_scale": displacement_scale,
            "strain_scale": strain_scale,
        }
        # Orthonormal symmetric 3 x 3 matrices in the order of 0e+2e: e3nn's l = 1 basis is (x, y, z).
        basis = torch.cat([clebsch_gordan(1, 1, l) / (2 * l + 1) ** 0.5 for l in (0, 2)], dim=2)
        basis = basis * torch.tensor([1.0] + [5.0**0.5] * 5, dtype=torch.float64)
        self.register_constant("change_of_basis", basis)

    def forward(self, data: Data) -> dict[str, Tensor]:
        """Return displacements and strain."""
        batch, _ = self._check(data)
        graph = Data(x=self._one_hot(data, data.pos.dtype), edge_index=data.edge_index, pos=data.pos, batch=batch)
        for key in ("cell", "edge_cell_shift", "edge_vec"):
            if key in data:
                graph[key] = data[key]
        out = self.network(graph)
        displacement = out[:, :3] * self.displacement_scale
        # A uniform translation is no distortion.
        displacement = displacement - scatter(displacement, batch, reduce="mean")[batch]
        strain = scatter(out[:, 3:], batch, reduce="mean") @ self.change_of_basis.flatten(0, 1).T
        return {"displacement": displacement, "strain": strain.view(-1, 3, 3) * self.strain_scale}
