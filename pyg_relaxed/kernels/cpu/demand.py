"""Which derivatives a backward pass is asked for: those in weights cost as much as all others, forces need none."""

from __future__ import annotations

from typing import Any

import torch


def is_wanted(ctx: Any, n: int) -> bool:
    """Tell whether the derivative in the n-th tensor goes anywhere, as far as torch tells.

    That an input requires a gradient does not say that ``torch.autograd.grad`` was called for it.
    """
    if not ctx.needs_input_grad[n]:
        return False
    try:
        return bool(torch._C._will_engine_execute_node(ctx.next_functions[n][0]))
    except (AttributeError, RuntimeError):  # a parameter itself, or a backward pass that is traced
        return True
