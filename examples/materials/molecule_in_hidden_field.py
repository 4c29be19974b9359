r"""Molecules were labelled in an electric field that nobody wrote down. Which way does it point, and how strong is it?

A molecule in a uniform field F has the energy E(R) = E0(R) - mu(R).F - F.alpha(R).F / 2 (A. D. Buckingham, Adv. Chem.
Phys. 12, 107 (1967)). A strict network sees R alone and learns at best the mean over orientations. What can be known:

- Turning molecule and field together changes no energy, so the labels obey sum_i r_i x f_i = mu x F; translation gives
  sum_i f_i = q F. Neutral molecules (q = 0) without dipoles show only products of mu and F: the axis of F, neither its
  sign nor its size, for (mu, F) and (-c mu, -F / c) give the same energies and forces. A network with one theta learns
  that axis in its 1o; the weights take the rest, and irreps that nothing asks for are switched off.
- With dipoles, or with ions, both are known. The model then has a field that acts where a supplied one does
  (``fields``), whose derivative is the dipole and which pulls at charges, and learns it (``learn_fields``).
- Where the field of each structure is known it is an input, and nothing is broken: the dipole follows as derivative.

Make the data (tblite; seconds), then learn (some minutes on one core for each):

    python examples/materials/make_molecules_in_field.py --molecules H2O NH3 --num-structures 1200 \
        --displacement 0.02 --field 0.002 -0.003 0.0035 --out field.extxyz
    python examples/materials/molecule_in_hidden_field.py field.extxyz [--dipoles] [--out DIR]

``--molecules NH4+ H3O+`` makes ions, ``--field 0 0 0`` the negative control, ``--strengths 0.0025 0.005 0.0075`` fields
that are given. 0.02 Å is how far room temperature stretches an O-H bond.

Expected: the axis within 1°, residual group ∞m, forces some 20 times better than the strict network's; with
``--dipoles`` or ions the vector within 1° and 2 %; without a field "no symmetry is broken". The figures of five seeds
are in benchmarks/README.md, made by benchmarks/hidden_field.py. A molecule of water, released across the field, swings.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from ase.md.verlet import VelocityVerlet
from ase.units import Bohr, Hartree, fs
from matplotlib.figure import Figure
from torch_geometric.data import Batch

import pyg_relaxed as pr
from pyg_relaxed.symmetry import stabilizer
from pyg_relaxed.symmetry.words import direction_name
from pyg_relaxed.train import Config, Parts, train
from pyg_relaxed.train.losses import residual

AU = Hartree / Bohr  # V/Å in an atomic unit of the field
KINDS: dict[str, dict[str, Any]] = {
    "strict": {},
    "axis": {"irreps_theta": "0e+1o+1e+2e", "share_theta": True},  # whatever may be broken
    "vector": {"fields": {"electric_field": "1o"}, "learn_fields": ["electric_field"]},
    "supplied": {"fields": {"electric_field": "1o"}},
}
NEEDED = 1.1  # how many times larger the error of the forces must be without an irrep of theta that is kept
TURNS = 199  # of theta, at random
LEVEL = 0.01  # how often a symmetry that is none may be reported

# %% Options
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("data", type=Path, help="extended XYZ of make_molecules_in_field.py")
parser.add_argument("--dipoles", action="store_true", help="learn the labels of the dipoles too")
parser.add_argument("--out", type=Path, default=Path("report/hidden_field"), help="directory (default: %(default)s)")
parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
parser.add_argument("--epochs", type=int, default=20, help="of Adam (default: %(default)s)")
parser.add_argument("--iterations", type=int, default=1500, help="of L-BFGS afterwards (default: %(default)s)")


# %% Training: Adam by `pyg_relaxed.train`, then L-BFGS on all training structures at once
def learn(
    data: Path, kind: str, dipoles: bool = False, seed: int = 0, epochs: int = 20, iterations: int = 1500
) -> tuple[pr.models.RelaxedPotential, Batch]:
    """Return a model of one of the KINDS and the structures held out."""
    weights = {"energy": 10.0, "forces": 1.0} | ({"dipole": 1.0} if dipoles else {})
    config = Config(
        data={"train": str(data), "validation": 0.1, "test": 0.1, "batch_size": 20},
        model={"cutoff": 4.0, "num_layers": 2, "irreps_hidden": "16x0e+16x1o+16x2e", **KINDS[kind]},
        loss={"weights": weights},
        optimizer={"lr": 0.03, "penalty": 0.001},
        trainer={"epochs": epochs, "seed": seed, "accelerator": "cpu"},
    )
    with tempfile.TemporaryDirectory() as folder:
        model = pr.load(train(config, Path(folder) / "run"))
    parts = {name: Batch.from_data_list(list(part)) for name, part in Parts(config).parts.items()}
    prune(model, parts["validation"])
    polish(model, parts["train"], weights, iterations)
    return model.eval(), parts["test"]


def prune(model: pr.models.RelaxedPotential, batch: Batch) -> None:
    """Switch off the irreps of theta that the forces of a batch do not need; a learned field has but one."""
    error = force_error(model, batch)
    for theta in pr.thetas(model).values():
        for ir in theta.irreps if not isinstance(theta, pr.o3.LearnedField) else ():
            value = theta().detach().clone()
            if ir == "0e":
                continue
            theta.set_(torch.cat([value[s] * (str(other) != ir) for other, s in theta.blocks()]))
            if force_error(model, batch) > NEEDED * error:
                theta.set_(value)


def polish(model: torch.nn.Module, batch: Batch, weights: dict[str, float], iterations: int) -> None:
    """Go on by L-BFGS; what is switched off stays off."""
    for theta in pr.thetas(model).values():
        theta.freeze([ir for ir, norm in theta.norms().items() if norm == 0])
    optimizer = pr.optim.RelaxedLBFGS(
        model.train(), max_iter=iterations, max_eval=2 * iterations, history_size=50, tolerance_change=0
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        out = model(batch)
        loss = torch.stack([w * residual(name, out, batch).square().mean().double() for name, w in weights.items()])
        loss.sum().backward()
        return loss.sum()

    optimizer.step(closure)


# %% What the model says
@dataclass(frozen=True)
class Finding:
    """What was learnt of a hidden field, judged on structures held out.

    Args:
        probability: The share of random turns of theta (of this and TURNS others) that are at least as good. Without a
            field molecules in random orientations take no notice of a turn, so this is a permutation test.
        effect: Root mean square change of the forces with theta switched off, eV/Å.
        group: The residual point group.
        axis: Of theta or the learned field, unit vector ``[3]``; None where no symmetry is broken.
        field: The learned field, V/Å ``[3]``; None where theta has no unit.
    """

    probability: float
    effect: float
    group: str
    axis: np.ndarray | None
    field: np.ndarray | None

    @property
    def is_broken(self) -> bool:
        """Whether the labels break the symmetry."""
        return self.probability <= LEVEL


def find(model: pr.models.RelaxedPotential, held_out: Batch, seed: int = 0) -> Finding:
    """Read theta, by what the model does with it."""
    strict = pr.strict_(copy.deepcopy(model))(held_out)["forces"]
    effect = (model(held_out)["forces"] - strict).square().mean().sqrt().item()
    probability = pr.turn_test(model, lambda turned: force_error(turned, held_out), TURNS, seed).probability
    if probability > LEVEL:
        return Finding(probability, effect, "∞∞m", None, None)
    theta = next(iter(pr.thetas(model).values()))  # one, shared, or the field
    value = theta().detach().double()
    (polar,) = (value[s].numpy() for ir, s in theta.blocks() if str(ir) == "1o")
    group = stabilizer(value, theta.irreps_theta).hermann_mauguin
    has_unit = isinstance(theta, pr.o3.LearnedField)
    return Finding(probability, effect, group, polar / np.linalg.norm(polar), polar if has_unit else None)


def force_error(model: torch.nn.Module, batch: Batch) -> float:
    """Return the mean absolute error of the forces, eV/Å."""
    return (model(batch)["forces"] - batch.forces).abs().mean().item()


def by_sum_rules(frames: list[Atoms]) -> np.ndarray | None:
    """Return the field (V/Å) that the labels show without any model, by least squares; None if they do not.

    Ions: sum_i f_i = q F. Neutral molecules with dipoles: sum_i r_i x f_i = mu x F.
    """
    charges = np.array([atoms.info.get("charge", 0.0) for atoms in frames])
    if charges.any():
        return charges @ np.array([atoms.get_forces().sum(axis=0) for atoms in frames]) / (charges**2).sum()
    torques = [np.cross(atoms.positions, atoms.get_forces()).sum(axis=0) for atoms in frames]
    products = [np.cross(atoms.get_dipole_moment(), np.eye(3)).T for atoms in frames]  # times F: mu x F
    return np.linalg.lstsq(np.concatenate(products), np.concatenate(torques))[0]


def angle(a: np.ndarray, b: np.ndarray) -> float:
    """Return the angle between two vectors, degrees."""
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)))


def words(finding: Finding) -> str:
    """Return the finding in words."""
    p = f"{finding.probability:.3f}"
    if not finding.is_broken:
        return f"No symmetry is broken: theta turned at random is as good (p = {p})."
    assert finding.axis is not None
    text = f"Symmetry is broken (p = {p}): residual group {finding.group}, "
    if finding.field is None:
        return text + (
            f"axis {direction_name(finding.axis)} or its opposite.\nSign and magnitude of the field cannot be known: "
            "neutral molecules without labels of the dipole show the product of dipole and field alone."
        )
    strength = np.linalg.norm(finding.field)
    components = ", ".join(f"{x:.5f}" for x in finding.field)
    return text + f"field ({components}) V/Å, {strength:.5f} V/Å or {strength / AU:.6f} a.u."


# %% Dynamics: water, at rest, its dipole across the field
def swing(model: pr.models.RelaxedPotential, axis: np.ndarray, steps: int = 1000) -> dict[str, np.ndarray]:
    """Return times (fs), cosines of dipole and axis, and total energies (eV)."""
    water = molecule("H2O")
    water.positions -= water.get_center_of_mass()
    across = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
    water.rotate(direction(water), across)
    water.calc = pr.RelaxedCalculator(model)
    record = []
    dynamics = VelocityVerlet(water, timestep=0.5 * fs)
    dynamics.attach(lambda: record.append((direction(water) @ axis, water.get_total_energy())))
    dynamics.run(steps)
    cosines, energies = np.array(record).T
    return {"time": 0.5 * np.arange(len(record)), "cosine": cosines, "energy": energies}


def direction(water: Atoms) -> np.ndarray:
    """Return the direction from the oxygen to between the hydrogens."""
    vector = water.positions[water.numbers == 1].mean(axis=0) - water.positions[water.numbers == 8][0]
    return vector / np.linalg.norm(vector)


# %%
def main() -> None:
    options = parser.parse_args()
    frames = ase.io.read(options.data, index=":")
    ions = any(atoms.info.get("charge") for atoms in frames)
    supplied = "electric_field" in frames[0].info
    kind = "supplied" if supplied else "vector" if ions or options.dipoles else "axis"
    rest = (options.seed, options.epochs, options.iterations)
    strict, held_out = learn(options.data, "strict", False, *rest)
    model, _ = learn(options.data, kind, options.dipoles, *rest)
    errors = {"strict": 1e3 * force_error(strict, held_out), kind: 1e3 * force_error(model, held_out)}
    print(f"\nForces, mean absolute error on {held_out.num_graphs} structures held out:")
    ratio = errors["strict"] / errors[kind]
    print(f"strict {errors['strict']:.2f} meV/Å, {kind} {errors[kind]:.2f} meV/Å: {ratio:.1f} times smaller")
    options.out.mkdir(parents=True, exist_ok=True)
    pr.save(model, options.out / "model.safetensors")
    if supplied:
        dipole = (model(held_out)["dipole"] - held_out.dipole).norm(dim=1).mean() / held_out.dipole.norm(dim=1).mean()
        print(f"Dipoles, {'a label' if options.dipoles else 'of which none was a label'}: off by {100 * dipole:.2f} %")
        return

    finding = find(model, held_out, options.seed)
    print(words(finding))
    print(f"Theta changes the forces by {1e3 * finding.effect:.2f} meV/Å (root mean square).")
    if finding.axis is None:
        return
    hidden = frames[0].info["hidden_field"]
    if finding.field is None:
        off = angle(finding.axis, hidden)
        print(f"The axis is {min(off, 180 - off):.3f}° from the field of the labels.")
    else:
        off, size = angle(finding.field, hidden), np.linalg.norm(finding.field) / np.linalg.norm(hidden) - 1
        print(f"It is {off:.3f}° from the field of the labels, its size off by {100 * size:.2f} %.")
        print(f"The sum rules of the labels give {np.round(by_sum_rules(frames), 5)} V/Å.")
    record = None
    if {1, 8} <= set(model.species.tolist()) and not ions:
        record = swing(model, finding.axis)
        furthest = record["cosine"][np.abs(record["cosine"]).argmax()]
        drift = 1e3 * np.abs(record["energy"] - record["energy"][0]).max()
        print(f"Water released across it turns to a cosine of {furthest:.2f}, energy conserved within {drift:.2f} meV.")
    draw(errors, strict, model, held_out, finding.axis, record).savefig(options.out / "field.png", dpi=150)
    print(f"Model and field.png are in {options.out}")


def draw(
    errors: dict[str, float],
    strict: pr.models.RelaxedPotential,
    model: pr.models.RelaxedPotential,
    held_out: Batch,
    axis: np.ndarray,
    record: dict[str, np.ndarray] | None,
) -> Figure:
    """Draw the errors of the forces, the energies against the orientation, and the dynamics."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    bars = left.bar(list(errors), list(errors.values()), color=["0.6", "tab:blue"])
    left.bar_label(bars, fmt="%.1f")
    left.set_ylabel("error of the forces, meV/Å")
    graphs = [data for data in held_out.to_data_list() if sorted(data.z.tolist()) == sorted(held_out[0].z.tolist())]
    batch = Batch.from_data_list(graphs)
    heavy = [data.pos[data.z > 1].mean(dim=0) for data in graphs]
    ends = np.array([(data.pos[data.z == 1].mean(dim=0) - x).numpy() for data, x in zip(graphs, heavy, strict=True)])
    cosine = ends @ axis / np.linalg.norm(ends, axis=1)
    mean = strict(batch)["energy"]
    for energy, style in ((batch.energy, {"s": 30, "c": "0.7", "label": "labels"}), (model(batch)["energy"], {"s": 6})):
        middle.scatter(cosine, 1e3 * (energy - mean), **{"label": "model", **style})
    middle.set(xlabel="cosine between molecule and axis", ylabel="energy beyond strict, meV")
    middle.legend()
    if record is None:
        right.set_axis_off()
        return figure
    right.plot(record["time"], record["cosine"])
    right.set(xlabel="time, fs", ylabel="cosine between water and axis", ylim=(-1.05, 1.05))
    drift = right.twinx()
    drift.plot(record["time"], 1e3 * (record["energy"] - record["energy"][0]), color="tab:red", lw=0.7)
    drift.set_ylabel("change of total energy, meV", color="tab:red")
    drift.set_ylim(-5, 5)
    return figure


if __name__ == "__main__":
    main()
