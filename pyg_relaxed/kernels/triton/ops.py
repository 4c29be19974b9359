"""The Triton kernels as the implementations on a GPU of the operators in ``cpu/ops.py``, which differentiates them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..cpu import ops
from .launch import kernels


@ops.to_receivers.register_kernel("cuda")
def to_receivers(
    x: Tensor, sh: Tensor, w: Tensor, order: Tensor, num_receivers: int, spec: str, mul_ir: bool
) -> Tensor:
    """Return dT/dg, ``[num_receivers, irreps_out.dim]``."""
    x, sh, w = (t.contiguous() for t in (x, sh, w))
    return kernels(spec, mul_ir).to_receivers(x, sh, w, order, num_receivers)


@ops.to_senders.register_kernel("cuda")
def to_senders(g: Tensor, sh: Tensor, w: Tensor, order: Tensor, num_senders: int, spec: str, mul_ir: bool) -> Tensor:
    """Return dT/dx, ``[num_senders, irreps_in.dim]``."""
    g, sh, w = (t.contiguous() for t in (g, sh, w))
    return kernels(spec, mul_ir).to_senders(g, sh, w, order, num_senders)


@ops.to_edges.register_kernel("cuda")
def to_edges(
    x: Tensor, sh: Tensor, w: Tensor, g: Tensor, order: Tensor, want_w: bool, spec: str, mul_ir: bool
) -> tuple[Tensor, Tensor]:
    """Return dT/ds ``[E, irreps_sh.dim]`` and dT/dw ``[E, weight_numel]``, the latter empty unless wanted."""
    x, sh, w, g = (t.contiguous() for t in (x, sh, w, g))
    return kernels(spec, mul_ir).to_edges(x, sh, w, g, order, want_w)


@ops.to_inputs.register_kernel("cuda")
def to_inputs(
    g: Tensor, x: Tensor, sh: Tensor, w: Tensor, order: Tensor, want_w: bool, spec: str, mul_ir: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dT/dx, dT/ds and dT/dw, by a kernel for the first and one for the others."""
    g, x, sh, w = (t.contiguous() for t in (g, x, sh, w))
    sums = kernels(spec, mul_ir)
    return sums.to_senders(g, sh, w, order, len(x)), *sums.to_edges(x, sh, w, g, order, want_w)


@ops.to_inputs_backward.register_kernel("cuda")
def to_inputs_backward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the derivatives of :func:`to_inputs` along directions, by a kernel for each term."""
    return ops.term_by_term(*inputs)
