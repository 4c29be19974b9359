"""Linear maps whose coefficients are theta times Clebsch-Gordan coefficients."""

from __future__ import annotations

from itertools import accumulate, chain, product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..checks import check_connected, check_dtype_device, check_last_dim, check_layout, parse_irreps
from ..compat import o3
from .constants import ExactConstants
from .contraction import Coupling, Path, copies, scalar_mean
from .grouped import Groups
from .layout import Select, components, concatenate
from .weights import SCALAR, RelaxedWeights

if TYPE_CHECKING:
    from ..typing import IrrepsLike, ThetaLike


def as_weights(irreps_theta: ThetaLike | RelaxedWeights) -> RelaxedWeights | None:
    """Return the relaxed weights to use: the instance itself, new ones of these irreps, or :obj:`None`."""
    if irreps_theta is None or isinstance(irreps_theta, RelaxedWeights):
        return irreps_theta
    return RelaxedWeights(irreps_theta)


def connected(irreps_in: o3.Irreps, irreps_out: o3.Irreps, irreps_theta: o3.Irreps | None) -> bool:
    """Tell whether a linear map with theta in these irreps can be other than zero."""
    thetas = [SCALAR] if irreps_theta is None else [ir for _, ir in irreps_theta]
    return any(out in ir * t for _, ir in irreps_in for t in thetas for _, out in irreps_out)


class Linear(ExactConstants, o3.Linear):
    """e3nn's linear map, also for features with channels innermost.

    Args:
        irreps_in (o3.Irreps or str): Irreps of the input.
        irreps_out (o3.Irreps or str): Irreps of the output.
        layout (str, optional): ``"mul_ir"``, e3nn's, or ``"ir_mul"``, channels innermost. (default: ``"mul_ir"``)
        biases (bool, optional): Add a learnable bias to the 0e part of the output. (default: :obj:`False`)

    Example::

        >>> Linear("4x0e+2x1o", "3x1o", layout="ir_mul")(torch.randn(5, 10)).shape
        torch.Size([5, 9])
    """

    irreps_in: o3.Irreps
    irreps_out: o3.Irreps
    instructions: list[Any]
    weight_numel: int
    weight: Tensor
    bias: Tensor
    biased: Tensor
    scale: Tensor

    def __init__(
        self, irreps_in: IrrepsLike, irreps_out: IrrepsLike, *, layout: str = "mul_ir", biases: bool = False
    ) -> None:
        super().__init__(o3.Irreps(irreps_in), o3.Irreps(irreps_out), biases=biases)
        check_layout(layout)
        self.layout = layout
        self._columns = [mul * ir.dim for mul, ir in self.irreps_in]
        paths = [path for path in self.instructions if path.i_in >= 0 and 0 not in path.path_shape]  # no biases
        self._shapes = [tuple(path.path_shape) for path in paths]
        # For each block of the output its size, and which blocks of the input lead to it by which paths.
        self._outputs = [
            (mul * ir.dim, [(path.i_in, n) for n, path in enumerate(paths) if path.i_out == k])
            for k, (mul, ir) in enumerate(self.irreps_out)
        ]
        scales = [
            torch.full((mul_in * mul_out,), path.path_weight, dtype=torch.float64)
            for path, (mul_in, mul_out) in zip(paths, self._shapes, strict=True)
        ]
        self.register_constant("scale", torch.cat([torch.zeros(0, dtype=torch.float64), *scales]))
        places = zip(self.irreps_out, components(self.irreps_out, layout), strict=True)
        self.register_buffer(
            "biased", concatenate(place for (_, ir), place in places if biases and ir == SCALAR), False
        )

    def forward(self, x: Tensor, factor: Tensor | None = None) -> Tensor:
        """Return the image of ``x`` ``[..., irreps_in.dim]``, multiplied by a factor if given."""
        weight, bias = self.weight, self.bias
        if factor is not None:  # on the weights, which are fewer than what comes out
            weight, bias = weight * factor, bias * factor
        if self.layout == "mul_ir":
            return super().forward(x, weight, bias)
        blocks = x.split(self._columns, dim=-1)
        weights = (weight * self.scale).split([mul_in * mul_out for mul_in, mul_out in self._shapes])
        outputs = []
        for size, terms in self._outputs:
            products = []
            for i, n in terms:
                mul_in, mul_out = self._shapes[n]
                products.append((blocks[i].unflatten(-1, (-1, mul_in)) @ weights[n].view(mul_in, mul_out)).flatten(-2))
            outputs.append(sum(products[1:], products[0]) if products else x.new_zeros(*x.shape[:-1], size))
        out = torch.cat(outputs, dim=-1)
        if self.bias.numel():
            # Scalars have the same place in both layouts.
            out = out.index_add(-1, self.biased, bias.expand(*out.shape[:-1], -1))
        return out


