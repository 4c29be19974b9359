"""What a model returns for a batch, structure by structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from ..data import level_of


def split_outputs(
    outputs: Mapping[str, Tensor], sizes: Sequence[int], per_atom: bool = False
) -> list[dict[str, Tensor]]:
    """Cut the outputs of a batch into those of its structures, on the CPU; at graph level they keep their leading 1.

    Args:
        outputs: By the name they have in a graph; those of an :class:`Ensemble` may end with ``"_std"``.
        sizes: Numbers of atoms, shape ``[B]``.
        per_atom: Outputs belong to atoms whatever the table of keys says.

    Example:
        >>> import torch
        >>> parts = split_outputs({"energy": torch.zeros(2), "forces": torch.zeros(5, 3)}, [2, 3])
        >>> [{name: tuple(value.shape) for name, value in part.items()} for part in parts]
        [{'energy': (1,), 'forces': (2, 3)}, {'energy': (1,), 'forces': (3, 3)}]
    """
    parts: list[dict[str, Tensor]] = [{} for _ in sizes]
    for name, value in outputs.items():
        is_of_atoms = per_atom or level_of(name.removesuffix("_std")) == "node"
        for part, own in zip(parts, value.detach().cpu().split(list(sizes) if is_of_atoms else 1), strict=True):
            part[name] = own
    return parts
