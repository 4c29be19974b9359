"""Cubic Hermite splines over the length of an edge: what compiled kernels evaluate in place, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor


def interpolate(length: Tensor, table: Tensor, spacing: float) -> Tensor:
    """Return the values of splines at edge lengths, ``[E, weight_numel]``.

    Args:
        length (Tensor): Edge lengths ``[E]``, Å; beyond the last knot the last cubic goes on.
        table (Tensor): Values and slopes at the knots, ``[knots, 2, weight_numel]``, the slopes in 1/Å.
        spacing (float): Distance of the knots, the first at length 0, Å.

    Example::

        >>> knots = torch.arange(3.0)
        >>> square = torch.stack([knots**2, 2 * knots], dim=1)[:, :, None]
        >>> interpolate(torch.tensor([0.5, 1.5]), square, spacing=1.0).flatten()
        tensor([0.2500, 2.2500])
    """
    place = length / spacing
    knot = place.detach().long().clamp(0, len(table) - 2)
    t = (place - knot)[:, None]
    (value, slope), (next_value, next_slope) = table[knot].unbind(1), table[knot + 1].unbind(1)
    step = (3 - 2 * t) * t**2
    tangents = (1 - t) ** 2 * t * slope + (t - 1) * t**2 * next_slope
    return torch.lerp(value, next_value, step) + spacing * tangents
