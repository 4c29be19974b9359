"""Which fields act on a charged particle whose motion is all one sees?

The network gets the velocity v and is to output the acceleration E + v x B, of E along x and B along y. An equivariant
one can only push along v: theta has to hold a polar vector (1o) for E and an axial one (1e) for B. Theta by itself is
known up to the scale and sign of the weights it multiplies, so the fields are read from what the network does: E is its
output at rest, B its antisymmetric response to velocity.

The paper (arXiv 2407.20471) trains on one start. No force acts along B, so v_y is constant there, and any part of E can
be traded for a response to v_y. So here five starts are trained on, five others tested, and one start is shown beside
them. The paper's motion is integrated by Euler's method, which widens circles to spirals; ours by Runge-Kutta's of
fourth order. Figure 5 is drawn after the paper's.

    python examples/paper/charged_particle.py [--out DIR] [--seed N]

Expected from five starts: E and B within 1 degree and 2 % of the true fields, the sign with them. A minute.
"""

# %%
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import figures
import torch
import training
from torch import Tensor
from torch_geometric.data import Batch, Data
from training import Fit

import pyg_relaxed as pr
from pyg_relaxed.datasets import fields

ELECTRIC, MAGNETIC = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
PAPER = {"E": (0.9988, -0.0186, -0.0446), "B": (0.0040, -0.9980, -0.0627)}  # directions alone
DT = 0.1


# %% Two layers, as in the paper; an instant of the motion is a node without neighbours.
def fit(trajectories: Sequence[Data], seed: int, irreps_theta: int | None = 1) -> Fit:
    data = Batch.from_data_list(list(trajectories))
    torch.manual_seed(seed)
    model = pr.models.RelaxedE3NN("1o", "1o", "4x0e+4x1o+4x1e", irreps_theta, lmax=1, num_layers=2)
    polish = 15 if irreps_theta else 0
    return training.train(model, lambda model: error(model, data), steps=500, polish=polish)


def error(model: torch.nn.Module, data: Data) -> Tensor:
    return (model(data) - data.y).square().sum(1).mean()


def force(model: torch.nn.Module, velocity: Tensor) -> Tensor:
    no_edges = torch.empty(2, 0, dtype=torch.int64)
    return model(velocity.view(-1, 3), no_edges, velocity.new_empty(0, 3)).view(velocity.shape)


# %% The fields, through what the network does.
class Fields(NamedTuple):
    """E and B ``[3]``, and the part of the response to velocity that no magnetic field explains."""

    E: Tensor
    B: Tensor
    rest: float


def read_fields(model: torch.nn.Module) -> Fields:
    at_rest = torch.zeros(3)
    J = torch.autograd.functional.jacobian(lambda velocity: force(model, velocity), at_rest)
    B = torch.stack([J[1, 2] - J[2, 1], J[2, 0] - J[0, 2], J[0, 1] - J[1, 0]]) / 2  # J_ij = e_ijk B_k
    return Fields(force(model, at_rest).detach(), B, ((J + J.T) / 2).norm().item())


def degrees(found: Tensor, true: Tensor) -> float:
    return math.degrees(math.acos(max(-1.0, min(1.0, float(found @ true / found.norm() / true.norm())))))


# %% Relaxed on five starts, relaxed on one as in the paper, strict on five.
def solve(seed: int) -> tuple[Fit, Fit, Fit]:
    trajectories = fields.charged_particle(starts=10, steps=500, dt=DT, electric=ELECTRIC, magnetic=MAGNETIC)
    return fit(trajectories[:5], seed), fit(trajectories[:1], seed), fit(trajectories[:5], seed, irreps_theta=None)


def show(name: str, true: Tensor, five: Tensor, one: Tensor) -> None:
    columns = [torch.tensor(PAPER[name]), one, five]
    print(f"{name:16}" + "".join(f"{'[{:.4f}, {:.4f}, {:.4f}]'.format(*column.tolist()):>28}" for column in columns))
    print(f"{'  off by':16}" + "".join(f"{degrees(column, true):>27.2f}°" for column in columns))
    print(f"{'  magnitude':16}{'lost':>28}" + "".join(f"{column.norm():>28.4f}" for column in columns[1:]))


def main(argv: Sequence[str] | None = None) -> None:
    options = training.arguments(__doc__, argv)
    torch.set_default_dtype(torch.float64)
    E, B = torch.tensor(ELECTRIC), torch.tensor(MAGNETIC)
    trajectories = fields.charged_particle(starts=10, steps=500, dt=DT, electric=ELECTRIC, magnetic=MAGNETIC)
    five, one, strict = solve(options.seed)
    seen, seen_one = read_fields(five.model), read_fields(one.model)
    unseen = Batch.from_data_list(trajectories[5:])
    print(f"\ncharged particle: {five.seconds:.0f} s\n")
    print(f"{'':16}{'paper (one start)':>28}{'ours, one start':>28}{'ours, five starts':>28}")
    show("E", E, seen.E, seen_one.E)
    show("B", B, seen.B, seen_one.B)
    print(f"{'other response':16}{'-':>28}{seen_one.rest:>28.1e}{seen.rest:>28.1e}")
    print(f"{'loss':16}{'-':>28}{one.loss:>28.1e}{five.loss:>28.1e}")
    print(f"{'  other starts':16}{'-':>28}{error(one.model, unseen):>28.1e}{error(five.model, unseen):>28.1e}")
    print(f"{'  and if strict':16}{'-':>28}{'-':>28}{error(strict.model, unseen):>28.1e}")
    for number in (1, 5):
        v = torch.cat([trajectory.x for trajectory in trajectories[:number]])
        rank = torch.linalg.matrix_rank(torch.cat([torch.ones_like(v[:, :1]), v], dim=1), rtol=1e-9)
        print(f"a constant force and a response to v_x, v_y, v_z on {number} start(s): {rank} of 4 can be told apart")
    for i, theta in enumerate(pr.thetas(five.model).values(), start=1):
        raw = {str(ir): (theta()[s] / theta()[s].norm()).tolist() for ir, s in theta.blocks() if ir.l == 1}
        text = ", ".join(f"{ir} [" + ", ".join(f"{c:.4f}" for c in value) + "]" for ir, value in raw.items())
        print(f"theta of layer {i} by itself, as the paper reads it: {text}")

    start = trajectories[5]
    paths = {"true": start.pos}
    for name, model in (("five starts", five.model), ("one start", one.model), ("strict", strict.model)):
        with torch.no_grad():
            paths[name], _ = fields.integrate(
                lambda v, m=model: force(m, v), start.pos[0], start.x[0], len(start.x), DT
            )
    arrows = {
        "true": {"E": E, "B": B},
        "found": {"E": seen.E, "B": seen.B},
        "the paper's": {name: torch.tensor(field) for name, field in PAPER.items()},
    }
    losses = {"relaxed, five starts": five.losses, "relaxed, one start": one.losses, "strict": strict.losses}
    figures.draw_particle(options.out / "figure_5_charged_particle.png", paths, arrows, losses)


if __name__ == "__main__":
    main()
