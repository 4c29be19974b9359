"""The convolution with the weights of a radial network, of which no layer is ever stored as a whole.

Edges are taken in parts, so small that what belongs to a part stays in the cache between the network and the sums that
use its weights. Value, first and second derivatives are one such loop each; the network is evaluated again in each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..paths import PathTable
from . import layers
from .demand import is_wanted
from .library import library
from .memory import empty, empty_like
from .sorting import Order, Part, parts_of


def _parts(order: Order, weight_numel: int, dtype: torch.dtype, number: int) -> Iterator[tuple[Part, list[Tensor]]]:
    """Yield each part of the edges with so many buffers for its weights, the same memory for all parts."""
    parts = list(parts_of(order))
    memory = empty((number, max(len(part.edges) for part in parts), weight_numel), dtype)
    with torch.autocast("cpu", enabled=False):  # which reaches into operators and knows nothing of buffers
        for part in parts:
            yield part, list(memory[:, : len(part.edges)])


@torch.library.custom_op("pyg_relaxed::networked", mutates_args=(), device_types="cpu")
def networked(
    x: Tensor,
    sh: Tensor,
    t: Tensor,
    M: Tensor,
    order: Tensor,
    num_receivers: int,
    widths: list[int],
    spec: str,
    mul_ir: bool,
) -> Tensor:
    """Return the convolution, ``[num_receivers, irreps_out.dim]``.

    The network has inputs t, ``[E, widths[0]]``, and matrices M, one after the other.
    """
    sums, split = library(spec, x.dtype), Order(order, len(sh), num_receivers)
    x, sh, t, matrices = sums.ir_mul("in", x, mul_ir), sh.contiguous(), t.contiguous(), layers.matrices(M, widths)
    y = x.new_empty(num_receivers, sums.dim_out)
    for part, (w,) in _parts(split, widths[-1], t.dtype, 1):
        layers.forward(part.take(t), matrices, w)
        sums.receivers(y, split, part.rows, mul_ir=mul_ir, x=x, sh=sh, w=w)
    return y


@torch.library.custom_op("pyg_relaxed::networked_backward", mutates_args=(), device_types="cpu")
def networked_backward(
    g: Tensor,
    x: Tensor,
    sh: Tensor,
    t: Tensor,
    M: Tensor,
    order: Tensor,
    want_M: bool,
    widths: list[int],
    spec: str,
    mul_ir: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the derivatives of :func:`networked` in x, sh, t and M along g, the last empty unless wanted."""
    sums, split = library(spec, x.dtype), Order(order, len(sh), len(g))
    x, g, sh, t = sums.ir_mul("in", x, mul_ir), sums.ir_mul("out", g, mul_ir), sh.contiguous(), t.contiguous()
    dx, dsh, dt = empty_like(x).zero_(), empty_like(sh), empty_like(t)
    dM = M.new_zeros(len(M) if want_M else 0)
    matrices, dmatrices = layers.matrices(M, widths), layers.matrices(dM, widths) if want_M else []
    for part, (w, dw) in _parts(split, widths[-1], t.dtype, 2):
        made = layers.forward(part.take(t), matrices, w, derivatives=1)
        sums.senders_of_part(dx, split, part.edges, g=g, sh=sh, w=w)
        sums.edges(split, part.rows, x=x, sh=sh, w=w, g=g, dsh=dsh, dw=dw)
        part.put(dt, layers.backward(*made, matrices, dw, dmatrices, part.target(dt)))
    return sums.transpose("in_to_mul_ir", dx) if mul_ir else dx, dsh, dt, dM


@torch.library.custom_op("pyg_relaxed::networked_double_backward", mutates_args=(), device_types="cpu")
def networked_double_backward(
    vx: Tensor,
    vsh: Tensor,
    vt: Tensor,
    vM: Tensor,
    g: Tensor,
    x: Tensor,
    sh: Tensor,
    t: Tensor,
    M: Tensor,
    order: Tensor,
    widths: list[int],
    spec: str,
    mul_ir: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the derivatives of :func:`networked_backward` in g, x, sh, t and M along vx, vsh, vt and vM.

    An empty vM, of a derivative that was not wanted, counts as zero.
    """
    sums, split = library(spec, x.dtype), Order(order, len(sh), len(g))
    x, vx, g = sums.ir_mul("in", x, mul_ir), sums.ir_mul("in", vx, mul_ir), sums.ir_mul("out", g, mul_ir)
    sh, vsh, t, vt = sh.contiguous(), vsh.contiguous(), t.contiguous(), vt.contiguous()
    dg, dx, dsh, dt = empty_like(g), empty_like(x).zero_(), empty_like(sh), empty_like(t)
    dM = torch.zeros_like(M)
    matrices, dmatrices = layers.matrices(M, widths), layers.matrices(dM, widths)
    vmatrices = layers.matrices(vM.contiguous(), widths) if vM.numel() else []
    for part, (w, vw, dw, dvw) in _parts(split, widths[-1], t.dtype, 4):
        made = layers.forward(part.take(t), matrices, w, derivatives=2)
        dotted = layers.tangent(*made, matrices, part.take(vt), vmatrices, vw)
        sums.receivers(dg, split, part.rows, x=(vx, x, x), sh=(sh, vsh, sh), w=(w, w, vw))
        sums.senders_of_part(dx, split, part.edges, g=g, sh=(vsh, sh), w=(w, vw))
        sums.edges(split, part.rows, x=(vx, x), sh=(sh, vsh), w=(w, vw), g=g, dsh=dsh, dw=dw)
        sums.edges(split, part.rows, x=x, sh=sh, w=w, g=g, dw=dvw)  # what vw itself multiplies
        part.put(dt, layers.backward_of_tangent(made, dotted, matrices, vmatrices, dw, dvw, dmatrices, part.target(dt)))
    if mul_ir:
        dg, dx = sums.transpose("out_to_mul_ir", dg), sums.transpose("in_to_mul_ir", dx)
    return dg, dx, dsh, dt, dM


@networked.register_fake
def _(x: Tensor, *rest: Any) -> Tensor:
    *_, num_receivers, _, spec, _ = rest
    return x.new_empty(num_receivers, PathTable.from_spec(spec).irreps_out.dim)


@networked_backward.register_fake
def _(g: Tensor, x: Tensor, sh: Tensor, t: Tensor, M: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _, want_M, *_ = rest
    return (
        *(x.new_empty(x.shape), sh.new_empty(sh.shape), t.new_empty(t.shape)),
        M.new_empty(M.shape if want_M else 0),
    )


@networked_double_backward.register_fake
def _(vx: Tensor, vsh: Tensor, vt: Tensor, vM: Tensor, g: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return tuple(v.new_empty(v.shape) for v in (g, *rest[:4]))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor)))
    ctx.rest = inputs[-3:]


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    want_M = is_wanted(ctx, 3)
    dx, dsh, dt, dM = networked_backward(g, *ctx.saved_tensors, want_M, *ctx.rest)
    return dx, dsh, dt, dM if want_M else None, *[None] * 5


def _double_backward(ctx: Any, *v: Tensor) -> tuple[Tensor | None, ...]:
    return *networked_double_backward(*v, *ctx.saved_tensors, *ctx.rest), *[None] * 5


networked.register_autograd(_backward, setup_context=_keep)
networked_backward.register_autograd(_double_backward, setup_context=_keep)
