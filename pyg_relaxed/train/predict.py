"""Files of what a model predicts for any number of structures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch_geometric.data import Batch, Data

from ..adapters import Source, as_atoms, from_ase, open_source
from ..adapters.extxyz import to_extxyz
from ..adapters.files import is_transient
from ..adapters.labels import set_predicted
from ..checks import as_device, check_number
from ..data import AtomicData, decode
from ..files import write_text
from ..io import fingerprint, read_header
from ..models.outputs import split_outputs
from .evaluation import load_trained

MANIFEST = "predictions.manifest"  # no name of a structure
UNDEFINED = ("stress", "polarization", "dipole")  # and then NaN: without a volume, or in a crystal


class Counts(NamedTuple):
    """What became of the structures that one process of :func:`predict` had to do with.

    Args:
        written: Predicted and written.
        kept: Predicted and written earlier.
        failed: That could not be, now or earlier.
    """

    written: int = 0
    kept: int = 0
    failed: int = 0


def predict(
    model: str | Path,
    source: str | Path | Sequence[Any] | Source,
    out: str | Path,
    batch_size: int = 16,
    part_size: int = 1000,
    device: str | torch.device | None = None,
    rank: int = 0,
    num_processes: int = 1,
) -> Counts:
    """Write what a model predicts, in parts of extxyz; return what became of those of this process.

    Structures are read when they are needed and forgotten when they are written, so any number will do. A part is
    written as a whole or not at all, and one that is there is not computed again: what is interrupted goes on. Several
    processes, each with its ``rank``, share the parts. Structures that cannot be read, and those that the model is not
    for, are named in ``part-*.failed.txt`` beside their part, JSON of places and reasons.

    Structures keep all that they came with, labels too, as far as :func:`~pyg_relaxed.adapters.extxyz.for_extxyz` has
    a place for it. Beside it stand, in ``info`` and ``arrays``, ``predicted_energy``, ``predicted_forces`` and so on,
    and ``predicted_by``, which model it was and the names of what it gave; a structure that has something else by these
    names fails.

    Args:
        model: A model file.
        source: Structures, as :func:`~pyg_relaxed.adapters.open_source` takes them.
        out: A folder, which :class:`~pyg_relaxed.datasets.AtomsDataset` reads as one.
        batch_size: Structures at a time.
        part_size: Structures in a file.
        device: Where to compute. None is the CPU.
        rank: Of this process.
        num_processes: How many share the work.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the folder holds predictions of another model or other structures, the model does not take
            structures as they are, or a number or the device cannot be.
    """
    for name, number in (("batch_size", batch_size), ("part_size", part_size), ("num_processes", num_processes)):
        check_number(name, number)
    if not 0 <= rank < num_processes:
        raise ValueError(f"'rank' must be 0 to {num_processes - 1} (got {rank})")
    network = load_trained(model).to(as_device(device or "cpu")).eval()
    structures = open_source(source)
    header = read_header(model)
    manifest = {"model": header["sha256"], "structures": structures.digest(), "part_size": part_size}
    folder = Path(out)
    _check_same(folder, manifest)
    counts = Counts()
    for first in range(rank * part_size, len(structures), num_processes * part_size):
        numbers = range(first, min(first + part_size, len(structures)))
        path = folder / f"part-{first // part_size:06d}.extxyz"
        is_there = path.exists()
        if not is_there:
            _write_part(network, structures, numbers, path, batch_size, fingerprint(header))
        failed = len(json.loads(_failures(path).read_text(encoding="utf-8"))) if _failures(path).exists() else 0
        good = len(numbers) - failed
        counts = Counts(
            counts.written + (0 if is_there else good), counts.kept + good * is_there, counts.failed + failed
        )
    return counts


def _check_same(folder: Path, manifest: dict[str, Any]) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: predictions go into a folder, choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MANIFEST
    if path.exists():
        if json.loads(path.read_text()) != manifest:
            raise ValueError(
                f"{folder} holds predictions of another model, structures or part_size: choose another folder"
            )
        return
    write_text(path, json.dumps(manifest))


def _failures(part: Path) -> Path:
    return part.with_suffix(".failed.txt")  # a .json would be read as one of structures


def _write_part(
    network: torch.nn.Module, structures: Source, numbers: range, path: Path, batch_size: int, mark: str
) -> None:
    parameter, cutoff = next(network.parameters()), float(network.cutoff)  # type: ignore[arg-type]
    given, predicted, failed = [], [], {}
    for number in numbers:
        try:
            atoms = as_atoms(structures[number], extras=True)
            graph = from_ase(atoms, cutoff, parameter.dtype)
            network.check(graph)  # type: ignore[operator]
            given.append((structures.place(number), atoms, graph))
        except Exception as error:  # parsers raise anything
            if is_transient(error):
                raise
            failed[structures.place(number)] = str(error) or type(error).__name__
    for first in range(0, len(given), batch_size):
        places, originals, graphs = zip(*given[first : first + batch_size], strict=True)
        for place, atoms, found in zip(places, originals, _predicted(network, graphs, parameter.device), strict=True):
            if not all(np.isfinite(value).all() for value in found.values()):
                failed[place] = "the model gives NaN or infinity"
                continue
            new = atoms.copy()  # the user's own may be in memory
            new.calc = atoms.calc
            try:
                set_predicted(new, found, mark)
                predicted.append(to_extxyz(new))
            except ValueError as error:
                failed[place] = str(error)
    if failed:
        write_text(_failures(path), json.dumps(failed, ensure_ascii=False, indent=1))
    else:
        _failures(path).unlink(missing_ok=True)  # of a time when it was interrupted
    write_text(path, "".join(predicted))


def _predicted(
    network: torch.nn.Module, graphs: Sequence[Data], device: torch.device
) -> Iterator[dict[str, np.ndarray]]:
    """Yield what is predicted of structures, without what they cannot have."""
    fields: Any = network.fields
    read = {"z", "pos", "cell", "pbc", "edge_index", "edge_cell_shift", "cutoff", "frame", "charge", *fields}
    # Some may have no charge, or none of a field that is learned: they are zero.
    absent = {"charge": (1,)} | {name: (1, fields[name].dim) for name in getattr(network, "learned", ())}
    inputs = [
        AtomicData(
            **{name: graph.pos.new_zeros(shape) for name, shape in absent.items()}
            | {name: value for name, value in graph if name in read}
        )
        for graph in graphs
    ]
    outputs = network(Batch.from_data_list(inputs).to(device))
    for part in split_outputs(outputs, [graph.num_nodes for graph in graphs], getattr(network, "per_atom", False)):
        known = {name: value for name, value in part.items() if not (name in UNDEFINED and value.isnan().any())}
        yield {name: decode(name, value) for name, value in known.items()}
