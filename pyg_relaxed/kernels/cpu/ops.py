r"""The sums as operators of torch, closed under differentiation.

All are derivatives of one trilinear form, :math:`T(x, s, w, g) = \sum_e \sum_p w_e\, C_p\, x_j\, s_e\, g_i`: in g (the
convolution itself), in x, and in s and w. The derivative of each is a sum of the others, so that every order of
derivative runs on the same three kernels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..paths import PathTable
from .demand import is_wanted
from .library import library
from .memory import empty_like
from .sorting import Order, parts_of


@torch.library.custom_op("pyg_relaxed::to_receivers", mutates_args=(), device_types="cpu")
def to_receivers(
    x: Tensor, sh: Tensor, w: Tensor, order: Tensor, num_receivers: int, spec: str, mul_ir: bool
) -> Tensor:
    """Return dT/dg, ``[num_receivers, irreps_out.dim]``."""
    sums, split = library(spec, x.dtype), Order(order, len(sh), num_receivers)
    y, x = x.new_empty(num_receivers, sums.dim_out), sums.ir_mul("in", x, mul_ir)
    return sums.receivers(y, split, mul_ir=mul_ir, x=x, sh=sh.contiguous(), w=w.contiguous())


@torch.library.custom_op("pyg_relaxed::to_senders", mutates_args=(), device_types="cpu")
def to_senders(g: Tensor, sh: Tensor, w: Tensor, order: Tensor, num_senders: int, spec: str, mul_ir: bool) -> Tensor:
    """Return dT/dx, ``[num_senders, irreps_in.dim]``."""
    sums, split = library(spec, g.dtype), Order(order, len(sh), len(g))
    y, g = g.new_empty(num_senders, sums.dim_in), sums.ir_mul("out", g, mul_ir)
    return sums.senders(y, split, mul_ir=mul_ir, g=g, sh=sh.contiguous(), w=w.contiguous())


@torch.library.custom_op("pyg_relaxed::to_edges", mutates_args=(), device_types="cpu")
def to_edges(
    x: Tensor, sh: Tensor, w: Tensor, g: Tensor, order: Tensor, want_w: bool, spec: str, mul_ir: bool
) -> tuple[Tensor, Tensor]:
    """Return dT/ds ``[E, irreps_sh.dim]`` and dT/dw ``[E, weight_numel]``, the latter empty unless wanted."""
    sums, split = library(spec, x.dtype), Order(order, len(sh), len(g))
    x, sh, w, g = sums.ir_mul("in", x, mul_ir), sh.contiguous(), w.contiguous(), g.contiguous()
    dsh, dw = empty_like(sh), empty_like(w) if want_w else w.new_empty(0)
    sums.edges(split, mul_ir=mul_ir, x=x, sh=sh, w=w, g=g, dsh=dsh, dw=dw)
    return dsh, dw


@torch.library.custom_op("pyg_relaxed::to_inputs", mutates_args=(), device_types="cpu")
def to_inputs(
    g: Tensor, x: Tensor, sh: Tensor, w: Tensor, order: Tensor, want_w: bool, spec: str, mul_ir: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dT/dx, dT/ds and dT/dw at once: what the weights are read for, they are read for once."""
    sums, split = library(spec, x.dtype), Order(order, len(sh), len(g))
    x, sh, w, g = sums.ir_mul("in", x, mul_ir), sh.contiguous(), w.contiguous(), sums.ir_mul("out", g, mul_ir)
    dx, dsh, dw = empty_like(x).zero_(), empty_like(sh), empty_like(w) if want_w else w.new_empty(0)
    for part in parts_of(split):
        sums.edges(split, part.rows, part=False, x=x, sh=sh, w=w, g=g, dsh=dsh, dw=dw)
        sums.senders_of_part(dx, split, part.edges, part=False, g=g, sh=sh, w=w)
    return sums.transpose("in_to_mul_ir", dx) if mul_ir else dx, dsh, dw


@to_receivers.register_fake
def _(x: Tensor, sh: Tensor, w: Tensor, order: Tensor, num_receivers: int, spec: str, mul_ir: bool) -> Tensor:
    return x.new_empty(num_receivers, PathTable.from_spec(spec).irreps_out.dim)


@to_senders.register_fake
def _(g: Tensor, sh: Tensor, w: Tensor, order: Tensor, num_senders: int, spec: str, mul_ir: bool) -> Tensor:
    return g.new_empty(num_senders, PathTable.from_spec(spec).irreps_in.dim)


