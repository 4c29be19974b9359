"""Energy, forces and stress of a crystal: three layers of ours, of NequIP and of MACE, of like size.

    python benchmarks/potential.py [--mace PYTHON] [--parts]

Three layers, 32x0e+32x1o+32x2e, spherical harmonics up to l = 2, 8 Bessel functions, one hidden radial layer of 64,
cutoff 5 Å; MACE: two layers, correlation 3, 32x0e+32x1o+32x2e. No weight is trained: it is the time that counts. MACE
pins another release of e3nn than NequIP, so it runs in an environment of its own, whose Python is given.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import graphs
import timing
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch_geometric.data import Data

import pyg_relaxed as pr
from pyg_relaxed.models import RelaxedPotential

SPECIES = {56: "Ba", 22: "Ti", 8: "O"}
HIDDEN = "32x0e+32x1o+32x2e"
NEIGHBOURS = 48.0


def model_of(theta: str | None, tabulated: bool = False) -> RelaxedPotential:
    """Return our potential."""
    torch.set_default_dtype(torch.float32)  # NequIP sets another
    torch.manual_seed(0)
    model = RelaxedPotential(list(SPECIES), graphs.CUTOFF, theta, HIDDEN, num_neighbors=NEIGHBOURS)
    return pr.nn.tabulate_(model) if tabulated else model


def ours(data: Data, theta: str | None, training: bool, tabulated: bool = False) -> Callable[[], object]:
    """Return energy, forces and stress by our potential, differentiated in the weights too if ``training``."""
    model = model_of(theta, tabulated).train(training)
    parameters = list(model.parameters())

    def run() -> Tensor:
        out = model(data)
        if training:
            loss = out["energy"].sum() + out["forces"].square().sum()
            torch.autograd.grad(loss, parameters, allow_unused=True)
        return out["forces"]

    return run


def parts(data: Data, training: bool) -> None:
    """Print which operations take the time of our potential."""
    run = ours(data, None, training)
    for _ in range(5):
        run()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(20):
            run()
    events = sorted(profiled.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    print("\n| share | calls | operation |\n|---|---|---|")
    for event in events[:12]:
        print(f"| {event.self_cpu_time_total / total:.1%} | {event.count / 20:.0f} | {event.key} |")


def nequip(data: Data, training: bool) -> Callable[[], object] | None:
    """Return energy and forces by NequIP, where it is installed."""
    try:
        from nequip.model import NequIPGNNModel
        from nequip.utils.global_state import set_global_state
    except ImportError:
        return None
    set_global_state(allow_tf32=False)
    model = NequIPGNNModel(
        seed=0,
        model_dtype="float32",
        r_max=graphs.CUTOFF,
        type_names=list(SPECIES.values()),
        num_layers=3,
        l_max=2,
        parity=False,
        num_features=32,
        radial_mlp_depth=1,
        radial_mlp_width=64,
        num_bessels=8,
        avg_num_neighbors=NEIGHBOURS,
    )
    model.train(training)
    parameters = [p for p in model.parameters() if p.requires_grad]
    types = torch.tensor([list(SPECIES).index(z) for z in data.z.tolist()])

    def run() -> Tensor:
        inputs = {
            "pos": data.pos.double(),
            "cell": data.cell.double(),
            "edge_index": data.edge_index.flip(0),  # the centre comes first there
            "edge_cell_shift": data.edge_cell_shift.double(),
            "atom_types": types,
            "batch": torch.zeros_like(types),
            "num_atoms": torch.tensor([len(types)]),
        }
        out = model(inputs)
        if training:
            loss = out["total_energy"].sum() + out["forces"].square().sum()
            torch.autograd.grad(loss, parameters, allow_unused=True)
        return out["forces"]

    return run


MACE = """
import sys, time
import numpy as np, torch
from ase.io import read
torch.serialization.add_safe_globals([slice])  # e3nn 0.4.4
from e3nn import o3
from mace import data, modules
from mace.tools import AtomicNumberTable, torch_geometric
torch.set_default_dtype(torch.float32)
torch.set_num_threads(int(sys.argv[2]))
atoms, table = read(sys.argv[1]), AtomicNumberTable([8, 22, 56])
model = modules.ScaleShiftMACE(
    r_max=5.0, num_bessel=8, num_polynomial_cutoff=6, max_ell=2, num_interactions=2, num_elements=3,
    interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
    interaction_cls_first=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
    hidden_irreps=o3.Irreps("32x0e+32x1o+32x2e"), MLP_irreps=o3.Irreps("16x0e"), atomic_energies=np.zeros(3),
    avg_num_neighbors=48.0, atomic_numbers=[8, 22, 56], correlation=3, gate=torch.nn.functional.silu,
    radial_MLP=[64], atomic_inter_scale=1.0, atomic_inter_shift=0.0,
)
config = data.config_from_atoms(atoms)
loader = torch_geometric.dataloader.DataLoader([data.AtomicData.from_config(config, z_table=table, cutoff=5.0)], 1)
batch = next(iter(loader)).to_dict()
print("ready", flush=True)
for line in sys.stdin:
    training = line.strip() == "train"
    begin = time.perf_counter()
    out = model({k: v.clone() for k, v in batch.items()}, training=training)
    if training:
        loss = out["energy"].sum() + out["forces"].square().sum()
        torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
    print(time.perf_counter() - begin, flush=True)
"""


def mace(python: str, data: Data, folder: Path) -> subprocess.Popen[str]:
    """Start MACE in its own environment: it evaluates the crystal whenever it is written a line."""
    path = folder / "crystal.extxyz"
    pr.to_ase(data).write(path)
    command = [python, "-W", "ignore", "-c", MACE, str(path), str(torch.get_num_threads())]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    _answer(process, "ready")
    return process


def _answer(process: subprocess.Popen[str], wanted: str = "") -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if not wanted or line.strip() == wanted:
            return line
    raise RuntimeError("MACE ended: run its environment's Python by hand to see why")


def ask(process: subprocess.Popen[str], training: bool) -> Callable[[], object]:
    """Return one evaluation by MACE."""

    def run() -> str:
        assert process.stdin is not None
        process.stdin.write("train\n" if training else "evaluate\n")
        process.stdin.flush()
        return _answer(process)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mace", metavar="PYTHON", help="the Python of an environment with mace-torch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", action="store_true", help="print what takes the time of ours instead")
    options = parser.parse_args()
    torch.set_default_dtype(torch.float32)
    timing.machine()
    data = graphs.crystal()
    size = f"{data.num_nodes} atoms, {data.edge_index.shape[1]} edges, float32"
    if options.parts:
        parts(data, training=False)
        parts(data, training=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        process = None if options.mace is None else mace(options.mace, data, Path(folder))
    for training, title in ((False, "energy and forces"), (True, "a training step on energy and forces")):
        cases = {
            "pyg-relaxed": ours(data, None, training),
            "pyg-relaxed, relaxed (theta 0e+1o+2e)": ours(data, "0e+1o+2e", training),
            "pyg-relaxed, tabulated": None if training else ours(data, None, training, tabulated=True),
            "NequIP": nequip(data, training),
            "MACE": None if process is None else ask(process, training),
        }
        present = {name: case for name, case in cases.items() if case is not None}
        timing.show(f"{title} ({size})", timing.alternate(present, options.rounds))
    if process is not None:
        process.kill()


if __name__ == "__main__":
    main()
