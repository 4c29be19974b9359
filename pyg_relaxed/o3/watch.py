"""A warning where theta is in the hands of an optimiser that breaks symmetry by itself."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any
from weakref import WeakSet

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook


class ThetaParameter(torch.nn.Parameter):
    """The parameter of :class:`~pyg_relaxed.RelaxedWeights`, told apart from ordinary ones."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle as what it is: torch would restore an ordinary parameter."""
        return ThetaParameter, (self.detach(), self.requires_grad)


def moves_componentwise(optimizer: torch.optim.Optimizer) -> bool:
    """Tell whether an optimiser divides each component of a gradient by its own size.

    SGD and L-BFGS do not; an optimiser whose attribute ``theta_equivariant`` is true says that it does not.
    """
    rotation_equivariant = (torch.optim.SGD, torch.optim.LBFGS)
    return not getattr(optimizer, "theta_equivariant", False) and not isinstance(optimizer, rotation_equivariant)


@cache
def watch_optimizers() -> None:
    """Warn at the first step of an optimiser that moves a theta component by component; once for each optimiser."""
    seen: WeakSet[torch.optim.Optimizer] = WeakSet()

    def before_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if optimizer in seen:
            return
        seen.add(optimizer)
        held = any(
            isinstance(p, ThetaParameter) and p.requires_grad for g in optimizer.param_groups for p in g["params"]
        )
        if held and moves_componentwise(optimizer):
            warnings.warn(
                f"{type(optimizer).__name__} divides each component of theta by its own size, which blows up rounding "
                f"noise into a false symmetry breaking: use pyg_relaxed.optim.RelaxedAdam(model, ...) instead",
                UserWarning,
                stacklevel=4,
            )

    register_optimizer_step_pre_hook(before_step)
