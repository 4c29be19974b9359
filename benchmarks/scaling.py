"""Time and peak memory for each edge, from 5 atoms to 100,000.

    python benchmarks/scaling.py [--largest ATOMS]

A strict network of three layers, 32x0e+32x1o+32x2e, l <= 2, cutoff 5 Å, on crystals of BaTiO3: energy alone, energy and
forces, each with radial networks and with tables of splines. Every size runs in a process of its own: memory for an
edge is by how much two evaluations raise its peak, once the model is there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import graphs
import numpy as np
import timing
import torch
from layers import peak_memory
from potential import HIDDEN, NEIGHBOURS, SPECIES
from torch_geometric.data import Data

import pyg_relaxed as pr

REPEATS = ((1, 1, 1), (2, 2, 2), (5, 5, 5), (10, 10, 5), (20, 10, 10), (20, 20, 10), (28, 27, 27))
MODES = ("energy", "energy and forces", "energy, tables", "energy and forces, tables")


def evaluate(repeat: tuple[int, int, int], mode: str) -> dict[str, float]:
    """Return atoms, edges, seconds of the second of two evaluations, the peak of memory and how much they raise it."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    data = graphs.crystal(repeat)
    model = pr.models.RelaxedE3NN(
        "3x0e", "0e", HIDDEN, None, num_layers=3, cutoff=graphs.CUTOFF, num_neighbors=NEIGHBOURS, pool="sum"
    ).eval()
    model.requires_grad_(False)
    if mode.endswith("tables"):
        pr.nn.tabulate_(model)
    x = (data.z[:, None] == torch.tensor(list(SPECIES))).to(data.pos.dtype)
    forces = "forces" in mode
    seconds = 0.0
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak so far is forgotten
    before = peak_memory()
    for _ in range(2):
        begin = time.perf_counter()
        pos = data.pos.detach().requires_grad_(forces)
        graph = Data(x=x, pos=pos, edge_index=data.edge_index, cell=data.cell, edge_cell_shift=data.edge_cell_shift)
        energy = model(graph).sum()
        if forces:
            torch.autograd.grad(energy, pos)
        seconds = time.perf_counter() - begin
    peak = peak_memory()
    size = {"atoms": data.num_nodes, "edges": data.edge_index.shape[1]}
    return {**size, "seconds": seconds, "peak": peak, "raised": peak - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--largest", type=int, default=110_000, help="number of atoms (default: %(default)s)")
    parser.add_argument("--one", nargs=2, metavar=("REPEAT", "MODE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(evaluate(json.loads(options.one[0]), options.one[1])))
        return
    timing.machine()
    for mode in MODES:
        print(f"\n**{mode}**\n\n| atoms | edges | time | time for an edge | peak memory | for an edge |")
        print("|---|---|---|---|---|---|")
        rows = []
        for repeat in REPEATS:
            if 5 * np.prod(repeat) > options.largest:
                continue
            command = [sys.executable, __file__, "--one", json.dumps(repeat), mode]
            row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            rows.append(row)
            nanoseconds = 1e9 * row["seconds"] / row["edges"]
            print(
                f"| {row['atoms']:,} | {row['edges']:,} | {row['seconds']:.3f} s | {nanoseconds:,.0f} ns | "
                f"{row['peak'] / 2**30:.2f} GiB | {row['raised'] / row['edges']:,.0f} B |",
                flush=True,
            )
        large = [row for row in rows if row["atoms"] >= 500]
        if len(large) > 2:
            logs = np.log([[row["edges"], row["seconds"]] for row in large]).T
            print(f"\nTime grows as edges to the power {np.polyfit(*logs, 1)[0]:.3f}, from 500 atoms on.")


if __name__ == "__main__":
    main()
