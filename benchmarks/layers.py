"""The convolution, the whole layer and the paper's layer, against the packages that have them.

    python benchmarks/layers.py [--quick]

Prints tables for benchmarks/README.md. The kernel is the sum over neighbours of a depthwise tensor product with a
weight for each edge, path and channel: gather, product, scatter. e3nn: TensorProduct "uvu" and index_add.
cuEquivariance: its ChannelWiseTensorProduct, which on a CPU is plain torch, and index_add.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import graphs
import timing
import torch
from e3nn import o3
from paper_layer import cube_to_prism
from torch import Tensor

import pyg_relaxed as pr
from pyg_relaxed.kernels import TensorProductConv

Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]


# %% The kernel.


def e3nn_kernel(op: TensorProductConv, edge_index: Tensor) -> Kernel:
    """Return e3nn's product of the same paths, summed over neighbours."""
    paths = [(path.i, path.j, path.k, "uvu", True) for path in op.table.paths]
    product = o3.TensorProduct(
        op.irreps_in, op.irreps_sh, op.table.blocks, paths, shared_weights=False, internal_weights=False
    )

    def run(x: Tensor, sh: Tensor, weight: Tensor) -> Tensor:
        messages = product(x[edge_index[0]], sh, weight)
        return messages.new_zeros(len(x), messages.shape[1]).index_add(0, edge_index[1], messages)

    return run


def cuequivariance_kernel(op: TensorProductConv, edge_index: Tensor) -> Kernel | None:
    """Return cuEquivariance's product, summed over neighbours, where the package is installed."""
    try:
        import cuequivariance as cue
        from cuequivariance_torch import ChannelWiseTensorProduct
    except ImportError:
        return None
    irreps = [cue.Irreps("O3", str(i)) for i in (op.irreps_in, op.irreps_sh)]
    product = ChannelWiseTensorProduct(
        *irreps,
        filter_irreps_out=[cue.O3(ir.l, ir.p) for _, ir in op.irreps_out],
        layout=cue.ir_mul,
        shared_weights=False,
        internal_weights=False,
        dtype=torch.get_default_dtype(),
        math_dtype=torch.get_default_dtype(),
    )

    def run(x: Tensor, sh: Tensor, weight: Tensor) -> Tensor:
        messages = product(x[edge_index[0]], sh, weight)
        return messages.new_zeros(len(x), messages.shape[1]).index_add(0, edge_index[1], messages)

    return run


def measure_kernel(
    name: str, graph: str, channels: int, lmax: int, dtype: torch.dtype, rounds: int, peers: bool = True
) -> None:
    """Print the table of one setting: forward, forward and backward, double backward."""
    torch.set_default_dtype(dtype)
    torch.manual_seed(0)
    data = graphs.crystal(dtype=dtype) if graph == "crystal" else graphs.molecules(dtype=dtype)
    edge_index, edge_vec = graphs.edges(data)
    irreps = o3.Irreps([(channels, (l, (-1) ** l)) for l in range(lmax + 1)])
    irreps_sh = o3.Irreps.spherical_harmonics(lmax)
    op = TensorProductConv(irreps, irreps_sh, lmax=lmax)
    inputs = [
        torch.randn(data.num_nodes, irreps.dim),
        o3.spherical_harmonics(irreps_sh, edge_vec, normalize=True, normalization="component"),
        torch.randn(edge_index.shape[1], op.weight_numel),
    ]
    kernels: dict[str, Kernel | None] = {
        "e3nn": e3nn_kernel(op, edge_index),
        "cuequivariance": cuequivariance_kernel(op, edge_index) if peers else None,
        "pyg-relaxed": lambda x, sh, weight: op(x, sh, weight, edge_index),
        "pyg-relaxed, layout ir_mul": _transposed(irreps, irreps_sh, lmax, edge_index),
    }
    size = f"{data.num_nodes} atoms, {edge_index.shape[1]} edges, {channels} channels, l <= {lmax}, {dtype}"
    along = [torch.randn_like(t) for t in inputs]
    out_along = torch.randn(data.num_nodes, op.irreps_out.dim)
    modes = {"forward": _forward, "forward and backward": _backward, "double backward": _double_backward}
    for mode, run in modes.items():
        cases = {
            peer: _bind(run, kernel, inputs, out_along, along) for peer, kernel in kernels.items() if kernel is not None
        }
        timing.show(f"{name}: {mode} ({size})", timing.alternate(cases, rounds))


def _transposed(irreps: o3.Irreps, irreps_sh: o3.Irreps, lmax: int, edge_index: Tensor) -> Kernel:
    op = TensorProductConv(irreps, irreps_sh, lmax=lmax, layout="ir_mul")
    return lambda x, sh, weight: op(x, sh, weight, edge_index)


