"""Energy, forces and stress of a crystal by a potential in Python, and by what it is exported to.

    python benchmarks/deployment.py [--threads 1] [--rounds 5]

Three layers, 32x0e+32x1o+32x2e, theta in 0e+1o+2e, cutoff 5 Å, float32. No weight is trained: it is the time that
counts. Packages take the time of their Python side (checks of the graph) too; metatomic's model takes its neighbours as
they are, without the time to find them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import graphs
import timing
import torch
from torch_geometric.data import Data

import pyg_relaxed as pr
from pyg_relaxed.deploy import export_aoti, fold, load_aoti


def scripted(model: pr.models.RelaxedPotential, data: Data) -> Callable[[], object]:
    """Return what engines of metatomic do, without their neighbours: TorchScript and a derivative outside of it."""
    run = torch.jit.script(fold(model))
    edge_vec, no_field = pr.data.edge_vectors(data), torch.empty(0)

    def call() -> object:
        vectors = edge_vec.clone().requires_grad_()
        return torch.autograd.grad(run(data.z, data.edge_index, vectors, no_field).sum(), vectors)

    for _ in range(3):  # the executor of TorchScript specialises itself
        call()
    return call


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    timing.machine()
    torch.manual_seed(0)
    model = pr.models.RelaxedPotential(["Ba", "Ti", "O"], graphs.CUTOFF, "0e+1o+2e", num_neighbors=48.0).eval()
    with tempfile.TemporaryDirectory() as folder:
        packages = {
            kernels: load_aoti(export_aoti(model, Path(folder) / f"{kernels}.pt2", kernels=kernels))
            for kernels in ("torch", "compiled")
        }
        for repeat in (1, 2, 4):
            data = graphs.crystal(repeat)
            cases = {
                "pyg-relaxed": lambda data=data: model(data),
                "AOTInductor, compiled kernels": lambda data=data: packages["compiled"](data),
                "AOTInductor, torch alone": lambda data=data: packages["torch"](data),
                "TorchScript, torch alone": scripted(model, data),
            }
            title = f"{data.num_nodes} atoms, {data.num_edges} edges"
            timing.show(title, timing.alternate(cases, options.rounds))


if __name__ == "__main__":
    main()
