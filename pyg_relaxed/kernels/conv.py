"""Gather, tensor product, sum over neighbours as one operation, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..checks import check_edge_index, check_last_dim, check_layout, check_network, check_table, parse_irreps
from ..o3.layout import ChangeOfLayout
from .backends import check_backend, choose, is_transformed, module
from .cpu import networked, sorted_edges, splined, to_receivers
from .paths import PathTable
from .perceptron import perceptron
from .reference import ReferenceBackend
from .spline import interpolate

if TYPE_CHECKING:
    from ..typing import IrrepsLike


class TensorProductConv(torch.nn.Module):
    r"""Weighted tensor product of node features with edge features, summed over neighbours.

    .. math:: y_i = \sum_{e:\, j \to i} x_j \otimes_{w_e} Y_e

    The product is depthwise: paths, their order, their weights and their normalisation are those of
    :class:`e3nn.o3.TensorProduct` with connection mode ``"uvu"``, outputs sorted by irrep.

    Args:
        irreps_in (o3.Irreps or str): Irreps of the node features.
        irreps_sh (o3.Irreps or str): Irreps of the edge features, usually spherical harmonics.
        lmax (int, optional): Keep the outputs up to this degree.
        irreps_out (o3.Irreps or str, optional): Keep the outputs among these irreps; their multiplicities follow from
            the paths, see :attr:`irreps_out`. Give either this or ``lmax``.
        layout (str, optional): ``"mul_ir"``, e3nn's, or ``"ir_mul"``, channels innermost, of x and y.
            (default: ``"mul_ir"``)
        backend (str, optional): ``"cpu"``, C compiled for these irreps; on a GPU ``"triton"``, kernels generated for
            them, or ``"cuequivariance"`` or ``"openequivariance"`` where installed; ``"torch"``, the reference, always
            there; or ``"auto"``, the preferred among those that take the device and the dtype. (default: ``"auto"``)

    Shapes:
        - **x:** ``[N, irreps_in.dim]``
        - **sh:** ``[E, irreps_sh.dim]``
        - **weight:** ``[E, weight_numel]``: path by path, channels innermost
        - **edge_index:** ``[2, E]``, messages go from ``edge_index[0]`` to ``edge_index[1]``
        - **output:** ``[num_nodes or N, irreps_out.dim]``

    Raises:
        ValueError: If no path remains, or an input has a wrong shape.

    Example::

        >>> op = TensorProductConv("8x0e+8x1o", "0e+1o", lmax=1)
        >>> edge_index = torch.tensor([[0, 1, 2], [1, 0, 1]])
        >>> y = op(torch.randn(3, 32), torch.randn(3, 4), torch.randn(3, op.weight_numel), edge_index)
        >>> op.irreps_out, y.shape
        (16x0e+16x1o+8x1e, torch.Size([3, 88]))
    """

    def __init__(
        self,
        irreps_in: IrrepsLike,
        irreps_sh: IrrepsLike,
        lmax: int | None = None,
        *,
        irreps_out: IrrepsLike | None = None,
        layout: str = "mul_ir",
        backend: str = "auto",
    ) -> None:
        super().__init__()
        check_backend(backend)
        check_layout(layout)
        self.irreps_in = parse_irreps("irreps_in", irreps_in)
        self.irreps_sh = parse_irreps("irreps_sh", irreps_sh)
        self.layout = layout
        wanted = None if irreps_out is None else parse_irreps("irreps_out", irreps_out)
        self.table = PathTable(self.irreps_in, self.irreps_sh, lmax, wanted)
        self.irreps_out = self.table.irreps_out
        self.weight_numel = self.table.weight_numel
        self._dims = (self.irreps_in.dim, self.irreps_sh.dim)
        self.backend = backend
        self._spec = self.table.spec
        self.reference = ReferenceBackend(self.table)
        self._to_mul_ir = ChangeOfLayout(self.irreps_in, "mul_ir") if layout == "ir_mul" else torch.nn.Identity()
        self._to_ir_mul = ChangeOfLayout(self.irreps_out, "ir_mul") if layout == "ir_mul" else torch.nn.Identity()

    def forward(
        self, x: Tensor, sh: Tensor, weight: Tensor, edge_index: Tensor, num_nodes: int | None = None
    ) -> Tensor:
        """Return the sum over neighbours; ``num_nodes`` is the number of receivers where it differs from N."""
        self._check(x, sh, weight)
        backend = self._backend(x, sh, weight)
        own = backend in ("cpu", "triton")
        if own or (backend != "torch" and sh.shape[0] > 0):  # other packages do not promise to take no edges
            operation = to_receivers if own else module(backend).convolve
            return self._sum(operation, x, sh, (weight,), edge_index, num_nodes)
        check_edge_index(edge_index, sh.shape[0])
        num_nodes = x.shape[0] if num_nodes is None else num_nodes
        return self._to_ir_mul(self.reference(self._to_mul_ir(x), sh, weight, edge_index, num_nodes))

    def networked(
        self,
        x: Tensor,
        sh: Tensor,
        inputs: Tensor,
        matrices: Sequence[Tensor],
        edge_index: Tensor,
        num_nodes: int | None = None,
    ) -> Tensor:
        """Return what :meth:`forward` does for weights from :func:`perceptron`, on the CPU without storing any layer.

        Args:
            x (Tensor): Node features ``[N, irreps_in.dim]``.
            sh (Tensor): Edge features ``[E, irreps_sh.dim]``.
            inputs (Tensor): Inputs of a radial network, ``[E, K]``.
            matrices (sequence of Tensor): One for each of its layers, the last one ``[H, weight_numel]``.
            edge_index (Tensor): Senders and receivers ``[2, E]``.
            num_nodes (int, optional): Number of receivers where it differs from N.
        """
        if self._backend(x, sh, inputs, *matrices) != "cpu":
            return self(x, sh, perceptron(inputs, matrices), edge_index, num_nodes)
        self._check_features(x, sh)
        check_network(inputs, matrices, sh.shape[0], self.weight_numel)
        widths = [inputs.shape[1], *(matrix.shape[1] for matrix in matrices)]
        flat = torch.cat([matrix.flatten() for matrix in matrices])
        return self._sum(networked, x, sh, (inputs, flat), edge_index, num_nodes, widths)

    def splined(
        self,
        x: Tensor,
        sh: Tensor,
        length: Tensor,
        table: Tensor,
        spacing: float,
        edge_index: Tensor,
        num_nodes: int | None = None,
    ) -> Tensor:
        """Return what :meth:`forward` does for weights from :func:`interpolate`, on the CPU without storing them.

        Args:
            x (Tensor): Node features ``[N, irreps_in.dim]``.
            sh (Tensor): Edge features ``[E, irreps_sh.dim]``.
            length (Tensor): Edge lengths ``[E]``.
            table (Tensor): Values and slopes of the weights at the knots, ``[knots, 2, weight_numel]``.
            spacing (float): Distance of the knots.
            edge_index (Tensor): Senders and receivers ``[2, E]``.
            num_nodes (int, optional): Number of receivers where it differs from N.
        """
        if self._backend(x, sh, length, table) != "cpu":
            return self(x, sh, interpolate(length, table, spacing), edge_index, num_nodes)
        self._check_features(x, sh)
        check_table(length, table, sh.shape[0], self.weight_numel)
        return self._sum(splined, x, sh, (length, table, spacing), edge_index, num_nodes)

    def messages(self, x_j: Tensor, sh: Tensor, weight: Tensor) -> Tensor:
        """Return the product of each edge before the sum, ``[E, irreps_out.dim]``."""
        self._check(x_j, sh, weight)
        return self._to_ir_mul(self.reference.messages(self._to_mul_ir(x_j), sh, weight))

    def _sum(
        self,
        operation: Callable[..., Tensor],
        x: Tensor,
        sh: Tensor,
        weights: tuple[Tensor | float, ...],
        edge_index: Tensor,
        num_nodes: int | None,
        *more: list[int],
    ) -> Tensor:
        """Run an operation on sorted edges; ``weights`` gives those, ``more`` follows the sizes."""
        check_edge_index(edge_index, sh.shape[0])
        num_nodes = x.shape[0] if num_nodes is None else num_nodes
        if num_nodes < 0:
            raise ValueError(f"'num_nodes' must not be negative (got {num_nodes})")
        order = sorted_edges(edge_index, x.shape[0], num_nodes)
        return operation(x, sh, *weights, order, num_nodes, *more, self._spec, self.layout == "mul_ir")

    def _backend(self, x: Tensor, *others: Tensor) -> str:
        if any(other.dtype != x.dtype or other.device != x.device for other in others):
            return "torch"  # which promotes them, or complains
        if is_transformed():
            return "torch"
        return choose(self.backend, self._spec, x.device.type, x.dtype)

    def _check_features(self, x: Tensor, sh: Tensor) -> None:
        if x.dim() != 2 or sh.dim() != 2:  # compiled code counts rows
            raise ValueError(f"'x' and 'sh' must be [N, dim] and [E, dim] (got {tuple(x.shape)}, {tuple(sh.shape)})")
        check_last_dim("x", x, self.irreps_in, self._dims[0])
        check_last_dim("sh", sh, self.irreps_sh, self._dims[1])

    def _check(self, x: Tensor, sh: Tensor, weight: Tensor) -> None:
        self._check_features(x, sh)
        if weight.shape != (sh.shape[0], self.weight_numel):
            raise ValueError(
                f"'weight' must have shape [E, weight_numel] = {(sh.shape[0], self.weight_numel)} "
                f"(got {tuple(weight.shape)})"
            )

    def __repr__(self) -> str:
        return (
            f"{self.__class__.__name__}({self.irreps_in} x {self.irreps_sh} -> {self.irreps_out} | "
            f"{len(self.table.paths)} paths | {self.weight_numel} weights)"
        )
