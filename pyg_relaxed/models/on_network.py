"""What models share that embed species and read a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from ..checks import check_reach, check_species, parse_irreps
from ..compat import o3
from ..data import KEYS, info_key
from ..o3 import LearnedField
from ..o3.constants import ExactConstants
from .axes import check_axes
from .e3nn_network import RelaxedE3NN

if TYPE_CHECKING:
    from ..typing import IrrepsLike

FREE = ("charge", "spin", "electric_field", "magnetic_field")  # keys that models may read as fields
TAKEN = ("batch", "ptr", "num_nodes", "x", "u", "field")  # by PyG, and by networks
OWN = ("irreps_in", "irreps_out", "irreps_global", "pool")  # of the network, chosen by the model


class OnNetwork(ExactConstants):
    """A model on a :class:`RelaxedE3NN`, for the elements in ``species``."""

    species: Tensor
    network: RelaxedE3NN
    fields: Mapping[str, o3.Irreps] = {}
    strict_frame = False

    @property
    def irreps_theta(self) -> o3.Irreps | None:
        """Irreps of theta, :obj:`None` for the strict model."""
        return self.network.irreps_theta

    @property
    def irreps_field(self) -> o3.Irreps:
        """Irreps of all fields that come with a structure."""
        return sum(self.fields.values(), o3.Irreps())

    def reset_parameters(self) -> None:
        """Draw new weights and return theta and learned fields to their equivariant starting point."""
        self.network.reset_parameters()
        for field in self.learned.values():
            field.reset_parameters()  # type: ignore[operator]

    def check(self, data: Data) -> None:
        """Raise if the model cannot compute a graph or batch, before it does.

        Raises:
            ValueError: For elements, axes or edges that it is not for, and for fields that are missing.
        """
        self._given_fields(data, self._check(data)[1])

    def _network_config(self, *own: str) -> dict[str, Any]:
        """Return the config of the network without what the model chooses: the four above, and ``own``."""
        return {name: value for name, value in self.network.config.items() if name not in (*OWN, *own)}

    def _set_fields(self, fields: Mapping[str, IrrepsLike] | None, learn: Sequence[str] = ()) -> None:
        if fields is not None and not isinstance(fields, Mapping):
            raise ValueError(f"'fields' must be names and irreps such as {{'electric_field': '1o'}} (got {fields!r})")
        self.fields = {name: parse_irreps(f"fields['{name}']", irreps) for name, irreps in (fields or {}).items()}
        for name, given in self.fields.items():
            if name in TAKEN or (name in KEYS and name not in FREE):
                raise ValueError(f"'fields' names '{name}', which graphs have for something else: try 'info_{name}'")
            if name in KEYS and given != o3.Irreps(KEYS[name].irreps):
                raise ValueError(
                    f"'{name}' is {KEYS[name].irreps} (got {given}): choose another name for it, 'info_...'"
                )
        if unknown := [name for name in learn if name not in self.fields]:
            raise ValueError(
                f"'learn_fields' names '{unknown[0]}', which is not among 'fields' {list(self.fields)}: add it there, "
                "with its irreps"
            )
        self.learned = torch.nn.ModuleDict({name: LearnedField(self.fields[name]) for name in learn})

    def _check(self, data: Data) -> tuple[Tensor, int]:
        """Raise on graphs that the model is not for; return to which graph each atom belongs and their number."""
        check_species(data.z, self.species)
        check_axes(self, data)
        check_reach(data.get("cutoff"), self.network.cutoff)
        batch = data.get("batch")
        batch = torch.zeros_like(data.z) if batch is None else batch
        return batch, data.num_graphs if isinstance(data, Batch) else 1

    def _kind(self, data: Data) -> Tensor:
        """Return the place of the element of each atom in ``species``."""
        return torch.searchsorted(self.species, data.z)

    def _one_hot(self, data: Data, dtype: torch.dtype) -> Tensor:
        return torch.nn.functional.one_hot(self._kind(data), len(self.species)).to(dtype)

    def _given_fields(self, data: Data, num_graphs: int) -> dict[str, Tensor]:
        """Return the fields that come with each graph, ``[B, dim]``; of learned ones zeros where none comes.

        Raises:
            ValueError: If one is missing or has another size.
        """
        fields = {}
        for name, irreps in self.fields.items():
            field: Tensor | None = data.get(name)
            if field is None and name in self.learned:
                field = data.pos.new_zeros(num_graphs, irreps.dim)
            if field is not None and not isinstance(field, Tensor):
                raise ValueError(f"'{name}' must be a tensor (got {field!r}): give atoms.info a NumPy array of numbers")
            if field is None or field.numel() != num_graphs * irreps.dim:
                got = None if field is None else tuple(field.shape)
                raise ValueError(
                    f"the graph needs '{name}' [{num_graphs}, {irreps.dim}] in {irreps} (got {got}): "
                    + (
                        f"it has 'info_{name}', as from_ase calls what stands in atoms.info; call the field so"
                        if f"info_{name}" in data
                        else f"set atoms.info['{info_key(name)}'], zeros where there is none"
                    )
                )
            fields[name] = field.view(num_graphs, irreps.dim).to(data.pos.dtype)
        return fields

    def common_fields(self) -> Tensor:
        """Return the learned part of all fields, one after the other, ``[irreps_field.dim]``; zero where none is."""
        like = next(self.network.parameters())
        parts = [
            self.learned[name]() if name in self.learned else like.new_zeros(irreps.dim)
            for name, irreps in self.fields.items()
        ]
        return torch.cat([like.new_zeros(0), *parts])

    def _whole_fields(self, data: Data, num_graphs: int) -> dict[str, Tensor]:
        """Return the fields that act on each graph: what comes with it and what is learned together."""
        fields = self._given_fields(data, num_graphs)
        return {
            name: field + self.learned[name]().to(field.dtype) if name in self.learned else field
            for name, field in fields.items()
        }
