r"""The sums as operators of torch, closed under differentiation.

All are derivatives of one trilinear form, :math:`T(x, s, w, g) = \sum_e \sum_p w_e\, C_p\, x_j\, s_e\, g_i`: in g (the
convolution itself), in x, and in s and w. The derivative of each is a sum of the others, so that every order of
derivative runs on the same three kernels. Those that belong together, first and second derivatives, are one operator
each, which reads for all of them what it reads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..paths import PathTable
from .demand import is_wanted
from .higher import gradients
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
    x, sh, w, g = sums.ir_mul("in", x, mul_ir), sh.contiguous(), w.contiguous(), g.contiguous()
    dx, dsh, dw = empty_like(x).zero_(), empty_like(sh), empty_like(w) if want_w else w.new_empty(0)
    turned = empty_like(g) if mul_ir else g
    for part in parts_of(split):
        sums.edges(split, part.rows, mul_ir, part=False, x=x, sh=sh, w=w, g=g, dsh=dsh, dw=dw, turned=turned)
        sums.senders_of_part(dx, split, part.edges, part=False, g=turned, sh=sh, w=w)
    return sums.transpose("in_to_mul_ir", dx) if mul_ir else dx, dsh, dw


@torch.library.custom_op("pyg_relaxed::to_inputs_backward", mutates_args=(), device_types="cpu")
def to_inputs_backward(
    vx: Tensor,
    vsh: Tensor,
    vw: Tensor,
    g: Tensor,
    x: Tensor,
    sh: Tensor,
    w: Tensor,
    order: Tensor,
    want: list[bool],
    spec: str,
    mul_ir: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the derivatives of :func:`to_inputs` in g, x, sh and w along vx, vsh and vw, each empty unless wanted.

    An empty vw, of a derivative that was not wanted, counts as zero.
    """
    sums, split = library(spec, x.dtype), Order(order, len(sh), len(g))
    x, vx, g = sums.ir_mul("in", x, mul_ir), sums.ir_mul("in", vx, mul_ir), sums.ir_mul("out", g, mul_ir)
    sh, vsh, w, vw = sh.contiguous(), vsh.contiguous(), w.contiguous(), _or_zero(vw, w)
    want_g, want_x, want_sh, want_w = want
    dg, dx = g.new_empty(g.shape if want_g else 0), empty_like(x).zero_()
    dsh, dw = sh.new_empty(sh.shape if want_sh or want_w else 0), empty_like(w) if want_w else w.new_empty(0)
    for part in parts_of(split):
        if want_g:
            x3, sh3, w3 = (vx, x, x), (sh, vsh, sh), (w, w, vw)
            sums.receivers(dg, split, part.rows, mul_ir, part=False, x=x3, sh=sh3, w=w3)
        if want_sh or want_w:
            x2, sh2, w2 = (vx, x), (sh, vsh), (w, vw)
            sums.edges(split, part.rows, part=False, x=x2, sh=sh2, w=w2, g=g, dsh=dsh, dw=dw)
        if want_x:
            sums.senders_of_part(dx, split, part.edges, part=False, g=g, sh=(vsh, sh), w=(w, vw))
    return dg, sums.transpose("in_to_mul_ir", dx) if mul_ir else dx, dsh, dw


def term_by_term(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what :func:`to_inputs_backward` does by the other operators: on a GPU, and for third derivatives."""
    vx, vsh, vw, g, x, sh, w, order, (want_g, want_x, want_sh, want_w), *rest = inputs
    vw = _or_zero(vw, w)
    dg, dx, dsh, dw = g.new_empty(0), x.new_empty(0), sh.new_empty(0), w.new_empty(0)
    if want_g:
        terms = ((vx, sh, w), (x, vsh, w), (x, sh, vw))
        dg = sum(to_receivers(*term, order, len(g), *rest) for term in terms)
    if want_x:
        dx = sum(to_senders(g, *term, order, len(x), *rest) for term in ((vsh, w), (sh, vw)))
    if want_sh or want_w:
        dsh, dw = to_edges(vx, sh, w, g, order, want_w, *rest)
        more = to_edges(x, vsh, vw, g, order, want_w, *rest)
        dsh, dw = dsh + more[0], dw + more[1]
    return dg, dx, dsh, dw


def _or_zero(vw: Tensor, w: Tensor) -> Tensor:
    return vw.contiguous() if vw.numel() else empty_like(w).zero_()


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


@to_inputs_backward.register_fake
def _(vx: Tensor, vsh: Tensor, vw: Tensor, g: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    x, sh, w, _, (want_g, want_x, want_sh, want_w), *_ = rest
    wanted = ((g, want_g), (x, want_x), (sh, want_sh or want_w), (w, want_w))
    return tuple(t.new_empty(t.shape if want else 0) for t, want in wanted)


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
    dsh, dw = _edges(ctx, x, vsh, _or_zero(vw, w), g, order)
    return dx, dsh, dw, dg, None, None, None, None


def _inputs_backward(ctx: Any, *v: Tensor) -> tuple[Tensor | None, ...]:
    *inputs, order = ctx.saved_tensors
    want = [*ctx.needs_input_grad[:3], is_wanted(ctx, 3)]
    found = to_inputs_backward(*v, *inputs, order, want, ctx.spec, ctx.mul_ir)
    return *(d if wanted else None for d, wanted in zip(found, want, strict=True)), None, None, None, None


def _keep_wanted(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _keep(ctx, inputs, output)
    ctx.want = inputs[-3]


def _third_derivatives(ctx: Any, *u: Tensor) -> tuple[Tensor | None, ...]:
    *inputs, order = ctx.saved_tensors

    def run(*inputs: Any) -> tuple[Tensor, ...]:
        return term_by_term(*inputs, order, ctx.want, ctx.spec, ctx.mul_ir)

    return *gradients(run, inputs, u), None, None, None, None


to_receivers.register_autograd(_receivers_backward, setup_context=_keep)
to_senders.register_autograd(_senders_backward, setup_context=_keep)
to_edges.register_autograd(_edges_backward, setup_context=_keep)
to_inputs.register_autograd(_inputs_backward, setup_context=_keep)
to_inputs_backward.register_autograd(_third_derivatives, setup_context=_keep_wanted)
