"""Residuals of labels, what is minimised, and what is told about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor
from torch_geometric.data import Data

from ..data import KEYS

PER_ATOM: Final = ("energy", "free_energy")  # extensive: compared for each atom
_MILLI: Final = {"eV", "eV/Å", "eV/Å^3"}

FUNCTIONS: Final[dict[str, Callable[[Tensor, float], Tensor]]] = {
    "mse": lambda residual, delta: residual.square(),
    "mae": lambda residual, delta: residual.abs(),
    "huber": lambda residual, delta: torch.nn.functional.huber_loss(
        residual, torch.zeros_like(residual), reduction="none", delta=delta
    ),
}


def residual(name: str, out: Mapping[str, Tensor], data: Data) -> Tensor:
    """Return the differences to the labels that there are, flat, energies for each atom; NaN is no label.

    Args:
        name: The label.
        out: What the model gives.
        data: A graph or batch with the label.

    Raises:
        ValueError: If the model does not give it where there is a label, or the shapes differ.
    """
    label = data[name]
    known = ~label.isnan()
    if name not in out:
        if known.any():
            raise ValueError(f"the model gives no '{name}' for a structure that has this label (it gives {list(out)})")
        return next(iter(out.values())).flatten()[:0]
    value = out[name]
    if value.shape != label.shape:
        is_of_atoms = len(label) == data.num_nodes and len(value) != data.num_nodes
        way = ": with per_atom=True ('model.per_atom' of a config) it gives one for each atom" if is_of_atoms else ""
        raise ValueError(f"'{name}' of the model is {tuple(value.shape)}, its label {tuple(label.shape)}{way}")
    difference = (value - label)[known]
    if name in PER_ATOM:
        difference = difference / _num_atoms(data)[known]
    if difference.isnan().any():
        raise ValueError(
            f"the model gives NaN for '{name}' where there is a label: either a structure has none (such as a stress "
            "without a cell), or the weights have grown without bounds (then lower 'optimizer.lr')"
        )
    return difference


def unit(name: str) -> tuple[str, float]:
    """Return the unit in which errors of a label are told, and how many of it are one of the label's own.

    Example:
        >>> unit("energy"), unit("forces"), unit("dipole")
        (('meV/atom', 1000.0), ('meV/Å', 1000.0), ('e·Å', 1.0))
    """
    own = KEYS[name].unit if name in KEYS else ""
    factor = 1e3 if own in _MILLI else 1.0
    text = f"m{own}" if factor > 1 else own
    return (f"{text}/atom" if name in PER_ATOM else text), factor


class Errors:
    """Sums over residuals, of which means are made when all batches, and processes, are through.

    Args:
        names: The labels.
        function: Of :data:`FUNCTIONS`.
        delta: Of ``"huber"``.
    """

    def __init__(self, names: Sequence[str], function: str = "mse", delta: float = 0.01) -> None:
        self.names = list(names)
        self.function, self.delta = FUNCTIONS[function], delta
        self.sums = torch.zeros(len(self.names), 4, dtype=torch.float64)

    def add(self, name: str, residual: Tensor) -> None:
        """Add the residuals of a batch."""
        r = residual.detach().double()
        terms = (torch.ones_like(r), self.function(r, self.delta), r.abs(), r.square())
        self.sums[self.names.index(name)] += torch.stack([term.sum() for term in terms]).cpu()

    def reduce(self, device: torch.device) -> None:
        """Add what other processes have."""
        self.sums = sum_over_processes(self.sums.to(device)).cpu()

    def means(self) -> dict[str, dict[str, float]]:
        """Return for each label with residuals how many there are, the mean of the function, ``mae`` and ``rmse``."""
        found = {}
        for name, (count, value, absolute, squares) in zip(self.names, self.sums.tolist(), strict=True):
            if count:
                _, factor = unit(name)
                mae, rmse = factor * absolute / count, factor * (squares / count) ** 0.5
                found[name] = {"count": count, "loss": value / count, "mae": mae, "rmse": rmse}
        return found


def sum_over_processes(values: Tensor) -> Tensor:
    """Return the sums of what all processes of a training have; alone, what there is.

    Args:
        values: On the device of this process; changed in place.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
    return values


def _num_atoms(data: Data) -> Tensor:
    batch = data.get("batch")
    if batch is None:
        return torch.tensor([len(data.z)], device=data.z.device)
    return torch.bincount(batch, minlength=data.num_graphs)
