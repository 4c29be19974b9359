"""Theta: the weights that break symmetry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..checks import check_orthogonal, parse_irreps
from ..compat import o3
from .invariants import projector, representation
from .watch import ThetaParameter, watch_optimizers

if TYPE_CHECKING:
    import numpy as np

    from ..typing import IrrepsLike, ThetaLike
    from .point_groups import PointGroup

SCALAR = o3.Irrep("0e")


def theta_irreps(irreps_theta: ThetaLike) -> o3.Irreps | None:
    """Return the irreps of theta, from an int, irreps, their string, or :obj:`None` for a strict layer.

    An int ``l_relaxed`` stands for every irrep of both parities up to that degree.

    Raises:
        ValueError: If 0e is missing, so that no equivariant starting point exists.

    Example::

        >>> theta_irreps(1)
        1x0e+1x0o+1x1o+1x1e
    """
    if irreps_theta is None:
        return None
    if isinstance(irreps_theta, bool) or (isinstance(irreps_theta, int) and irreps_theta < 0):
        raise ValueError(f"'irreps_theta' as an int must be a degree l >= 0 (got {irreps_theta})")
    if isinstance(irreps_theta, int):
        return o3.Irreps([(1, ir) for ir in o3.Irrep.iterator(irreps_theta)])
    irreps = parse_irreps("irreps_theta", irreps_theta)
    if irreps.count(SCALAR) == 0:
        raise ValueError(
            f"'irreps_theta' must contain 0e so that the layer can start equivariant (got '{irreps}'). "
            f"Add '0e', e.g. '0e+{irreps}', or pass None for a strict layer."
        )
    return irreps


class RelaxedWeights(torch.nn.Module):
    r"""Weights :math:`\theta` in irreps of O(3): equivariant while only 0e is non-zero, breaking symmetry otherwise.

    Every 0e starts at 1, the rest at 0. One instance can be shared by several layers. The weights live on an affine
    subspace, ``frozen + free @ weight``: :meth:`freeze` and :meth:`project_` shrink it, under any optimiser, and
    gradients of frozen directions still reach ``weight.grad`` (an equivariant optimiser needs their scale). Optimisers
    that move theta component by component, such as Adam, are warned about: see :class:`~pyg_relaxed.optim.RelaxedAdam`.

    Args:
        irreps_theta (o3.Irreps, str or int): Irreps of theta; an int means all irreps up to that degree, both parities.

    Raises:
        ValueError: If ``irreps_theta`` lacks 0e.

    Example::

        >>> theta = RelaxedWeights("0e+1o+2e")
        >>> theta().shape
        torch.Size([9])
        >>> theta.norms()
        {'0e': 1.0, '1o': 0.0, '2e': 0.0}
    """

    free: Tensor
    frozen: Tensor

    def __init__(self, irreps_theta: IrrepsLike | int) -> None:
        super().__init__()
        self.irreps_theta = irreps = self._parse(irreps_theta)
        self.weight = ThetaParameter(torch.zeros(irreps.dim))
        watch_optimizers()
        self.register_buffer("free", torch.eye(irreps.dim))
        self.register_buffer("frozen", torch.zeros(irreps.dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Return to the equivariant starting point, all irreps free."""
        with torch.no_grad():
            torch.nn.init.eye_(self.free)
            self.frozen.zero_()
            self.weight.copy_(self._start())

    def forward(self) -> Tensor:
        r"""Return :math:`\theta`, of shape ``[irreps_theta.dim]``."""
        # The last term is zero in value; it carries the gradient of the frozen directions.
        held = self.weight - self.free @ self.weight
        return self.frozen + self.free @ self.weight + (held - held.detach())

    @torch.no_grad()
    def set_(self, theta: Tensor) -> RelaxedWeights:
        """Set the value of theta, frozen directions included, to ``theta`` of shape ``[irreps_theta.dim]``."""
        theta = torch.as_tensor(theta).to(self.weight)
        if theta.shape != self.weight.shape:
            raise ValueError(
                f"'theta' must have shape ({self.irreps_theta.dim},) for the irreps {self.irreps_theta} "
                f"(got {tuple(theta.shape)})"
            )
        if not theta.isfinite().all():
            raise ValueError(f"'theta' must be finite (got {theta.tolist()})")
        held = theta - self.free @ theta
        held[held.abs() <= 10 * torch.finfo(held.dtype).eps * theta.norm()] = 0  # rounding would outlive the lasso
        self.weight.copy_(theta)
        self.frozen.copy_(held)
        return self

    @torch.no_grad()
    def norms(self) -> dict[str, float]:
        """Return the Euclidean norm of theta per irrep, its multiplicities together."""
        theta = self()
        return {ir: (theta * self._mask([ir])).norm().item() for ir in self.irreps}

    @property
    def irreps(self) -> list[str]:
        """The distinct irreps of theta, in order."""
        return list(dict.fromkeys(str(ir) for _, ir in self.irreps_theta))

    @torch.no_grad()
    def rotate_(self, R: Tensor | np.ndarray) -> RelaxedWeights:
        r"""Replace :math:`\theta` by :math:`D(R)\,\theta`.

        Args:
            R (Tensor): Any element of O(3), shape ``[3, 3]``.
        """
        R = torch.as_tensor(R, dtype=torch.float64)
        check_orthogonal(R)
        D = representation(self.irreps_theta, R)
        theta = D @ self().double().cpu()
        self.free.copy_(D @ self.free.double().cpu() @ D.T)
        return self.set_(theta)

    @torch.no_grad()
    def project_(self, group: str | PointGroup | np.ndarray) -> RelaxedWeights:
        """Project theta on the invariants of a point group, exactly, and keep it there from here on.

        Args:
            group (str, PointGroup or ndarray): Symbol such as ``"4mm"``, a group, or its operations ``[n, 3, 3]``.

        Raises:
            ValueError: If the projection does not commute with those already in force.
        """
        return self.restrict_(projector(group, self.irreps_theta))

    @torch.no_grad()
    def restrict_(self, subspace: Tensor) -> RelaxedWeights:
        """Project theta on a subspace and keep it there from here on.

        Args:
            subspace (Tensor): Orthogonal projector, shape ``[irreps_theta.dim, irreps_theta.dim]``, that commutes with
                the restrictions already in force.

        Raises:
            ValueError: If it is no such projector.
        """
        P = torch.as_tensor(subspace, dtype=torch.float64)
        free = self.free.double().cpu()
        if P.shape != free.shape or (P - P.T).abs().max() > 1e-6 or (P @ P - P).abs().max() > 1e-6:
            raise ValueError(f"'subspace' must be an orthogonal projector of shape {tuple(free.shape)}")
        if (P @ free - free @ P).abs().max() > 1e-5:
            raise ValueError("the restriction does not commute with those already in force: unfreeze() first")
        theta = P @ self().double().cpu()
        self.free.copy_(P @ free)
        return self.set_(theta)

    @torch.no_grad()
    def freeze(self, irreps: str | Iterable[str]) -> RelaxedWeights:
        """Hold irreps at their present value, e.g. ``freeze("2e")`` or ``freeze(["0e", "1o"])``.

        Raises:
            ValueError: If theta has no such irrep.
        """
        keep = 1 - self._mask([irreps] if isinstance(irreps, str) else irreps)
        if (keep[:, None] * self.free - self.free * keep).abs().max() > 1e-5:
            raise ValueError("a restriction in force mixes these irreps with others: unfreeze() first")
        theta = self()
        self.free.copy_(keep[:, None] * self.free * keep)
        return self.set_(theta)

    @torch.no_grad()
    def unfreeze(self) -> RelaxedWeights:
        """Lift every freeze, projection and restriction; the value of theta stays."""
        theta = self()
        self.free.copy_(torch.eye(self.irreps_theta.dim))
        return self.set_(theta)

    @torch.no_grad()
    def strict_(self) -> RelaxedWeights:
        """Set the non-scalar part of theta to zero."""
        return self.set_(self() * self._mask(ir for ir in self.irreps if ir == str(SCALAR)))

    def blocks(self) -> list[tuple[o3.Irrep, slice]]:
        """Return each irrep with its slice of theta, one entry per term of ``irreps_theta``."""
        return [(ir, s) for (_, ir), s in zip(self.irreps_theta, self.irreps_theta.slices(), strict=True)]

    @staticmethod
    def _parse(irreps_theta: IrrepsLike | int) -> o3.Irreps:
        irreps = theta_irreps(irreps_theta)
        if irreps is None:
            raise ValueError("'irreps_theta' is None: a strict layer has no relaxed weights")
        return irreps

    def _start(self) -> Tensor:
        """Return where theta starts: the equivariant point."""
        return self._mask([str(SCALAR)])

    def _mask(self, irreps: Iterable[str]) -> Tensor:
        wanted = {o3.Irrep(ir) for ir in irreps}
        if missing := wanted - {ir for _, ir in self.irreps_theta}:
            raise ValueError(f"theta has irreps {self.irreps_theta}, not {', '.join(map(str, missing))}")
        mask = torch.zeros_like(self.frozen)
        for ir, s in self.blocks():
            mask[s] = float(ir in wanted)
        return mask

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.irreps_theta})"


class LearnedField(RelaxedWeights):
    """A field that all structures are in and nobody knows: theta in the unit of the field, zero at the start.

    Everything that finds, turns, projects, penalises or moves theta does so with it. Unlike theta it needs no 0e, for
    no field at all is the equivariant point.

    Args:
        irreps_theta (o3.Irreps or str): Irreps of the field.

    Example::

        >>> LearnedField("1o")()
        tensor([0., 0., 0.], grad_fn=<AddBackward0>)
    """

    @staticmethod
    def _parse(irreps_theta: IrrepsLike | int) -> o3.Irreps:
        return parse_irreps("irreps_theta", irreps_theta)

    def _start(self) -> Tensor:
        return torch.zeros_like(self.weight)
