"""Structures of files, folders, databases and lists as one PyG data set, processed once."""

from __future__ import annotations

import copy
import hashlib
import importlib.metadata
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch_geometric.data import Data, Dataset

from ..adapters.described import described
from ..adapters.files import is_transient
from ..adapters.labels import label_places
from ..adapters.sources import Source, as_graph, open_source
from ..checks import check_cutoff
from ..data import KEYS, TARGETS, AtomicData, as_label_names, check_labels, dtype_of, pack
from .splits import composition, prototype, split_groups
from .statistics import OPTIONAL, SUMMARY, Statistics, statistics, summarize
from .store import GraphStore, Row

if TYPE_CHECKING:
    from ..adapters.sources import Item

MANY = 1000  # entries, from which on processes share the work
SHOWN = 20  # keys in a message, at most


class AtomsDataset(Dataset):
    """The graphs of all structures in a file, a folder, a database or a list.

    Structures are read, searched for neighbours and transformed once, by several processes if they are many, and kept
    in one SQLite file under a hash of the content, of the arguments and of this package's version: whatever changes is
    processed anew, and nothing is read by pickle. What is interrupted goes on where it was; a graph that is on disk is
    not made again. Any number of processes may start at once on one ``root``: one of them processes, the others wait
    and read. Slices, masks and lists of places give a part of the data set, as for any PyG data set.

    Args:
        source (str, Path or sequence): A file (extxyz, ASE's traj and db, pymatgen's JSON, or any other that ASE or
            pymatgen reads), a folder of such, or a list of ``Atoms``, pymatgen structures and paths.
        cutoff (float, optional): In Å. (default: :obj:`5.0`)
        root (str or Path, optional): The folder to keep processed graphs in. (default: :obj:`None`, in memory only)
        in_memory (bool, optional): Hold all graphs in memory, as PyG's :class:`InMemoryDataset` does; otherwise each is
            read from ``root`` when it is asked for, as :class:`OnDiskDataset` does. (default: :obj:`True`)
        labels (sequence of str, optional): The labels that graphs shall have, such as ``("energy", "forces")``, and no
            others: none found is an error. Structures that lack one get NaN, so that graphs batch.
            (default: :obj:`None`, all that some structure has)
        label_names (dict, optional): Where labels stand in ``info`` and ``arrays`` or pymatgen's properties if not
            under their own names, such as ``{"energy": "dft_energy"}``. (default: :obj:`None`)
        on_error (str, optional): What an entry does that cannot be read: ``"raise"`` an error that names it, or
            ``"skip"``, then a warning counts them at the end and :attr:`failures` lists them. What is no fault of the
            entry, such as a drive that is gone or no memory left, is raised always, and tried again the next time.
            (default: :obj:`"raise"`)
        frame (str, optional): Where the axes come from; :obj:`None` asks each structure. (default: :obj:`None`)
        dtype (torch.dtype, optional): Of every float but energies, which are float64.
            (default: :obj:`None`, that of torch)
        extras (bool, optional): Also carry what is neither input nor label: ``site_*``, ``info_*``, tags, masses and so
            on, which seldom batch. Charges, fields, initial magnetic moments and fixed atoms are always carried: zero,
            or not fixed, for structures that do not say. (default: :obj:`False`)
        num_workers (int, optional): Processes that process. (default: :obj:`None`, one for each core from 1,000
            entries on)
        progress (bool, optional): Show a bar, on a terminal. (default: :obj:`True`)
        transform (callable, optional): Of each graph that is asked for. (default: :obj:`None`)
        pre_transform (callable, optional): Of each graph before it is kept. One that draws at random repeats itself
            after the same ``torch.manual_seed`` and with as many processes. (default: :obj:`None`)
        pre_filter (callable, optional): Keep the graphs for which it is true. (default: :obj:`None`)
        force_reload (bool, optional): Process all again. (default: :obj:`False`)

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If an entry cannot be read, or no structure has one of the ``labels``.

    Example::

        >>> from pyg_relaxed import structures
        >>> dataset = AtomsDataset([structures.load(name) for name in ("BaTiO3_P4mm", "BaTiO3_R3m")], cutoff=4.0)
        >>> dataset, dataset[0].num_nodes, dataset[:1].statistics().species
        (AtomsDataset(2), 5, (8, 22, 56))
    """

    def __init__(
        self,
        source: str | Path | Sequence[Item] | Source,
        cutoff: float = 5.0,
        root: str | Path | None = None,
        *,
        in_memory: bool = True,
        labels: Sequence[str] | None = None,
        label_names: Mapping[str, str] | None = None,
        on_error: str = "raise",
        frame: str | None = None,
        dtype: torch.dtype | None = None,
        extras: bool = False,
        num_workers: int | None = None,
        progress: bool = True,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        force_reload: bool = False,
    ) -> None:
        check_cutoff(cutoff)
        if on_error not in ("raise", "skip"):
            raise ValueError(f"'on_error' must be 'raise' or 'skip' (got '{on_error}')")
        if root is None and not in_memory:
            raise ValueError("without 'root' graphs have no place but memory: give a folder, or in_memory=True")
        if isinstance(labels, str):
            raise ValueError(f"'labels' must be a list of names, such as ('{labels}',)")
        if isinstance(labels, Mapping):
            raise ValueError("'labels' is a list of labels: where they stand is said by 'label_names'")
        check_labels(labels or ())
        label_names = as_label_names(label_names)
        super().__init__(None, transform, pre_transform, pre_filter)
        self.cutoff = float(cutoff)
        self.labels = None if labels is None else tuple(labels)
        self.label_names = dict(sorted(label_names.items()))
        self.dtype = torch.get_default_dtype() if dtype is None else dtype
        opened = open_source(source)
        work = _Work(opened, self.cutoff, self.dtype, frame, extras, self.label_names, pre_transform, pre_filter)
        path = ":memory:" if root is None else _file(Path(root), work)
        self._store = GraphStore(path)
        with self._store.writing(anew=force_reload) as done:
            if done is not None:
                _process(work, done, self._store, on_error, num_workers, progress)
        rows = self._store.rows()
        self.failures = [row for row in rows if row.reason is not None]
        if self.failures and on_error == "raise":  # another process left them out
            raise _failure(self.failures[0])
        self._rows = [row for row in rows if row.summary is not None]
        summaries = [row.summary for row in self._rows if row.summary is not None]
        self._inputs = {name for summary in summaries for name in summary["inputs"]}
        self._found = {name for summary in summaries for name in summary["labels"]}
        self._graphs: list[AtomicData] | None = None
        if in_memory:
            self._graphs = self._store.graphs()
        if self.failures:
            first = self.failures[0]
            warnings.warn(
                f"{len(self.failures)} of {len(opened)} entries are left out, the first is {first.place}: "
                f"{first.reason}. All of them are in dataset.failures",
                stacklevel=2,
            )
        self.check_labels(*self.labels or ())

    def len(self) -> int:
        """Return the number of graphs, those of all parts."""
        return len(self._rows)

    def get(self, idx: int) -> AtomicData:
        """Return a graph, counted among those of all parts."""
        row = self._rows[idx]
        data = self._store.graph(row.number) if self._graphs is None else copy.copy(self._graphs[idx])
        labels = self._found if self.labels is None else self.labels
        held = set(data.keys())
        for name in held.intersection(TARGETS).difference(labels):
            del data[name]
        missing = dict.fromkeys((name for name in TARGETS if name in labels), torch.nan)
        missing |= {name: value for name, value in OPTIONAL.items() if name in self._inputs}
        for name, value in missing.items():
            if name not in held:
                shape = [data.num_nodes if n == "N" else int(n) for n in KEYS[name].shape]
                data[name] = torch.full(shape, value, dtype=dtype_of(name, self.dtype))
        return data

    def place(self, idx: int) -> str:
        """Return where a graph of this part comes from: file and frame, row or item."""
        return self._rows[self.indices()[idx]].place

    def count_labels(self) -> dict[str, int]:
        """Return how many structures of this part have each label."""
        return dict(Counter(name for summary in self._summaries() for name in summary["labels"]))

    def label_keys(self) -> dict[str, dict[str, int]]:
        """Return for each label from which keys it was read, and in how many structures of this part.

        A key stands in ``info``, ``arrays`` or pymatgen's properties; ``"atoms.calc"`` are the results there.
        """
        found: dict[str, Counter[str]] = {}
        for summary in self._summaries():
            for name, key in summary["labels"].items():
                found.setdefault(name, Counter())[key] += 1
        return {name: dict(counts) for name, counts in found.items()}

    def without(self, name: str) -> list[int]:
        """Return which structures of this part come without an input, such as ``"charge"``; they are given zeros."""
        return [n for n, summary in enumerate(self._summaries()) if name in OPTIONAL and name not in summary["inputs"]]

    def check_labels(self, *names: str) -> None:
        """Raise unless at least one structure of this part has each of these labels.

        Raises:
            ValueError: If none has; the labels and other numbers that there are are named.
        """
        counts = self.count_labels()
        lacking = [name for name in names if not counts.get(name)]
        if not lacking:
            return
        wanted = [f"'{n}' (as '{self.label_names[n]}')" if n in self.label_names else f"'{n}'" for n in lacking]
        found = ", ".join(f"{label} ({n})" for label, n in counts.items()) or "none"
        others = Counter(key for summary in self._summaries() for key in summary["others"])
        numbers = ", ".join(key for key, _ in others.most_common(SHOWN)) or "none"
        raise ValueError(
            f"0 of {len(self)} structures have {', '.join(wanted)}. Labels found: {found}; other numbers: {numbers}. A "
            "label is read from REF_<label>, the results of atoms.calc or <label>, or from where label_names="
            f"{{'{lacking[0]}': NAME}} says ('data.label_names' of a config, --label {lacking[0]}=NAME of an eval)"
        )

    def statistics(self) -> Statistics:
        """Return sizes, neighbours and energies of the elements, of this part."""
        return statistics(self._summaries())

    def split(
        self, fractions: Sequence[float] = (0.8, 0.1, 0.1), by: str = "random", seed: int = 0
    ) -> list[AtomsDataset]:
        """Cut this part in smaller ones; each has all the ``labels``.

        Args:
            fractions (sequence of float, optional): The share of each. (default: :obj:`(0.8, 0.1, 0.1)`)
            by (str, optional): ``"random"``; ``"composition"``, structures with equal reduced formulas stay together;
                or ``"prototype"``, those with equal space groups and site symmetries do (:func:`prototype`).
                (default: :obj:`"random"`)
            seed (int, optional): Of the random order. (default: :obj:`0`)

        Raises:
            ValueError: If the fractions do not add up to 1, a structure is no crystal, or a part is empty or lacks a
                label.
        """
        groups: list[Any]
        if by == "random":
            groups = list(range(len(self)))
        elif by == "composition":
            groups = [composition(summary) for summary in self._summaries()]
        elif by == "prototype":
            groups = [self._prototype(place) for place in range(len(self))]
        else:
            raise ValueError(f"'by' must be 'random', 'composition' or 'prototype' (got '{by}')")
        parts = [self.index_select(places) for places in split_groups(groups, fractions, seed)]
        for n, part in enumerate(parts):
            if len(part) == 0:
                raise ValueError(
                    f"part {n} of the split is empty: {len(self)} structures in {len(set(groups))} groups by {by} are "
                    f"too few for fractions of {tuple(fractions)}"
                )
            try:
                part.check_labels(*self.labels or ())
            except ValueError as error:
                raise ValueError(f"part {n} of the split: {error}") from None
        return parts

    def _prototype(self, idx: int) -> str:
        try:
            return prototype(self.get(self.indices()[idx]))
        except ValueError as error:
            raise ValueError(f"{self.place(idx)}: {error}") from None

    def _summaries(self) -> list[dict[str, Any]]:
        summaries = (self._rows[idx].summary for idx in self.indices())
        return [summary for summary in summaries if summary is not None]

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({len(self)})"


