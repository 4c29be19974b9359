"""Checkpoints of the trainer without pickle: tensors in safetensors, all else as JSON beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialize

from ..files import replacing

_KEY = "checkpoint"


class SafetensorsCheckpoint(CheckpointIO):
    """Writes and reads the checkpoints of a Lightning trainer; a file is replaced as a whole or not at all."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            TypeError: If something in it is neither a tensor nor plain.
        """
        tensors: dict[str, torch.Tensor] = {}
        plain = _plain(checkpoint, tensors)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as new:
            new.write_bytes(serialize(tensors, {_KEY: json.dumps(plain)}))

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """Read a checkpoint.

        Raises:
            ValueError: If it is none.
        """
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if _KEY not in metadata:
            raise ValueError(f"{path}: no checkpoint of a training")
        return _restored(json.loads(metadata[_KEY]), load_file(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


class MovableCheckpoint(ModelCheckpoint):
    """Lightning's, of a folder that may have been moved or copied since, and in safetensors.

    Args:
        *args: Those of Lightning.
        first_epoch: What was before does not count.
        **kwargs: Those of Lightning.
    """

    FILE_EXTENSION = ".safetensors"

    def __init__(self, *args: Any, first_epoch: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.first_epoch = first_epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, if the epoch counts."""
        if trainer.current_epoch >= self.first_epoch:
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, if the epoch counts."""
        if trainer.current_epoch >= self.first_epoch:
            super().on_validation_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state with the files where they are now: Lightning would forget which was the best."""
        paths = {name: self._here(state_dict[name]) for name in state_dict if name.endswith("_path")}
        best = {self._here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath})

    def _here(self, path: str) -> str:
        return str(Path(self.dirpath or "") / Path(path).name) if path else ""


def _plain(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Return what JSON can hold, and put tensors aside."""
    if isinstance(value, torch.Tensor):
        name = f"{len(tensors):06d}"
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):  # keys are numbers as well, in optimisers
        return {"items": [[key, _plain(one, tensors)] for key, one in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_plain(one, tensors) for one in value]}
    if isinstance(value, list):
        return [_plain(one, tensors) for one in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}: tensors and plain values only")


def _restored(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_restored(one, tensors) for one in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "tuple" in value:
        return tuple(_restored(one, tensors) for one in value["tuple"])
    return {key: _restored(one, tensors) for key, one in value["items"]}
