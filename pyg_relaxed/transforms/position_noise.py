"""Gaussian noise on positions."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch_geometric.data import Data

from ..checks import check_positive
from .moved import moved, targets_to_keep
from .structure_transform import StructureTransform


class PositionNoise(StructureTransform):
    r"""Move every atom by Gaussian noise, in all components that are not ``fixed``; the cell stays.

    The displacement is kept as ``site_noise`` ``[N, 3]``, in Å, the target of denoising: ``pos - site_noise`` are the
    positions before. Applied again it is the sum. Targets of the old positions go, edges within a ``cutoff`` are found
    anew.

    Args:
        std (float): Standard deviation of each component, in Å.
        keep (iterable of str, optional): Targets that stay on purpose, e.g. those of the structure without noise.
            (default: :obj:`()`)
        generator (torch.Generator, optional): Source of the noise. Leave it out in workers of a ``DataLoader``: each
            would draw the same from its own copy, while PyTorch seeds the global one apart. (default: :obj:`None`)

    Raises:
        ValueError: If ``std`` is not positive, or ``keep`` names what is no target.

    Example::

        >>> data = Data(pos=torch.zeros(2, 3), fixed=torch.tensor([[True] * 3, [True, False, True]]))
        >>> noisy = PositionNoise(std=0.1)(data)
        >>> (noisy.pos != 0).tolist(), torch.equal(noisy.pos, noisy.site_noise)
        ([[False, False, False], [False, True, False]], True)
    """

    def __init__(self, std: float, keep: Iterable[str] = (), generator: torch.Generator | None = None) -> None:
        check_positive("std", std)
        self.std, self.keep, self.generator = float(std), targets_to_keep(keep), generator

    def change(self, data: Data) -> Data:
        """Return the graph with its atoms moved."""
        device = data.pos.device if self.generator is None else self.generator.device
        noise = torch.randn(data.pos.shape, generator=self.generator, dtype=data.pos.dtype, device=device)
        noise = self.std * noise.to(data.pos.device)
        if data.get("fixed") is not None:
            noise = noise.masked_fill(data.fixed, 0.0)
        noisy = moved(data, data.pos + noise, keep=self.keep)
        noisy.site_noise = noise if data.get("site_noise") is None else data.site_noise + noise
        return noisy

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(std={self.std})"
