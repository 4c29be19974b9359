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
from ..adapters.sources import Source, as_graph
from ..data import TARGETS, AtomicData
from ..datasets import AtomsDataset
from ..files import replacing
from ..io import load, read_header
from ..models import RelaxedPotential, RelaxedTensor
from ..models.outputs import split_outputs
from .losses import Errors, residual

MANIFEST = "predictions.manifest"  # no name of a structure


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
    for number, data in enumerate(dataset):
        try:
            model.check(data.to(device))  # type: ignore[operator]
        except ValueError as error:
            raise ValueError(f"{dataset.place(number)}: {error}") from None
    errors: Errors | None = None
    for batch in DataLoader(dataset, batch_size=batch_size):
        batch = batch.to(device)
        out = model(batch)
        if errors is None:
            errors = Errors(names or [name for name in out if name in batch])
        for name in errors.names:
            errors.add(name, residual(name, out, batch))
    found = {} if errors is None else errors.means()
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
        ValueError: If the folder holds predictions of another model or other structures, or the model does not take
            structures as they are.
    """
    structures = open_source(source)
    header = read_header(model)
    manifest = {"model": header["sha256"], "structures": structures.digest(), "part_size": part_size}
    folder = Path(out)
    _check_same(folder, manifest)
    network = load_trained(model).to(device).eval()
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
    with replacing(path) as new:
        new.write_text(json.dumps(manifest), encoding="utf-8")


def _write_part(network: torch.nn.Module, structures: Source, numbers: range, path: Path, batch_size: int) -> int:
    from ase.io import write

    parameter, cutoff = next(network.parameters()), float(network.cutoff)  # type: ignore[arg-type]
    graphs, predicted, failed = [], [], {}
    for number in numbers:
        try:
            graph = as_graph(structures[number], cutoff, parameter.dtype, None, True)
            network.check(graph)  # type: ignore[operator]
            graphs.append(graph)
        except Exception as error:  # parsers raise anything
            failed[structures.place(number)] = str(error) or type(error).__name__
    for first in range(0, len(graphs), batch_size):
        predicted += _predicted(network, graphs[first : first + batch_size], parameter.device)
    if failed:
        with replacing(path.with_suffix(".failed.txt")) as new:
            new.write_text(json.dumps(failed, ensure_ascii=False, indent=1), encoding="utf-8")
    with replacing(path) as new:
        write(new, predicted, format="extxyz")
    return len(predicted)


def _predicted(network: torch.nn.Module, graphs: list[Data], device: torch.device) -> list[Any]:
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
    found = []
    for graph, part in zip(graphs, parts, strict=True):
        for name in TARGETS:
            if name in graph:
                del graph[name]  # what is written is predicted
        for name, value in part.items():
            if not value.isnan().any():
                graph[name] = value
        atoms = to_ase(graph)
        # An empty value in extxyz swallows the entry after it, which may be what is predicted.
        atoms.info = {name: value for name, value in atoms.info.items() if not (isinstance(value, str) and not value)}
        found.append(atoms)
    return found
