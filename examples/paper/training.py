"""What the scripts of this folder share: training, and what a trained network says."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

import pyg_relaxed as pr
from pyg_relaxed.datasets import shapes

HIDDEN = "4x0e+4x0o+4x1o+4x1e+4x2e+4x2o"
IN_PHASE = 7**2  # the seven neighbours of a vertex send like messages, whose sum grows as 7 and not as its root
ROUNDING = 1e-12  # components of theta below it are zero in float64
BETAS = (0.9, 0.99)  # a shorter memory lets theta's step outgrow what is stable, and rounding noise with it


def arguments(description: str | None, argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("report/paper"), help="directory (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the network's weights (default: %(default)s)")
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    return options


# %% Training: theta moves along its own gradient, everything else as under Adam.


@dataclass(frozen=True)
class Fit:
    """A trained network, its loss after each step and the time that took."""

    model: pr.models.RelaxedE3NN
    losses: list[float]
    seconds: float

    @property
    def loss(self) -> float:
        """The loss of the trained network."""
        return self.losses[-1]


def train(
    model: pr.models.RelaxedE3NN,
    loss_of: Callable[[pr.models.RelaxedE3NN], Tensor],
    steps: int,
    penalty: float = 0.0,
    polish: int = 0,
) -> Fit:
    """Train by RelaxedAdam with a cosine schedule, then by ``polish`` times ten iterations of L-BFGS."""
    started, losses = time.perf_counter(), []
    adam = pr.optim.RelaxedAdam(model, lr=1e-2, penalty=penalty, theta_betas=BETAS)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    lbfgs = pr.optim.RelaxedLBFGS(model, max_iter=10, tolerance_grad=1e-12, tolerance_change=1e-16)

    def closure() -> Tensor:
        model.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    for _ in range(steps):
        losses.append(adam.step(closure).item())
        schedule.step()
    for _ in range(polish):
        losses.append(lbfgs.step(closure).item())
    losses.append(loss_of(model).item())
    return Fit(model.eval(), losses, time.perf_counter() - started)


def fit_shape(
    data: Data,
    seed: int,
    irreps_theta: int | None = 4,
    num_layers: int = 2,
    steps: int = 400,
    penalty: float = 0.0,
    polish: int = 0,
) -> Fit:
    """Train a network to output the signals of the deformed vertices; ``irreps_theta=None`` is the strict one."""
    torch.manual_seed(seed)
    model = pr.models.RelaxedE3NN(
        "0e", "0e+1o+2e", HIDDEN, irreps_theta, num_layers=num_layers, cutoff=shapes.CUTOFF, num_neighbors=IN_PHASE
    )
    # An output of the target's size from the start: its scale varies by orders of magnitude between draws of weights.
    with torch.no_grad():
        model.readout.weight *= data.y.norm() / model(data).norm()
    return train(model, lambda model: (model(data) - data.y).square().sum(), steps, penalty, polish)


# %% What the trained network says: the group it leaves, and the irreps of theta that carry the breaking.


class Residual(NamedTuple):
    """A group, with the largest change under its operations and the smallest under the others."""

    group: pr.symmetry.PointGroup
    kept: float
    broken: float


def residual_group(model: torch.nn.Module, data: Data, parent: str = "m-3m", tol: float = 1e-2) -> Residual:
    """Return the operations g of the parent for which D(g) theta does what theta does.

    By the frame identity the change of the output is the distance of f(g x) from D(g) f(x). It is given relative to
    the size of the target, and an operation is kept if it is below ``tol``.
    """
    operations = pr.symmetry.point_group(parent).operations
    size = data.y.square().sum(1).mean().sqrt()
    change = pr.symmetry.equivariance_error(model, data, operations) / size
    kept = change < tol
    group = pr.symmetry.PointGroup.from_operations(operations[kept])
    return Residual(group, change[kept].max().item(), change[~kept].min().item() if (~kept).any() else float("inf"))


def theta_group(model: torch.nn.Module, parent: str = "m-3m") -> pr.symmetry.PointGroup:
    """Return the operations of the parent that leave theta itself unchanged, that of every layer."""
    thetas = list(pr.thetas(model).values())
    return pr.symmetry.stabilizer(torch.stack([theta() for theta in thetas]), thetas[0].irreps_theta, parent)


def nonzero(model: torch.nn.Module) -> dict[str, int]:
    """Return for each irrep the number of components that are not zero in every layer."""
    thetas = list(pr.thetas(model).values())
    largest = torch.stack([theta().detach().abs() for theta in thetas]).amax(0)
    return {str(ir): int((largest[s] > ROUNDING).sum()) for ir, s in thetas[0].blocks()}


def allowed(group: str, model: torch.nn.Module) -> dict[str, int]:
    """Return for each irrep the number of components that a group allows to be other than zero."""
    theta = next(iter(pr.thetas(model).values()))
    diagonal = pr.o3.projector(group, theta.irreps_theta).diagonal()
    return {str(ir): int((diagonal[s] > ROUNDING).sum()) for ir, s in theta.blocks()}


def forbidden(model: torch.nn.Module, group: str) -> float:
    """Return the largest component of theta, over the layers, that a group forbids."""
    parts = []
    for theta in pr.thetas(model).values():
        parts.append(theta() - pr.o3.projector(group, theta.irreps_theta) @ theta())
    return torch.stack(parts).abs().max().item()


def print_shape(
    title: str, data: Data, relaxed: Fit, strict: Fit, group: str, paper_loss: str, paper: dict[str, int]
) -> None:
    """Print the paper's table beside ours; ``paper`` holds its numbers of components that are not zero."""
    found, norms = nonzero(relaxed.model), [theta.norms() for theta in pr.thetas(relaxed.model).values()]
    residual, steps = residual_group(relaxed.model, data), len(relaxed.losses) - 1
    print(f"\n{title}: {steps} steps in {relaxed.seconds:.0f} s\n")
    print(f"{'':28}{'paper':>26}{'ours':>26}")
    print(f"{'loss':28}{paper_loss:>26}{relaxed.loss:>26.1e}")
    print(f"{'loss of the strict network':28}{'-':>26}{strict.loss:>26.1e}")
    print(f"{'group kept, of m-3m':28}{'-':>26}{residual.group.hermann_mauguin:>26}   (to be: {group})")
    print(f"{'  and by theta itself':28}{'-':>26}{theta_group(relaxed.model).hermann_mauguin:>26}")
    print(
        f"relative change of the output: {residual.kept:.1e} at most if kept, {residual.broken:.1e} at least if broken"
    )
    print(f"largest component of theta that {group} forbids: {forbidden(relaxed.model, group):.0e}\n")
    print(
        f"components of theta that are not zero, and their norm in each layer\n{'':8}{group:>9}{'paper':>9}{'ours':>9}"
    )
    for irrep, number in allowed(group, relaxed.model).items():
        dim = 2 * int(irrep[:-1]) + 1
        counts = "".join(f"{f'{n} of {dim}':>9}" for n in (number, paper[irrep], found[irrep]))
        print(f"{irrep:8}{counts}   " + "".join(f"{layer[irrep]:10.1e}" for layer in norms))
