"""Which axes a structure is written in matters to a model that breaks symmetry: say so once."""

from __future__ import annotations

import warnings

import torch
from torch_geometric.data import Data

from ..data import FrameWarning
from ..o3.weights import SCALAR, RelaxedWeights


def check_axes(model: torch.nn.Module, data: Data) -> None:
    """Warn, once for a model that breaks symmetry, of a structure whose axes its reader has rebuilt.

    Args:
        model (torch.nn.Module): The model. With ``model.strict_frame`` true the warning is an error, each time.
        data (Data): A graph or a batch of graphs; without ``frame`` its axes count as kept.

    Raises:
        ValueError: In place of the warning, if the model is that strict.
    """
    frames = data.get("frame")
    frames = frames if isinstance(frames, list) else [frames]
    strict = getattr(model, "strict_frame", False)
    if "standard" not in frames or (getattr(model, "_warned_of_frame", False) and not strict):
        return
    broken = _broken_irreps(model)
    if not broken:
        return
    where = f"structure {frames.index('standard')} of the batch" if len(frames) > 1 else "this structure"
    message = (
        f"{type(model).__name__} breaks symmetry (theta in {', '.join(broken)}), so what it returns depends on the "
        f"axes, and those of {where} were rebuilt from lengths and angles (frame 'standard'). Read it from a file with "
        "all nine numbers of the cell (POSCAR, extxyz), or turn it into the axes of training with "
        "pyg_relaxed.data.align_to and set data.frame = 'cartesian'"
    )
    if strict:
        raise ValueError(message)
    model._warned_of_frame = True  # type: ignore[assignment]
    warnings.warn(message, FrameWarning, stacklevel=3)


def _broken_irreps(model: torch.nn.Module) -> list[str]:
    """Return the irreps in which some theta of the model is not zero, but for scalars."""
    thetas = [module for module in model.modules() if isinstance(module, RelaxedWeights)]
    return sorted({ir for theta in thetas for ir, norm in theta.norms().items() if norm > 0 and ir != str(SCALAR)})
