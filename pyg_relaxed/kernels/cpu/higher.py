"""Derivatives of an order that no operator of ours has, by torch, of the same function written in what torch knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def gradients(
    function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], along: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """Return the derivatives in all inputs of the function's outputs along directions, within a backward pass.

    Args:
        function (callable): Called with the inputs, returns as many tensors as there are directions.
        inputs (sequence of Tensor): What was saved for this pass.
        along (sequence of Tensor): For each output, the gradient that reached it.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Aliases: inputs may depend on each other, which is not asked for here.
        inputs = [t.view_as(t) if t.requires_grad else t.detach().requires_grad_() for t in inputs]
        outputs = function(*inputs)
        used = [n for n, y in enumerate(outputs) if y.requires_grad and y.numel()]
        if not used:
            return (None,) * len(inputs)
        outputs, along = [outputs[n] for n in used], [along[n] for n in used]
        return torch.autograd.grad(outputs, inputs, along, create_graph=again, allow_unused=True)