class BreakingLinear(torch.nn.Module):
    r"""The part of a relaxed linear map that breaks symmetry: zero for a scalar theta.

    .. math:: y^{(o)}_v = \frac{1}{\sqrt{n_o}} \sum_{t, i, u} W^{(t,i,o)}_{uv}\, \theta^{(t)} \otimes x^{(i)}_u

    The sum runs over the non-scalar irreps ``t`` of theta and ``i`` of the input that couple to ``o``; ``n_o`` is the
    number of its terms. The matrix is built once per call and applied as one matrix product.

    Args:
        irreps_in (o3.Irreps or str): Irreps of the input.
        irreps_out (o3.Irreps or str): Irreps of the output.
        irreps_theta (o3.Irreps or str): Irreps of theta.
        channels (int, optional): Use at most the first so many channels of each irrep of the input: enough where a
            learned map has mixed them before. (default: :obj:`None`, all)
        layout (str, optional): ``"mul_ir"``, e3nn's, or ``"ir_mul"``, channels innermost. (default: ``"mul_ir"``)
    """

    def __init__(
        self,
        irreps_in: IrrepsLike,
        irreps_out: IrrepsLike,
        irreps_theta: IrrepsLike,
        *,
        channels: int | None = None,
        layout: str = "mul_ir",
    ) -> None:
        super().__init__()
        check_layout(layout)
        self.irreps_in = o3.Irreps(irreps_in)
        self.irreps_out = o3.Irreps(irreps_out)
        self.irreps_theta = o3.Irreps(irreps_theta)
        used = [mul if channels is None else min(mul, channels) for mul, _ in self.irreps_in]
        thetas = [(ir, s) for _, ir, s in copies(self.irreps_theta) if ir != SCALAR]
        pairs = [
            [[Path(s, ir_t, ir_i, ir_o) for ir_t, s in thetas if ir_o in ir_t * ir_i] for _, ir_o in self.irreps_out]
            for _, ir_i in self.irreps_in
        ]
        fan_in = [
            sum(mul * len(row[o]) for mul, row in zip(used, pairs, strict=True)) for o in range(len(self.irreps_out))
        ]

        chunks, w = {}, 0
        for i, row in enumerate(pairs):
            for o, of_pair in enumerate(row):
                numel = len(of_pair) * used[i] * self.irreps_out[o].mul
                chunks[i, o] = torch.arange(w, w + numel)
                w += numel
        # Blocks of equal multiplicities share one matrix product: W^T [mul_i mul_o, paths] by T [paths, dim_i dim_o].
        groups_in, groups_out = _by_multiplicity(used), _by_multiplicity([mul for mul, _ in self.irreps_out])
        paths: list[Path] = []
        targets: list[Tensor] = []
        scales: list[float] = []
        by_product: list[Tensor] = []
        self._products: list[list[tuple[int, int, int, int, int]]] = [[] for _ in groups_in]
        for n, (mul_i, blocks_i) in enumerate(groups_in.items()):
            rows = _consecutive([self.irreps_in[i].ir.dim for i in blocks_i])
            for mul_o, blocks_o in groups_out.items():
                columns = _consecutive([self.irreps_out[o].ir.dim for o in blocks_o])
                dim_i, dim_o, first = sum(map(len, rows)), sum(map(len, columns)), len(paths)
                for (i, of_row), (o, of_column) in product(
                    zip(blocks_i, rows, strict=True), zip(blocks_o, columns, strict=True)
                ):
                    by_product.append(chunks[i, o])
                    paths += pairs[i][o]
                    targets += [of_row[:, None] * dim_o + of_column] * len(pairs[i][o])
                    scales += [fan_in[o] ** -0.5 for _ in pairs[i][o]]
                self._products[n].append((len(paths) - first, mul_i, mul_o, dim_i, dim_o))
        sizes = [dim_i * dim_o for n, _, _, dim_i, dim_o in chain.from_iterable(self._products) for _ in range(n)]
        begins = [0, *accumulate(sizes)]
        targets = [begin + target for begin, target in zip(begins[:-1], targets, strict=True)]
        self.coupling = Coupling(paths, targets, begins[-1], scales)
        self.num_paths = len(paths)
        self.dim_out = self.irreps_out.dim
        self.take = Select(_columns(self.irreps_in, groups_in, layout), self.irreps_in.dim)
        self.order = Select(_columns(self.irreps_out, groups_out, layout).argsort(), self.irreps_out.dim)
        self.by_product = Select(concatenate(by_product), w)
        if w > 0:
            self.weight = torch.nn.Parameter(torch.empty(w))
        else:  # as e3nn: DDP waits for the gradient of every parameter
            self.register_buffer("weight", torch.empty(0))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights from a normal distribution, as e3nn does."""
        torch.nn.init.normal_(self.weight)

    def forward(self, x: Tensor, theta: Tensor, y: Tensor, groups: Groups | None = None) -> Tensor:
        """Return ``y`` ``[..., irreps_out.dim]`` and the image of ``x`` ``[..., irreps_in.dim]`` under this theta.

        With ``groups``, theta ``[B, dim]`` is that of each graph.
        """
        if self.num_paths == 0:
            return y
        if groups is not None:
            return y + self.order(groups.matmul(self.take(x), self.matrix(theta)))
        if self.order.is_identity and x.dim() == 2:
            return torch.addmm(y, self.take(x), self.matrix(theta))
        return y + self.order(self.take(x) @ self.matrix(theta))

    def matrix(self, theta: Tensor) -> Tensor:
        """Return the map from the columns ``take`` of the input, component by component, channels innermost."""
        products = list(chain.from_iterable(self._products))
        weights = iter(self.by_product(self.weight).split([n * mul_i * mul_o for n, mul_i, mul_o, _, _ in products]))
        couplings = iter(self.coupling(theta).split([n * dim_i * dim_o for n, _, _, dim_i, dim_o in products], dim=-1))
        several = theta.shape[:-1]
        rows = []
        for row in self._products:
            blocks = []
            for n, mul_i, mul_o, dim_i, dim_o in row:
                W, T = next(weights).view(n, mul_i * mul_o), next(couplings).view(*several, n, dim_i * dim_o)
                block = (W.T @ T).view(*several, mul_i, mul_o, dim_i, dim_o)
                block = block.movedim((-2, -1), (-4, -2))  # component, channel of input and output
                blocks.append(block.reshape(*several, dim_i * mul_i, dim_o * mul_o))
            rows.append(blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=-1))
        return rows[0] if len(rows) == 1 else torch.cat(rows, dim=-2)

    def __repr__(self) -> str:
        return (
            f"{self.__class__.__name__}({self.irreps_in}, {self.irreps_out}, theta={self.irreps_theta} | "
            f"{self.weight.numel()} weights)"
        )


def _by_multiplicity(muls: list[int]) -> dict[int, list[int]]:
    """Return the blocks of each multiplicity."""
    groups: dict[int, list[int]] = {}
    for block, mul in enumerate(muls):
        groups.setdefault(mul, []).append(block)
    return groups


def _consecutive(sizes: list[int]) -> list[Tensor]:
    """Return consecutive indices, cut in pieces of these sizes."""
    return list(torch.arange(sum(sizes)).split(sizes))


def _columns(irreps: o3.Irreps, groups: dict[int, list[int]], layout: str) -> Tensor:
    """Return where components are, block by block in the order of the groups, those of the first channels first."""
    places = components(irreps, layout)
    return concatenate(places[block][:channels].T for channels, blocks in groups.items() for block in blocks)


class RelaxedLinear(ExactConstants):
    r"""A linear map between irreps that is equivariant as far as theta is scalar.

    .. math:: y = \theta^{(0e)}\, W x + B_\theta x

    ``W`` is :class:`e3nn.o3.Linear`, so that with a scalar theta of 1 the layer is that layer, bit for bit;
    :math:`B_\theta` is :class:`BreakingLinear`, linear in the non-scalar part of theta.

    Args:
        irreps_in (o3.Irreps or str): Irreps of the input.
        irreps_out (o3.Irreps or str): Irreps of the output.
        irreps_theta (o3.Irreps, str, int, RelaxedWeights or None): Irreps of theta, an instance to share, or
            :obj:`None` for the strict layer.
        biases (bool, optional): Add a learnable bias to the 0e part of the output. (default: :obj:`False`)
        channels (int, optional): Let theta act on at most the first so many channels of each irrep of the input.
            (default: :obj:`None`, all)
        layout (str, optional): ``"mul_ir"``, e3nn's, or ``"ir_mul"``, channels innermost. (default: ``"mul_ir"``)

    Shapes:
        - **input:** features ``[..., irreps_in.dim]``
        - **output:** features ``[..., irreps_out.dim]``

    Raises:
        ValueError: If no path connects ``irreps_in`` to ``irreps_out``, or the input has another last dimension.
        TypeError: If the input has another dtype or device than the weights.

    Example::

        >>> linear = RelaxedLinear("4x0e+2x1o", "3x1o", "0e+1o")
        >>> linear
        RelaxedLinear(4x0e+2x1o, 3x1o, theta=1x0e+1x1o | 18 weights)
        >>> linear(torch.randn(5, 10)).shape
        torch.Size([5, 9])
    """

    scalars: Tensor

    def __init__(
        self,
        irreps_in: IrrepsLike,
        irreps_out: IrrepsLike,
        irreps_theta: ThetaLike | RelaxedWeights = None,
        *,
        biases: bool = False,
        channels: int | None = None,
        layout: str = "mul_ir",
    ) -> None:
        super().__init__()
        self.irreps_in = parse_irreps("irreps_in", irreps_in)
        self.irreps_out = parse_irreps("irreps_out", irreps_out)
        self.dim_in = self.irreps_in.dim
        self.theta = as_weights(irreps_theta)
        check_connected(self, connected(self.irreps_in, self.irreps_out, self.irreps_theta))
        self.linear = Linear(self.irreps_in, self.irreps_out, biases=biases, layout=layout)
        self.breaking: BreakingLinear | None = None
        if self.theta is not None:
            self.breaking = BreakingLinear(
                self.irreps_in, self.irreps_out, self.theta.irreps_theta, channels=channels, layout=layout
            )
            self.register_constant("scalars", scalar_mean(self.theta.irreps_theta))

    @property
    def irreps_theta(self) -> o3.Irreps | None:
        """Irreps of theta, :obj:`None` for the strict layer."""
        return None if self.theta is None else self.theta.irreps_theta

    @property
    def weight_numel(self) -> int:
        """Number of ordinary weights."""
        return self.linear.weight_numel + (0 if self.breaking is None else self.breaking.weight.numel())

    def reset_parameters(self) -> None:
        """Draw new weights and return theta to its equivariant starting point."""
        torch.nn.init.normal_(self.linear.weight)
        torch.nn.init.zeros_(self.linear.bias)
        if self.theta is not None and self.breaking is not None:
            self.breaking.reset_parameters()
            self.theta.reset_parameters()

    def forward(self, x: Tensor, theta: Tensor | None = None, groups: Groups | None = None) -> Tensor:
        """Return the image of ``x``, under another theta than the layer's own if given.

        With ``groups``, theta ``[B, dim]`` is that of each graph.
        """
        check_last_dim("x", x, self.irreps_in, self.dim_in)
        check_dtype_device("x", x, self.linear.weight)
        if self.theta is None or self.breaking is None:
            return self.linear(x)
        theta = self.theta() if theta is None else theta
        factor = theta @ self.scalars
        if groups is None:
            y = self.linear(x, factor)
        else:  # one factor for each row
            y = self.linear(x) * factor.index_select(0, groups.batch).unsqueeze(1)
        broken: Tensor = self.breaking(x, theta, y, groups)
        return broken

    def __repr__(self) -> str:
        theta = "" if self.theta is None else f", theta={self.irreps_theta}"
        return f"{self.__class__.__name__}({self.irreps_in}, {self.irreps_out}{theta} | {self.weight_numel} weights)"
