"""The relaxed equivariant convolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch_geometric.nn.conv import MessagePassing
from torch_geometric.typing import OptPairTensor, OptTensor, Size

from ..checks import (
    check_connected,
    check_edge_vec,
    check_features,
    check_positive,
    check_sizes,
    parse_irreps,
)
from ..compat import o3
from ..kernels import TensorProductConv
from ..o3 import RelaxedLinear, RelaxedWeights, ThetaContraction
from ..o3.grouped import Groups, matmul
from ..o3.linear import BreakingLinear, Linear, as_weights, connected
from .edges import EdgeEmbedding
from .radial import Radial, polynomial_envelope
from .table import RadialTable

if TYPE_CHECKING:
    from ..typing import IrrepsLike, ThetaLike

EXTRA_CHANNELS = 8  # of irreps that only theta needs


class RelaxedConv(MessagePassing):
    r"""The relaxed equivariant convolution from the `"Relaxed Equivariant Graph Neural Networks"
    <https://arxiv.org/abs/2407.20471>`_ paper (eq. 5).

    .. math::
        m_i &= \sum_{j \to i} \frac{u(r_{ij})}{\sqrt{\bar n}} x_j \otimes_{W(r_{ij})} [\theta \otimes_V Y(\hat r_{ij})]

        x^{\prime}_i &= (1 + B_\theta)\, L\, m_i + S_\theta\, x_i

    The tensor product is depthwise and followed by a linear map :math:`L`. :math:`\theta \otimes_V Y` is one small
    matrix for all edges; on the nodes theta acts through :math:`B_\theta`, zero for a scalar theta, and through the
    self-connection :math:`S_\theta`, so that it reaches isolated atoms. Where some irrep of theta has nothing to
    act on, neither edges nor output, a few channels of a further irrep are summed over the neighbours for it. With
    ``irreps_theta=None``, or with theta at its starting point, the layer is the strict E(3)-equivariant one. The
    envelope :math:`u` makes messages vanish smoothly at the cutoff.

    Args:
        irreps_in (o3.Irreps, str or tuple): Irreps of the node features, or of source and target nodes.
        irreps_out (o3.Irreps or str): Irreps of the output.
        irreps_sh (o3.Irreps or str): Irreps of the spherical harmonics of the edge vectors, e.g. ``"0e+1o+2e"``.
        irreps_theta (o3.Irreps, str, int, RelaxedWeights or None, optional): Irreps of theta; an int means all irreps
            up to that degree; an instance is shared. (default: :obj:`None`, strict)
        cutoff (float, optional): Radius of the neighbourhood, Å. (default: :obj:`5.0`)
        irreps_inter (o3.Irreps or str, optional): Irreps of :math:`\theta \otimes Y`; the paper's choice is
            ``irreps_theta``. (default: ``irreps_sh``, which costs what the strict layer costs)
        num_neighbors (float, optional): Average number of neighbours :math:`\bar n`. (default: :obj:`1.0`)
        num_basis (int, optional): Number of Bessel functions. (default: :obj:`8`)
        radial_hidden (sequence of int, optional): Widths of the hidden layers of the radial network.
            (default: :obj:`(64,)`)
        edge_dim (int, optional): Number of scalar edge attributes. (default: :obj:`0`)
        radial (callable, optional): Called with ``weight_numel``, returns the module used instead of
            :class:`Radial`. (default: :obj:`None`)
        envelope (callable, optional): Function of (length, cutoff). (default: :func:`polynomial_envelope`)
        relax_edges (bool, optional): Let theta act on the edges. (default: :obj:`True`)
        relax_nodes (bool, optional): Let theta act on the sum over neighbours. (default: :obj:`True`)
        self_connection (bool, optional): Add the relaxed linear map of the node's own features.
            (default: :obj:`True`)
        theta_channels (int, optional): On a node let theta act on the first so many channels of each irrep; linear
            maps mix them all before. (default: :obj:`8`)
        layout (str, optional): Of the features: ``"mul_ir"``, e3nn's, or ``"ir_mul"``, channels innermost.
            (default: ``"mul_ir"``)
        **kwargs (optional): Additional arguments of :class:`torch_geometric.nn.conv.MessagePassing`.

    Shapes:
        - **input:** node features :math:`(|\mathcal{V}|, \texttt{irreps\_in.dim})` or
          :math:`((|\mathcal{V}_s|, \cdot), (|\mathcal{V}_t|, \cdot))`, edge indices :math:`(2, |\mathcal{E}|)`, edge
          vectors :math:`(|\mathcal{E}|, 3)` in Å, source minus target, edge attributes
          :math:`(|\mathcal{E}|, \texttt{edge\_dim})`
        - **output:** node features :math:`(|\mathcal{V}_t|, \texttt{irreps\_out.dim})`

    Raises:
        ValueError: If no path connects the irreps, an input has a wrong shape, or ``aggr`` is neither sum nor mean.
        TypeError: If an input has another dtype or device than the layer.

    Example::

        >>> conv = RelaxedConv("8x0e", "8x0e+4x1o", "0e+1o", irreps_theta=1)
        >>> edge_index = torch.tensor([[0, 1], [1, 0]])
        >>> edge_vec = torch.tensor([[0.0, 0.0, 1.5], [0.0, 0.0, -1.5]])
        >>> conv(torch.ones(2, 8), edge_index, edge_vec).shape
        torch.Size([2, 20])
    """

    def __init__(
        self,
        irreps_in: IrrepsLike | tuple[IrrepsLike, IrrepsLike],
        irreps_out: IrrepsLike,
        irreps_sh: IrrepsLike,
        irreps_theta: ThetaLike | RelaxedWeights = None,
        cutoff: float = 5.0,
        irreps_inter: IrrepsLike | None = None,
        num_neighbors: float = 1.0,
        num_basis: int = 8,
        radial_hidden: Sequence[int] = (64,),
        edge_dim: int = 0,
        radial: Callable[[int], torch.nn.Module] | None = None,
        envelope: Callable[[Tensor, float], Tensor] = polynomial_envelope,
        relax_edges: bool = True,
        relax_nodes: bool = True,
        self_connection: bool = True,
        theta_channels: int = 8,
        layout: str = "mul_ir",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("aggr", "add")
        if kwargs["aggr"] not in ("add", "sum", "mean"):
            raise ValueError(f"'aggr' must be 'add', 'sum' or 'mean': '{kwargs['aggr']}' is not equivariant")
        if kwargs.get("decomposed_layers", 1) > 1:
            raise ValueError("'decomposed_layers' splits the features of an irrep: leave it at 1")
        super().__init__(**kwargs)
        source, target = irreps_in if type(irreps_in) is tuple else (irreps_in, irreps_in)
        check_positive("theta_channels", theta_channels)
        self.irreps_in = parse_irreps("irreps_in", source)
        self.irreps_in_target = parse_irreps("irreps_in", target)
        self.irreps_out = parse_irreps("irreps_out", irreps_out)
        self.irreps_sh = parse_irreps("irreps_sh", irreps_sh)
        self.theta = as_weights(irreps_theta)
        self.cutoff = float(cutoff)
        self.edge_dim = edge_dim
        self._dims = (self.irreps_in.dim, self.irreps_in_target.dim, self.irreps_out.dim)

        self.embed_edges = EdgeEmbedding(self.irreps_sh, cutoff, num_neighbors, envelope)
        self.irreps_inter = self.irreps_sh
        self.contraction: ThetaContraction | None = None
        if self.theta is not None and relax_edges:
            self.irreps_inter = self.irreps_sh if irreps_inter is None else parse_irreps("irreps_inter", irreps_inter)
            self.contraction = ThetaContraction(self.theta.irreps_theta, self.irreps_sh, self.irreps_inter)

        extra = self._extra_irreps() if relax_nodes else o3.Irreps()
        self.kernel = TensorProductConv(
            self.irreps_in, self.irreps_inter, irreps_out=self.irreps_out + extra, layout=layout
        )
        radial = radial or partial(Radial, cutoff=cutoff, num_basis=num_basis, hidden=radial_hidden, edge_dim=edge_dim)
        self.radial = radial(self.kernel.weight_numel)
        self.table: RadialTable | None = None  # see tabulate_
        self.linear = Linear(self.kernel.irreps_out, self.irreps_out + extra, layout=layout)
        check_connected(self, self.linear.weight_numel)
        self.breaking: BreakingLinear | None = None
        if self.theta is not None and relax_nodes:
            self.breaking = BreakingLinear(
                self.irreps_out + extra,
                self.irreps_out,
                self.theta.irreps_theta,
                channels=theta_channels,
                layout=layout,
            )
        self.self_connection: RelaxedLinear | None = None
        if self_connection and connected(self.irreps_in_target, self.irreps_out, self.irreps_theta):
            self.self_connection = RelaxedLinear(
                self.irreps_in_target, self.irreps_out, self.theta, channels=theta_channels, layout=layout
            )
        # All is drawn; reset_parameters() would return a shared theta to its starting point.

    @property
    def irreps_theta(self) -> o3.Irreps | None:
        """Irreps of theta, :obj:`None` for the strict layer."""
        return None if self.theta is None else self.theta.irreps_theta

    @property
    def in_channels(self) -> int:
        """Dimension of the source features."""
        return self.irreps_in.dim

    @property
    def out_channels(self) -> int:
        """Dimension of the output."""
        return self.irreps_out.dim

    def reset_parameters(self) -> None:
        """Draw new weights and return theta to its equivariant starting point."""
        super().reset_parameters()
        torch.nn.init.normal_(self.linear.weight)
        for module in (self.radial, self.contraction, self.breaking, self.self_connection, self.theta):
            reset = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()

    def forward(
        self,
        x: Tensor | OptPairTensor,
        edge_index: Tensor,
        edge_vec: Tensor,
        edge_attr: OptTensor = None,
        size: Size = None,
    ) -> Tensor:
        """Return the new features of the target nodes."""
        check_edge_vec(edge_vec, edge_index, self.linear.weight)
        length, edge_sh = self.embed_edges(edge_vec)
        return self.convolve(x, edge_index, length, edge_sh, edge_attr, size)

    def convolve(
        self,
        x: Tensor | OptPairTensor,
        edge_index: Tensor,
        length: Tensor,
        edge_sh: Tensor,
        edge_attr: OptTensor = None,
        size: Size = None,
        theta: Tensor | None = None,
        groups: tuple[Groups, Groups] | None = None,
    ) -> Tensor:
        """Return what :meth:`forward` does, from what ``embed_edges`` (:class:`EdgeEmbedding`) returns.

        Another theta than the layer's own may be given, ``[irreps_theta.dim]``, or one for each graph, ``[B, dim]``,
        with the groups of the edges and of the target nodes.
        """
        if isinstance(x, Tensor):
            x = (x, x)
        elif self.flow != "source_to_target":
            raise ValueError("bipartite 'x' needs flow='source_to_target': flip 'edge_index' instead")
        check_features("x", x[0], self.irreps_in, self._dims[0], self.linear.weight)
        if x[1] is not None and x[1] is not x[0]:
            check_features("x", x[1], self.irreps_in_target, self._dims[1], self.linear.weight)
        check_sizes(x, size)
        of_edges, of_nodes = (None, None) if groups is None else groups
        if self.theta is not None and theta is None:
            theta = self.theta()
        if self.contraction is not None:
            matrix = self.contraction(theta)
            turned = matmul(edge_sh, matrix) if of_edges is None else of_edges.matmul(edge_sh, matrix)
            edge_sh = turned.to(edge_sh.dtype)  # lower under autocast

        if self._can_fuse():
            num_targets = size[1] if size is not None else (x[0] if x[1] is None else x[1]).shape[0]
            out = self._fused(x[0], edge_index, length, edge_sh, edge_attr, num_targets)
        else:
            weight = self.radial(length, edge_attr)
            # propagate_type: (x: OptPairTensor, edge_sh: Tensor, weight: Tensor)
            out = self.propagate(edge_index, x=x, edge_sh=edge_sh, weight=weight, size=size)

        out = self.linear(out)
        sum_over_neighbours = out[:, : self._dims[2]]
        if self.breaking is not None:
            sum_over_neighbours = self.breaking(out, theta, sum_over_neighbours, of_nodes)
        if self.self_connection is not None and x[1] is not None:
            sum_over_neighbours = sum_over_neighbours + self.self_connection(x[1], theta, of_nodes)
        return sum_over_neighbours

    def _fused(
        self, x: Tensor, edge_index: Tensor, length: Tensor, edge_sh: Tensor, edge_attr: OptTensor, num_targets: int
    ) -> Tensor:
        table = self._current_table()
        if table is not None and edge_attr is None:
            return self.kernel.splined(x, edge_sh, length, table.values, table.spacing, edge_index, num_targets)
        if type(self.radial) is Radial and not self.radial._forward_hooks and not self.radial._forward_pre_hooks:
            return self.kernel.networked(x, edge_sh, *self.radial.network(length, edge_attr), edge_index, num_targets)
        return self.kernel(x, edge_sh, self.radial(length, edge_attr), edge_index, num_targets)

    def _current_table(self) -> RadialTable | None:
        """Return the table to use now, made again if the network has changed."""
        if self.table is None or self.training:
            return None
        if not torch.compiler.is_compiling() and not self.table.is_current(self.radial):
            with torch.inference_mode(False):  # forces may be asked for later
                self.table = RadialTable(self.radial, self.cutoff, self.table.tol)
        return self.table

    def message(self, x_j: Tensor, edge_sh: Tensor, weight: Tensor) -> Tensor:
        """Return the message of each edge."""
        return self.kernel.messages(x_j, edge_sh, weight)

    def _can_fuse(self) -> bool:
        # Explainers, hooks and subclasses need the messages themselves; so does a mean.
        hooks = (
            *(self._propagate_forward_pre_hooks, self._propagate_forward_hooks),
            *(self._message_forward_pre_hooks, self._message_forward_hooks),
            *(self._aggregate_forward_pre_hooks, self._aggregate_forward_hooks),
        )
        return (
            not self.explain
            and not any(hooks)
            and type(self).message is RelaxedConv.message
            and type(self).aggregate is MessagePassing.aggregate
            and type(self).update is MessagePassing.update
            and self.aggr in ("add", "sum")
            and self.flow == "source_to_target"
        )

    def _extra_irreps(self) -> o3.Irreps:
        """Return the irreps, beyond the output's, that the sum needs so that every irrep of theta acts somewhere."""
        if self.theta is None:
            return o3.Irreps()
        sums = {ir for _, a in self.irreps_in for _, b in self.irreps_inter for ir in a * b}
        outs = [ir for _, ir in self.irreps_out]
        useful = [ir for ir in dict.fromkeys(outs) if ir in sums]
        extra: list[o3.Irrep] = []
        for ir_theta in dict.fromkeys(ir for _, ir in self.theta.irreps_theta):
            candidates = [ir for ir in sorted(sums) if any(out in ir_theta * ir for out in outs)]
            acts = self._acts_on_edges(ir_theta) or any(ir in candidates for ir in useful + extra)
            if candidates and not acts:
                extra.append(candidates[0])
        return o3.Irreps([(EXTRA_CHANNELS, ir) for ir in extra])

    def _acts_on_edges(self, ir_theta: o3.Irrep) -> bool:
        """Whether the output changes with this irrep of theta on the edges."""
        if self.contraction is None:
            return False
        inter = {ir for _, sh in self.irreps_sh for ir in ir_theta * sh if ir in self.irreps_inter}
        return any(ir in self.irreps_out for _, a in self.irreps_in for b in inter for ir in a * b)

    def __repr__(self) -> str:
        theta = "" if self.theta is None else f", theta={self.irreps_theta}"
        irreps_in = (
            f"({self.irreps_in}, {self.irreps_in_target})"
            if self.irreps_in != self.irreps_in_target
            else str(self.irreps_in)
        )
        return f"{self.__class__.__name__}({irreps_in}, {self.irreps_out}, sh={self.irreps_sh}{theta})"
