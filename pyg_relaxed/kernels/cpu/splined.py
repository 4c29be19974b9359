"""The convolution with weights read from a table of splines over the length of the edge."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..paths import PathTable
from .library import library
from .memory import empty_like
from .sorting import Order


@torch.library.custom_op("pyg_relaxed::splined", mutates_args=(), device_types="cpu")
def splined(
    x: Tensor,
    sh: Tensor,
    length: Tensor,
    table: Tensor,
    spacing: float,
    order: Tensor,
    num_receivers: int,
    spec: str,
    mul_ir: bool,
) -> Tensor:
    """Return the convolution, ``[num_receivers, irreps_out.dim]``.

    ``table`` ``[knots, 2, weight_numel]`` holds values and slopes of the weights at multiples of ``spacing``. Only x,
    sh and length are differentiated, once.
    """
    sums, split = library(spec, x.dtype), Order(order, len(sh), num_receivers)
    given = {"sh": sh.contiguous(), **_spline(length, table, spacing)}
    x = sums.ir_mul("in", x, mul_ir)
    y = x.new_empty(num_receivers, sums.dim_out)
    return sums.receivers(y, split, mul_ir=mul_ir, x=x, **given)


@torch.library.custom_op("pyg_relaxed::splined_backward", mutates_args=(), device_types="cpu")
def splined_backward(
    g: Tensor,
    x: Tensor,
    sh: Tensor,
    length: Tensor,
    table: Tensor,
    spacing: float,
    order: Tensor,
    spec: str,
    mul_ir: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the derivatives of :func:`splined` in x, sh and length along g."""
    sums, split = library(spec, x.dtype), Order(order, len(sh), len(g))
    given = {"sh": sh.contiguous(), "g": sums.ir_mul("out", g, mul_ir), **_spline(length, table, spacing)}
    dx, dsh, dlength = empty_like(x), empty_like(sh), empty_like(length)
    sums.senders(dx, split, mul_ir=mul_ir, **given)
    sums.edges(split, x=sums.ir_mul("in", x, mul_ir), dsh=dsh, dlength=dlength, **given)
    return dx, dsh, dlength


def _spline(length: Tensor, table: Tensor, spacing: float) -> dict[str, Any]:
    return {"length": length.contiguous(), "table": table.contiguous(), "knots": len(table), "spacing": spacing}


@splined.register_fake
def _(x: Tensor, *rest: Any) -> Tensor:
    *_, num_receivers, spec, _ = rest
    return x.new_empty(num_receivers, PathTable.from_spec(spec).irreps_out.dim)


@splined_backward.register_fake
def _(g: Tensor, x: Tensor, sh: Tensor, length: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), sh.new_empty(sh.shape), length.new_empty(length.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, sh, length, table, ctx.spacing, order, _, ctx.spec, ctx.mul_ir = inputs
    ctx.save_for_backward(x, sh, length, table, order)


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, sh, length, table, order = ctx.saved_tensors
    dx, dsh, dlength = splined_backward(g, x, sh, length, table, ctx.spacing, order, ctx.spec, ctx.mul_ir)
    return dx, dsh, dlength, None, None, None, None, None, None


def _second_backward(ctx: Any, *_: Tensor) -> tuple[None, ...]:
    raise RuntimeError("tables of radial functions are differentiated once: call model.train() to use the networks")


splined.register_autograd(_backward, setup_context=_keep)
splined_backward.register_autograd(_second_backward)
