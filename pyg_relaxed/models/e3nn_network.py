"""A relaxed E(3)-equivariant network from node features to node features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.utils import scatter

from ..checks import check_edge_vec, check_features, check_number, check_reach, parse_irreps
from ..compat import o3
from ..data import edge_vectors
from ..nn import EdgeEmbedding, RelaxedInteraction
from ..o3 import RelaxedWeights
from ..o3.grouped import Groups
from ..o3.layout import ChangeOfLayout
from ..o3.linear import Linear, as_weights
from .axes import check_axes

if TYPE_CHECKING:
    from ..typing import IrrepsLike, ThetaLike


class RelaxedE3NN(torch.nn.Module):
    r"""Embedding, relaxed convolutions with gates and self-connections, linear readout.

    With ``irreps_theta=None``, or with theta at its starting point, the network is exactly E(3)-equivariant; every
    other component of theta breaks the symmetry in one known way (`arXiv 2407.20471 <https://arxiv.org/abs/2407.20471>`_).

    Args:
        irreps_in (o3.Irreps or str): Irreps of the node features ``x``.
        irreps_out (o3.Irreps or str): Irreps of the output.
        irreps_hidden (o3.Irreps or str, optional): Irreps between the layers.
            (default: 16 channels of each irrep up to ``lmax``, both parities)
        irreps_theta (o3.Irreps, str, int or None, optional): Irreps of theta. (default: :obj:`None`, strict)
        lmax (int, optional): Largest degree of the spherical harmonics. (default: :obj:`2`)
        num_layers (int, optional): Number of convolutions. (default: :obj:`2`)
        cutoff (float, optional): Radius of the neighbourhood, Å. (default: :obj:`5.0`)
        irreps_global (o3.Irreps or str, optional): Irreps of the attributes ``u`` of a graph, given to every node.
        pool (str, optional): ``"sum"`` or ``"mean"`` over the nodes of a graph; :obj:`None` keeps the nodes.
            (default: :obj:`None`)
        share_theta (bool, optional): Use one theta for all layers. (default: :obj:`False`)
        num_neighbors (float, optional): Average number of neighbours. (default: :obj:`1.0`)
        num_basis (int, optional): Number of Bessel functions. (default: :obj:`8`)
        radial_hidden (sequence of int, optional): Hidden widths of the radial networks. (default: :obj:`(64,)`)
        theta_channels (int, optional): On a node let theta act on the first so many channels of each irrep.
            (default: :obj:`8`)
        trim_last (bool, optional): Leave out of the last layer the irreps that the readout cannot use.
            (default: :obj:`False`)
        irreps_field (o3.Irreps or str, optional): Irreps of fields that are given with each graph. A learned multiple
            of them is added to theta, which gets the irreps it lacks for that. (default: none)

    Shapes:
        - **input:** a :class:`~torch_geometric.data.Data` or batch with ``x`` ``[N, irreps_in.dim]``, ``edge_index``
          ``[2, E]`` and either ``edge_vec`` ``[E, 3]`` or ``pos`` (with ``cell`` and ``edge_cell_shift`` for
          crystals), in Å, and where asked for ``u`` ``[B, irreps_global.dim]`` and ``field``
          ``[B, irreps_field.dim]``; or the same as tensors ``(x, edge_index, edge_vec)``
        - **output:** ``[N, irreps_out.dim]``, or ``[B, irreps_out.dim]`` if pooled

    Raises:
        ValueError: If an input is missing or has a wrong shape, or no path leads to ``irreps_out``; with
            ``strict_frame`` also if the axes of a graph were rebuilt and theta breaks symmetry.

    A graph with ``frame="standard"`` brings a :class:`~pyg_relaxed.data.FrameWarning` once theta breaks symmetry.

    Example::

        >>> net = RelaxedE3NN("2x0e", "1o", irreps_theta="0e+1o", num_layers=1)
        >>> edge_index = torch.tensor([[0, 1], [1, 0]])
        >>> edge_vec = torch.tensor([[0.0, 0.0, 1.5], [0.0, 0.0, -1.5]])
        >>> net(torch.ones(2, 2), edge_index, edge_vec).shape
        torch.Size([2, 3])
    """

    strict_frame = False

    def __init__(
        self,
        irreps_in: IrrepsLike,
        irreps_out: IrrepsLike,
        irreps_hidden: IrrepsLike | None = None,
        irreps_theta: ThetaLike = None,
        lmax: int = 2,
        num_layers: int = 2,
        cutoff: float = 5.0,
        irreps_global: IrrepsLike | None = None,
        pool: str | None = None,
        share_theta: bool = False,
        num_neighbors: float = 1.0,
        num_basis: int = 8,
        radial_hidden: Sequence[int] = (64,),
        theta_channels: int = 8,
        trim_last: bool = False,
        irreps_field: IrrepsLike | None = None,
    ) -> None:
        super().__init__()
        if pool not in (None, "sum", "mean"):
            raise ValueError(f"'pool' must be None, 'sum' or 'mean' (got '{pool}')")
        check_number("num_layers", num_layers)
        check_number("lmax", lmax, least=0)
        check_number("num_basis", num_basis)
        if irreps_hidden is None:
            irreps_hidden = o3.Irreps([(16, ir) for ir in o3.Irrep.iterator(lmax)])
        self.irreps_in = parse_irreps("irreps_in", irreps_in)
        self.irreps_out = parse_irreps("irreps_out", irreps_out)
        self.irreps_hidden = parse_irreps("irreps_hidden", irreps_hidden)
        self.irreps_global = parse_irreps("irreps_global", irreps_global or "")
        self.pool = pool
        self.cutoff = float(cutoff)
        if isinstance(irreps_theta, RelaxedWeights) and not share_theta:
            raise ValueError("'irreps_theta' is an instance of RelaxedWeights: pass share_theta=True, or its irreps")
        theta = as_weights(irreps_theta)
        self.irreps_theta = None if theta is None else theta.irreps_theta
        self.irreps_field = parse_irreps("irreps_field", irreps_field or "")
        self.config: dict[str, Any] = {
            "irreps_in": str(self.irreps_in),
            "irreps_out": str(self.irreps_out),
            "irreps_hidden": str(self.irreps_hidden),
            "irreps_theta": None if theta is None else str(theta.irreps_theta),
            "lmax": lmax,
            "num_layers": num_layers,
            "cutoff": self.cutoff,
            "irreps_global": str(self.irreps_global),
            "pool": pool,
            "share_theta": share_theta,
            "num_neighbors": float(num_neighbors),
            "num_basis": num_basis,
            "radial_hidden": list(radial_hidden),
            "theta_channels": theta_channels,
            "trim_last": trim_last,
            "irreps_field": str(self.irreps_field),
        }
        self._dims = (
            self.irreps_in.dim,
            self.irreps_global.dim,
            self.irreps_field.dim,
        )  # compilers cannot look into Irreps
        irreps_sh = o3.Irreps.spherical_harmonics(lmax)
        self.embed_edges = EdgeEmbedding(irreps_sh, cutoff, num_neighbors)

        # The constant scalar beside x lets every input reach the gates, which are 0e.
        embedded = self.irreps_in + self.irreps_global + o3.Irreps("0e")
        irreps = o3.Irreps([(mul, ir) for mul, ir in self.irreps_hidden if ir in embedded])
        # Between here and the readout channels are innermost.
        self.enter = ChangeOfLayout(embedded, "ir_mul")
        self.embedding = Linear(embedded, irreps, layout="ir_mul")
        layers = []
        is_given = isinstance(irreps_theta, RelaxedWeights)
        shared = _with_field(theta, self.irreps_field, is_given) if share_theta else None
        read = o3.Irreps([(mul, ir) for mul, ir in self.irreps_hidden if ir in self.irreps_out])
        for n in range(num_layers):
            layer = RelaxedInteraction(
                irreps,
                read if trim_last and n == num_layers - 1 else self.irreps_hidden,
                irreps_sh,
                shared if share_theta else _with_field(as_weights(self.irreps_theta), self.irreps_field),
                layout="ir_mul",
                cutoff=cutoff,
                num_neighbors=num_neighbors,
                num_basis=num_basis,
                radial_hidden=radial_hidden,
                theta_channels=theta_channels,
            )
            irreps = layer.irreps_out
            layers.append(layer)
        self.layers = torch.nn.ModuleList(layers)
        self.fields = torch.nn.ModuleList(_field_map(self.irreps_field, layer.conv.theta) for layer in layers)
        self.readout = Linear(irreps, self.irreps_out, layout="ir_mul")
        self.leave = ChangeOfLayout(self.irreps_out, "mul_ir")
        if self.readout.weight_numel == 0:
            raise ValueError(
                f"no path leads from 'irreps_in' {self.irreps_in} to 'irreps_out' {self.irreps_out}: the last layer "
                f"has {irreps}. Add the irreps to 'irreps_hidden', or to 'irreps_theta' {self.irreps_theta}"
            )

    def reset_parameters(self) -> None:
        """Draw new weights and return theta to its equivariant starting point."""
        torch.nn.init.normal_(self.embedding.weight)
        torch.nn.init.normal_(self.readout.weight)
        for layer, field in zip(self.layers, self.fields, strict=True):
            assert isinstance(layer, RelaxedInteraction)
            layer.reset_parameters()
            if isinstance(field, Linear):
                torch.nn.init.normal_(field.weight)

    def forward(
        self,
        data: Data | Tensor,
        edge_index: Tensor | None = None,
        edge_vec: Tensor | None = None,
        batch: Tensor | None = None,
        u: Tensor | None = None,
        field: Tensor | None = None,
    ) -> Tensor:
        """Return the output for each node, or for each graph if pooled."""
        if isinstance(data, Tensor):
            x = data
        else:
            if data.x is None or ("edge_vec" not in data and data.pos is None):
                raise ValueError(f"the graph needs 'x' and 'pos' or 'edge_vec' (it has {', '.join(data.keys())})")
            check_axes(self, data)
            check_reach(data.get("cutoff"), self.cutoff)
            x, edge_index, batch, u, field = data.x, data.edge_index, *map(data.get, ("batch", "u", "field"))
            edge_vec = data.edge_vec if "edge_vec" in data else edge_vectors(data)
        if edge_index is None or edge_vec is None:
            raise ValueError("'edge_index' and 'edge_vec' are needed beside the node features")
        check_edge_vec(edge_vec, edge_index, self.embedding.weight)
        with torch.autocast(edge_vec.device.type, enabled=False):  # in lower precision nothing is equivariant
            x = self.embedding(self.enter(self._inputs(x, batch, u)))
            length, edge_sh = self.embed_edges(edge_vec)
            groups = self._groups(field, batch, edge_index, len(x))
            for layer, embed in zip(self.layers, self.fields, strict=True):
                theta = None if groups is None else layer.conv.theta() + embed(field)  # type: ignore[union-attr, operator]
                x = layer(x, edge_index, length, edge_sh, theta, groups)
            x = self.leave(self.readout(x))
        if self.pool is None:
            return x
        if batch is None:
            return scatter(x, edge_index.new_zeros(len(x)), dim_size=1, reduce=self.pool)
        return scatter(x, batch, dim_size=data.num_graphs if isinstance(data, Batch) else None, reduce=self.pool)

    def _groups(
        self, field: Tensor | None, batch: Tensor | None, edge_index: Tensor, num_nodes: int
    ) -> tuple[Groups, Groups] | None:
        """Return to which graph edges and nodes belong, where the fields of graphs are to tell them apart."""
        dim = self._dims[2]
        if dim == 0:
            return None
        if field is None:
            raise ValueError(f"the graph needs 'field' [B, {dim}] in {self.irreps_field}: zeros where there is none")
        check_features("field", field, self.irreps_field, dim, self.embedding.weight)
        batch = edge_index.new_zeros(num_nodes) if batch is None else batch
        return Groups(batch[edge_index[1]], len(field)), Groups(batch, len(field))

    def _inputs(self, x: Tensor, batch: Tensor | None, u: Tensor | None) -> Tensor:
        dim, dim_global, _ = self._dims
        check_features("x", x, self.irreps_in, dim, self.embedding.weight)
        if dim_global == 0:
            return torch.cat([x, x.new_ones(len(x), 1)], dim=1)
        if u is None:
            raise ValueError(f"the graph needs global attributes 'u' [B, {dim_global}] in {self.irreps_global}")
        check_features("u", u, self.irreps_global, dim_global, self.embedding.weight)
        if batch is None and len(u) != 1:
            raise ValueError(f"'u' has {len(u)} rows, but without 'batch' there is one graph")
        u = u.expand(len(x), -1) if batch is None else u[batch]
        return torch.cat([x, u, x.new_ones(len(x), 1)], dim=1)


def _with_field(theta: RelaxedWeights | None, irreps_field: o3.Irreps, is_given: bool = False) -> RelaxedWeights | None:
    """Return weights that fields can be added to: in irreps of the field that they lack they stay zero.

    Raises:
        ValueError: If an instance ``is_given`` and lacks one.
    """
    if irreps_field.dim == 0:
        return theta
    learned = o3.Irreps("0e") if theta is None else theta.irreps_theta
    missing = [ir for ir in dict.fromkeys(ir for _, ir in irreps_field) if ir not in learned]
    if theta is not None and not missing:
        return theta
    if theta is not None and is_given:
        raise ValueError(
            f"'irreps_theta' lacks {missing[0]} of the field: add it, and freeze it if it is not to be learnt"
        )
    return RelaxedWeights(learned + o3.Irreps([(1, ir) for ir in missing])).freeze(map(str, missing))


def _field_map(irreps_field: o3.Irreps, theta: RelaxedWeights | None) -> torch.nn.Module:
    if irreps_field.dim == 0 or theta is None:
        return torch.nn.Identity()
    return Linear(irreps_field, theta.irreps_theta)
