"""The compiled sums of one path table, called with tensors."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import torch
from torch import Tensor

from ..paths import PathTable
from .compiler import load
from .source import generate

RECEIVERS, SENDERS, EDGES, TRANSPOSE_IN, TRANSPOSE_OUT = range(5)
TASKS_PER_THREAD = 8  # rows differ in cost: threads that are done early take another task


class _Sum(ctypes.Structure):
    """The structure ``Sum`` of ``runtime.c``."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("kind", "first", "last", "mul_ir", "own_order")),
        *((name, ctypes.c_void_p) for name in ("ptr", "edge", "other", "x", "sh", "w", "g", "y", "dsh", "dw")),
        *((name, ctypes.c_int64) for name in ("tasks", "next")),
    ]


class Library:
    """The sums over receivers, senders and edges of one path table and dtype, compiled.

    All tensors are contiguous and on the CPU; ``order`` is what :func:`sorted_edges` returns.

    Args:
        table (PathTable): The paths.
        dtype (torch.dtype): ``torch.float32`` or ``torch.float64``.
    """

    def __init__(self, table: PathTable, dtype: torch.dtype) -> None:
        self.table = table
        self._library = load(generate(table, dtype))
        self._library.work.argtypes = [ctypes.c_void_p]
        self._library.work.restype = None

    def receivers(self, x: Tensor, sh: Tensor, w: Tensor, order: Tensor, num_receivers: int, mul_ir: bool) -> Tensor:
        """Return the sum over the edges into each node, ``[num_receivers, irreps_out.dim]``."""
        y = x.new_empty(num_receivers, self.table.irreps_out.dim)
        x = self._ir_mul(TRANSPOSE_IN, "x", x, mul_ir)
        self._run(RECEIVERS, num_receivers, mul_ir, _by_receiver(order, sh, num_receivers), x=x, sh=sh, w=w, y=y)
        return y

    def senders(self, g: Tensor, sh: Tensor, w: Tensor, order: Tensor, num_senders: int, mul_ir: bool) -> Tensor:
        """Return the sum over the edges out of each node, ``[num_senders, irreps_in.dim]``."""
        y = g.new_empty(num_senders, self.table.irreps_in.dim)
        g = self._ir_mul(TRANSPOSE_OUT, "g", g, mul_ir)
        self._run(SENDERS, num_senders, mul_ir, _by_sender(order, sh, len(g)), g=g, sh=sh, w=w, y=y)
        return y

    def edges(
        self, x: Tensor, sh: Tensor, w: Tensor, g: Tensor, order: Tensor, want_w: bool, mul_ir: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the derivatives in sh ``[E, irreps_sh.dim]`` and w ``[E, weight_numel]``, empty unless wanted."""
        dsh, dw = torch.empty_like(sh), torch.empty_like(w) if want_w else w.new_empty(0)
        x = self._ir_mul(TRANSPOSE_IN, "x", x, mul_ir)
        self._run(EDGES, len(g), mul_ir, _by_receiver(order, sh, len(g)), x=x, sh=sh, w=w, g=g, dsh=dsh, dw=dw)
        return dsh, dw

    def _ir_mul(self, kind: int, name: str, nodes: Tensor, mul_ir: bool) -> Tensor:
        if not mul_ir:
            return nodes
        y = torch.empty_like(nodes)
        self._run(kind, len(nodes), False, {}, **{name: nodes}, y=y)
        return y

    def _run(self, kind: int, rows: int, mul_ir: bool, order: dict[str, Tensor], **tensors: Tensor) -> None:
        threads = torch.get_num_threads()
        fields = {name: t.data_ptr() or None for name, t in {**order, **tensors}.items()}
        tasks = TASKS_PER_THREAD * threads if threads > 1 else 1
        s = _Sum(kind=kind, first=0, last=rows, mul_ir=mul_ir, own_order=False, tasks=tasks, next=0, **fields)
        _in_parallel(self._library.work, ctypes.byref(s), threads)


@functools.lru_cache(maxsize=256)
def library(spec: str, dtype: torch.dtype) -> Library:
    """Return the compiled sums of the path table with this name."""
    return Library(PathTable.from_spec(spec), dtype)


def _by_receiver(order: Tensor, sh: Tensor, num_receivers: int) -> dict[str, Tensor]:
    edges = len(sh)
    return {"other": order, "edge": order[2 * edges :], "ptr": order[4 * edges :]}


def _by_sender(order: Tensor, sh: Tensor, num_receivers: int) -> dict[str, Tensor]:
    edges = len(sh)
    return {"other": order[edges:], "edge": order[3 * edges :], "ptr": order[4 * edges + num_receivers + 1 :]}


def _in_parallel(work: Callable[..., None], argument: object, threads: int) -> None:
    """Run a function of a library on this many threads: torch's own team, so that the two do not compete."""
    team = _openmp() if threads > 1 else None
    if threads == 1:
        work(argument)
    elif team is not None:
        team(work, argument, threads, 0)
    else:
        others = [_pool(threads).submit(work, argument) for _ in range(threads - 1)]
        work(argument)
        wait(others)


@functools.lru_cache(maxsize=1)
def _openmp() -> Callable[..., None] | None:
    """Return GNU OpenMP's entry to a parallel region (LLVM's runtime has it too), where torch has brought one."""
    team = getattr(ctypes.CDLL(None), "GOMP_parallel", None)
    if team is not None:
        team.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        team.restype = None
    return team


@functools.lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1)
