"""The errors of a trained model on structures with labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from torch_geometric.loader import DataLoader

from ..adapters import Source, open_source
from ..adapters.labels import RELAXED_BY
from ..data import TARGETS, info_key
from ..datasets import AtomsDataset
from ..io import load, read_header, trained_label_names
from ..models import RelaxedPotential, RelaxedTensor
from .data import KeepExtras, extras_among
from .losses import Errors, residual


def load_trained(path: str | Path) -> RelaxedPotential | RelaxedTensor:
    """Return the model in a file, if it is one that takes structures as they are.

    Args:
        path: What :func:`~pyg_relaxed.train.train` or :func:`pyg_relaxed.save` has written.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no model, or another.
    """
    model = load(path)
    if not isinstance(model, RelaxedPotential | RelaxedTensor):
        raise ValueError(
            f"{path} holds a {type(model).__name__}, which needs features of the atoms: only RelaxedPotential and "
            "RelaxedTensor take structures as they are"
        )
    return model


def evaluate(
    model: torch.nn.Module, dataset: AtomsDataset, names: Sequence[str] = (), batch_size: int = 16
) -> dict[str, dict[str, float]]:
    """Return for each label how many values there are, their mean absolute and root mean square errors.

    Energies count for each atom; errors are in the units of :func:`~pyg_relaxed.train.losses.unit`.

    Args:
        model: A model that returns a dictionary.
        dataset: Structures with labels.
        names: The labels; all that the model gives and the data have if empty.
        batch_size: Structures at a time.

    Raises:
        ValueError: If there is no such label, none that the model gives, or no structure.
    """
    if len(dataset) == 0:
        raise ValueError("the data set is empty: there is nothing to compare")
    model.eval()
    device = next(model.parameters()).device
    held: dict[str, None] = {}  # labels too that no structure of the first batch has
    for number, data in enumerate(dataset):
        held |= dict.fromkeys(data.keys())
        try:
            model.check(data.to(device))  # type: ignore[operator]
        except ValueError as error:
            raise ValueError(f"{dataset.place(number)}: {error}") from None
    errors = Errors(names or list(dict.fromkeys([*TARGETS, *held])))
    for batch in DataLoader(dataset, batch_size=batch_size):
        batch = batch.to(device)
        out = model(batch)
        for name in names or [name for name in out if name in batch]:
            errors.add(name, residual(name, out, batch))
    found = errors.means()
    if not found:
        dataset.check_labels(*(name for name in out if name in TARGETS))
        raise ValueError(f"none of {len(dataset)} structures has a label that the model gives ({', '.join(out)})")
    return {name: {key: mean[key] for key in ("count", "mae", "rmse")} for name, mean in found.items()}


def read_labelled(
    path: str | Path, source: str | Path | Sequence[Any] | Source, label_names: Mapping[str, str] | None = None
) -> AtomsDataset:
    """Return structures with what a model in a file needs to be evaluated on them.

    Labels are looked for where those stood that it was trained on. What ``pyg-relaxed relax`` has computed is no label.

    Args:
        path: The file of the model.
        source: Structures, as :func:`~pyg_relaxed.adapters.open_source` takes them.
        label_names: Labels that stand elsewhere, such as ``{"energy": "dft_energy"}``; ``{"energy": "energy"}`` if it
            was the training whose labels did.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a structure cannot be read, or none has a label of ``label_names``.
    """
    model, header = load_trained(path), read_header(path)
    config: Any = model.config
    extras = extras_among([*model.fields, config.get("name", "")])
    dataset = AtomsDataset(
        Unpredicted(open_source(source)),
        model.cutoff,
        label_names=trained_label_names(header) | dict(label_names or {}),
        dtype=next(model.parameters()).dtype,
        extras=bool(extras),
        pre_transform=KeepExtras(extras) if extras else None,
    )
    dataset.check_labels(*label_names or ())
    return dataset


def read_from(dataset: AtomsDataset, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return from which keys labels were read, those beyond the table too, and in how many structures."""
    keys = dataset.label_keys()
    return {name: keys.get(name, {info_key(name): len(dataset)}) for name in names}  # KeepExtras asks for it in all


class Unpredicted(Source):
    """Structures of a source; those that a model has relaxed come without its results: they are no labels.

    Args:
        source: The structures.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, n: int) -> Any:
        structure = self.source[n]
        if isinstance(structure, Atoms) and RELAXED_BY in structure.info:
            structure = structure.copy()  # without a calculator
        return structure

    def place(self, n: int) -> str:
        """Return where a structure is."""
        return self.source.place(n)

    def digest(self) -> str:
        """Return a hash of all that is read."""
        return f"unpredicted {self.source.digest()}"
