"""The generated kernels of one path table, called with tensors."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import linecache
import os
import shutil
from typing import Any

import torch
from torch import Tensor

from ..paths import PathTable
from .source import block_size, generate

WARP = 32
MIN_CAPABILITY = (7, 0)  # Triton supports none below


class Kernels:
    """The sums over receivers, senders and edges of one path table and layout.

    Rows are summed by one program each, in the order of their edges: no atomic operations, so results repeat exactly.

    Args:
        table (PathTable): The paths.
        mul_ir (bool): Whether nodes are in e3nn's layout; otherwise channels are innermost.
    """

    def __init__(self, table: PathTable, mul_ir: bool) -> None:
        self.dim_in, self.dim_out = table.irreps_in.dim, table.irreps_out.dim
        self._block = block_size(table)
        self._blocks = -(-max(mul for mul, _ in table.irreps_in) // self._block)
        kernels = load(generate(table, mul_ir))
        self._to_receivers = [kernel for name, kernel in kernels.items() if name.startswith("to_receivers_")]
        self._to_senders = [kernel for name, kernel in kernels.items() if name.startswith("to_senders_")]
        self._to_edges = kernels["to_edges"]

    def to_receivers(self, x: Tensor, sh: Tensor, w: Tensor, order: Tensor, num_receivers: int) -> Tensor:
        """Return the sum of x sh w over the edges into each node."""
        y, edges = x.new_empty(num_receivers, self.dim_out), len(sh)
        for kernel in self._to_receivers:
            self._launch(kernel, (num_receivers, self._blocks), x, sh, w, y, order, 0, 2 * edges, 5 * edges)
        return y

    def to_senders(self, g: Tensor, sh: Tensor, w: Tensor, order: Tensor, num_senders: int) -> Tensor:
        """Return the sum of g sh w over the edges out of each node."""
        y, edges = g.new_empty(num_senders, self.dim_in), len(sh)
        ptr = 5 * edges + len(g) + 1
        for kernel in self._to_senders:
            self._launch(kernel, (num_senders, self._blocks), g, sh, w, y, order, edges, 3 * edges, ptr)
        return y

    def to_edges(
        self, x: Tensor, sh: Tensor, w: Tensor, g: Tensor, order: Tensor, want_w: bool
    ) -> tuple[Tensor, Tensor]:
        """Return x w g and, if wanted, x sh g of each edge."""
        dsh, dw = torch.empty_like(sh), torch.empty_like(w) if want_w else w.new_empty(0)
        edges = len(sh)
        self._launch(self._to_edges, (edges, 1), x, sh, w, g, dsh, dw, order, 0, edges, 2 * edges, WANT_W=want_w)
        return dsh, dw

    def _launch(self, kernel: Any, grid: tuple[int, int], first: Tensor, *rest: Any, **constants: bool) -> None:
        if 0 in grid:
            return
        with torch.cuda.device_of(first):
            # Products and sums fused, as in the C: unset, Triton 3.9 warns that its default will change.
            kernel[grid](first, *rest, **constants, num_warps=max(1, self._block // WARP), enable_fp_fusion=True)


@functools.lru_cache(maxsize=256)
def kernels(spec: str, mul_ir: bool) -> Kernels:
    """Return the kernels of the path table with this name."""
    return Kernels(PathTable.from_spec(spec), mul_ir)


def why_not(spec: str) -> str | None:
    """Return why the kernels cannot run on the current GPU, :obj:`None` if they can. They take all irreps."""
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    if not os.environ.get("CC") and not any(shutil.which(name) for name in ("gcc", "clang")):
        return "Triton finds no C compiler, gcc or clang, which it needs beside its own"
    if torch.version.hip is None and torch.cuda.get_device_capability() < MIN_CAPABILITY:
        return f"it needs a GPU of compute capability {MIN_CAPABILITY} (got {torch.cuda.get_device_capability()})"
    return None


def load(source: str) -> dict[str, Any]:
    """Return the names that a source defines. Triton reads the text of its kernels again: it is left where it looks."""
    name = f"<triton kernels {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    names: dict[str, Any] = {"__name__": name}
    exec(compile(source, name, "exec"), names)
    return names
