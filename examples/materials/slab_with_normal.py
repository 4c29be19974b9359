"""Can a model that sees one flat layer of atoms find out that there is a crystal below it and vacuum above?

The top layer of copper (001) in which some atoms are gold buckles: the larger gold atoms move outward. The input is the
flat layer before it relaxes, one sheet of atoms, whose mirror plane forbids a strict network any motion along the
normal, whatever its data. Where the crystal is does not follow from the atoms that are seen: a relaxed network must
find it, and its theta then says so. The teacher is the effective-medium potential of ASE, on the whole slab.

    python examples/materials/slab_with_normal.py [--out DIR] [--seed N]

Expected, of three seeds: gold moves outward by 0.14 to 0.15 Å. The strict network misses all of it and learns what goes
on in the plane; the relaxed one is right to 0.002 Å along the normal, respects 4mm to 0.0002 Å, and its theta is a
1o within 0.4° of it. Inside the crystal, with the same on both sides, all of theta but the scalar is exactly zero. Two
minutes on one core.
"""

# %%
from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.build import fcc100
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.optimize import BFGS
from matplotlib.figure import Figure
from scipy.spatial.transform import Rotation
from torch_geometric.data import Batch
from tqdm import tqdm

import pyg_relaxed as pr
from pyg_relaxed.symmetry import PointGroup, equivariance_error, point_group, stabilizer
from pyg_relaxed.symmetry.words import direction_name
from pyg_relaxed.train import Config, Parts, train
from pyg_relaxed.train.module import theta_norms

LABEL = "site_displacement"  # Å, of each atom
THETA = "0e+1o+1e+2e"
CUBE = point_group("m-3m")
TOL = 0.01  # Å: an operation is kept if it changes the displacements by less, root mean square


# %% The layer at the surface or, as a control, inside the crystal, which is the same on both of its sides there
def relaxed_layer(where: str, rng: np.random.Generator) -> Atoms:
    """Return a flat layer of Cu and Au, with the displacement of each atom when the slab around it relaxes."""
    slab = fcc100("Cu", (4, 4, 3 if where == "surface" else 5), a=3.6, vacuum=8.0)
    level = slab.get_tags()  # 1 is the top
    chosen, fixed = (level == 1, level == 3) if where == "surface" else (level == 3, (level == 1) | (level == 5))
    slab.numbers[chosen] = np.where(rng.uniform(size=16) < rng.uniform(0, 0.35), 79, 29)
    flat = slab[chosen]
    slab.set_constraint(FixAtoms(mask=fixed))
    slab.calc = EMT()
    BFGS(slab, logfile=None).run(fmax=0.01, steps=200)
    R = Rotation.from_euler("z", rng.uniform(0, 360), degrees=True).as_matrix()  # no azimuth is special
    layer = Atoms(flat.numbers, flat.positions @ R.T, cell=flat.cell.array @ R.T, pbc=flat.pbc)
    layer.set_array("displacement", (slab.positions[chosen] - flat.positions) @ R.T)
    return layer


def layers(where: str, number: int, seed: int, folder: Path) -> Path:
    """Return the file of relaxed layers, which is written once."""
    path = folder / f"{where}_{number}_{seed}.extxyz"
    if not path.exists():
        rng = np.random.default_rng(seed)
        ase.io.write(path, [relaxed_layer(where, rng) for _ in tqdm(range(number), desc=where, unit="layer")])
    return path


# %% A vector for each atom
def config(path: Path, irreps_theta: str | None, epochs: int, seed: int) -> Config:
    model = {"kind": "RelaxedTensor", "name": LABEL, "formula": "i", "per_atom": True, "irreps_theta": irreps_theta}
    return Config(
        data={"train": str(path), "validation": 0.1, "test": 0.2, "batch_size": 8},
        model={**model, "cutoff": 5.5, "irreps_hidden": "16x0e+16x1o+8x2e", "num_layers": 2},
        loss={"weights": {LABEL: 100.0}},  # of squares of 0.1 Å
        optimizer={"lr": 0.01, "penalty": 0.01},
        trainer={"epochs": epochs, "seed": seed, "accelerator": "cpu"},
    )


