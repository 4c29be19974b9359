"""Optimisers that move theta equivariantly: they must not break the symmetry by themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .compat import o3
from .o3 import RelaxedWeights
from .surgery import thetas


class RelaxedAdam(torch.optim.Adam):
    r"""Adam whose step for theta lies along theta's own gradient.

    Adam divides each component by its own size, which blows up rounding noise in components whose true gradient is
    zero: a false symmetry breaking. Here each theta has *one* second moment, of the squared norm of its whole gradient
    (as in VectorAdam, `arXiv 2205.13599 <https://arxiv.org/abs/2205.13599>`_, and with frozen irreps included, whose
    gradient sets the scale), so that the step commutes with rotations. All other weights take Adam's step.

    After each step the penalty :math:`\lambda \sum_{(l,p) \neq 0e} \lVert \theta^{(l,p)} \rVert` acts as its proximal
    map, a soft threshold :math:`\lambda\,\mathrm{lr} / (\sqrt{\hat v} + \epsilon)` on the norm of each irrep, which
    gives exact zeros.

    Args:
        model (torch.nn.Module): The model; its thetas are found by themselves.
        lr (float, optional): Learning rate. (default: :obj:`1e-2`)
        penalty (float or dict, optional): Strength :math:`\lambda` of the group lasso on theta, one for all irreps or
            one for each (``{"1o": 0.01, "2e": 0.02}``; none for those left out). (default: :obj:`0.0`)
        theta_betas (tuple of float, optional): Decay of the two moments of theta; the second is short so that the large
            gradients of the first steps, mostly of 0e, are soon forgotten. (default: :obj:`(0.9, 0.95)`)
        **kwargs (optional): Additional arguments of :class:`torch.optim.Adam`; weight decay leaves theta alone.

    Raises:
        ValueError: If ``penalty`` is negative, ``maximize`` or ``amsgrad`` is given, or the model has nothing to train.

    Example::

        >>> import pyg_relaxed as pr
        >>> optimizer = RelaxedAdam(pr.nn.RelaxedLinear("1o", "1o", "0e+2e"), penalty=0.01)
        >>> [len(group["params"]) for group in optimizer.param_groups]
        [2, 1]
    """

    theta_equivariant = True  # see o3/watch.py

    def __init__(
        self,
        model: torch.nn.Module,
        lr: float = 1e-2,
        penalty: float | Mapping[str, float] = 0.0,
        theta_betas: tuple[float, float] = (0.9, 0.95),
        **kwargs: Any,
    ) -> None:
        if refused := [name for name in ("maximize", "amsgrad") if kwargs.get(name)]:
            raise ValueError(f"'{refused[0]}' is not defined for theta: leave it out")
        of_irreps = dict(penalty) if isinstance(penalty, Mapping) else {"": penalty}
        if min(of_irreps.values(), default=0.0) < 0:
            raise ValueError(f"'penalty' must not be negative (got {penalty})")
        known = {ir for theta in thetas(model).values() for ir in theta.irreps}
        if unknown := [ir for ir in of_irreps if ir and ir not in known]:
            raise ValueError(f"'penalty' names {unknown[0]}, but theta has {', '.join(sorted(known)) or 'no irreps'}")
        self._thetas = {theta.weight: theta for theta in thetas(model).values()}
        ordinary = [p for p in model.parameters() if p not in self._thetas and p.requires_grad]
        if not ordinary and not self._thetas:
            raise ValueError(f"{type(model).__name__} has no trainable parameters")
        groups: list[dict[str, Any]] = [{"params": ordinary}] if ordinary else []
        if self._thetas:
            groups.append({"params": list(self._thetas), "penalty": penalty, "betas": theta_betas, "weight_decay": 0.0})
        super().__init__(groups, lr=lr, **kwargs)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; return what ``closure`` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        held = {}
        for group in self.param_groups:
            for weight in group["params"]:
                if weight in self._thetas:
                    self._step_theta(self._thetas[weight], group)
                    # Adam passes over parameters without a gradient.
                    held[weight], weight.grad = weight.grad, None
        # Not super().step(): torch hooks that too once any Adam exists, and every hook would run twice.
        getattr(torch.optim.Adam.step, "__wrapped__", torch.optim.Adam.step)(self)
        for weight, grad in held.items():
            weight.grad = grad
        return loss

    def _step_theta(self, theta: RelaxedWeights, group: dict[str, Any]) -> None:
        weight = theta.weight
        grad = weight.grad
        if grad is None:
            return
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float64)
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = torch.zeros((), dtype=weight.dtype, device=weight.device)
        beta1, beta2 = group["betas"]
        state["step"] += 1
        t = state["step"].item()
        state["exp_avg"].lerp_(grad, 1 - beta1)
        state["exp_avg_sq"].lerp_(grad.square().sum(), 1 - beta2)
        size = group["lr"] / ((state["exp_avg_sq"] / (1 - beta2**t)).sqrt() + group["eps"])
        weight.sub_(theta.free @ state["exp_avg"] * (size / (1 - beta1**t)))
        if group["penalty"]:
            penalty = group["penalty"]
            by_irrep = isinstance(penalty, Mapping)
            soft_threshold_(theta, {ir: p * size for ir, p in penalty.items()} if by_irrep else penalty * size)


class RelaxedLBFGS(torch.optim.LBFGS):
    """L-BFGS for polishing: it commutes with rotations, and here it respects frozen and projected thetas.

    Args:
        model (torch.nn.Module): The model.
        **kwargs (optional): Additional arguments of :class:`torch.optim.LBFGS`.
    """

    def __init__(self, model: torch.nn.Module, **kwargs: Any) -> None:
        self._thetas = list(thetas(model).values())
        kwargs.setdefault("line_search_fn", "strong_wolfe")
        super().__init__([p for p in model.parameters() if p.requires_grad], **kwargs)

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Take one step; ``closure`` computes the loss and its gradients."""

        def on_subspace() -> Tensor:
            loss = closure()
            for theta in self._thetas:
                if theta.weight.grad is not None:
                    theta.weight.grad = theta.free @ theta.weight.grad
            return loss

        return super().step(on_subspace)


@torch.no_grad()
def soft_threshold_(theta: RelaxedWeights, threshold: float | Tensor | Mapping[str, float | Tensor]) -> RelaxedWeights:
    """Shorten the free part of each non-scalar irrep of theta by ``threshold``, to exactly zero where it is shorter."""
    free = theta.free @ theta.weight
    for ir in theta.irreps:
        if o3.Irrep(ir).is_scalar():
            continue
        slices = [s for other, s in theta.blocks() if str(other) == ir]
        norm = torch.cat([free[s] for s in slices]).norm()
        by = threshold.get(ir, 0.0) if isinstance(threshold, Mapping) else threshold
        factor = (1 - by / norm).clamp(min=0) if norm > 0 else torch.zeros_like(norm)
        for s in slices:
            theta.weight[s] = free[s] * factor
    return theta