@to_edges.register_fake
def _(
    x: Tensor, sh: Tensor, w: Tensor, g: Tensor, order: Tensor, want_w: bool, spec: str, mul_ir: bool
) -> tuple[Tensor, Tensor]:
    return sh.new_empty(sh.shape), w.new_empty(w.shape if want_w else 0)


@to_inputs.register_fake
def _(
    g: Tensor, x: Tensor, sh: Tensor, w: Tensor, order: Tensor, want_w: bool, spec: str, mul_ir: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), sh.new_empty(sh.shape), w.new_empty(w.shape if want_w else 0)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor)))
    ctx.spec, ctx.mul_ir = inputs[-2:]


def _edges(ctx: Any, x: Tensor, sh: Tensor, w: Tensor, g: Tensor, order: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return the derivatives in s and w, inputs 1 and 2 of every operator, as far as they are needed."""
    need_sh, need_w = ctx.needs_input_grad[1], is_wanted(ctx, 2)
    if not (need_sh or need_w):
        return None, None
    dsh, dw = to_edges(x, sh, w, g, order, need_w, ctx.spec, ctx.mul_ir)
    return dsh, dw if need_w else None


def _receivers_backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, sh, w, order = ctx.saved_tensors
    (need_x, need_sh), need_w = ctx.needs_input_grad[:2], is_wanted(ctx, 2)
    if need_x and (need_sh or need_w):
        dx, dsh, dw = to_inputs(g, x, sh, w, order, need_w, ctx.spec, ctx.mul_ir)
        return dx, dsh, dw if need_w else None, None, None, None, None
    dx = to_senders(g, sh, w, order, x.shape[0], ctx.spec, ctx.mul_ir) if need_x else None
    return dx, *_edges(ctx, x, sh, w, g, order), None, None, None, None


def _senders_backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
    g, sh, w, order = ctx.saved_tensors
    dg = None
    if ctx.needs_input_grad[0]:
        dg = to_receivers(v, sh, w, order, g.shape[0], ctx.spec, ctx.mul_ir)
    return dg, *_edges(ctx, v, sh, w, g, order), None, None, None, None


def _edges_backward(ctx: Any, vsh: Tensor, vw: Tensor) -> tuple[Tensor | None, ...]:
    x, sh, w, g, order = ctx.saved_tensors
    rest = (ctx.spec, ctx.mul_ir)
    dx = dg = None
    pairs = [(vsh, w)] if vw.numel() == 0 else [(vsh, w), (sh, vw)]
    if ctx.needs_input_grad[0]:
        dx = sum(to_senders(g, s, v, order, x.shape[0], *rest) for s, v in pairs)
    if ctx.needs_input_grad[3]:
        dg = sum(to_receivers(x, s, v, order, g.shape[0], *rest) for s, v in pairs)
    # vw meets the derivative in s and vsh the one in w: one call gives both.
    dsh, dw = _edges(ctx, x, vsh, vw if vw.numel() else empty_like(w).zero_(), g, order)
    return dx, dsh, dw, dg, None, None, None, None


def _inputs_backward(ctx: Any, vx: Tensor, vsh: Tensor, vw: Tensor) -> tuple[Tensor | None, ...]:
    g, x, sh, w, order = ctx.saved_tensors
    rest = (ctx.spec, ctx.mul_ir)
    (need_g, need_x, need_sh), need_w = ctx.needs_input_grad[:3], is_wanted(ctx, 3)
    dg = dx = dsh = dw = None
    terms = [(vx, sh, w), (x, vsh, w), *([(x, sh, vw)] if vw.numel() else [])]
    if need_g:
        dg = sum(to_receivers(*term, order, g.shape[0], *rest) for term in terms)
    if need_x:
        dx = sum(to_senders(g, s, v, order, x.shape[0], *rest) for _, s, v in terms[1:])
    if need_sh or need_w:
        dsh, dw = to_edges(vx, sh, w, g, order, need_w, *rest)
        more = to_edges(x, vsh, vw if vw.numel() else empty_like(w).zero_(), g, order, need_w, *rest)
        dsh, dw = dsh.add_(more[0]), dw.add_(more[1]) if need_w else None
    return dg, dx, dsh, dw, None, None, None, None


to_receivers.register_autograd(_receivers_backward, setup_context=_keep)
to_senders.register_autograd(_senders_backward, setup_context=_keep)
to_edges.register_autograd(_edges_backward, setup_context=_keep)
to_inputs.register_autograd(_inputs_backward, setup_context=_keep)
