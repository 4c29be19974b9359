"""The parts of a data set, and batches of them for any number of processes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from ase.data import chemical_symbols
from lightning.pytorch import LightningDataModule
from torch.utils.data import DistributedSampler
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from ..adapters import open_source
from ..compat import o3
from ..data import INFO_PREFIX, SITE_PREFIX, info_key
from ..datasets import AtomsDataset
from ..models.species import atomic_numbers
from .config import Config, Source


@dataclass(frozen=True)
class KeepExtras:
    """Drop what structures carry beyond labels and inputs, but for what is named: it seldom batches.

    Args:
        names: Of ``info_*`` and ``site_*`` attributes that a model reads or learns.
        learned: Of fields that structures may have or not, zeros then, and their numbers of components.
    """

    names: tuple[str, ...]
    learned: tuple[tuple[str, int], ...] = ()

    def __call__(self, data: Data) -> Data:
        """Return the graph without them.

        Raises:
            ValueError: If one of the names is missing.
        """
        for name, dim in self.learned:
            if name not in data:
                data[name] = data.pos.new_zeros(1, dim)
        found = extras_among(data.keys())
        if missing := [name for name in self.names if name not in found]:
            where = "arrays" if missing[0].startswith(SITE_PREFIX) else "info"
            keys = ", ".join(map(info_key, found)) or "nothing"
            raise ValueError(
                f"the structure has no '{info_key(missing[0])}' in atoms.{where}, where '{missing[0]}' is read from. "
                f"Beyond the table of keys it has {keys}"
            )
        for name in found:
            if name not in self.names:
                del data[name]
        return data


def learned_extras(fields: Mapping[str, Any], learned: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """Return those of the learned fields that are no keys of the table, and their numbers of components."""
    return tuple((name, o3.Irreps(fields[name]).dim) for name in extras_among(learned))


def extras_among(names: Iterable[str]) -> tuple[str, ...]:
    """Return those of some attributes that are no keys of the table but what users hang on their structures."""
    return tuple(name for name in names if name.startswith((INFO_PREFIX, SITE_PREFIX)))


class Parts(LightningDataModule):
    """Training, validation and test structures of a config.

    Training batches are drawn in an order that the seed and the epoch fix, whatever the number of processes; the
    structures of a step are then the same for ``n`` processes of batches ``b`` and one of ``n b``.

    Args:
        config: The config.

    Raises:
        FileNotFoundError: If a source does not exist.
        ValueError: If a structure cannot be read, a label is missing, or the model will not know an element.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        data, seed = config.data, config.trainer.seed
        shares = {n: s for n, s in (("validation", data.validation), ("test", data.test)) if isinstance(s, float)}
        whole = self._read(data.train)
        self.parts: dict[str, AtomsDataset] = {"train": whole}
        if shares:
            try:
                cut = whole.split((1 - sum(shares.values()), *shares.values()), by=data.split, seed=seed)
            except ValueError as error:
                keys = ", ".join(f"'data.{name}' {share}" for name, share in shares.items())
                raise ValueError(
                    f"'data.split' {data.split}, {keys}: {error}. 'random' cuts anywhere; "
                    "other files may be given as 'data.validation'"
                ) from None
            self.parts = dict(zip(("train", *shares), cut, strict=True))
        for name, source in (("validation", data.validation), ("test", data.test)):
            if source is not None and not isinstance(source, float):
                self.parts[name] = self._read(source)
        self._check_species()
        self._check_fields()

    @property
    def digest(self) -> str:
        """A hash of all structures."""
        data = self.config.data
        sources = [s for s in (data.train, data.validation, data.test) if s is not None and not isinstance(s, float)]
        return hashlib.blake2b("".join(open_source(s).digest() for s in sources).encode(), digest_size=16).hexdigest()

    @property
    def frame(self) -> str:
        """Where the axes come from: ``"cartesian"`` if those of all training structures were kept."""
        return "cartesian" if all(data.get("frame") == "cartesian" for data in self.parts["train"]) else "standard"

    def counts(self) -> dict[str, dict[str, int]]:
        """Return for each part how many structures it has, and how many of them each label."""
        labels = self.config.loss.weights
        found = {}
        for name, part in self.parts.items():
            labelled = part.count_labels()
            found[name] = {"structures": len(part)} | {label: labelled.get(label, len(part)) for label in labels}
        return found

    def train_dataloader(self) -> DataLoader:
        """Return the batches of this process."""
        part = self.parts["train"]
        rank, size = self._process()
        sampler: DistributedSampler[Data] = DistributedSampler(
            part, size, rank, shuffle=True, seed=self.config.trainer.seed
        )
        return self._loader(part, sampler=sampler)

    def val_dataloader(self) -> DataLoader:
        """Return the validation batches of this process: each structure is in one of them, none twice."""
        return self._evaluated("validation")

    def test_dataloader(self) -> DataLoader:
        """Return the test batches of this process."""
        return self._evaluated("test")

    def _check_species(self) -> None:
        """Raise on elements that the model will not know, before hours of training and not after."""
        listed = self.config.model.species
        known = set(self.parts["train"].statistics().species if listed is None else atomic_numbers(listed))
        for name, part in self.parts.items():
            if unknown := [z for z in part.statistics().species if z not in known]:
                holding = [n for n, data in enumerate(part) if unknown[0] in data.z]
                why = "no training structure has" if listed is None else "'model.species' lacks"
                raise ValueError(
                    f"{name}: {len(holding)} of {len(part)} structures hold {chemical_symbols[unknown[0]]}, which "
                    f"{why}, the first is {part.place(holding[0])}. Leave them out, take another 'data.split' or "
                    "'trainer.seed', or list all elements in 'model.species'"
                )

    def _check_fields(self) -> None:
        """Raise on structures without a field that the model reads: some may have been forgotten, none is meant."""
        learned = getattr(self.config.model, "learn_fields", [])
        for field in self.config.model.fields:
            for name, part in self.parts.items():
                lacking = part.without(field) if field not in (*learned, "charge") else []
                if lacking:
                    raise ValueError(
                        f"{name}: {len(lacking)} of {len(part)} structures have no '{field}', the first is "
                        f"{part.place(lacking[0])}: give it in atoms.info, zeros where there is none"
                    )

    def _evaluated(self, name: str) -> DataLoader:
        rank, size = self._process()
        return self._loader(self.parts[name], sampler=range(rank, len(self.parts[name]), size))

    def _process(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _loader(self, part: AtomsDataset, **kwargs: Any) -> DataLoader:
        data = self.config.data
        return DataLoader(part, batch_size=data.batch_size, num_workers=data.num_workers, **kwargs)

    def _read(self, source: Source) -> AtomsDataset:
        config = self.config
        extras = extras_among([*config.loss.weights, *config.model.fields])
        learned = learned_extras(config.model.fields, getattr(config.model, "learn_fields", []))
        labels = [name for name in config.loss.weights if name not in extras]
        return AtomsDataset(
            source,
            config.model.cutoff,
            config.data.cache,
            labels=labels or None,
            label_names=config.data.label_names,
            on_error=config.data.on_error,
            dtype=getattr(torch, config.trainer.dtype),
            extras=bool(extras),
            pre_transform=KeepExtras(extras, learned) if extras else None,
            progress=False,
        )
