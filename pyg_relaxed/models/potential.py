"""An interatomic potential: energy, and forces and stress as its exact derivatives."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from ..data import cell_volume, edge_vectors
from ..nn import PairRepulsion
from ..nn.radial import Radial
from ..o3.linear import Linear
from .e3nn_network import RelaxedE3NN
from .on_network import OnNetwork
from .species import atomic_numbers, covalent_radii, for_each

if TYPE_CHECKING:
    from ..typing import IrrepsLike, ThetaLike

ELECTRIC = "electric_field"
FIRST_ANSWER = 0.1  # of what the network would make of a field at the start


class RelaxedPotential(OnNetwork):
    r"""Energy, forces and stress of molecules and crystals.

    .. math::
        E = \sum_i \left( \sigma_{z_i} e_i + \mu_{z_i} + \tfrac{1}{2} \sum_{j} V^{\mathrm{rep}}_{ij} \right), \qquad
        F_i = -\frac{\partial E}{\partial x_i}, \qquad
        \sigma_{ab} = \frac{1}{V} \frac{\partial E}{\partial \epsilon_{ab}}

    :math:`e_i` comes from a :class:`RelaxedE3NN`, an architecture like that of NequIP (arXiv 2101.03164). Forces and
    stress are exact derivatives of the energy, so that energy is conserved. The strain :math:`\epsilon`, with
    :math:`x' = (1 + \epsilon) x`, is not symmetrised: where theta breaks the symmetry a rotation changes the energy,
    and the antisymmetric part of the stress is the torque per volume. The forces sum to zero whatever theta is (but
    for charged molecules in an electric field, below).

    Args:
        species (sequence of str or int): Symbols or atomic numbers of the elements it is for.
        cutoff (float, optional): Radius of the neighbourhood, Å. (default: :obj:`5.0`)
        irreps_theta (o3.Irreps, str, int or None, optional): Irreps of theta. (default: :obj:`None`, strict)
        irreps_hidden (o3.Irreps or str, optional): Irreps between the layers. (default: ``"32x0e+32x1o+32x2e"``)
        num_layers (int, optional): Number of convolutions. (default: :obj:`3`)
        energy_scale (float or dict, optional): What one unit of the network stands for, eV; one for all species or
            one for each, such as the size of the forces. (default: :obj:`1.0`)
        energy_shift (float or dict, optional): Added to the energy for each atom, eV; one for all species or one for
            each, such as the energy of the atom alone. (The model's own is this and ``energy_scale`` times what the
            network gives an atom without neighbours, which need not be zero.) (default: :obj:`0.0`)
        repulsion (bool, optional): Add the :class:`~pyg_relaxed.nn.PairRepulsion` of the nuclei.
            (default: :obj:`False`)
        charges (bool, optional): Learn charges of the atoms, which add up to the charge of the structure, and from
            them and atomic dipoles the dipole of molecules. The energy depends on that charge only where it is among
            the fields, too: ``{"charge": "0e"}``. (default: :obj:`False`)
        fields (dict, optional): Fields that come with each structure, by the name they have in the graph, and their
            irreps: ``{"electric_field": "1o"}``, ``{"magnetic_field": "1e"}``, ``{"charge": "0e"}``, or with a name
            such as ``info_q`` what stands in ``atoms.info["q"]``. They act where theta does, beside it; the model is
            equivariant when they turn along. Of an electric field the dipole is the derivative of the energy, and takes
            the place of that of ``charges``. A molecule of charge ``q`` (``charge`` in the graph, e; default 0) has the
            energy :math:`-q \, \mathcal{E} \cdot \bar{x}` at its centre :math:`\bar{x}`, so that its forces sum to
            :math:`q \mathcal{E}`. (default: none)
        learn_fields (sequence of str, optional): Those of ``fields`` of which a part, the same for all structures, is
            learned in the field's own unit, a :class:`~pyg_relaxed.o3.LearnedField`; what comes with a structure, if
            anything does, is added. Its sign and size are only as well defined as the labels make them: by dipoles, or
            by the forces on charged molecules. (default: none)
        **kwargs (optional): Additional arguments of :class:`RelaxedE3NN`: ``lmax``, ``num_neighbors``,
            ``share_theta``, ``num_basis``, ``radial_hidden``, ``theta_channels``.

    Shapes:
        - **input:** graph or batch with ``z`` ``[N]``, ``pos`` ``[N, 3]`` (Å), ``edge_index``, and for crystals
          ``cell`` ``[B, 3, 3]``, ``pbc`` ``[B, 3]`` and ``edge_cell_shift``; with ``charges`` or an electric field
          also ``charge`` ``[B]`` (e; default 0), and the fields
        - **output:** ``{"energy": [B] in eV, "energies": [N], "forces": [N, 3] in eV/Å, "stress": [B, 3, 3] in
          eV/Å³}``, energies in float64. Only structures with a volume have a stress: rows of others are NaN, and with
          no volume at all the key is missing. With ``charges`` also ``"charges"`` ``[N]`` in e and, for structures
          without periodicity, ``"dipole"`` ``[B, 3]`` in e·Å about the origin, on the same terms; with an electric
          field (V/Å) also ``"dipole"`` or, with a volume, ``"polarization"`` ``[B, 3]`` in e/Å²

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

    scale: Tensor
    shift: Tensor

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
        fields: Mapping[str, IrrepsLike] | None = None,
        learn_fields: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self._set_fields(fields, learn_fields)
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
            irreps_field=self.irreps_field,
            **kwargs,
        )
        _soften(self.network)
        self.repulsion = PairRepulsion(numbers, covalent_radii(numbers), cutoff) if repulsion else None
        self.charges = charges
        self.config: dict[str, Any] = {
            **self._network_config("irreps_field", "trim_last"),
            "species": numbers,
            "energy_scale": dict(zip(map(str, numbers), scales, strict=True)),
            "energy_shift": dict(zip(map(str, numbers), shifts, strict=True)),
            "repulsion": repulsion,
            "charges": charges,
            "fields": {name: str(irreps) for name, irreps in self.fields.items()},
            "learn_fields": list(learn_fields),
        }

    def reset_parameters(self) -> None:
        """Draw new weights and return theta and learned fields to their equivariant starting point."""
        super().reset_parameters()
        _soften(self.network)

    def forward(self, data: Data) -> dict[str, Tensor]:
        """Return energy, forces and, for crystals, stress."""
        asked = [data.pos, data.get("cell"), *(data.get(name) for name in self.fields)]
        is_followed = self.training or any(isinstance(t, Tensor) and t.requires_grad for t in asked)
        is_followed = is_followed and torch.is_grad_enabled()
        with torch.inference_mode(False):  # forces are derivatives there too
            out, _ = self._evaluate(data, is_followed)
        return out if is_followed else {name: value.detach() for name, value in out.items()}

    def response(self, data: Data) -> dict[str, Tensor]:
        r"""Return what :meth:`forward` does, and how it answers to an electric field.

        ``"polarizability"`` :math:`\alpha_{ab} = -\partial^2 E / \partial \mathcal{E}_a \partial \mathcal{E}_b`,
        ``[B, 3, 3]`` in e·Å²/V, and ``"born_effective_charges"``
        :math:`Z_{ab} = -\partial^2 E / \partial \mathcal{E}_a \partial u_b`, ``[N, 3, 3]`` in e (X. Gonze and C. Lee,
        Phys. Rev. B 55, 10355 (1997), eq. 39), for atoms that stay where they are.

        Raises:
            ValueError: If the model has no ``electric_field``.
        """
        if ELECTRIC not in self.fields:
            raise ValueError(f"the model has no '{ELECTRIC}' (it has {list(self.fields)}): nothing answers to it")
        data = copy.copy(data)
        with torch.enable_grad():
            data.pos = data.pos.detach().clone().requires_grad_()
            B = data.num_graphs if isinstance(data, Batch) else 1
            data[ELECTRIC] = self._given_fields(data, B)[ELECTRIC].detach().clone().requires_grad_()
            out, moment = self._evaluate(data, True)
            assert moment is not None
            rows = [
                torch.autograd.grad(moment[:, a].sum(), (data[ELECTRIC], data.pos), retain_graph=True) for a in range(3)
            ]
        by_field, by_position = (torch.stack(parts, dim=1) for parts in zip(*rows, strict=True))
        out["polarizability"], out["born_effective_charges"] = by_field.view(-1, 3, 3), by_position
        return {name: value.detach() for name, value in out.items()}

    def _evaluate(self, data: Data, is_followed: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return all that is asked for, and the dipole moments (also of crystals) where there is an electric field."""
        batch, B = self._check(data)
        with torch.enable_grad():
            edge_vec = _followed(edge_vectors(data))
            fields = self._whole_fields(data, B)
            inputs = [edge_vec]
            if ELECTRIC in fields:
                fields[ELECTRIC] = _followed(fields[ELECTRIC])
                inputs.append(fields[ELECTRIC])
            out = self._atoms(data, edge_vec, batch, B, fields)
            # Of all there is only the vectors of the edges change with positions and strain.
            gradients = torch.autograd.grad(
                out["energy"].sum(), inputs, create_graph=is_followed, materialize_grads=True
            )
        gradient, moment = gradients[0], -gradients[1] if len(gradients) > 1 else None
        source, target = data.edge_index
        forces = torch.zeros_like(data.pos).index_add(0, target, gradient).index_add(0, source, -gradient)
        push = push_on_charge(data, fields[ELECTRIC], batch, B) if ELECTRIC in fields else None
        out["forces"] = forces if push is None else forces + push
        volume = _volume(data, B)
        if volume is not None:
            virial = torch.einsum("ea,eb->eab", gradient, edge_vec)
            virial = virial.new_zeros(B, 3, 3).index_add(0, batch[target], virial)
            out["stress"] = _per_volume(virial, volume.view(-1, 1, 1))
        if moment is not None:
            if (are_open := is_open(data, B)).any():
                out["dipole"] = moment.masked_fill(~are_open.unsqueeze(1), float("nan"))
            if volume is not None:
                out["polarization"] = _per_volume(moment, volume.unsqueeze(1))
        return out, moment

    def _atoms(
        self, data: Data, edge_vec: Tensor, batch: Tensor, B: int, fields: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return what follows from the features of the atoms alone."""
        kind, one_hot = self._kind(data), self._one_hot(data, edge_vec.dtype)
        field = torch.cat(list(fields.values()), dim=1) if fields else None
        x = self.network(one_hot, data.edge_index, edge_vec, batch, field=field)
        energies = x[:, 0] * self.scale[kind]
        if self.repulsion is not None:
            energies = energies + self.repulsion(edge_vec.norm(dim=1), kind, data.edge_index)
        # Shifts are large: in float32 they would take the digits of what is learnt.
        energies = energies.double() + self.shift[kind]
        push = push_on_charge(data, fields[ELECTRIC], batch, B) if ELECTRIC in fields else None
        if push is not None:
            energies = energies - (push * data.pos).sum(dim=1)
        out = {"energy": energies.new_zeros(B).index_add(0, batch, energies), "energies": energies}
        if self.charges:
            total = data.get("charge")
            total = x.new_zeros(B) if total is None else total.to(x.dtype)
            out["charges"] = charges = x[:, 1] + _share(total, x[:, 1], batch)[batch]
            if (are_open := is_open(data, B)).any():
                dipole = data.pos * charges.unsqueeze(1) + x[:, 2:]
                dipole = x.new_zeros(B, 3).index_add(0, batch, dipole)
                out["dipole"] = dipole.masked_fill(~are_open.unsqueeze(1), float("nan"))
        return out


def push_on_charge(data: Data, field: Tensor, batch: Tensor, B: int) -> Tensor | None:
    """Return the force of an electric field on charged molecules, shared equally by their atoms, ``[N, 3]``.

    Args:
        data: Graphs, with the ``charge`` of each, without which there is no such force.
        field: Of each, V/Å, shape ``[B, 3]``.
        batch: Graph of each atom, shape ``[N]``.
        B: Number of graphs.
    """
    charge = data.get("charge")
    if charge is None:
        return None
    charge = charge.to(data.pos.dtype).masked_fill(~is_open(data, B), 0.0)
    numbers = charge.new_zeros(B).index_add(0, batch, charge.new_ones(len(batch)))
    return (field * (charge / numbers.clamp(min=1)).unsqueeze(1))[batch]


@torch.no_grad()
def _soften(network: RelaxedE3NN) -> None:
    """Make the first answers of a network, to positions and fields, no larger than those of real structures.

    The Bessel functions are weighed as if they were orthonormal along the radius (arXiv 2003.03123, eq. 7); the layers
    have them larger by the root of their number. A potential differentiates them, and would start with forces of tens
    of eV/Å on molecules. A field would turn atoms into random charges of about 1 e, which outdo the true charge of an
    ion: a learned field then often grew in the wrong direction, whence no way leads back.
    """
    for module in network.modules():
        if isinstance(module, Radial):
            module.mlp[0].weight[: module.num_basis] *= module.num_basis**-0.5
    for field in network.fields:
        if isinstance(field, Linear):
            field.weight *= FIRST_ANSWER


def _followed(t: Tensor) -> Tensor:
    return t if t.requires_grad else t.detach().requires_grad_()


def _per_volume(t: Tensor, volume: Tensor) -> Tensor:
    """Return t per volume, NaN where there is none: not by dividing by NaN, which all gradients would become."""
    is_missing = volume.isnan()
    return (t / volume.masked_fill(is_missing, 1.0)).masked_fill(is_missing, float("nan"))


def _share(total: Tensor, charges: Tensor, batch: Tensor) -> Tensor:
    """Return what each atom of a graph is given so that all of them have the total charge, ``[B]``."""
    numbers = torch.zeros_like(total).index_add(0, batch, torch.ones_like(charges))
    return (total - torch.zeros_like(total).index_add(0, batch, charges)) / numbers.clamp(min=1)


def is_open(data: Data, B: int) -> Tensor:
    """Return which structures are periodic along no vector, ``[B]``: with neither ``pbc`` nor cell and shifts, all."""
    pbc = data.get("pbc")
    if pbc is not None:
        return ~pbc.view(B, 3).any(dim=1)
    has_no_lattice = data.get("cell") is None or data.get("edge_cell_shift") is None
    return torch.full((B,), has_no_lattice, device=data.z.device)


def _volume(data: Data, B: int) -> Tensor | None:
    """Return the volumes ``[B]``, Å³, NaN where there is none; nothing if there is none at all."""
    cell = data.get("cell")
    if cell is None:
        return None
    found = cell_volume(cell.view(B, 3, 3))
    has_volume = (found > 0) & ~is_open(data, B)
    return found.masked_fill(~has_volume, float("nan")) if has_volume.any() else None
