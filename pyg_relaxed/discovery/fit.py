"""Train a network to distort the parent into the child."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..adapters import from_ase
from ..compat import default_dtype
from ..models import RelaxedDistortion
from ..optim import RelaxedAdam, RelaxedLBFGS
from ..surgery import thetas

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_geometric.data import Data

    from ..compat import o3
    from ..typing import ThetaLike
    from .mapping import Mapping

HIDDEN = "8x0e+4x0o+8x1o+4x1e+8x2e+4x2o"
THETA_CHANNELS = 16  # with 8, seeds may disagree about which irreps follow the primary one


@dataclass(frozen=True)
class Fit:
    """A trained network.

    Args:
        model (RelaxedDistortion): The network, float64.
        graph (Data): The parent's graph.
        losses (list[float]): Loss at each step: sum of squares of displacements over 0.1 Å and strains over 0.02.
    """

    model: RelaxedDistortion
    graph: Data
    losses: list[float]

    @torch.no_grad()
    def output(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the displacements ``[N, 3]`` in Å and the strain ``[3, 3]`` that the network produces."""
        out = self.model(self.graph)
        return out["displacement"].numpy(), out["strain"][0].numpy()

    @property
    def loss(self) -> float:
        """Loss at the last step."""
        return self.losses[-1]


def fit_distortion(
    mapping: Mapping,
    irreps_theta: ThetaLike = 3,
    strict: bool = False,
    seed: int = 0,
    steps: int = 300,
    lr: float = 1e-2,
    penalty: float = 1e-2,
    cutoff: float = 5.0,
    polish: int = 0,
    subspace: Callable[[o3.Irreps], np.ndarray] | None = None,
    on_step: Callable[[], None] | None = None,
) -> Fit:
    """Train a small network to output the child's displacements and strain from the parent.

    Args:
        mapping (Mapping): The child on its parent.
        irreps_theta (o3.Irreps, str or int, optional): Irreps of theta. (default: :obj:`3`, all up to l = 3)
        strict (bool, optional): Hold theta at its equivariant starting point: the twin of the same budget and weights.
        seed (int, optional): Of the weights; the global generator is left as it was. (default: :obj:`0`)
        steps (int, optional): Steps of :class:`RelaxedAdam`, cosine schedule. (default: :obj:`300`)
        lr (float, optional): Learning rate. (default: :obj:`1e-2`)
        penalty (float, optional): Group lasso on theta. (default: :obj:`1e-2`)
        cutoff (float, optional): Radius of the neighbourhood, Å. (default: :obj:`5.0`)
        polish (int, optional): Iterations of L-BFGS afterwards, without penalty. (default: :obj:`0`)
        subspace (callable, optional): Returns the projector ``[dim, dim]``, for the irreps of a theta, on what it may
            use. (default: all of it)
        on_step (callable, optional): Called after each step, polishing counts as one.
    """
    # The child has been turned into these axes, wherever they come from.
    graph = from_ase(mapping.parent, cutoff=cutoff, dtype=torch.float64, frame="cartesian", extras=False)
    neighbours = max(1.0, graph.edge_index.shape[1] / len(graph.z))
    with torch.random.fork_rng(devices=[]), default_dtype(torch.float64):
        torch.manual_seed(seed)
        model = RelaxedDistortion(
            *(mapping.parent.numbers, irreps_theta, HIDDEN),
            cutoff=cutoff,
            num_layers=2,
            num_neighbors=neighbours,
            theta_channels=THETA_CHANNELS,
        )
    for theta in thetas(model).values():
        if strict:
            theta.freeze(theta.irreps)
        elif subspace is not None:
            theta.restrict_(torch.as_tensor(subspace(theta.irreps_theta)))
    displacement = torch.as_tensor(mapping.displacement)
    strain = torch.as_tensor(mapping.strain)
    optimizer = RelaxedAdam(model, lr=lr, penalty=0.0 if strict else penalty)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []

    def closure() -> torch.Tensor:
        model.zero_grad()
        out = model(graph)
        loss = ((out["displacement"] - displacement) / model.displacement_scale).square().sum()
        loss = loss + ((out["strain"][0] - strain) / model.strain_scale).square().sum()
        loss.backward()
        return loss

    for _ in range(steps):
        losses.append(optimizer.step(closure).item())
        schedule.step()
        if on_step is not None:
            on_step()
    if polish:
        RelaxedLBFGS(model, max_iter=polish).step(closure)
        losses.append(closure().item())
        if on_step is not None:
            on_step()
    return Fit(model.eval(), graph, losses)