def _bind(run: Callable, *arguments: object) -> Callable[[], object]:
    return lambda: run(*arguments)


def _forward(kernel: Kernel, inputs: list[Tensor], out_along: Tensor, along: list[Tensor]) -> Tensor:
    with torch.no_grad():
        return kernel(*inputs)


def _backward(kernel: Kernel, inputs: list[Tensor], out_along: Tensor, along: list[Tensor]) -> tuple[Tensor, ...]:
    leaves = [t.detach().requires_grad_() for t in inputs]
    return torch.autograd.grad(kernel(*leaves), leaves, out_along)


def _double_backward(
    kernel: Kernel, inputs: list[Tensor], out_along: Tensor, along: list[Tensor]
) -> tuple[Tensor, ...]:
    leaves = [t.detach().requires_grad_() for t in inputs]
    first = torch.autograd.grad(kernel(*leaves), leaves, out_along, create_graph=True)
    return torch.autograd.grad(first, leaves, along)


# %% The whole layer: relaxed against strict, and the share of each part.


def measure_layer(rounds: int) -> None:
    """Print relaxed layers beside the strict one, and what the strict one spends its time on."""
    torch.set_default_dtype(torch.float32)
    data = graphs.crystal()
    edge_index, edge_vec = graphs.edges(data)
    for irreps in ("32x0e+32x1o+32x2e", "32x0e+32x0o+32x1o+32x1e+32x2e+32x2o"):
        layers = {}
        for name, theta, channels in (
            ("strict", None, 8),
            ("theta 0e+1o+2e", "0e+1o+2e", 8),
            ("theta 0e+1o+2e on 2 channels of an irrep (theta_channels)", "0e+1o+2e", 2),
            ("theta up to l = 2, both parities", 2, 8),
        ):
            torch.manual_seed(0)
            layers[name] = pr.nn.RelaxedConv(
                *(irreps, irreps, "0e+1o+2e", theta), num_neighbors=48, layout="ir_mul", theta_channels=channels
            )
        x = torch.randn(data.num_nodes, o3.Irreps(irreps).dim)
        for mode, step in (("forward", _layer_forward), ("forward and backward", _layer_backward)):
            cases = {name: _bind(step, layer, x, edge_index, edge_vec) for name, layer in layers.items()}
            seconds = timing.alternate(cases, rounds)
            timing.show(f"whole layer, {irreps}: {mode}", seconds, "strict", "of the strict layer's")


def _layer_forward(layer: pr.nn.RelaxedConv, x: Tensor, edge_index: Tensor, edge_vec: Tensor) -> Tensor:
    with torch.no_grad():
        return layer(x, edge_index, edge_vec)


def _layer_backward(layer: pr.nn.RelaxedConv, x: Tensor, edge_index: Tensor, edge_vec: Tensor) -> object:
    leaves = [x.detach().requires_grad_(), edge_vec.detach().requires_grad_()]
    out = layer(leaves[0], edge_index, leaves[1])
    return torch.autograd.grad(out.square().sum(), [*leaves, *layer.parameters()], allow_unused=True)


def measure_shares(rounds: int) -> None:
    """Print the share of each part of a relaxed layer, forward and backward, each measured alone."""
    data = graphs.crystal()
    edge_index, edge_vec = graphs.edges(data)
    irreps = o3.Irreps("32x0e+32x1o+32x2e")
    torch.manual_seed(0)
    conv = pr.nn.RelaxedConv(irreps, irreps, "0e+1o+2e", "0e+1o+2e", num_neighbors=48, layout="ir_mul")
    gate = pr.nn.Gate(irreps, layout="ir_mul")

    def leaf(*shape: int) -> Tensor:
        return torch.randn(*shape, requires_grad=True)

    N, E = data.num_nodes, edge_index.shape[1]
    x, vec, length = leaf(N, irreps.dim), edge_vec.requires_grad_(), edge_vec.detach().norm(dim=1).requires_grad_()
    sh, basis, summed, theta = leaf(E, 9), leaf(E, 8), leaf(N, conv.kernel.irreps_out.dim), conv.theta()
    conv_out = leaf(N, conv.linear.irreps_out.dim)
    parts: dict[str, Callable[[], Tensor]] = {
        "whole layer": lambda: conv(x, edge_index, vec),
        "length, spherical harmonics, envelope": lambda: conv.embed_edges(vec)[1],
        "inputs of the radial network": lambda: conv.radial.network(length)[0],
        "theta on the edges": lambda: sh @ conv.contraction(theta),
        "radial network and kernel": lambda: conv.kernel.networked(
            x, sh, basis, conv.radial.network(length[:1])[1], edge_index
        ),
        "linear map after the sum": lambda: conv.linear(summed),
        "theta on the nodes": lambda: conv.breaking(conv_out, theta, conv_out[:, : irreps.dim]),
        "self-connection, theta included": lambda: conv.self_connection(x),
        "gate (not in the layer)": lambda: gate(leaf(N, gate.irreps_in.dim)),
    }
    parameters = list(conv.parameters())
    leaves = [x, vec, length, sh, basis, summed, conv_out, *parameters]
    seconds = timing.alternate({name: _bind(_both, part, leaves) for name, part in parts.items()}, rounds)
    whole = statistics.median(seconds["whole layer"])
    print("\n**share of each part of a relaxed layer, forward and backward, each measured alone**\n")
    print("| | median | share |\n|---|---|---|")
    for name, times in seconds.items():
        print(f"| {name} | {1e3 * statistics.median(times):.2f} ms | {statistics.median(times) / whole:.0%} |")