class _Work(torch.utils.data.Dataset):
    """Entries by number, processed when they are asked for."""

    def __init__(
        self,
        source: Source,
        cutoff: float,
        dtype: torch.dtype,
        frame: str | None,
        extras: bool,
        label_names: dict[str, str],
        pre_transform: Callable[[Data], Data] | None,
        pre_filter: Callable[[Data], bool] | None,
    ) -> None:
        self.source = source
        self.arguments = (cutoff, dtype, frame, extras, label_names)
        self.pre_transform, self.pre_filter = pre_transform, pre_filter

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, number: int) -> Row:
        place = self.source.place(number)
        try:
            # What parsers and adapters complain of, and still read, is no news in a set of thousands.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                structure = self.source[number]
                *_, extras, label_names = self.arguments
                data: Data = as_graph(structure, *self.arguments)
                places, others = label_places(structure, label_names)
            for name in () if extras else data.keys():
                if name in KEYS and KEYS[name].role == "extra" and name not in OPTIONAL:
                    del data[name]
            if self.pre_filter is not None and not self.pre_filter(data):
                return Row(number, place, None, None, None)
            if self.pre_transform is not None:
                data = self.pre_transform(data)
            return Row(number, place, pack(data), summarize(data, places, others), None)
        except Exception as error:  # parsers raise anything
            if is_transient(error):
                error.add_note(f"while {place} was processed; what was done before is kept")
                raise
            return Row(number, place, None, None, str(error) or type(error).__name__)

    def digest(self) -> str:
        """Return a hash of all that the graphs depend on."""
        callables = [described(f) for f in (self.pre_transform, self.pre_filter)]
        version = importlib.metadata.version("pyg-relaxed")
        return hashlib.blake2b(
            repr((SUMMARY, version, self.source.digest(), self.arguments, callables)).encode()
        ).hexdigest()


