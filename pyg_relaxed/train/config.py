"""What a training is told: typed sections of a YAML file, in which nothing unknown passes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..checks import nearest
from ..data import INFO_PREFIX, SITE_PREFIX, TARGETS, as_label_names

Source = str | list[str]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of the config: typed, without keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(Section):
    """The structures.

    Args:
        train: Files or folders of structures with labels.
        validation: More of them, or the share of ``train`` that is held back.
        test: More of them, or a further share; evaluated once at the end.
        label_names: Where labels stand if not under their own names, ``{energy: dft_energy, forces: dft_forces}``.
        split: What stays together when ``train`` is cut, see :meth:`~pyg_relaxed.datasets.AtomsDataset.split`.
        cache: Folder of processed graphs; without one they are made anew at each start.
        batch_size: Structures in a batch, for each device.
        num_workers: Processes that collect batches.
        on_error: What to do with a structure that cannot be read.
    """

    train: Source
    validation: float | Source = 0.1
    test: float | Source | None = None
    label_names: dict[str, str] = {}
    split: Literal["random", "composition", "prototype"] = "random"
    cache: str | None = None
    batch_size: Count = 5
    num_workers: Annotated[int, Field(ge=0)] = 0
    on_error: Literal["raise", "skip"] = "raise"

    @field_validator("label_names", mode="before")
    @classmethod
    def _labels(cls, label_names: Any) -> Any:
        return as_label_names(label_names) if isinstance(label_names, dict) else label_names or {}


class NetworkConfig(Section):
    """What models share, see :class:`~pyg_relaxed.models.RelaxedE3NN`; None is read from the data."""

    species: list[str | int] | None = None
    cutoff: Positive = 5.0
    irreps_theta: str | int | None = None
    num_layers: Count = 3
    lmax: Annotated[int, Field(ge=0)] = 2
    num_basis: Count = 8
    radial_hidden: list[Count] = [64]
    share_theta: bool = False
    theta_channels: Count = 8
    num_neighbors: Positive | None = None
    fields: dict[str, str] = {}


class PotentialConfig(NetworkConfig):
    """A :class:`~pyg_relaxed.models.RelaxedPotential`; scale and shift are read from the data if None."""

    kind: Literal["RelaxedPotential"] = "RelaxedPotential"
    irreps_hidden: str = "32x0e+32x1o+32x2e"
    energy_scale: Positive | dict[str, Positive] | None = None
    energy_shift: float | dict[str, float] | None = None
    repulsion: bool = False
    charges: bool = False
    learn_fields: list[str] = []


class TensorConfig(NetworkConfig):
    """A :class:`~pyg_relaxed.models.RelaxedTensor`; scale and shift are read from the data if None."""

    kind: Literal["RelaxedTensor"]
    name: str
    formula: str = "ij=ji"
    irreps_hidden: str | None = None
    per_atom: bool = False
    pool: Literal["mean", "sum"] = "mean"
    axial: bool = False
    scale: Positive | None = None
    shift: float | list[float] | None = None


class LossConfig(Section):
    """What is minimised: the weighted sum over labels of means over their components, energies for each atom.

    Args:
        weights: Of each label, for residuals in its own unit (eV per atom, eV/Å, eV/Å³, ...).
        function: ``"mse"``, ``"mae"``, or ``"huber"``, which is quadratic up to ``delta``.
        delta: Of ``"huber"``, in the unit of the label.
    """

    weights: dict[str, Positive] = {"energy": 1.0, "forces": 1.0}
    function: Literal["mse", "mae", "huber"] = "mse"
    delta: Positive = 0.01

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: dict[str, float]) -> dict[str, float]:
        if not weights:
            raise ValueError("no label has a weight: nothing would be learnt")
        for name in weights:
            if name not in TARGETS and not name.startswith((INFO_PREFIX, SITE_PREFIX)):
                raise ValueError(f"label '{name}': {nearest(name, TARGETS)}")
        return weights


class OptimizerConfig(Section):
    """A :class:`~pyg_relaxed.optim.RelaxedAdam`.

    Args:
        lr: Largest learning rate.
        schedule: ``"cosine"`` to zero over the whole training, or ``"constant"``.
        warmup_steps: Steps over which it rises.
        penalty: Group lasso on theta; by irrep (``{1o: 0.01, 2e: 0.02}``) to weigh degrees differently.
        weight_decay: Of all weights but theta.
        gradient_clip: Largest norm of the gradient of all weights together, which keeps its direction.
        ema: Decay of the moving average of the weights that is validated and saved; None for none.
    """

    lr: Positive = 0.005
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    penalty: Annotated[float, Field(ge=0)] | dict[str, Annotated[float, Field(ge=0)]] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    gradient_clip: Positive | None = 10.0
    ema: Annotated[float, Field(gt=0, lt=1)] | None = 0.99


class ThetaConfig(Section):
    """When theta may break symmetry.

    Args:
        strict_epochs: So long theta stays at its strict starting point.
        anneal: First epoch and end of its way back to exactly zero; afterwards the model is strict.
    """

    strict_epochs: Annotated[int, Field(ge=0)] = 0
    anneal: tuple[int, int] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> ThetaConfig:
        if self.anneal is not None and not self.strict_epochs <= self.anneal[0] < self.anneal[1]:
            raise ValueError(f"'anneal' must begin after 'strict_epochs' and end after it begins (got {self.anneal})")
        return self


class TrainerConfig(Section):
    """How long, where, and in which precision.

    Args:
        epochs: At most.
        patience: Epochs without a smaller validation loss after which it stops; None never.
        seed: Of weights, parts and order.
        dtype: Of model and data.
        accelerator: As Lightning has it, ``"auto"`` takes a GPU if there is one.
        devices: Processes, one for each device.
        num_nodes: Machines.
    """

    epochs: Count = 100
    patience: Count | None = None
    seed: int = 0
    dtype: Literal["float32", "float64"] = "float32"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Count = 1
    num_nodes: Count = 1


class Config(Section):
    """A training.

    Example:
        >>> config = Config(data={"train": "train.extxyz"}, trainer={"epochs": 5})
        >>> config.model.kind, config.trainer.epochs, config.optimizer.ema
        ('RelaxedPotential', 5, 0.99)
    """

    data: DataConfig
    model: Annotated[PotentialConfig | TensorConfig, Field(discriminator="kind")] = PotentialConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    theta: ThetaConfig = ThetaConfig()
    trainer: TrainerConfig = TrainerConfig()

    @model_validator(mode="before")
    @classmethod
    def _default_kind(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and isinstance(raw.get("model"), dict):
            return {**raw, "model": {"kind": "RelaxedPotential", **raw["model"]}}
        return raw

    @model_validator(mode="after")
    def _fits(self) -> Config:
        if isinstance(self.model, TensorConfig) and list(self.loss.weights) != [self.model.name]:
            raise ValueError(
                f"'loss.weights' must be of '{self.model.name}', what the model gives (got {list(self.loss.weights)})"
            )
        if self.theta.anneal is not None and self.theta.anneal[1] > self.trainer.epochs:
            raise ValueError(
                f"'theta.anneal' ends at epoch {self.theta.anneal[1]}, after the last of {self.trainer.epochs}"
            )
        return self

    def to_yaml(self) -> str:
        """Return it as YAML, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


