"""A Cartesian tensor for each structure or each atom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import scatter

from ..compat import o3
from ..data import edge_vectors
from ..o3.cartesian import CartesianTensor
from .e3nn_network import RelaxedE3NN
from .on_network import OnNetwork
from .species import atomic_numbers

if TYPE_CHECKING:
    from ..typing import IrrepsLike, ThetaLike


class RelaxedTensor(OnNetwork):
    r"""Any Cartesian tensor of molecules and crystals, by the symmetry of its indices.

    .. math::
        T = \sum_c Q_c \, \frac{1}{N} \sum_i \left( \sigma x_{ic} + \mu_c \right)

    :math:`x_i` are the outputs of a :class:`RelaxedE3NN` in the irreps of the tensor, :math:`Q` is the orthonormal
    change of basis to Cartesian components, and :math:`\mu` is non-zero for scalars alone.

    Args:
        species (sequence of str or int): Symbols or atomic numbers of the elements it is for.
        formula (str, optional): Indices, and what they may be exchanged for, as e3nn writes it: ``"i"``, ``"ij=ji"``,
            ``"ijk=ikj"``, ``"ijkl=jikl=klij"``; ``""`` is a scalar. (default: ``"ij=ji"``)
        name (str, optional): What the output is called, such as ``"dielectric_tensor"``. (default: ``"tensor"``)
        cutoff (float, optional): Radius of the neighbourhood, Å. (default: :obj:`5.0`)
        irreps_theta (o3.Irreps, str, int or None, optional): Irreps of theta. (default: :obj:`None`, strict)
        irreps_hidden (o3.Irreps or str, optional): Irreps between the layers; they must have those of the tensor.
            (default: ``"32x0e+32x1o+32x2e"``, and 16 channels of what the tensor has beyond)
        num_layers (int, optional): Number of convolutions. (default: :obj:`3`)
        per_atom (bool, optional): A tensor for each atom, not for each structure. (default: :obj:`False`)
        pool (str, optional): ``"mean"`` over the atoms, for what does not grow with the cell, or ``"sum"``.
            (default: ``"mean"``)
        axial (bool, optional): Whether the inversion does to it the opposite of what the number of its indices says, as
            to magnetic moments. (default: :obj:`False`)
        scale (float, optional): What one unit of the network stands for, in the unit of the tensor.
            (default: :obj:`1.0`)
        shift (float or sequence of float, optional): Of each 0e among the irreps of the tensor, for each atom (one of
            0o would change sign under inversion);
            :math:`\sqrt{3} c` is the scalar of the tensor :math:`c \delta_{ij}`. (default: :obj:`0.0`)
        fields (dict, optional): Fields that come with each structure, as those of :class:`RelaxedPotential`.
            (default: none)
        **kwargs (optional): Additional arguments of :class:`RelaxedE3NN`: ``lmax``, ``num_neighbors``,
            ``share_theta``, ``num_basis``, ``radial_hidden``, ``theta_channels``.

    Shapes:
        - **input:** graph or batch with ``z`` ``[N]``, ``pos`` ``[N, 3]`` (Å), ``edge_index``, and for crystals
          ``cell`` ``[B, 3, 3]`` and ``edge_cell_shift``
        - **output:** ``{name: [B, 3, ..., 3]}``, or ``[N, 3, ..., 3]`` per atom

    Raises:
        ValueError: If a species is no element or not known to the model, the formula says nothing,
            ``irreps_hidden`` lacks an irrep of the tensor, or a graph is incomplete.

    Example::

        >>> import pyg_relaxed as pr
        >>> model = RelaxedTensor(["Ba", "Ti", "O"], "ij=ji", "dielectric_tensor", irreps_hidden="4x0e+4x1o+4x2e")
        >>> model(pr.from_ase(pr.structures.load("BaTiO3_P4mm")))["dielectric_tensor"].shape
        torch.Size([1, 3, 3])
    """

    shift: Tensor

    def __init__(
        self,
        species: Sequence[str | int],
        formula: str = "ij=ji",
        name: str = "tensor",
        cutoff: float = 5.0,
        irreps_theta: ThetaLike = None,
        irreps_hidden: IrrepsLike | None = None,
        num_layers: int = 3,
        per_atom: bool = False,
        pool: str = "mean",
        axial: bool = False,
        scale: float = 1.0,
        shift: float | Sequence[float] = 0.0,
        fields: Mapping[str, IrrepsLike] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if pool not in ("mean", "sum"):
            raise ValueError(f"'pool' must be 'mean' or 'sum' (got {pool!r})")
        numbers = atomic_numbers(species)
        self._set_fields(fields)
        self.cutoff, self.name, self.per_atom, self.pool, self.scale = float(cutoff), name, per_atom, pool, float(scale)
        self.tensor = CartesianTensor(formula) if formula else None
        polar = o3.Irreps("0e") if self.tensor is None else self.tensor.irreps
        self.irreps_out = o3.Irreps([(mul, (ir.l, -ir.p if axial else ir.p)) for mul, ir in polar])
        hidden = _hidden(self.irreps_out) if irreps_hidden is None else o3.Irreps(irreps_hidden)
        if missing := [str(ir) for _, ir in self.irreps_out if ir not in hidden]:
            raise ValueError(
                f"'irreps_hidden' {hidden} lacks {', '.join(missing)} of the tensor {formula!r}, {self.irreps_out}: "
                "add them"
            )
        shifts = _of_scalars(self.irreps_out, shift)
        self.register_buffer("species", torch.tensor(numbers), persistent=False)
        self.register_constant("shift", torch.tensor(shifts, dtype=torch.float64))
        self.network = RelaxedE3NN(
            f"{len(numbers)}x0e",
            self.irreps_out,
            hidden,
            irreps_theta,
            **{"lmax": max(2, self.irreps_out.lmax)} | kwargs,
            num_layers=num_layers,
            cutoff=cutoff,
            trim_last=True,
            irreps_field=self.irreps_field,
        )
        self.config: dict[str, Any] = {
            **self._network_config("irreps_field", "trim_last"),
            "species": numbers,
            "formula": formula,
            "name": name,
            "per_atom": per_atom,
            "pool": pool,
            "axial": axial,
            "scale": self.scale,
            "shift": [
                value for value, ir in zip(shifts, irrep_of_each(self.irreps_out), strict=True) if ir.is_scalar()
            ],
            "fields": {field: str(irreps) for field, irreps in self.fields.items()},
        }

    def forward(self, data: Data) -> dict[str, Tensor]:
        """Return the tensor."""
        batch, num_graphs = self._check(data)
        edge_vec = edge_vectors(data)
        fields = list(self._given_fields(data, num_graphs).values())
        x = self.network(
            self._one_hot(data, edge_vec.dtype),
            data.edge_index,
            edge_vec,
            batch,
            field=torch.cat(fields, dim=1) if fields else None,
        )
        x = x * self.scale + self.shift
        if not self.per_atom:
            x = scatter(x, batch, dim_size=num_graphs, reduce=self.pool)
        return {self.name: x[:, 0] if self.tensor is None else self.tensor.from_irreps(x)}


def irrep_of_each(irreps: o3.Irreps) -> list[o3.Irrep]:
    """Return the irrep of each component."""
    return [ir for mul, ir in irreps for _ in range(mul * ir.dim)]


def _hidden(irreps: o3.Irreps) -> o3.Irreps:
    hidden = o3.Irreps("32x0e+32x1o+32x2e")
    return hidden + o3.Irreps([(16, ir) for ir in dict.fromkeys(ir for _, ir in irreps) if ir not in hidden])


def _of_scalars(irreps: o3.Irreps, shift: float | Sequence[float]) -> list[float]:
    """Return a shift for each component: what is given for scalars, else zero."""
    places = [n for n, ir in enumerate(irrep_of_each(irreps)) if ir.is_scalar()]
    values = [float(shift)] * len(places) if isinstance(shift, int | float) else [float(value) for value in shift]
    if len(values) != len(places):
        raise ValueError(f"'shift' must have a value for each of the {len(places)} scalars of {irreps} (got {values})")
    shifts = [0.0] * irreps.dim
    for place, value in zip(places, values, strict=True):
        shifts[place] = value
    return shifts
