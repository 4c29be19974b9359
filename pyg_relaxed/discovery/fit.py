"""Train a network to distort the parent into the child, and ask which operations its theta leaves intact."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..adapters import from_ase
from ..compat import default_dtype
from ..models import RelaxedDistortion
from ..o3 import PointGroup, representation
from ..o3.point_groups import is_closed
from ..optim import RelaxedAdam
from ..surgery import thetas

if TYPE_CHECKING:
    from torch_geometric.data import Data

    from ..typing import ThetaLike
    from .mapping import Mapping

HIDDEN = "8x0e+4x0o+8x1o+4x1e+8x2e+4x2o"


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
    """
    graph = from_ase(mapping.parent, cutoff=cutoff, dtype=torch.float64, extras=False)
    neighbours = max(1.0, graph.edge_index.shape[1] / len(graph.z))
    with torch.random.fork_rng(devices=[]), default_dtype(torch.float64):
        torch.manual_seed(seed)
        model = RelaxedDistortion(
            mapping.parent.numbers, irreps_theta, HIDDEN, cutoff=cutoff, num_layers=2, num_neighbors=neighbours
        )
    if strict:
        for theta in thetas(model).values():
            theta.freeze(theta.irreps)
    displacement = torch.as_tensor(mapping.displacement)
    strain = torch.as_tensor(mapping.strain)
    optimizer = RelaxedAdam(model, lr=lr, penalty=0.0 if strict else penalty)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        out = model(graph)
        loss = ((out["displacement"] - displacement) / model.displacement_scale).square().sum()
        loss = loss + ((out["strain"][0] - strain) / model.strain_scale).square().sum()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return Fit(model.eval(), graph, losses)


@dataclass(frozen=True)
class ResidualGroup:
    """The operations of a parent group that a trained network leaves intact.

    Args:
        group (PointGroup): They.
        kept (float): Largest change of an output under a kept operation, Å.
        broken (float): Smallest change under a broken one, Å; infinite where none is broken.
    """

    group: PointGroup
    kept: float
    broken: float


@torch.no_grad()
def residual_group(fit: Fit, parent: PointGroup, symprec: float = 0.01) -> ResidualGroup:
    """Keep the operations g for which theta turned by g gives the same distortion.

    The outputs are compared, not theta: theta is defined only up to the weights it multiplies. Strain counts as the
    displacement it gives a lattice vector of mean length.

    Args:
        fit (Fit): The trained network.
        parent (PointGroup): Point group of the parent, in the axes of its cell.
        symprec (float, optional): Largest change of an output for an operation to be kept, Å. (default: :obj:`0.01`)

    Raises:
        ValueError: If the operations kept form no group: symprec lies within the noise of the child.
    """
    before = fit.model(fit.graph)
    edge = torch.linalg.det(fit.graph.cell[0]).abs() ** (1 / 3)
    model = copy.deepcopy(fit.model)
    turned = [
        (theta, representation(theta.irreps_theta, parent.operations) @ theta()) for theta in thetas(model).values()
    ]
    changes = []
    for g in range(len(parent.operations)):
        for theta, images in turned:
            theta.set_(images[g])
        after = model(fit.graph)
        moved = (after["displacement"] - before["displacement"]).norm(dim=1).max()
        strained = (after["strain"] - before["strain"]).norm() * edge
        changes.append(max(moved.item(), strained.item()))
    change = np.array(changes)
    kept = change < symprec
    if not is_closed(parent.operations[kept]):
        raise ValueError(
            f"the {kept.sum()} operations kept at symprec={symprec} Å form no group: changes just below are "
            f"{np.sort(change[kept])[-3:]} Å, just above {np.sort(change[~kept])[:3]} Å; choose symprec in a wider gap"
        )
    broken = change[~kept].min() if (~kept).any() else np.inf
    return ResidualGroup(PointGroup.from_operations(parent.operations[kept]), float(change[kept].max()), float(broken))
