"""How does each atom of barium titanate move when the cube turns tetragonal, and what must a network break for it?

``batio3.py`` asks ``pyg_relaxed.discover``. This is what happens inside, with the model and the optimiser alone: a
relaxed network sees the cubic crystal and learns the displacement of each atom and the strain of the cell that lead to
the tetragonal one. Then it is asked which operations of the cube it still respects, and what each irrep of theta does.

    python examples/materials/batio3_distortion_field.py [--out DIR] [--seeds N]

Expected: 4mm is left of m-3m, and theta turned by the operations of the cube gives 6 domains. Ti moves by 0.106 Å, its
apical oxygen by 0.079 Å the other way, the strain is (-0.0019, -0.0019, 0.0091), all to 0.0005. Without the 1o of theta
nothing moves, without 1e, 2o, 3o and 3e nothing changes; 2e helps with the strain. The strict twin leaves all atoms in
place and learns the isotropic part of the strain. Some 20 s for each seed on one core.
"""

# %%
from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from matplotlib.figure import Figure
from torch_geometric.data import Data

import pyg_relaxed as pr
from pyg_relaxed.models import RelaxedDistortion
from pyg_relaxed.report.geometry import arrow_scale, cell_edges, places, with_images
from pyg_relaxed.symmetry import PointGroup, point_group
from pyg_relaxed.symmetry.words import direction_name

THETA = "0e+1o+1e+2e+2o+3o+3e"
SYMPREC = 0.01  # Å: an operation is kept if it changes the distortion by less
CUBE = point_group("m-3m")


# %% The question: both crystals have the same axes and order of atoms, so that no mapping has to be found
def question() -> tuple[Data, torch.Tensor, torch.Tensor]:
    """Return the cubic crystal, the displacement of each atom ``[5, 3]`` (Å) and the strain ``[3, 3]``."""
    parent, child = pr.structures.load("BaTiO3_Pm-3m"), pr.structures.load("BaTiO3_P4mm")
    strain = np.linalg.inv(parent.cell.array) @ child.cell.array - np.eye(3)
    moved = child.get_scaled_positions() - parent.get_scaled_positions()
    displacement = (moved - np.round(moved)) @ child.cell.array
    displacement -= displacement.mean(axis=0)  # a translation is no distortion
    return pr.from_ase(parent, cutoff=5.0, extras=False), torch.as_tensor(displacement), torch.as_tensor(strain)


