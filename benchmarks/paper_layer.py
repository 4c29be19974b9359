"""The paper's layer and training, rebuilt from its formula with e3nn's products, and ours: a cube becomes a prism."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from e3nn import nn, o3
from torch import Tensor

import pyg_relaxed as pr
from pyg_relaxed.datasets import shapes

IRREPS = o3.Irreps("0e+1o+2e")  # of the edges and, in the paper, of the features
HIDDEN = "4x0e+4x0o+4x1o+4x1e+4x2e+4x2o"
THETA = 4  # all irreps up to this degree, both parities
EPOCHS, STEPS = 2500, 400  # of the paper, ours
PAPER_LOSS = 6e-6  # printed there at epoch 400


class PaperLayer(torch.nn.Module):
    r"""Sum over neighbours of :math:`x_j \otimes_{W(r)} [\theta \otimes_V Y(\hat r)]`, arXiv 2407.20471, eq. 5.

    Both products are e3nn's fully connected ones; the radial network has 256 neurons and takes the length itself.
    """

    def __init__(self, irreps_in: o3.Irreps, irreps_out: o3.Irreps) -> None:
        super().__init__()
        self.theta = pr.RelaxedWeights(THETA)
        self.inner = o3.FullyConnectedTensorProduct(self.theta.irreps_theta, IRREPS, self.theta.irreps_theta)
        self.outer = o3.FullyConnectedTensorProduct(
            irreps_in, self.theta.irreps_theta, irreps_out, shared_weights=False
        )
        self.radial = nn.FullyConnectedNet([1, 256, self.outer.weight_numel], torch.relu)

    def forward(self, x: Tensor, edge_index: Tensor, length: Tensor, sh: Tensor) -> Tensor:
        """Return the new node features."""
        relaxed = self.inner(self.theta().expand(len(sh), -1), sh)
        messages = self.outer(x[edge_index[0]], relaxed, self.radial(length[:, None]))
        return messages.new_zeros(len(x), messages.shape[1]).index_add(0, edge_index[1], messages) / 2


class Run(NamedTuple):
    """A whole training: seconds, steps, last loss, and the seconds until the loss that the paper prints."""

    seconds: float
    steps: int
    loss: float
    seconds_to_paper_loss: float


def cube_to_prism() -> dict[str, Run]:
    """Return the two trainings, in float64, each by its own recipe."""
    torch.set_default_dtype(torch.float64)
    return {"the paper's": _paper(), "pyg-relaxed": _ours()}


def _paper() -> Run:
    torch.manual_seed(0)
    cube, prism = shapes.deformation("cube"), shapes.deformation("prism")
    layers = torch.nn.ModuleList(PaperLayer(IRREPS, IRREPS) for _ in range(2))
    optimizer = torch.optim.SGD(layers.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=20, gamma=0.97)
    vec = cube.pos[cube.edge_index[0]] - cube.pos[cube.edge_index[1]]

    def step() -> float:
        sh = o3.spherical_harmonics(IRREPS, vec, normalize=True, normalization="component")
        x = cube.y
        for layer in layers:
            x = layer(x, cube.edge_index, vec.norm(dim=1), sh)
        loss = (x - prism.y).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss.item()

    return _train(step, EPOCHS)


def _ours() -> Run:
    torch.manual_seed(0)
    prism = shapes.deformation("prism")
    model = pr.models.RelaxedE3NN("0e", IRREPS, HIDDEN, THETA, num_layers=2, cutoff=shapes.CUTOFF, num_neighbors=49)
    with torch.no_grad():  # as in examples/paper: an output of the target's size from the start
        model.readout.weight *= prism.y.norm() / model(prism).norm()
    optimizer = pr.optim.RelaxedAdam(model, lr=1e-2, theta_betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)

    def step() -> float:
        optimizer.zero_grad()
        loss = (model(prism) - prism.y).square().sum()
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss.item()

    return _train(step, STEPS)


def _train(step: Callable[[], float], steps: int) -> Run:
    begin, reached, loss = time.perf_counter(), float("inf"), float("nan")
    for _ in range(steps):
        loss = step()
        if loss <= PAPER_LOSS and reached == float("inf"):
            reached = time.perf_counter() - begin
    return Run(time.perf_counter() - begin, steps, loss, reached)
