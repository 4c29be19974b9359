"""The training step, as Lightning wants it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch_geometric.data import Batch

from ..optim import RelaxedAdam
from ..surgery import thetas
from .config import Config
from .losses import Errors, residual, sum_over_processes, unit


class TrainingModule(LightningModule):
    """A model that learns labels.

    The loss of a step is the mean over the labels in the batches of *all* processes, so that its gradient does not
    depend on how structures of different size are spread over them.

    Args:
        model: It returns a dictionary.
        config: The config.
    """

    def __init__(self, model: torch.nn.Module, config: Config) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self._errors = {stage: self._new_errors() for stage in ("train", "validation", "test")}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        weights = self.config.loss.weights
        out = self.model(batch)
        residuals = {name: residual(name, out, batch) for name in weights}
        counts = torch.tensor([float(r.numel()) for r in residuals.values()], device=self.device)
        counts = sum_over_processes(counts)
        num_processes = self.trainer.world_size  # DDP takes the mean of their gradients
        errors = self._errors["train"]
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        for (name, weight), count in zip(weights.items(), counts, strict=True):
            errors.add(name, residuals[name])
            term = errors.function(residuals[name], errors.delta).sum() / count.clamp(min=1)
            loss = loss + weight * num_processes * term
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count the errors of a batch."""
        self._count("validation", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Count the errors of a batch."""
        self._count("test", batch)

    def on_train_epoch_end(self) -> None:
        """Log errors and theta."""
        self._log("train")
        for name, norm in theta_norms(self.model).items():
            self.log(f"theta/{name}", norm, sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Log errors."""
        self._log("validation")

    def on_test_epoch_end(self) -> None:
        """Log errors."""
        self._log("test")

    def configure_optimizers(self) -> Any:
        """Return the optimiser and the schedule of its rates."""
        config = self.config.optimizer
        optimizer = RelaxedAdam(self.model, config.lr, config.penalty, weight_decay=config.weight_decay)
        total = int(self.trainer.estimated_stepping_batches)
        of_theta = self._theta_rate(total)
        rate = self._rate(total)
        factors = [
            (lambda step: rate(step) * of_theta(step)) if "penalty" in group else rate
            for group in optimizer.param_groups
        ]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, total: int) -> Callable[[int], float]:
        config = self.config.optimizer

        def factor(step: int) -> float:
            rise = min(1.0, (step + 1) / (config.warmup_steps + 1))
            fall = (1 + math.cos(math.pi * min(step / total, 1.0))) / 2 if config.schedule == "cosine" else 1.0
            return rise * fall

        return factor

    def _theta_rate(self, total: int) -> Callable[[int], float]:
        theta, steps = self.config.theta, total / self.config.trainer.epochs
        end = math.inf if theta.anneal is None else theta.anneal[1]
        return lambda step: float(theta.strict_epochs * steps <= step < end * steps)

    def _count(self, stage: str, batch: Batch) -> None:
        out = self.model(batch)
        for name in self.config.loss.weights:
            self._errors[stage].add(name, residual(name, out, batch))

    def _log(self, stage: str) -> None:
        errors = self._errors[stage]
        errors.reduce(self.device)
        means = errors.means()
        weights = self.config.loss.weights
        loss = sum(weights[name] * values["loss"] for name, values in means.items())
        values = {f"{stage}/loss": loss}
        for name, mean in means.items():
            values |= {f"{stage}/{name} {kind} ({unit(name)[0] or '1'})": mean[kind] for kind in ("mae", "rmse")}
        self.log_dict(values, sync_dist=True)
        self._errors[stage] = self._new_errors()

    def _new_errors(self) -> Errors:
        loss = self.config.loss
        return Errors(list(loss.weights), loss.function, loss.delta)


def theta_norms(model: torch.nn.Module) -> dict[str, float]:
    """Return the norm of each irrep of theta over all layers."""
    squares: dict[str, float] = {}
    for theta in thetas(model).values():
        for name, norm in theta.norms().items():
            squares[name] = squares.get(name, 0.0) + norm**2
    return {name: math.sqrt(square) for name, square in squares.items()}