def _file(root: Path, work: _Work) -> str:
    root = root.expanduser()
    root.mkdir(parents=True, exist_ok=True)
    return str(root / f"{work.digest()[:32]}.sqlite")


def _process(
    work: _Work, done: set[int], store: GraphStore, on_error: str, num_workers: int | None, progress: bool
) -> None:
    """Write a row for each entry that has none."""
    from torch.utils.data import DataLoader
    from tqdm import tqdm

    todo = [number for number in range(len(work)) if number not in done]
    if num_workers is None:
        num_workers = torch.get_num_threads() if len(todo) >= MANY and torch.get_num_threads() > 1 else 0
    # The seeds of the processes are those that the user's would give, and the global generator stays where it is.
    generator = torch.Generator().set_state(torch.get_rng_state())
    loader = DataLoader(
        work, batch_size=None, sampler=todo, num_workers=num_workers, collate_fn=_as_it_is, generator=generator
    )
    for row in tqdm(loader, desc="structures", initial=len(done), total=len(work), disable=None if progress else True):
        if row.reason is not None and on_error == "raise":
            raise _failure(row)
        store.write(row)


def _as_it_is(row: Any) -> Any:
    return row


def _failure(row: Row) -> ValueError:
    return ValueError(
        f"{row.place}: {row.reason}. Correct it, or leave such entries out with on_error='skip' (--skip of an eval)"
    )
