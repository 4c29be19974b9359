"""A trained model on any number of structures: their errors, or files of what it predicts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from ..adapters import open_source, to_ase
from ..adapters.ase import for_extxyz
from ..adapters.files import is_transient
from ..adapters.sources import Source, as_graph
from ..checks import as_device, check_number
from ..data import TARGETS, AtomicData
from ..datasets import AtomsDataset
from ..files import replacing, write_text
from ..io import load, read_header
from ..models import RelaxedPotential, RelaxedTensor
from ..models.outputs import split_outputs
from .losses import Errors, residual

MANIFEST = "predictions.manifest"  # no name of a structure
UNDEFINED = ("stress", "polarization", "dipole")  # and then NaN: without a volume, or in a crystal


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
        ValueError: If there is no such label.
    """
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
        raise ValueError(f"none of {len(dataset)} structures has a label that the model gives: nothing to compare")
    return {name: {key: mean[key] for key in ("count", "mae", "rmse")} for name, mean in found.items()}


def predict(
    model: str | Path,
    source: str | Path | Sequence[Any] | Source,
    out: str | Path,
    batch_size: int = 16,
    part_size: int = 1000,
    device: str | torch.device | None = None,
    rank: int = 0,
    num_processes: int = 1,
) -> int:
    """Write what a model predicts, in parts of extxyz; return how many structures this process wrote.

    Structures are read when they are needed and forgotten when they are written, so any number will do. A part is
    written as a whole or not at all, and one that is there is not computed again: what is interrupted goes on. Several
    processes, each with its ``rank``, share the parts. Structures that cannot be read, and those that the model is not
    for, are named in ``part-*.failed.txt`` beside their part.

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
    written = 0
    for first in range(rank * part_size, len(structures), num_processes * part_size):
        path = folder / f"part-{first // part_size:06d}.extxyz"
        if not path.exists():
            written += _write_part(
                network, structures, range(first, min(first + part_size, len(structures))), path, batch_size
            )
    return written


def _check_same(folder: Path, manifest: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MANIFEST
    if path.exists():
        if json.loads(path.read_text()) != manifest:
            raise ValueError(
                f"{folder} holds predictions of another model, structures or part_size: choose another folder"
            )
        return
    write_text(path, json.dumps(manifest))


def _write_part(network: torch.nn.Module, structures: Source, numbers: range, path: Path, batch_size: int) -> int:
    from ase.io import write

    parameter, cutoff = next(network.parameters()), float(network.cutoff)  # type: ignore[arg-type]
    graphs, places, predicted, failed = [], [], [], {}
    for number in numbers:
        try:
            graph = as_graph(structures[number], cutoff, parameter.dtype, None, True)
            network.check(graph)  # type: ignore[operator]
            graphs.append(graph)
            places.append(structures.place(number))
        except Exception as error:  # parsers raise anything
            if is_transient(error):
                raise
            failed[structures.place(number)] = str(error) or type(error).__name__
    for first in range(0, len(graphs), batch_size):
        found = _predicted(network, graphs[first : first + batch_size], parameter.device)
        for place, atoms in zip(places[first : first + batch_size], found, strict=True):
            if atoms is None:
                failed[place] = "the model gives NaN or infinity"
            else:
                predicted.append(atoms)
    if failed:
        write_text(path.with_suffix(".failed.txt"), json.dumps(failed, ensure_ascii=False, indent=1))
    with replacing(path) as new:
        write(new, predicted, format="extxyz")
    return len(predicted)


def _predicted(network: torch.nn.Module, graphs: list[Data], device: torch.device) -> list[Any]:
    """Return structures with what is predicted of them, None for those with what is no number."""
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
    parts = split_outputs(outputs, [graph.num_nodes for graph in graphs], getattr(network, "per_atom", False))
    found: list[Any] = []
    for graph, part in zip(graphs, parts, strict=True):
        for name in TARGETS:
            if name in graph:
                del graph[name]  # what is written is predicted
        known = {name: value for name, value in part.items() if not (name in UNDEFINED and value.isnan().any())}
        if not all(value.isfinite().all() for value in known.values()):
            found.append(None)
            continue
        for name, value in known.items():
            graph[name] = value
        found.append(for_extxyz(to_ase(graph)))
    return found