# %% The axis that theta names
def axis_of(model: torch.nn.Module) -> str:
    """Return the group that theta leaves and its axis, to some per cent of all but its scalars: the data are finite."""
    parts = [(ir, theta()[s]) for theta in pr.thetas(model).values() for ir, s in theta.blocks() if ir.l > 0]
    irreps = "+".join(str(ir) for ir, _ in parts)
    group = stabilizer(torch.cat([part for _, part in parts]), irreps, tol=0.05)
    if group.axis is None:
        return group.hermann_mauguin
    axis = group.axis * np.sign(group.axis[np.abs(group.axis).argmax()])
    return (
        f"{group.hermann_mauguin} about {direction_name(axis)}, {np.degrees(np.arccos(axis[2])):.1f}° from the normal"
    )


# %%
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--out", type=Path, default=Path("report/slab"), help="directory (default: %(default)s)")
parser.add_argument("--layers", type=int, default=240, help="of each kind (default: %(default)s)")
parser.add_argument("--epochs", type=int, default=40, help="(default: %(default)s)")
parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")


def main(argv: Sequence[str] | None = None) -> None:
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    parity, operations = figure.subplots(1, 2)
    lines = []
    for where, irreps_theta in (("surface", None), ("surface", THETA), ("inside", THETA)):
        name = f"{where}, {'relaxed' if irreps_theta else 'strict'}"
        path = layers(where, options.layers, options.seed, options.out)
        chosen = config(path, irreps_theta, options.epochs, options.seed)
        model = pr.load(train(chosen, options.out / name.replace(", ", "_"))).eval().requires_grad_(False)
        batch = Batch.from_data_list(list(Parts(chosen).parts["test"]))
        found, wanted = model(batch)[LABEL], batch[LABEL]
        change = equivariance_error(model, batch, CUBE)[LABEL].numpy()  # of displacements, root mean square, Å
        error, size = ((t**2).mean(0).sqrt() for t in (found - wanted, wanted))
        kept, gold = change < TOL, found[batch.z == 79].mean(0)
        group = PointGroup.from_operations(CUBE.operations[kept])
        rest = f"all else broken by {change[~kept].min():.2g} Å or more" if group.order < 48 else "nothing is broken"
        lines += [
            f"{name}: root mean square error along the normal {error[2]:.4f} of {size[2]:.4f} Å, "
            f"across it {error[:2].norm():.4f} of {size[:2].norm():.4f} Å",
            f"  {group.hermann_mauguin} of m-3m is kept to {change[kept].max():.1g} Å, {rest}; "
            f"gold moves by {gold.numpy().round(3) + 0.0} Å on average",
        ]
        if irreps_theta:
            norms = ", ".join(f"{ir} {norm:.2g}" for ir, norm in theta_norms(model).items())
            lines.append(f"  theta has norms {norms}; it is left unchanged by {axis_of(model)}")
        if where == "surface":
            parity.plot(wanted[:, 2], found[:, 2], ".", label=name)
        operations.plot(np.sort(change), ".", label=name)
    print("\n".join(lines))
    parity.axline((0, 0), slope=1, color="0.5", linewidth=1)
    parity.set(xlabel="along the normal, teacher (Å)", ylabel="network (Å)", title="displacements in layers held back")
    operations.axhline(TOL, color="0.5", linewidth=1)
    operations.set(xlabel="operation of m-3m, sorted", ylabel="change of the displacements (Å)", title="what is kept")
    for axes in (parity, operations):
        axes.legend(frameon=False)
    figure.savefig(options.out / "normal.png", dpi=120)


if __name__ == "__main__":
    main()
