"""A potential as a model of metatomic: TorchScript that LAMMPS, i-PI, torch-sim, ASE and others run by its engines.

Nothing in the file is ours: it holds operations of torch and metatensor alone. No postponed annotations here, because
TorchScript reads no string as a type.
"""

# ruff: noqa: UP006, UP035, UP045  (metatomic compares types with those of ``typing``)

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Dict, List, Optional

import torch

from ..compat import scriptable_torch

with scriptable_torch():  # they compile as they are imported
    from metatensor.torch import Labels, TensorBlock, TensorMap
    from metatomic.torch import (
        AtomisticModel,
        ModelCapabilities,
        ModelMetadata,
        ModelOutput,
        NeighborListOptions,
        System,
    )

from ..files import check_directory, replacing
from ..models import RelaxedPotential
from .folded import FoldedPotential, fold
from .header import describe

VISIBLE = 1e-4  # eV: what rounding of an atom's energy is worth a word
CITED = ["https://arxiv.org/abs/2407.20471"]


class MetatomicPotential(torch.nn.Module):
    """The interface that metatomic asks for; it takes the derivatives itself.

    Args:
        potential: The energies of atoms, all fields part of it.
        cutoff: Of the neighbours, Å.
    """

    def __init__(self, potential: FoldedPotential, cutoff: float) -> None:
        super().__init__()
        self.potential = potential
        self.neighbours = NeighborListOptions(cutoff=cutoff, full_list=True, strict=True)

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:
        """Return which neighbours an engine is to find."""
        return [self.neighbours]

    def forward(
        self,
        systems: List[System],
        outputs: Dict[str, ModelOutput],
        selected_atoms: Optional[Labels] = None,
    ) -> Dict[str, TensorMap]:
        """Return the energies that are asked for, of whole systems or of atoms."""
        found: Dict[str, TensorMap] = {}
        if "energy" not in outputs or len(systems) == 0:
            return found
        device = systems[0].positions.device
        numbers: List[torch.Tensor] = []
        senders: List[torch.Tensor] = []
        receivers: List[torch.Tensor] = []
        vectors: List[torch.Tensor] = []
        rows: List[torch.Tensor] = []
        first = 0
        for n, system in enumerate(systems):
            pairs = system.get_neighbor_list(self.neighbours)
            numbers.append(system.types.to(torch.long))
            # A pair reaches from its first atom, which receives, to its second.
            receivers.append(pairs.samples.column("first_atom").to(torch.long) + first)
            senders.append(pairs.samples.column("second_atom").to(torch.long) + first)
            vectors.append(pairs.values.squeeze(-1))
            atoms = torch.arange(len(system), device=device)
            rows.append(torch.stack([torch.full_like(atoms, n), atoms], dim=1))
            first += len(system)
        z, vector, row = torch.cat(numbers), torch.cat(vectors), torch.cat(rows)
        edge_index = torch.stack([torch.cat(senders), torch.cat(receivers)])
        energies = self.potential(z, edge_index, vector, vector.new_zeros([0]))  # in float64, until they are summed
        if selected_atoms is not None:
            begins = torch.cumsum(torch.bincount(row[:, 0], minlength=len(systems)), 0)
            begins = torch.cat([begins.new_zeros([1]), begins[:-1]])
            row = selected_atoms.values.to(torch.long)
            energies = energies.index_select(0, begins[row[:, 0]] + row[:, 1])
        if outputs["energy"].sample_kind == "atom":
            samples = Labels(["system", "atom"], row.to(torch.int32))
        else:
            energies = energies.new_zeros([len(systems)]).index_add(0, row[:, 0], energies)
            samples = Labels(["system"], torch.arange(len(systems), device=device, dtype=torch.int32).unsqueeze(1))
        none = torch.zeros([1, 1], dtype=torch.int32, device=device)
        components: List[Labels] = []
        block = TensorBlock(energies.to(vector.dtype).unsqueeze(1), samples, components, Labels(["energy"], none))
        found["energy"] = TensorMap(Labels(["_"], none), [block])
        return found


def export_metatomic(
    model: RelaxedPotential, path: str | Path, *, fields: Mapping[str, Sequence[float]] | None = None
) -> Path:
    """Write a potential to a ``.pt`` file of metatomic.

    Energies are of the dtype of the model, also where those of this package are of float64: a warning says if that
    rounds the shifts visibly. Engines give no charge: the force of an electric field on a charged molecule is not in
    the file.

    Args:
        model: The potential.
        path: The file, ending in ``.pt``, replaced as a whole or not at all.
        fields: Values of its fields: no engine has any to give.

    Returns:
        The file.

    Raises:
        TypeError: If the model is no potential.
        ValueError: If ``fields`` are not those of the model, or the file has another ending.
        FileNotFoundError: If the directory does not exist.

    Example:
        >>> import tempfile
        >>> model = RelaxedPotential(["H", "O"], irreps_hidden="4x0e+4x1o", num_layers=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export_metatomic(model, f"{folder}/water.pt").name
        'water.pt'
    """
    path = Path(path)
    if path.suffix != ".pt":
        raise ValueError(f"a model of metatomic ends in .pt (got '{path.name}')")
    check_directory(path)
    potential = fold(model, fields or {}).to("cpu")
    header = describe(model, fields)
    largest, dtype = potential.shift.abs().max().item(), next(model.parameters()).dtype
    if (rounding := largest * torch.finfo(dtype).eps / 2) > VISIBLE:
        warnings.warn(
            f"energies of the file are of {header['dtype']}, which rounds shifts of {largest:.0f} eV per atom by "
            f"{1000 * rounding:.1g} meV, and totals by as much times the number of atoms: export in float64 "
            "(model.double(), --dtype float64), or train with shifts taken away",
            stacklevel=2,
        )
    capabilities = ModelCapabilities(
        outputs={"energy": ModelOutput(unit="eV", sample_kind="atom", description="energy, by atom or by system")},
        atomic_types=header["species"],
        interaction_range=header["reach"],
        length_unit="angstrom",
        supported_devices=["cpu", "cuda"],
        dtype=header["dtype"],
    )
    metadata = ModelMetadata(
        name="RelaxedPotential",
        references={"architecture": CITED},
        extra={key: str(value) for key, value in header.items()},
    )
    interface = MetatomicPotential(potential, model.cutoff).eval()
    with replacing(path) as new, scriptable_torch():
        AtomisticModel(interface, metadata, capabilities).save(str(new))
    return path
