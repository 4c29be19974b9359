"""What happens beside the training step: theta annealed, a line for each epoch."""

from __future__ import annotations

import math
import sys
import time
from typing import Any, TextIO

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from ..breaking import theta_group
from ..surgery import thetas
from .module import theta_norms


class Anneal(Callback):
    """Shorten all but the scalar part of theta in equal steps of its length, to exactly zero.

    Args:
        begin: Epoch in which it begins.
        end: Epoch before which it is done; the model is exactly equivariant from there on.
    """

    def __init__(self, begin: int, end: int) -> None:
        self.begin, self.end = begin, end

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Shorten theta after a step."""
        steps = int(trainer.num_training_batches)
        done, total = trainer.global_step - self.begin * steps, (self.end - self.begin) * steps
        if done < 1:
            return
        factor = max(0.0, (total - done) / (total - done + 1)) if done <= total else 0.0
        for theta in thetas(pl_module).values():
            for ir, part in theta.blocks():
                if not ir.is_scalar():
                    theta.weight[part] *= factor


class Patience(EarlyStopping):
    """Lightning's, from an epoch on.

    Args:
        first_epoch: What was before does not count.
        *args: Those of Lightning.
        **kwargs: Those of Lightning.
    """

    def __init__(self, first_epoch: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.first_epoch = first_epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the epoch, if it counts."""
        if trainer.current_epoch >= self.first_epoch:
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the epoch, if it counts."""
        if trainer.current_epoch >= self.first_epoch:
            super().on_validation_end(trainer, pl_module)


class Lines(Callback):
    """A line for each epoch: errors in their units, theta, and now and then the group that theta leaves.

    Args:
        stream: Where to.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.begin = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.begin = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the line."""
        if not trainer.is_global_zero:
            return
        epoch, epochs = trainer.current_epoch + 1, int(trainer.max_epochs or 0)
        parts = [f"epoch {epoch}/{epochs}"]
        for name, value in trainer.callback_metrics.items():
            if name.startswith("validation/") and " mae " in name:
                parts.append(f"{name.removeprefix('validation/').replace(' mae', '')} {float(value):.4g}")
        parts.append(f"loss {float(trainer.callback_metrics.get('validation/loss', math.nan)):.4g}")
        norms = {name: norm for name, norm in theta_norms(pl_module).items() if name != "0e"}
        if any(norms.values()):
            parts.append("theta " + " ".join(f"{name} {norm:.3g}" for name, norm in norms.items()))
            if epoch == epochs or epoch % max(1, epochs // 10) == 0:
                parts.append(f"leaves {theta_group(pl_module)}")
        parts.append(f"{time.monotonic() - self.begin:.1f} s")
        print(" | ".join(parts), file=self.stream, flush=True)
