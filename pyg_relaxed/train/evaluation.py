"""The errors of a trained model on structures with labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from ..adapters import Source, open_source
from ..adapters.labels import drop_predicted, predicted_by
from ..data import TARGETS, info_key
from ..datasets import AtomsDataset
from ..io import fingerprint, load, read_header, trained_label_names
from ..models import RelaxedPotential, RelaxedTensor
from .data import KeepExtras, extras_among, learned_extras
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
    path: str | Path,
    source: str | Path | Sequence[Any] | Source,
    label_names: Mapping[str, str] | None = None,
    on_error: str = "raise",
) -> AtomsDataset:
    """Return structures with what a model in a file needs to be evaluated on them.

    Labels are looked for where those stood that it was trained on. What the model itself has predicted is none.

    Args:
        path: The file of the model.
        source: Structures, as :func:`~pyg_relaxed.adapters.open_source` takes them.
        label_names: Labels that stand elsewhere, such as ``{"energy": "dft_energy"}``; ``{"energy": "energy"}`` if it
            was the training whose labels did.
        on_error: ``"skip"`` leaves out structures that cannot be read or that the model is not for.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a structure cannot be read or the model is not for it, or none has a label of ``label_names``.
    """
    model, header = load_trained(path), read_header(path)
    config: Any = model.config
    extras = extras_among([*model.fields, config.get("name", "")])
    dataset = AtomsDataset(
        Unpredicted(open_source(source), fingerprint(header)),
        model.cutoff,
        label_names=trained_label_names(header) | dict(label_names or {}),
        dtype=next(model.parameters()).dtype,
        extras=bool(extras),
        on_error=on_error,
        pre_transform=Fitting(model, KeepExtras(extras, learned_extras(model.fields, getattr(model, "learned", ())))),
    )
    dataset.check_labels(*label_names or ())
    return dataset


def read_from(dataset: AtomsDataset, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return from which keys labels were read, those beyond the table too, and in how many structures."""
    keys = dataset.label_keys()
    return {name: keys.get(name, {info_key(name): len(dataset)}) for name in names}  # KeepExtras asks for it in all


class Fitting:
    """Let through what a model can compute.

    Args:
        model: The model.
        extras: What else it reads or gives.
    """

    def __init__(self, model: RelaxedPotential | RelaxedTensor, extras: KeepExtras) -> None:
        self.model, self.extras = model, extras

    def __call__(self, data: Data) -> Data:
        """Return the graph with what the model needs.

        Raises:
            ValueError: If the model is not for it.
        """
        data = self.extras(data)
        self.model.check(data)
        return data


class Unpredicted(Source):
    """Structures of a source, without what a model has predicted of them: for that model it is no label.

    Args:
        source: The structures.
        by: The model, as :func:`~pyg_relaxed.io.fingerprint` says it.
    """

    def __init__(self, source: Source, by: str) -> None:
        self.source, self.by = source, by

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, n: int) -> Any:
        structure = self.source[n]
        if isinstance(structure, Atoms) and predicted_by(structure)[0] == self.by:
            calculator, structure = structure.calc, structure.copy()  # the user's own may be in memory
            structure.calc = calculator
            drop_predicted(structure)
        return structure

    def place(self, n: int) -> str:
        """Return where a structure is."""
        return self.source.place(n)

    def digest(self) -> str:
        """Return a hash of all that is read."""
        return f"unpredicted {self.by} {self.source.digest()}"
