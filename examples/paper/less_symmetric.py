"""Can theta break every symmetry of a cube at once?

Each vertex of a cube is to learn where a shape has it that no operation but the identity leaves unchanged. As in the
paper the network has three layers; the paper's stayed at a loss of 0.313.

The third task of arXiv 2407.20471, and its figure 3, drawn after the paper's.

    python examples/paper/less_symmetric.py [--out DIR] [--seed N]

Expected: a loss below 1e-3, most often below 1e-8 (2.2 if strict), every component of theta other than zero, group 1.
Half a minute.
"""

# %%
from __future__ import annotations

from collections.abc import Sequence

import figures
import torch
import training
from training import Fit

from pyg_relaxed.datasets import shapes

GROUP = "1"
PAPER_LOSS = "0.313 (epoch 2400)"
PAPER = {"0e": 1, "0o": 1, "1o": 3, "1e": 3, "2e": 5, "2o": 5, "3o": 7, "3e": 7, "4e": 9, "4o": 9}


# %% Relaxed and strict. Nothing is forbidden here, so that L-BFGS may polish.
def solve(seed: int, steps: int = 600, polish: int = 15) -> tuple[Fit, Fit]:
    data = shapes.deformation("less_symmetric")
    relaxed = training.fit_shape(data, seed, num_layers=3, steps=steps, polish=polish)
    strict = training.fit_shape(data, seed, irreps_theta=None, num_layers=3, steps=steps)
    return relaxed, strict


# %%
def main(argv: Sequence[str] | None = None) -> None:
    options = training.arguments(__doc__, argv)
    torch.set_default_dtype(torch.float64)
    data = shapes.deformation("less_symmetric")
    relaxed, strict = solve(options.seed)
    training.print_shape("cube to the less symmetric shape", data, relaxed, strict, GROUP, PAPER_LOSS, PAPER)
    figures.draw_shape(options.out / "figure_3_less_symmetric.png", "cube to less symmetric", data, relaxed.model)
    figures.record(options.out, "cube to less symmetric", relaxed, strict)


if __name__ == "__main__":
    main()
