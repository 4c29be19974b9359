r"""The convolution with weights that are the product of two matrices, :math:`w = h\,W`, never stored as a whole.

:math:`h`, ``[E, H]``, is the last hidden layer of a radial network and :math:`W`, ``[H, weight_numel]``, its output
matrix. Edges are taken in parts, so small that the weights of a part stay in the cache between the matrix product that
makes them and the sums that use them. Value, first and second derivatives are one such loop each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..paths import PathTable
from .demand import is_wanted
from .library import library
from .memory import empty, empty_like
from .sorting import Order, Part, parts_of


def _parts(order: Order, h: Tensor, W: Tensor, number: int) -> Iterator[tuple[Part, list[Tensor]]]:
    """Yield each part of the edges with so many buffers for its weights, the same memory for all parts."""
    parts = list(parts_of(order))
    memory = empty((number, max(len(part.edges) for part in parts), W.shape[1]), h.dtype)
    for part in parts:
        yield part, list(memory[:, : len(part.edges)])


@torch.library.custom_op("pyg_relaxed::factored", mutates_args=(), device_types="cpu")
def factored(
    x: Tensor, sh: Tensor, h: Tensor, W: Tensor, order: Tensor, num_receivers: int, spec: str, mul_ir: bool
) -> Tensor:
    """Return the convolution with weights ``h @ W``, ``[num_receivers, irreps_out.dim]``."""
    sums, split = library(spec, x.dtype), Order.split(order, len(sh), num_receivers)
    x, sh = sums.ir_mul("in", x, mul_ir), sh.contiguous()
    y = x.new_empty(num_receivers, sums.dim_out)
    for part, (w,) in _parts(split, h, W, 1):
        torch.mm(part.take(h), W, out=w)
        sums.receivers(y, split, part.rows, mul_ir=mul_ir, x=x, sh=sh, w=w)
    return y


@torch.library.custom_op("pyg_relaxed::factored_backward", mutates_args=(), device_types="cpu")
def factored_backward(
    g: Tensor, x: Tensor, sh: Tensor, h: Tensor, W: Tensor, order: Tensor, want_W: bool, spec: str, mul_ir: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the derivatives of :func:`factored` in x, sh, h and W along g, the last empty unless wanted."""
    sums, split = library(spec, x.dtype), Order.split(order, len(sh), len(g))
    x, g, sh = sums.ir_mul("in", x, mul_ir), sums.ir_mul("out", g, mul_ir), sh.contiguous()
    dx, dsh, dh = torch.zeros_like(x), empty_like(sh), empty_like(h)
    dW = W.new_zeros(W.shape if want_W else 0)
    for part, (w, dw) in _parts(split, h, W, 2):
        h_part = part.take(h)
        torch.mm(h_part, W, out=w)
        sums.senders_of_part(dx, split, part.edges, g=g, sh=sh, w=w)
        sums.edges(split, part.rows, x=x, sh=sh, w=w, g=g, dsh=dsh, dw=dw)
        part.put(dh, torch.mm(dw, W.T, out=part.target(dh)))
        if want_W:
            dW.addmm_(h_part.T, dw)
    return sums.transpose("in_to_mul_ir", dx) if mul_ir else dx, dsh, dh, dW


@torch.library.custom_op("pyg_relaxed::factored_double_backward", mutates_args=(), device_types="cpu")
def factored_double_backward(
    vx: Tensor,
    vsh: Tensor,
    vh: Tensor,
    vW: Tensor,
    g: Tensor,
    x: Tensor,
    sh: Tensor,
    h: Tensor,
    W: Tensor,
    order: Tensor,
    spec: str,
    mul_ir: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the derivatives of :func:`factored_backward` in g, x, sh, h and W along vx, vsh, vh and vW.

    An empty vW, of a derivative that was not wanted, counts as zero.
    """
    sums, split = library(spec, x.dtype), Order.split(order, len(sh), len(g))
    x, vx, g = sums.ir_mul("in", x, mul_ir), sums.ir_mul("in", vx, mul_ir), sums.ir_mul("out", g, mul_ir)
    sh, vsh = sh.contiguous(), vsh.contiguous()
    dg, dx, dsh, dsh_x = torch.empty_like(g), torch.zeros_like(x), empty_like(sh), empty_like(sh)
    dh, dW, unused = empty_like(h), torch.zeros_like(W), empty_like(sh)
    for part, (w, vw, dw, dvw) in _parts(split, h, W, 4):
        h_part, vh_part = part.take(h), part.take(vh)
        torch.mm(h_part, W, out=w)
        torch.mm(vh_part, W, out=vw)
        if vW.numel():
            vw.addmm_(h_part, vW)
        sums.receivers(dg, split, part.rows, x=vx, sh=sh, w=w)
        sums.receivers(dg, split, part.rows, x=x, sh=vsh, w=w, add=True)
        sums.receivers(dg, split, part.rows, x=x, sh=sh, w=vw, add=True)
        sums.senders_of_part(dx, split, part.edges, g=g, sh=vsh, w=w)
        sums.senders_of_part(dx, split, part.edges, g=g, sh=sh, w=vw)
        # The derivative in the weights along vx and vsh, that along vw, and what vw itself multiplies.
        sums.edges(split, part.rows, x=vx, sh=sh, w=w, g=g, dsh=dsh_x, dw=dvw)
        sums.edges(split, part.rows, x=x, sh=vsh, w=vw, g=g, dsh=dsh, dw=dw)
        dw += dvw
        sums.edges(split, part.rows, x=x, sh=sh, w=w, g=g, dsh=unused, dw=dvw)
        dh_part = torch.mm(dw, W.T, out=part.target(dh))
        part.put(dh, dh_part.addmm_(dvw, vW.T) if vW.numel() else dh_part)
        dW.addmm_(h_part.T, dw).addmm_(vh_part.T, dvw)
    dsh += dsh_x
    if mul_ir:
        dg, dx = sums.transpose("out_to_mul_ir", dg), sums.transpose("in_to_mul_ir", dx)
    return dg, dx, dsh, dh, dW


@factored.register_fake
def _(x: Tensor, *rest: Any) -> Tensor:
    *_, num_receivers, spec, _ = rest
    return x.new_empty(num_receivers, PathTable.from_spec(spec).irreps_out.dim)


@factored_backward.register_fake
def _(g: Tensor, x: Tensor, sh: Tensor, h: Tensor, W: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *_, want_W, _, _ = rest
    return (
        *(x.new_empty(x.shape), sh.new_empty(sh.shape), h.new_empty(h.shape)),
        W.new_empty(W.shape if want_W else 0),
    )


@factored_double_backward.register_fake
def _(vx: Tensor, vsh: Tensor, vh: Tensor, vW: Tensor, g: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return tuple(t.new_empty(t.shape) for t in (g, vx, vsh, vh, vW))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor)))
    ctx.spec, ctx.mul_ir = inputs[-2:]


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    want_W = is_wanted(ctx, 3)
    dx, dsh, dh, dW = factored_backward(g, *ctx.saved_tensors, want_W, ctx.spec, ctx.mul_ir)
    return dx, dsh, dh, dW if want_W else None, None, None, None, None


def _double_backward(ctx: Any, *v: Tensor) -> tuple[Tensor | None, ...]:
    return *factored_double_backward(*v, *ctx.saved_tensors, ctx.spec, ctx.mul_ir), None, None, None, None


factored.register_autograd(_backward, setup_context=_keep)
factored_backward.register_autograd(_double_backward, setup_context=_keep)