def _both(part: Callable[[], Tensor], leaves: list[Tensor]) -> object:
    return torch.autograd.grad(part().square().sum(), leaves, allow_unused=True, retain_graph=True)


# %% Peak memory of a training step of a whole layer, each in a process of its own.


def memory_of_a_step(which: str) -> float:
    """Return by how many bytes for each edge one training step raises the peak of this process."""
    torch.set_default_dtype(torch.float32)
    data = graphs.crystal((10, 10, 5))
    edge_index, edge_vec = graphs.edges(data)
    irreps, irreps_sh = o3.Irreps("32x0e+32x1o+32x2e"), o3.Irreps.spherical_harmonics(2)
    conv = pr.nn.RelaxedConv(irreps, irreps, irreps_sh, num_neighbors=48)
    x = torch.randn(data.num_nodes, irreps.dim)
    if which == "e3nn":
        kernel = e3nn_kernel(conv.kernel, edge_index)
        conv._fused = lambda x, edge_index, length, sh, *rest: kernel(x, sh, conv.radial(length))
    before = peak_memory()
    _layer_backward(conv, x, edge_index, edge_vec)
    return (peak_memory() - before) / edge_index.shape[1]


def peak_memory() -> int:
    """Return the peak of this process's memory in bytes; that of getrusage is inherited from its parent."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def measure_memory() -> None:
    """Print the peak memory of a training step of a whole strict layer for each edge."""
    print("\n**peak memory of a training step of one layer, 2,500 atoms**\n\n| | bytes for each edge |\n|---|---|")
    for which in ("e3nn", "pyg-relaxed"):
        command = [sys.executable, __file__, "--memory-of", which]
        print(f"| {which} | {subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()} |")


# %% The paper's layer on the paper's task.


def measure_paper() -> None:
    """Print the time of a whole training, cube to prism, by the paper's layer and recipe and by ours."""
    runs = cube_to_prism()
    print("\n**cube to prism, a whole training**\n\n| | steps | time | a step | loss | time to loss 6e-6 |")
    print("|---|---|---|---|---|---|")
    for name, run in runs.items():
        columns = f"{run.steps} | {run.seconds:.1f} s | {1e3 * run.seconds / run.steps:.1f} ms | {run.loss:.1e}"
        print(f"| {name} | {columns} | {run.seconds_to_paper_loss:.2f} s |")
    slow, fast = runs.values()
    ratios = slow.seconds / fast.seconds, slow.seconds_to_paper_loss / fast.seconds_to_paper_loss
    print("\nOurs is faster by {:.1f}, to that loss by {:.1f}.".format(*ratios))


SETTINGS = {
    "crystal": ("crystal", 32, 2, torch.float32, 7),
    "64 channels": ("crystal", 64, 2, torch.float32, 3),
    "128 channels": ("crystal", 128, 2, torch.float32, 3),
    "l <= 3": ("crystal", 32, 3, torch.float32, 3),
    "float64": ("crystal", 32, 2, torch.float64, 3),
    "64 molecules": ("molecules", 32, 2, torch.float32, 7),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only the first setting of the kernel")
    parser.add_argument("--only", choices=[*SETTINGS, "layer", "shares", "memory", "paper"], help="one part")
    parser.add_argument("--memory-of", choices=["e3nn", "pyg-relaxed"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(f"{memory_of_a_step(options.memory_of):,.0f}")
        return
    timing.machine()
    for name, (graph, channels, lmax, dtype, rounds) in SETTINGS.items():
        if options.only in (None, name):
            measure_kernel(name, graph, channels, lmax, dtype, rounds, peers=name == "crystal")
        if options.quick:
            return
    others = {
        "layer": lambda: measure_layer(15),
        "shares": lambda: measure_shares(9),
        "memory": measure_memory,
        "paper": measure_paper,
    }
    for name, measure in others.items():
        if options.only in (None, name):
            measure()


if __name__ == "__main__":
    main()
