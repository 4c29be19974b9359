"""Tables of splines in place of radial networks."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from ..checks import check_positive
from ..kernels import interpolate

FEWEST, MOST = 64, 65536  # knots


class RadialTable(torch.nn.Module):
    r"""Cubic Hermite splines through the values and slopes of a radial network.

    The number of knots is doubled until the slopes, and with them the forces, are as exact as asked for. Their error
    is bounded by :math:`\frac{\sqrt 3}{216} h^3 \max |f^{(4)}|` for knots at distance :math:`h` (Birkhoff and Priver,
    J. Math. Phys. 46, 440 (1967)); :attr:`error` is what is found between the knots, relative to the largest slope.

    Args:
        radial (torch.nn.Module): From lengths ``[E]`` to weights ``[E, weight_numel]``, e.g. :class:`Radial`.
        cutoff (float): Largest length, Å.
        tol (float, optional): Largest error of a slope, relative to the largest slope. (default: :obj:`1e-7`)

    Raises:
        ValueError: If no table of a sensible size is as exact as that.

    Example::

        >>> from pyg_relaxed.nn import Radial
        >>> radial = Radial(40, cutoff=5.0)
        >>> table = RadialTable(radial, cutoff=5.0)
        >>> length = torch.rand(7) * 5
        >>> torch.allclose(table(length), radial(length), atol=1e-4)
        True
    """

    values: Tensor

    def __init__(self, radial: torch.nn.Module, cutoff: float, tol: float = 1e-7) -> None:
        super().__init__()
        check_positive("tol", tol)
        self.cutoff = float(cutoff)
        self.tol = tol
        self._state = [tensor.detach().clone() for tensor in _state(radial)]
        like = next(radial.parameters())
        exact = copy.deepcopy(radial).to("cpu", torch.float64).requires_grad_(False)
        knots = FEWEST
        while True:
            self.spacing = self.cutoff / knots
            places = self.spacing * torch.arange(knots + 1, dtype=torch.float64)
            places[-1] *= 1 - 1e-12  # bases are cut off at the cutoff itself, where envelopes are zero
            values = torch.stack(_value_and_slope(exact, places), dim=1)
            self.error = self._error(exact, values)
            if self.error <= tol:
                break
            knots *= 2
            if knots > MOST:
                raise ValueError(f"{MOST} knots leave an error of {self.error:.1g} in the slopes, more than tol={tol}")
        self.register_buffer("values", values.to(like), persistent=False)

    def forward(self, length: Tensor) -> Tensor:
        """Return the weights of each edge."""
        return interpolate(length, self.values, self.spacing)

    def is_current(self, radial: torch.nn.Module) -> bool:
        """Tell whether the weights of the network, its dtype and its device are still those that the table is of."""
        state = _state(radial)
        return len(state) == len(self._state) and all(
            old.dtype == new.dtype and old.device == new.device and old.equal(new)
            for old, new in zip(self._state, state, strict=True)
        )

    def _error(self, radial: torch.nn.Module, values: Tensor) -> float:
        """Return the largest error of a slope, where those of splines are largest, relative to the largest slope."""
        inside = 0.5 + 0.5 * 3**-0.5 * torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
        length = self.spacing * (torch.arange(len(values) - 1)[:, None] + inside).flatten()
        _, slope = _value_and_slope(radial, length)
        _, found = _value_and_slope(lambda r: interpolate(r, values, self.spacing), length)
        return float((found - slope).abs().max() / slope.abs().max().clamp(min=torch.finfo(torch.float64).tiny))

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({len(self.values)} knots, error={self.error:.1g})"


def _state(radial: torch.nn.Module) -> list[Tensor]:
    # Compared by value: versions of tensors do not tell of writes through ``.data``.
    return [*radial.parameters(), *radial.buffers()]


def _value_and_slope(radial: Callable[[Tensor], Tensor], length: Tensor) -> tuple[Tensor, Tensor]:
    value, slope = torch.func.jvp(radial, (length,), (torch.ones_like(length),))[:2]
    return value, slope
