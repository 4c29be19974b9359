"""Displacements along a mode."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch_geometric.data import Data

from ..data import to_numpy
from .moved import moved, targets_to_keep
from .structure_transform import StructureTransform


class ModeDisplacement(StructureTransform):
    r"""Displace a structure along a mode, by a given amplitude or a random one.

    :math:`x_i' = x_i + A\, e_i` with :math:`\sum_i |e_i|^2 = 1` over the atoms of the graph: A is the root of the sum
    of squares of all displacements, in Å, the convention of AMPLIMODES where the graph holds the primitive cell of the
    parent. (In a supercell of n of those the same pattern has :math:`\sqrt{n}` times the amplitude.) It is kept as
    ``info_amplitude`` ``[1]``. The cell stays. Targets of the old positions go, edges within a ``cutoff`` are found
    anew.

    Args:
        mode (Tensor): Cartesian displacements ``[N, 3]`` of the atoms of each graph, of any norm, e.g. one from
            :func:`symmetry_modes`.
        amplitude (float or tuple): A in Å, or the bounds of a uniform distribution that it is drawn from.
        keep (iterable of str, optional): Targets that stay on purpose. (default: :obj:`()`)
        generator (torch.Generator, optional): Source of the amplitude; see :class:`PositionNoise`.
            (default: :obj:`None`)

    Raises:
        ValueError: If the mode is zero or has another shape than the positions, or the bounds are no two numbers.

    Example::

        >>> data = Data(pos=torch.zeros(2, 3))
        >>> ModeDisplacement([[0, 0, 1], [0, 0, -1]], amplitude=2**0.5)(data).pos.tolist()
        [[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]
    """

    def __init__(
        self,
        mode: Tensor | npt.ArrayLike,
        amplitude: float | tuple[float, float],
        keep: Iterable[str] = (),
        generator: torch.Generator | None = None,
    ) -> None:
        vectors = torch.from_numpy(to_numpy(mode, np.float64).copy())
        if vectors.dim() != 2 or vectors.shape[1] != 3 or not 0 < vectors.norm() < float("inf"):
            raise ValueError(
                f"'mode' must hold finite displacements of shape (N, 3), not all zero (got {tuple(vectors.shape)} of "
                f"norm {vectors.norm().item():.3g})"
            )
        bounds = to_numpy(amplitude, np.float64)
        if (
            bounds.shape not in ((), (2,))
            or not np.isfinite(bounds).all()
            or np.any(bounds.ravel() > bounds.ravel()[-1])
        ):
            raise ValueError(f"'amplitude' must be a number in Å, or a lower and an upper bound (got {amplitude!r})")
        self.mode = vectors / vectors.norm()
        self.low, self.high = float(bounds.ravel()[0]), float(bounds.ravel()[-1])
        self.keep, self.generator = targets_to_keep(keep), generator

    def change(self, data: Data) -> Data:
        """Return the displaced graph."""
        if data.pos.shape != self.mode.shape:
            raise ValueError(
                f"'mode' displaces {len(self.mode)} atoms, the graph has {len(data.pos)}: give a mode of this structure"
            )
        amplitude = self.low
        if self.high > self.low:
            device = torch.device("cpu") if self.generator is None else self.generator.device
            drawn = torch.rand((), generator=self.generator, dtype=torch.float64, device=device)
            amplitude += (self.high - self.low) * drawn.item()
        displaced = moved(data, data.pos + (amplitude * self.mode).to(data.pos), keep=self.keep)
        displaced.info_amplitude = data.pos.new_tensor([amplitude])
        return displaced

    def __repr__(self) -> str:
        amplitude = self.low if self.low == self.high else (self.low, self.high)
        return f"{self.__class__.__name__}({len(self.mode)} atoms, amplitude={amplitude})"
