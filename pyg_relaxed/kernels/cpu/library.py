"""The compiled sums of one path table, called with tensors."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import torch
from torch import Tensor

from ..paths import PathTable
from .compiler import load
from .memory import empty_like
from .sorting import Order
from .source import generate

KINDS = (
    *("receivers", "senders", "edges", "senders_of_part"),
    *("in_to_ir_mul", "out_to_ir_mul", "in_to_mul_ir", "out_to_mul_ir"),
)
TERMS = 3
PAST_CACHE = 1 << 25  # bytes: what is larger has left the cache before anyone reads it
TASKS_PER_THREAD = 8  # rows differ in cost: threads that are done early take another task


Terms = Tensor | tuple[Tensor, ...]


class _Sum(ctypes.Structure):
    """The structure ``Sum`` of ``runtime.c``."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("kind", "first", "last", "mul_ir", "part", "terms")),
        *((name, ctypes.c_void_p) for name in ("sender", "receiver", "edge", "ptr", "by_sender")),
        *((name, ctypes.c_void_p * TERMS) for name in ("x", "sh", "w")),
        *((name, ctypes.c_void_p) for name in ("g", "y", "dsh", "dw")),
        ("past_cache", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("turned", "length", "table", "dlength")),
        ("knots", ctypes.c_int64),
        ("spacing", ctypes.c_double),
        *((name, ctypes.c_int64) for name in ("edges", "tasks", "next")),
    ]


class Library:
    """The sums over receivers, senders and edges of one path table and dtype, compiled.

    All tensors are contiguous and on the CPU. Weights are given as ``w``, or as ``length`` and ``table``. For a sum of
    several terms ``x``, ``sh`` and ``w`` are tuples. Nodes are in the layout of channels innermost, those that a sum
    runs over may also be in e3nn's (``mul_ir``).

    Args:
        table (PathTable): The paths.
        dtype (torch.dtype): ``torch.float32`` or ``torch.float64``.
    """

    def __init__(self, table: PathTable, dtype: torch.dtype) -> None:
        self.dim_in, self.dim_sh, self.dim_out = table.irreps_in.dim, table.irreps_sh.dim, table.irreps_out.dim
        self.weight_numel = table.weight_numel
        self._work = worker(*generate(table, dtype))

    def receivers(
        self,
        y: Tensor,
        order: Order,
        rows: range | None = None,
        mul_ir: bool = False,
        part: bool | None = None,
        **given: Terms,
    ) -> Tensor:
        """Write to ``y`` the sum of x sh w over the edges into each node, and return it.

        With ``rows`` only those are written; ``w`` then has rows for their edges alone unless ``part=False``.
        """
        part, rows = rows is not None if part is None else part, range(len(y)) if rows is None else rows
        self._run("receivers", rows, order, mul_ir, part, y=y, **given)
        return y

    def senders(self, y: Tensor, order: Order, mul_ir: bool = False, **given: Terms) -> Tensor:
        """Write to ``y`` the sum of g sh w over the edges out of each node, and return it."""
        self._run("senders", range(len(y)), order, mul_ir, False, y=y, **given)
        return y

    def senders_of_part(self, y: Tensor, order: Order, edges: range, part: bool = True, **given: Terms) -> None:
        """Add to ``y`` the sum of g sh w over these edges, counted by receiver.

        ``w`` has rows for them alone, or with ``part=False`` for all edges.
        """
        self._run("senders_of_part", edges, order, False, part, y=y, **given)

    def edges(
        self,
        order: Order,
        rows: range | None = None,
        mul_ir: bool = False,
        part: bool | None = None,
        **given: Terms,
    ) -> None:
        """Write to ``dsh``, if given, x w g of each edge, and to ``dw`` x sh g, or to ``dlength`` what follows from it.

        With ``rows`` only for the edges into those, for which alone ``w`` and ``dw`` have rows unless ``part=False``.
        ``turned``, if given, gets the rows of ``g`` with channels innermost, where they are not (``mul_ir``).
        """
        part = rows is not None if part is None else part
        rows = range(order.num_receivers) if rows is None else rows
        self._run("edges", rows, order, mul_ir, part, **given)

    def transpose(self, kind: str, nodes: Tensor) -> Tensor:
        """Return node features, ``"in"`` or ``"out"``, in the other layout: ``"in_to_ir_mul"`` and so on."""
        y = empty_like(nodes)
        name = "g" if kind.startswith("out") else "x"
        self._run(kind, range(len(nodes)), None, False, False, **{name: nodes}, y=y)
        return y

    def ir_mul(self, side: str, nodes: Tensor, mul_ir: bool) -> Tensor:
        """Return node features, ``"in"`` or ``"out"``, contiguous with channels innermost."""
        nodes = nodes.contiguous()
        return self.transpose(f"{side}_to_ir_mul", nodes) if mul_ir else nodes

    def _run(
        self,
        kind: str,
        rows: range,
        order: Order | None,
        mul_ir: bool,
        part: bool,
        **given: Terms,
    ) -> None:
        s = _Sum(kind=KINDS.index(kind), first=rows.start, last=rows.stop, mul_ir=mul_ir, part=part, terms=1)
        for name in given.keys() & {"x", "sh", "w"}:
            value = given[name]
            given[name] = terms = value if isinstance(value, tuple) else (value,)
            s.terms = max(s.terms, len(terms))
        if kind == "edges" and isinstance(dw := given.get("dw"), Tensor):
            s.past_cache = dw.nbytes >= PAST_CACHE
        if order is not None:
            by_sender = kind == "senders"
            s.edges, s.sender, s.receiver = order.num_edges, order.sender, order.receiver
            s.edge, s.by_sender = order.by_sender if by_sender else order.by_receiver, order.by_part
            s.ptr = order.sender_ptr if by_sender else None if kind == "senders_of_part" else order.receiver_ptr
        run(self._work, s, **given)


@functools.lru_cache(maxsize=256)
def library(spec: str, dtype: torch.dtype) -> Library:
    """Return the compiled sums of the path table with this name."""
    return Library(PathTable.from_spec(spec), dtype)


def worker(*sources: str) -> Callable[..., None]:
    """Return the function ``work`` of some C, which takes tasks of a structure until none is left.

    Raises:
        CompilerError: If it cannot be compiled.
    """
    work = load(*sources).work
    work.argtypes = [ctypes.c_void_p]
    work.restype = None
    return work


def run(work: Callable[..., None], structure: ctypes.Structure, **given: Terms | float) -> None:
    """Fill in a structure, tensors by where their memory begins, and let all threads work on it."""
    threads = torch.get_num_threads()
    structure.tasks = TASKS_PER_THREAD * threads if threads > 1 else 1
    for name, value in given.items():
        setattr(structure, name, _address(value))
    _in_parallel(work, ctypes.byref(structure), threads)


def _address(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_address, value))
    return value.data_ptr() or None if isinstance(value, Tensor) else value


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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads stay behind