# %% The answer is trained: theta moves along its own gradient, under a penalty that gives exact zeros
def fit(seed: int, irreps_theta: str | None, steps: int) -> tuple[RelaxedDistortion, float]:
    """Return the network and its loss: squares of displacements over 0.1 Å and of strains over 0.02."""
    graph, displacement, strain = question()
    torch.manual_seed(seed)
    size = {"cutoff": 5.0, "num_neighbors": graph.num_edges / graph.num_nodes, "theta_channels": 16}
    model = RelaxedDistortion(graph.z.tolist(), irreps_theta, "8x0e+4x0o+8x1o+4x1e+8x2e+4x2o", **size)
    optimizer = pr.optim.RelaxedAdam(model, lr=1e-2, penalty=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        out = model(graph)
        loss = ((out["displacement"] - displacement) / model.displacement_scale).square().sum()
        loss = loss + ((out["strain"][0] - strain) / model.strain_scale).square().sum()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval().requires_grad_(False), loss.item()


# %% What is left of the symmetry is judged by what the network does: theta is defined only up to the weights it meets
def residual_group(model: RelaxedDistortion, graph: Data) -> PointGroup:
    """Return the operations of the cube that the network respects; strain counts as what it does to the edges."""
    errors = pr.symmetry.equivariance_error(model, graph, CUBE)
    change = torch.maximum(errors["displacement"], graph.cell[0, 0, 0] * errors["strain"])
    return PointGroup.from_operations(CUBE.operations[change.numpy() < SYMPREC])


def without(model: RelaxedDistortion, irrep: str) -> RelaxedDistortion:
    """Return the network with an irrep of theta switched off."""
    changed = copy.deepcopy(model)
    for theta in pr.thetas(changed).values():
        theta.set_(torch.cat([theta()[s] * (str(ir) != irrep) for ir, s in theta.blocks()]))
    return changed


# %% The other domains need no training: f_{D(R) theta}(R x) = D(R) f_theta(x), and the cube is its own image
def domains(model: RelaxedDistortion, graph: Data) -> list[np.ndarray]:
    """Return the displacements ``[5, 3]`` (Å) that the network gives with theta turned by the cube, each once."""
    fields: list[np.ndarray] = []
    for R in CUBE.operations:
        field = pr.rotate_(copy.deepcopy(model), R)(graph)["displacement"].numpy()
        if all(np.abs(field - other).max() > SYMPREC for other in fields):
            fields.append(field)
    return fields


def draw(fields: list[np.ndarray], path: Path) -> None:
    parent = pr.structures.load("BaTiO3_Pm-3m")
    index, shifts = with_images(parent)
    where, scale = places(parent, index, shifts), arrow_scale(fields[0], parent.cell[0, 0])
    size, colour = 150 * covalent_radii[parent.numbers[index]], jmol_colors[parent.numbers[index]]
    figure = Figure(figsize=(10.8, 3.6 * (rows := -(-len(fields) // 3))), layout="constrained")
    figure.suptitle(f"The domain that was learnt, and the others: displacements × {scale:g}")
    for n, field in enumerate(fields, start=1):
        axes = figure.add_subplot(rows, 3, n, projection="3d", proj_type="ortho")
        for edge in cell_edges(parent.cell.array):
            axes.plot(*edge.T, color="0.7", linewidth=1)
        axes.scatter(*where.T, s=size, c=colour, edgecolors="0.3", depthshade=False)
        axes.quiver(*where.T, *(scale * field[index]).T, color="navy", linewidth=2)
        axes.set_title(f"Ti along {direction_name(field[1] - field[2:].mean(axis=0))}")
        axes.view_init(elev=18, azim=-60)
        axes.set_aspect("equal")
        axes.set_axis_off()
    figure.savefig(path, dpi=120)


# %%
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--out", type=Path, default=Path("report/BaTiO3_field"), help="directory (default: %(default)s)")
parser.add_argument("--seeds", type=int, default=1, help="number of seeds (default: %(default)s)")
parser.add_argument("--steps", type=int, default=300, help="of the optimiser (default: %(default)s)")


def main(argv: Sequence[str] | None = None) -> None:
    options = parser.parse_args(argv)
    torch.set_default_dtype(torch.float64)
    np.set_printoptions(formatter={"float": "{:z7.4f}".format})
    options.out.mkdir(parents=True, exist_ok=True)
    graph, target, _ = question()
    for seed in range(options.seeds):
        (strict, left), (model, loss) = (fit(seed, theta, options.steps) for theta in (None, THETA))
        group, fields = residual_group(model, graph), domains(model, graph)
        print(
            f"seed {seed}: m-3m to {group.hermann_mauguin}, {len(fields)} domains; loss {loss:.0e}, strict {left:.2f}"
        )
        found, held = ({name: value.numpy() for name, value in net(graph).items()} for net in (model, strict))
        for symbol, moved, wanted in zip(("Ba", "Ti", *"OOO"), found["displacement"], target.numpy(), strict=True):
            print(f"  {symbol:<2} moves by {moved} Å, in the child by {wanted} Å")
        moved, strain = np.abs(held["displacement"]).max(), held["strain"][0].diagonal()
        print(f"  strain {found['strain'][0].diagonal()}; strict twin {strain}, displacements below {moved:.0e} Å")
        for irrep in THETA.split("+")[1:]:
            lost = [np.abs(y.numpy() - found[name]).max() for name, y in without(model, irrep)(graph).items()]
            print(f"  without {irrep} of theta: {lost[0]:.4f} Å of displacement and {lost[1]:.4f} of strain change")
    draw(fields, options.out / "domains.png")


if __name__ == "__main__":
    main()