_SECTIONS = {name: field.annotation for name, field in Config.model_fields.items()}


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config.

    Args:
        path: A YAML file; paths in it are taken from the current folder.
        overrides: Of single values, ``"trainer.epochs=5"``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no YAML, or a key or value is wrong; all of them are named.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no config at {path}: `pyg-relaxed new-config {path}` writes one")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML ({error})") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: must be sections such as 'data:' and 'model:' (got a {type(raw).__name__})")
    raw = {name: section for name, section in raw.items() if section is not None}  # all its keys are commented out
    for override in overrides:
        _override(raw, override)
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise ValueError("\n".join(f"{path}: {sentence}" for sentence in _sentences(error))) from None


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    *sections, name = key.strip().split(".")
    if not equals or not name:
        raise ValueError(f"an override must be such as 'trainer.epochs=5' (got '{override}')")
    for section in sections:
        raw = raw.setdefault(section, {})
        if not isinstance(raw, dict):
            raise ValueError(f"'{override}': '{section}' is no section")
    raw[name] = yaml.safe_load(value)


def _sentences(error: ValidationError) -> list[str]:
    kinds = {"RelaxedPotential", "RelaxedTensor"}  # pydantic names the kind it chose
    sentences = []
    for one in error.errors():
        place = [str(part) for part in one["loc"] if part not in kinds]
        name = ".".join(place)
        if one["type"] == "extra_forbidden":
            sentences.append(f"{name}: unknown key: {nearest(place[-1], _names(place[:-1]))}")
        elif one["type"] == "missing":
            sentences.append(f"{name} is missing")
        else:
            got = "" if isinstance(one["input"], dict) else f" (got {one['input']!r})"
            sentences.append(f"{name}: {one['msg'].removeprefix('Value error, ')}{got}".removeprefix(": "))
    return sentences


def _names(place: list[str]) -> list[str]:
    """Return the keys that a section knows."""
    if not place:
        return list(Config.model_fields)
    if place[0] == "model":
        return [*dict.fromkeys([*PotentialConfig.model_fields, *TensorConfig.model_fields])]
    return list(getattr(_SECTIONS.get(place[0]), "model_fields", {}))
