import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from parity import CASES

from pyg_relaxed.compat import o3
from pyg_relaxed.kernels import PathTable
from pyg_relaxed.kernels.cpu import sorting
from pyg_relaxed.kernels.triton.launch import load
from pyg_relaxed.kernels.triton.sorting import sort
from pyg_relaxed.kernels.triton.source import ACCUMULATORS, generate

# Triton runs on a CPU where its interpreter is asked for before it is imported, hence in a process of its own. There
# the kernels take the place of the compiled C, so that they are tested behind the same operators, with derivatives.
INTERPRETED = """
import sys
import torch
from parity import assert_parity, inputs
from pyg_relaxed.kernels import TensorProductConv
from pyg_relaxed.kernels.cpu import ops
from pyg_relaxed.kernels.triton import ops as kernels

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
for name in ("to_receivers", "to_senders", "to_edges", "to_inputs"):
    getattr(ops, name).register_kernel("cpu")(getattr(kernels, name))
irreps_in, irreps_sh, layout, dtype, edges = sys.argv[1:]
dtype = getattr(torch, dtype)
op = TensorProductConv(irreps_in, irreps_sh, lmax=2, layout=layout, backend="cpu")
args, edge_index, receivers = inputs(op, nodes=4, receivers=3, edges=int(edges), dtype=dtype)
tolerance = 1e-12 if dtype == torch.float64 else 1e-5
assert_parity(lambda *a: op(*a, edge_index, receivers), op, args, edge_index, receivers, tolerance)
"""


@pytest.mark.parametrize(
    ("irreps_in", "irreps_sh", "layout", "dtype", "edges"),
    [
        (*CASES[0], "mul_ir", "float64", 6),
        (*CASES[1], "ir_mul", "float64", 6),
        (*CASES[2], "mul_ir", "float64", 6),
        (*CASES[2], "ir_mul", "float32", 6),
        (*CASES[3], "mul_ir", "float64", 6),
        (*CASES[0], "mul_ir", "float64", 0),
    ],
)
def test_interpreted_kernels_equal_the_reference(irreps_in, irreps_sh, layout, dtype, edges):
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", INTERPRETED]
    command += [irreps_in, irreps_sh, layout, dtype, str(edges)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("dtype", ["fp32", "fp64"])
@pytest.mark.parametrize("mul_ir", [True, False])
def test_kernels_compile_for_a_gpu_without_one(tmp_path, monkeypatch, dtype, mul_ir):
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernels = load(generate(PathTable(o3.Irreps("70x0e+32x1o"), o3.Irreps("0e+2x1o"), lmax=1), mul_ir))
    for name in ("to_receivers_0", "to_senders_0", "to_edges"):
        types = dict.fromkeys(("x", "sh", "w", "g", "y", "dsh", "dw"), f"*{dtype}") | {"order": "*i64"}
        types["WANT_W"] = "constexpr"
        signature = {key: types.get(key, "i32") for key in kernels[name].arg_names}
        constants = {(n,): True for n, key in enumerate(signature) if key == "WANT_W"}
        source = triton.compiler.ASTSource(kernels[name], signature, constants)
        options = {"num_warps": 2, "enable_fp_fusion": True}
        ptx = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options).asm["ptx"]
        arithmetic = [line.split()[0] for line in ptx.splitlines() if line.split()[:1] and "fma" in line.split()[0]]
        assert arithmetic
        assert all(dtype.replace("fp", "f") in instruction for instruction in arithmetic)


def test_many_outputs_are_shared_out_among_kernels():
    table = PathTable(o3.Irreps("8x0e+8x1o+8x2e+8x3o"), o3.Irreps("0e+1o+2e+3o"), lmax=3)
    source = generate(table, mul_ir=False)
    kernels = source.split("@triton.jit")[1:]
    receivers = [kernel for kernel in kernels if "def to_receivers_" in kernel]
    assert len(receivers) > 1
    assert all(kernel.count("tl.zeros") <= ACCUMULATORS for kernel in receivers)
    assert sum(kernel.count("tl.store") for kernel in receivers) == sum(ir.dim for _, ir in table.blocks)


@pytest.mark.parametrize(("edges", "part"), [(0, 8), (1, 8), (200, 8), (200, 1000)])
def test_edges_are_sorted_as_the_compiled_c_sorts_them(monkeypatch, edges, part):
    torch.manual_seed(0)
    monkeypatch.setattr(sorting, "PART", part)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    edge_index = torch.stack([torch.randint(0, 30, (edges,)), torch.randint(0, 20, (edges,))])
    for graph in (edge_index, edge_index[:, edge_index[1].argsort(stable=True)]):
        assert torch.equal(sort(graph, 32, 21, part), sorting.sort_edges(graph, 32, 21))


def test_an_edge_from_nowhere_is_explained():
    with pytest.raises(ValueError, match="sends edge 1 from node 7 to node 0"):
        sort(torch.tensor([[0, 7], [1, 0]]), 7, 2)
