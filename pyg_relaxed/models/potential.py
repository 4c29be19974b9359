"""An interatomic potential: energy, and forces and stress as its exact derivatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from ..checks import check_species
from ..compat import o3
from ..data import edge_vectors
from ..nn import PairRepulsion
from ..o3.constants import ExactConstants
from .axes import check_axes
from .e3nn_network import RelaxedE3NN
from .species import atomic_numbers, covalent_radii, for_each

if TYPE_CHECKING:
    from ..typing import IrrepsLike, ThetaLike


class RelaxedPotential(ExactConstants):
    r"""Energy, forces and stress of molecules and crystals.

    .. math::
        E = \sum_i \left( \sigma_{z_i} e_i + \mu_{z_i} + \tfrac{1}{2} \sum_{j} V^{\mathrm{rep}}_{ij} \right), \qquad
        F_i = -\frac{\partial E}{\partial x_i}, \qquad
        \sigma_{ab} = \frac{1}{V} \frac{\partial E}{\partial \epsilon_{ab}}

    :math:`e_i` comes from a :class:`RelaxedE3NN`, an architecture like that of NequIP (arXiv 2101.03164). Forces and
    stress are exact derivatives of the energy, so that energy is conserved. The strain :math:`\epsilon`, with
    :math:`x' = (1 + \epsilon) x`, is not symmetrised: where theta breaks the symmetry a rotation changes the energy,
    and the antisymmetric part of the stress is the torque per volume. The forces sum to zero whatever theta is.

    Args:
        species (sequence of str or int): Symbols or atomic numbers of the elements it is for.
        cutoff (float, optional): Radius of the neighbourhood, Å. (default: :obj:`5.0`)
        irreps_theta (o3.Irreps, str, int or None, optional): Irreps of theta. (default: :obj:`None`, strict)
        irreps_hidden (o3.Irreps or str, optional): Irreps between the layers. (default: ``"32x0e+32x1o+32x2e"``)
        num_layers (int, optional): Number of convolutions. (default: :obj:`3`)
        energy_scale (float or dict, optional): What one unit of the network stands for, eV; one for all species or
            one for each, such as the size of the forces. (default: :obj:`1.0`)
        energy_shift (float or dict, optional): Energy of an atom alone, eV; one for all species or one for each.
            (default: :obj:`0.0`)
        repulsion (bool, optional): Add the :class:`~pyg_relaxed.nn.PairRepulsion` of the nuclei.
            (default: :obj:`False`)
        charges (bool, optional): Learn charges of the atoms, which add up to the charge of the structure, and from
            them and atomic dipoles the dipole of molecules. (default: :obj:`False`)
        **kwargs (optional): Additional arguments of :class:`RelaxedE3NN`: ``lmax``, ``num_neighbors``,
            ``share_theta``, ``num_basis``, ``radial_hidden``, ``theta_channels``.

    Shapes:
        - **input:** graph or batch with ``z`` ``[N]``, ``pos`` ``[N, 3]`` (Å), ``edge_index``, and for crystals
          ``cell`` ``[B, 3, 3]``, ``pbc`` ``[B, 3]`` and ``edge_cell_shift``; with ``charges`` also ``charge`` ``[B]``
          (e; default 0)
        - **output:** ``{"energy": [B] in eV, "energies": [N], "forces": [N, 3] in eV/Å, "stress": [B, 3, 3] in
          eV/Å³}``, energies in float64. Only structures with a volume have a stress: rows of others are NaN, and with
          no volume at all the key is missing. With ``charges`` also ``"charges"`` ``[N]`` in e and, for structures
          without periodicity, ``"dipole"`` ``[B, 3]`` in e·Å about the origin, on the same terms.

    While it trains, or when ``pos`` or ``cell`` ask for gradients, the output can be differentiated; in evaluation it
    holds no graph, whether gradients are switched off around it or not.

    Raises:
        ValueError: If a species is no element, named twice or not known to the model, or a graph is incomplete; with
            ``strict_frame`` also if the axes of a graph were rebuilt and theta breaks symmetry.

    Example::

        >>> from ase.build import molecule
        >>> import pyg_relaxed as pr
        >>> model = RelaxedPotential(["H", "O"], irreps_hidden="4x0e+4x1o", num_layers=1).eval()
        >>> out = model(pr.from_ase(molecule("H2O")))
        >>> {name: tuple(value.shape) for name, value in out.items()}
        {'energy': (1,), 'energies': (3,), 'forces': (3, 3)}
    """

    species: Tensor
    scale: Tensor
    shift: Tensor
    strict_frame = False

    def __init__(
        self,
        species: Sequence[str | int],
        cutoff: float = 5.0,
        irreps_theta: ThetaLike = None,
        irreps_hidden: IrrepsLike = "32x0e+32x1o+32x2e",
        num_layers: int = 3,
        energy_scale: float | Mapping[str | int, float] = 1.0,
        energy_shift: float | Mapping[str | int, float] = 0.0,
        repulsion: bool = False,
        charges: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        numbers = atomic_numbers(species)
        scales, shifts = (
            for_each(numbers, name, values)
            for name, values in (("energy_scale", energy_scale), ("energy_shift", energy_shift))
        )
        self.cutoff = float(cutoff)
        self.register_buffer("species", torch.tensor(numbers), persistent=False)
        self.register_constant("scale", torch.tensor(scales, dtype=torch.float64))
        self.register_constant("shift", torch.tensor(shifts, dtype=torch.float64), stays=True)
        self.network = RelaxedE3NN(
            f"{len(numbers)}x0e",
            "2x0e+1o" if charges else "0e",
            irreps_hidden,
            irreps_theta,
            num_layers=num_layers,
            cutoff=cutoff,
            trim_last=True,
            **kwargs,
        )
        self.repulsion = PairRepulsion(numbers, covalent_radii(numbers)) if repulsion else None
        self.charges = charges
        chosen = ("irreps_in", "irreps_out", "irreps_global", "pool", "trim_last")
        self.config: dict[str, Any] = {
            **{name: value for name, value in self.network.config.items() if name not in chosen},
            "species": numbers,
            "energy_scale": dict(zip(map(str, numbers), scales, strict=True)),
            "energy_shift": dict(zip(map(str, numbers), shifts, strict=True)),
            "repulsion": repulsion,
            "charges": charges,
        }

    @property
    def irreps_theta(self) -> o3.Irreps | None:
        """Irreps of theta, :obj:`None` for the strict model."""
        return self.network.irreps_theta

    def reset_parameters(self) -> None:
        """Draw new weights and return theta to its equivariant starting point."""
        self.network.reset_parameters()

    def forward(self, data: Data) -> dict[str, Tensor]:
        """Return energy, forces and, for crystals, stress."""
        check_species(data.z, self.species)
        check_axes(self, data)
        is_followed = self.training or data.pos.requires_grad or getattr(data.get("cell"), "requires_grad", False)
        is_followed = is_followed and torch.is_grad_enabled()
        batch = data.get("batch")
        batch = torch.zeros_like(data.z) if batch is None else batch
        B = data.num_graphs if isinstance(data, Batch) else 1
        with torch.enable_grad():
            edge_vec = edge_vectors(data)
            if not edge_vec.requires_grad:
                edge_vec.requires_grad_()
            out = self._atoms(data, edge_vec, batch, B)
            # Of all there is only the vectors of the edges change with positions and strain.
            (gradient,) = torch.autograd.grad(out["energy"].sum(), edge_vec, create_graph=is_followed)
        source, target = data.edge_index
        forces = torch.zeros_like(data.pos).index_add(0, target, gradient).index_add(0, source, -gradient)
        out["forces"] = forces
        volume = _volume(data, B)
        if volume is not None:
            virial = torch.einsum("ea,eb->eab", gradient, edge_vec)
            virial = virial.new_zeros(B, 3, 3).index_add(0, batch[target], virial)
            out["stress"] = virial / volume.view(-1, 1, 1)
        return out if is_followed else {name: value.detach() for name, value in out.items()}

    def _atoms(self, data: Data, edge_vec: Tensor, batch: Tensor, B: int) -> dict[str, Tensor]:
        """Return what follows from the features of the atoms alone."""
        kind = torch.searchsorted(self.species, data.z)
        one_hot = torch.nn.functional.one_hot(kind, len(self.species)).to(edge_vec.dtype)
        x = self.network(one_hot, data.edge_index, edge_vec)
        energies = x[:, 0] * self.scale[kind]
        if self.repulsion is not None:
            energies = energies + self.repulsion(edge_vec.norm(dim=1), kind, data.edge_index)
        # Shifts are large: in float32 they would take the digits of what is learnt.
        energies = energies.double() + self.shift[kind]
        out = {"energy": energies.new_zeros(B).index_add(0, batch, energies), "energies": energies}
        if self.charges:
            total = data.get("charge")
            total = x.new_zeros(B) if total is None else total.to(x.dtype)
            out["charges"] = charges = x[:, 1] + _share(total, x[:, 1], batch)[batch]
            if (is_open := _is_open(data, B)).any():
                dipole = data.pos * charges.unsqueeze(1) + x[:, 2:]
                dipole = x.new_zeros(B, 3).index_add(0, batch, dipole)
                out["dipole"] = dipole.masked_fill(~is_open.unsqueeze(1), float("nan"))
        return out


def _share(total: Tensor, charges: Tensor, batch: Tensor) -> Tensor:
    """Return what each atom of a graph is given so that all of them have the total charge, ``[B]``."""
    numbers = torch.zeros_like(total).index_add(0, batch, torch.ones_like(charges))
    return (total - torch.zeros_like(total).index_add(0, batch, charges)) / numbers.clamp(min=1)


def _is_open(data: Data, B: int) -> Tensor:
    """Return which structures are periodic along no vector, ``[B]``."""
    pbc = data.get("pbc")
    if pbc is not None:
        return ~pbc.view(B, 3).any(dim=1)
    shift = data.get("edge_cell_shift")
    return data.z.new_ones(B, dtype=torch.bool) if shift is None else data.z.new_zeros(B, dtype=torch.bool)


def _volume(data: Data, B: int) -> Tensor | None:
    """Return the volumes ``[B]``, Å³, NaN where there is none; nothing if there is none at all."""
    cell = data.get("cell")
    if cell is None:
        return None
    volume = torch.linalg.det(cell.view(B, 3, 3)).abs()
    has_volume = (volume > 0) & ~_is_open(data, B)
    return volume.masked_fill(~has_volume, float("nan")) if has_volume.any() else None
