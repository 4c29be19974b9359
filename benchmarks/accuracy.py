"""Errors on structures not seen: a strict potential of ours and NequIP, of like size, on equal data and steps.

    python benchmarks/accuracy.py SURFACE.extxyz [--steps N] [--seeds N]

Three layers, 32 channels of l <= 2, 8 Bessel functions, one hidden radial layer of 64, cutoff 5 Å. Both are trained by
the same loop: the same batches, Adam at the same rate with a cosine to zero, the same loss (mean squares of the energy
for each atom, eV, and of the forces, eV/Å), the same moving average of the weights, scales and shifts from the same
statistics. A tenth of the structures is held back. ``examples/materials/make_perovskite_surface.py`` and
``make_molecules_in_field.py --field 0 0 0`` make data.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import timing
import torch
from ase.data import chemical_symbols
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader

from pyg_relaxed.datasets import AtomsDataset
from pyg_relaxed.train import Config, build

CUTOFF, HELD_BACK = 5.0, 0.1
BATCH_SIZE, LR, EMA = 5, 0.005, 0.99

# %% Options
parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
parser.add_argument("data", type=Path, help="structures with energies and forces")
parser.add_argument("--steps", type=int, default=2000, help="of training (default: %(default)s)")
parser.add_argument("--seeds", type=int, default=3, help="of weights and order (default: %(default)s)")


def ours(dataset: AtomsDataset, seed: int) -> torch.nn.Module:
    """Return our potential, strict, with scales and shifts of the data."""
    return build(Config(data={"train": "-"}, model={"cutoff": CUTOFF}, trainer={"seed": seed}), dataset)


class NequIP(torch.nn.Module):
    """NequIP's model, with the scales and shifts of ours, which takes our graphs and names what it gives as we do."""

    def __init__(self, dataset: AtomsDataset, seed: int) -> None:
        super().__init__()
        from nequip.model import NequIPGNNModel
        from nequip.utils.global_state import set_global_state

        config = ours(dataset, seed).config
        names = {chemical_symbols[int(z)]: z for z in config["species"]}
        set_global_state(allow_tf32=False)
        self.model = NequIPGNNModel(
            seed=seed,
            model_dtype="float32",
            r_max=CUTOFF,
            type_names=list(names),
            num_layers=3,
            l_max=2,
            parity=False,
            num_features=32,
            radial_mlp_depth=1,
            radial_mlp_width=64,
            num_bessels=8,
            avg_num_neighbors=config["num_neighbors"],
            per_type_energy_scales={name: config["energy_scale"][str(z)] for name, z in names.items()},
            per_type_energy_shifts={name: config["energy_shift"][str(z)] for name, z in names.items()},
        )
        torch.set_default_dtype(torch.float32)  # NequIP sets another
        self.register_buffer("species", torch.tensor(config["species"]))

    def forward(self, data: Batch) -> dict[str, Tensor]:
        """Return energies and forces."""
        inputs = {
            "pos": data.pos.double(),
            "edge_index": data.edge_index.flip(0),  # the centre comes first there
            "atom_types": torch.searchsorted(self.species, data.z),
            "batch": data.batch,
            "num_atoms": data.ptr.diff(),
        }
        if data.pbc.any():
            inputs |= {"cell": data.cell.double(), "edge_cell_shift": data.edge_cell_shift.double()}
        out = self.model(inputs)
        return {"energy": out["total_energy"].flatten(), "forces": out["forces"]}


def residuals(model: torch.nn.Module, data: Batch) -> tuple[Tensor, Tensor]:
    """Return those of the energy for each atom, and of the forces."""
    out = model(data)
    return (out["energy"] - data.energy) / data.ptr.diff(), out["forces"] - data.forces


def endless(dataset: AtomsDataset, seed: int) -> Iterator[Batch]:
    """Return batches in an order that the seed fixes."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from DataLoader(dataset, BATCH_SIZE, shuffle=True, drop_last=True, generator=generator)


def train(model: torch.nn.Module, dataset: AtomsDataset, steps: int, seed: int) -> torch.nn.Module:
    """Return the moving average of the model after so many steps."""
    parameters = list(model.parameters())
    averages = [p.detach().clone() for p in parameters]  # AveragedModel copies the whole model: NequIP's refuses
    average = get_ema_multi_avg_fn(EMA)
    optimizer = torch.optim.Adam(parameters, LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for _, batch in zip(range(steps), endless(dataset, seed), strict=False):
        energy, forces = residuals(model, batch)
        optimizer.zero_grad()
        (energy.square().mean() + forces.square().mean()).backward()
        optimizer.step()
        schedule.step()
        average(averages, parameters, None)
    for p, value in zip(parameters, averages, strict=True):
        p.data.copy_(value)
    return model.eval()


def errors(model: torch.nn.Module, dataset: AtomsDataset) -> tuple[float, float]:
    """Return the mean absolute errors of energies and forces, meV for each atom and meV/Å."""
    parts = [residuals(model, batch) for batch in DataLoader(dataset, 25)]
    energy, forces = (1e3 * torch.cat(column).detach().abs().mean().item() for column in zip(*parts, strict=True))
    return energy, forces


def main() -> None:
    options = parser.parse_args()
    timing.machine()
    dataset = AtomsDataset(options.data, CUTOFF, labels=("energy", "forces"))
    train_part, test_part = dataset.split((1 - HELD_BACK, HELD_BACK))
    models: dict[str, Callable[[AtomsDataset, int], torch.nn.Module]] = {"pyg-relaxed": ours, "NequIP": NequIP}
    print(f"\n**{options.data.name}: {len(train_part)} structures to learn, {len(test_part)} held back**\n")
    print("| | weights | seed | energy, meV/atom | forces, meV/Å | time |\n|---|---|---|---|---|---|")
    forces: dict[str, list[float]] = {name: [] for name in models}
    for seed in range(options.seeds):
        for name, make in models.items():
            model = make(train_part, seed)
            number = sum(p.numel() for p in model.parameters())
            begin = time.perf_counter()
            trained = train(model, train_part, options.steps, seed)
            seconds = time.perf_counter() - begin
            energy, force = errors(trained, test_part)
            forces[name].append(force)
            print(f"| {name} | {number:,} | {seed} | {energy:.2f} | {force:.2f} | {seconds:.0f} s |", flush=True)
    mean = {name: statistics.mean(values) for name, values in forces.items()}
    print(f"\nforces, mean of the seeds: {mean}; ours are {mean['pyg-relaxed'] / mean['NequIP']:.3f} of NequIP's")


if __name__ == "__main__":
    main()
