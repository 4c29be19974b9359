"""The two layouts of features: e3nn's ``"mul_ir"``, and ``"ir_mul"`` with channels innermost, the faster one."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ..compat import o3


def components(irreps: o3.Irreps, layout: str) -> list[Tensor]:
    """Return for each block where its components stand, ``[mul, dim]``.

    Example::

        >>> components(o3.Irreps("2x1o"), "ir_mul")
        [tensor([[0, 2, 4],
                [1, 3, 5]])]
    """
    places = []
    for (mul, ir), s in zip(irreps, irreps.slices(), strict=True):
        place = torch.arange(s.start, s.stop)
        places.append(place.view(mul, ir.dim) if layout == "mul_ir" else place.view(ir.dim, mul).T)
    return places


def concatenate(places: Iterable[Tensor]) -> Tensor:
    """Return indices one after the other, flat; there may be none."""
    return torch.cat([torch.zeros(0, dtype=torch.long), *(place.flatten() for place in places)])


def places_in_ir_mul(irreps: o3.Irreps) -> Tensor:
    """Return where each component in layout "mul_ir" stands in layout "ir_mul", ``[irreps.dim]``.

    Example::

        >>> places_in_ir_mul(o3.Irreps("2x1o"))
        tensor([0, 2, 4, 1, 3, 5])
    """
    return concatenate(components(irreps, "ir_mul"))


class Select(torch.nn.Module):
    """Some columns in some order; nothing is done where it is all of them as they are.

    Args:
        columns (Tensor): Which ones.
        size (int): How many there are to choose from.
    """

    columns: Tensor

    def __init__(self, columns: Tensor, size: int) -> None:
        super().__init__()
        self.register_buffer("columns", columns, False)
        self.is_identity = columns.equal(torch.arange(size))
        self._rows = _rows(columns, size)

    def forward(self, x: Tensor) -> Tensor:
        """Return these columns of ``x`` ``[..., size]``."""
        if self.is_identity:
            return x
        if self._rows is not None:  # which is copied faster
            first, length = self._rows
            return x.unflatten(-1, (-1, length)).narrow(-1, 0, first).flatten(-2)
        return x.index_select(-1, self.columns)


def _rows(columns: Tensor, size: int) -> tuple[int, int] | None:
    """Return ``(first, length)`` where columns are the first few of consecutive rows of one length, if they are."""
    breaks = (columns.diff() != 1).nonzero().flatten()
    first = int(breaks[0]) + 1 if len(breaks) else len(columns)
    if first == 0 or len(columns) % first:
        return None
    rows = len(columns) // first
    length = size // rows
    places = length * torch.arange(rows)[:, None] + torch.arange(first)
    return (first, length) if size % rows == 0 and columns.equal(places.flatten()) else None


class ChangeOfLayout(Select):
    """Features from one layout to the other.

    Args:
        irreps (o3.Irreps or str): Irreps of the features.
        layout (str): The layout to change to, ``"mul_ir"`` or ``"ir_mul"``.
    """

    def __init__(self, irreps: o3.Irreps | str, layout: str) -> None:
        order = places_in_ir_mul(o3.Irreps(irreps))
        super().__init__(order if layout == "mul_ir" else order.argsort(), len(order))
