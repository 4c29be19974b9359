"""Does a relaxed network break a symmetry that nothing breaks?

Each vertex of a cube is to learn where it lies: as a signal on the sphere that peaks towards the vertex, from a scalar
that is the same for all. Theta may hold any irrep up to l = 4, both parities. Nothing forces it away from a scalar, so
it may hold what the cube itself allows, one combination in 4e (and it need not: with a penalty only 0e is left).

The first task of arXiv 2407.20471, and its figure 1, drawn after the paper's.

    python examples/paper/cube_to_cube.py [--out DIR] [--seed N]

Expected: a loss below 1e-6, of theta only 0e and two components of 4e above rounding, group m-3m. Some 20 seconds.
"""

# %%
from __future__ import annotations

from collections.abc import Sequence

import figures
import torch
import training
from training import Fit

import pyg_relaxed as pr
from pyg_relaxed.datasets import shapes

GROUP = "m-3m"
PAPER_LOSS = "0.000000 (epoch 200)"
PAPER = {"0e": 1, "0o": 0, "1o": 0, "1e": 0, "2e": 0, "2o": 0, "3o": 0, "3e": 0, "4e": 2, "4o": 0}


# %% Relaxed, relaxed with a penalty on theta, strict. No L-BFGS: it blows up rounding noise that m-3m forbids.
def solve(seed: int) -> tuple[Fit, Fit, Fit]:
    data = shapes.deformation("cube")
    relaxed = training.fit_shape(data, seed)
    penalised = training.fit_shape(data, seed, penalty=0.1)
    strict = training.fit_shape(data, seed, irreps_theta=None)
    return relaxed, penalised, strict


# %%
def main(argv: Sequence[str] | None = None) -> None:
    options = training.arguments(__doc__, argv)
    torch.set_default_dtype(torch.float64)
    data = shapes.deformation("cube")
    relaxed, penalised, strict = solve(options.seed)
    training.print_shape("cube to cube", data, relaxed, strict, GROUP, PAPER_LOSS, PAPER)
    kept = {ir for theta in pr.thetas(penalised.model).values() for ir, norm in theta.norms().items() if norm > 0}
    print(f"\nwith a penalty: loss {penalised.loss:.1e}, irreps of theta that are not exactly zero: {', '.join(kept)}")
    figures.draw_shape(options.out / "figure_1_cube_to_cube.png", "cube to cube", data, relaxed.model)
    figures.record(options.out, "cube to cube", relaxed, strict)


if __name__ == "__main__":
    main()
