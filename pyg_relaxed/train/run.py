"""A training from its config to a model file, going on where it was interrupted."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from ..files import write_text
from ..io import save
from ..surgery import strict_
from .build import build
from .callbacks import Anneal, Lines, Patience
from .checkpoint import MovableCheckpoint, SafetensorsCheckpoint
from .config import Config
from .data import Parts
from .module import TrainingModule
from .verdict import loss_on, verdict

MODEL, RECORD, CONFIG, LOCK = "model.safetensors", "run.json", "config.yaml", "in_use.lock"
PACKAGES = ("pyg-relaxed", "torch", "torch-geometric", "e3nn", "ase", "pymatgen", "vesin", "lightning")
# What may change when a training goes on: where it runs and when it stops.
FREE = ("trainer.epochs", "trainer.patience", "trainer.accelerator", "trainer.devices", "trainer.num_nodes")


def train(config: Config, run: str | Path, callbacks: Sequence[Callback] = ()) -> Path:
    """Train a model; return its file.

    ``run`` gets ``config.yaml`` (defaults included), ``run.json`` (versions, hash of the data, counts of labels),
    ``logs`` and ``tensorboard``, ``checkpoints/last`` and ``best``, and at the end ``model.safetensors``, the weights
    with the smallest validation loss, with all of it in its provenance. A folder that holds an interrupted training
    goes on after its last epoch, to the same weights as if nothing had happened.

    Args:
        config: The config.
        run: The folder.
        callbacks: More callbacks of Lightning.

    Raises:
        FileNotFoundError: If a source of structures does not exist.
        ValueError: If a structure or label is wrong, or the folder holds a training of another config or other data.
    """
    run = Path(run)
    best, last = (
        MovableCheckpoint(
            *(run / "checkpoints", "best"),
            monitor="validation/loss",
            enable_version_counter=False,
            first_epoch=_first_epoch(config),
        ),
        MovableCheckpoint(run / "checkpoints", "last", save_on_train_epoch_end=True, enable_version_counter=False),
    )
    trainer = _trainer(config, run, [*_callbacks(config), *callbacks, best, last])
    parts = Parts(config)
    record: dict[str, Any] = {"data": parts.digest, "counts": parts.counts(), "versions": _versions()}
    if trainer.is_global_zero:  # the others may come while it writes
        _check_same(run, config, record)
    model = build(config, parts.parts["train"])
    module = TrainingModule(model, config)
    with _only_one(run) if trainer.is_global_zero else nullcontext():
        path = run / "checkpoints" / "last.safetensors"
        if trainer.is_global_zero:
            _check_same(run, config, record)  # again: another training may have come and gone
            write_text(run / CONFIG, config.to_yaml())
            write_text(run / RECORD, json.dumps(record, ensure_ascii=False, indent=1))
            _say(record["counts"], model)
            if path.exists():
                print(f"going on from {path}", flush=True)
        with warnings.catch_warnings():
            _quiet()
            with _interrupted(trainer):
                trainer.fit(module, parts, ckpt_path=path if path.exists() else None)
            weights = SafetensorsCheckpoint().load_checkpoint(best.best_model_path)["state_dict"]
            module.load_state_dict(weights)
            if config.theta.anneal is not None:
                strict_(model)  # of the moving average something is left
            tested = trainer.test(module, parts, verbose=False)[0] if "test" in parts.parts else {}
        if trainer.is_global_zero:
            record |= {
                "validation_loss": float(torch.nan if best.best_model_score is None else best.best_model_score),
                "epochs": trainer.current_epoch,
                "test": {name: float(value) for name, value in tested.items()},
            }
            _finish(model.cpu(), config, parts, run / MODEL, record)
    return run / MODEL


def _finish(model: torch.nn.Module, config: Config, parts: Parts, path: Path, record: dict[str, Any]) -> None:
    """Write the file of the model, and say how well it did."""
    provenance = record | {"config": config.model_dump(mode="json")}
    validation = parts.parts["validation"]
    if config.theta.anneal is not None:
        provenance["validation_loss"] = loss_on(model.eval(), validation, config.loss, config.data.batch_size)
    has_theta = config.model.irreps_theta is not None or getattr(config.model, "learn_fields", [])
    may_break = has_theta and config.theta.anneal is None
    if may_break:
        provenance["symmetry"] = verdict(model, validation, config.loss, config.data.batch_size)
    save(model, path, parts.frame, provenance)
    for name, value in record["test"].items():
        print(f"{name} {value:.4g}")
    if may_break:
        print(provenance["symmetry"]["verdict"])


def _trainer(config: Config, run: Path, callbacks: list[Callback]) -> Trainer:
    several = config.trainer.devices * config.trainer.num_nodes > 1
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings(), _named():
        _quiet()
        return Trainer(
            max_epochs=config.trainer.epochs,
            accelerator=config.trainer.accelerator,
            devices=config.trainer.devices,
            num_nodes=config.trainer.num_nodes,
            strategy="ddp" if several else "auto",
            inference_mode=False,  # forces are derivatives
            use_distributed_sampler=False,  # the data module has its own
            gradient_clip_val=config.optimizer.gradient_clip,
            callbacks=callbacks,
            logger=[CSVLogger(run, "logs"), TensorBoardLogger(run, "tensorboard")],
            plugins=[SafetensorsCheckpoint()],
            num_sanity_val_steps=0,
            log_every_n_steps=1,
            enable_model_summary=False,
            enable_progress_bar=sys.stderr.isatty(),
            default_root_dir=run,
        )


@contextmanager
def _named() -> Iterator[None]:
    """Say which key Lightning is at odds with."""
    try:
        yield
    except MisconfigurationException as error:
        raise ValueError(f"'trainer.accelerator', 'trainer.devices' or 'trainer.num_nodes': {error}") from None


@contextmanager
def _only_one(run: Path) -> Iterator[None]:
    """Keep others from training in the same folder at the same time.

    Raises:
        ValueError: If one does.
    """
    run.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(f"{run} is in use by another training: wait for its end, or choose another folder") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _interrupted(trainer: Trainer) -> Iterator[None]:
    """Say so when a training is interrupted: Lightning leaves without a word, after SIGTERM as if all were well."""
    try:
        yield
    except SystemExit:
        print(f"interrupted after epoch {trainer.current_epoch}: the same command goes on", file=sys.stderr, flush=True)
        if trainer.received_sigterm:
            raise SystemExit(128 + signal.SIGTERM) from None
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning ignores it from its first on
        raise KeyboardInterrupt from None


def _callbacks(config: Config) -> list[Callback]:
    callbacks: list[Callback] = [Lines()]
    if config.theta.anneal is not None:
        callbacks.append(Anneal(*config.theta.anneal))
    if config.optimizer.ema is not None:
        callbacks.append(EMAWeightAveraging(decay=config.optimizer.ema, use_buffers=False))
    if config.trainer.patience is not None:
        callbacks.append(Patience(_first_epoch(config), "validation/loss", patience=config.trainer.patience))
    return callbacks


def _first_epoch(config: Config) -> int:
    """Return the first epoch whose weights may be the ones to keep: with an annealed theta, when it has gone."""
    return 0 if config.theta.anneal is None else config.theta.anneal[1] - 1


def _quiet() -> None:
    """Ignore what Lightning says about workers and devices: the config chose them."""
    for start in (
        "The '.*_dataloader' does not have many workers",
        "GPU available but not used",
        ".*exists and is not empty",
        ".isinstance.treespec, LeafSpec.. is deprecated",  # Lightning 2.6 on torch 2.13
    ):
        warnings.filterwarnings("ignore", start)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def _check_same(run: Path, config: Config, record: dict[str, Any]) -> None:
    """Raise if the folder holds another training."""
    if not (run / CONFIG).exists():
        if run.is_dir() and any(path.name != LOCK for path in run.iterdir()):
            raise ValueError(f"{run} holds something else than a training: choose another folder")
        return
    earlier = _flat(yaml.safe_load((run / CONFIG).read_text(encoding="utf-8")))
    now = _flat(config.model_dump(mode="json"))
    names = [name for name in {**earlier, **now} if earlier.get(name) != now.get(name) and name not in FREE]
    if names:
        changes = "; ".join(f"{name} was {earlier.get(name)}, is {now.get(name)}" for name in names)
        raise ValueError(f"{run} holds a training of another config ({changes}): choose another folder")
    if (run / RECORD).exists() and json.loads((run / RECORD).read_text(encoding="utf-8"))["data"] != record["data"]:
        raise ValueError(
            f"{run} holds a training on other data: the structures have changed since. Choose another folder"
        )


def _flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in section.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def _say(parts: dict[str, dict[str, int]], model: torch.nn.Module) -> None:
    for name, counts in parts.items():
        labels = ", ".join(f"{label} {n}" for label, n in counts.items() if label != "structures")
        print(f"{name}: {counts['structures']} structures, with {labels}")
    print(f"{type(model).__name__}: {sum(p.numel() for p in model.parameters()):,} weights", flush=True)
