"""Linear maps whose coefficients are theta times Clebsch-Gordan coefficients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..checks import check_connected, check_dtype_device, check_last_dim, parse_irreps
from ..compat import o3
from .contraction import Coupling, Path, copies, scalar_mean
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


class BreakingLinear(torch.nn.Module):
    r"""The part of a relaxed linear map that breaks symmetry: zero for a scalar theta.

    .. math:: y^{(o)}_v = \frac{1}{\sqrt{n_o}} \sum_{t, i, u} W^{(t,i,o)}_{uv}\, \theta^{(t)} \otimes x^{(i)}_u

    The sum runs over the non-scalar irreps ``t`` of theta and ``i`` of the input that couple to ``o``; ``n_o`` is the
    number of its terms. The matrix is built once per call and applied as one matrix product.

    Args:
        irreps_in (o3.Irreps or str): Irreps of the input.
        irreps_out (o3.Irreps or str): Irreps of the output.
        irreps_theta (o3.Irreps or str): Irreps of theta.
    """

    def __init__(self, irreps_in: IrrepsLike, irreps_out: IrrepsLike, irreps_theta: IrrepsLike) -> None:
        super().__init__()
        self.irreps_in = o3.Irreps(irreps_in)
        self.irreps_out = o3.Irreps(irreps_out)
        self.irreps_theta = o3.Irreps(irreps_theta)
        thetas = [(ir, s) for _, ir, s in copies(self.irreps_theta) if ir != SCALAR]
        paths, targets, offset = [], [], 0
        # One entry per pair of input and output blocks: multiplicities, dimensions, number of paths.
        self._blocks: list[list[tuple[int, int, int, int, int]]] = []
        for mul_i, ir_i in self.irreps_in:
            row = []
            for mul_o, ir_o in self.irreps_out:
                pair = [Path(s, ir_t, ir_i, ir_o) for ir_t, s in thetas if ir_o in ir_t * ir_i]
                for path in pair:
                    paths.append(path)
                    targets.append(offset + torch.arange(ir_i.dim * ir_o.dim).view(ir_i.dim, ir_o.dim))
                    offset += ir_i.dim * ir_o.dim
                row.append((mul_i, mul_o, ir_i.dim, ir_o.dim, len(pair)))
            self._blocks.append(row)
        fan_in = [sum(row[o][0] * row[o][4] for row in self._blocks) for o in range(len(self.irreps_out))]
        self._scale = [n**-0.5 if n else 0.0 for n in fan_in]
        self._shape = (self.irreps_in.dim, self.irreps_out.dim)
        self.coupling = Coupling(paths, targets, offset)
        self.num_paths = len(paths)
        self.weight = torch.nn.Parameter(
            torch.empty(sum(mul_i * mul_o * n for row in self._blocks for mul_i, mul_o, _, _, n in row))
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights from a normal distribution, as e3nn does."""
        torch.nn.init.normal_(self.weight)

    def matrix(self, theta: Tensor) -> Tensor:
        """Return the map for this theta as a matrix ``[irreps_in.dim, irreps_out.dim]``."""
        if self.num_paths == 0:
            return theta.new_zeros(self._shape)
        couplings = self.coupling(theta)
        rows, c, w = [], 0, 0
        for row in self._blocks:
            blocks = []
            for o, (mul_i, mul_o, dim_i, dim_o, n) in enumerate(row):
                if n == 0:
                    blocks.append(theta.new_zeros(mul_i * dim_i, mul_o * dim_o))
                    continue
                T = couplings[c : c + n * dim_i * dim_o].view(n, dim_i * dim_o)
                W = self.weight[w : w + n * mul_i * mul_o].view(n, mul_i * mul_o)
                c, w = c + T.numel(), w + W.numel()
                block = (W.T @ (T * self._scale[o])).view(mul_i, mul_o, dim_i, dim_o)
                blocks.append(block.transpose(1, 2).reshape(mul_i * dim_i, mul_o * dim_o))
            rows.append(torch.cat(blocks, dim=1))
        return torch.cat(rows, dim=0)

    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        """Return the image of ``x`` ``[..., irreps_in.dim]`` under this theta."""
        return x @ self.matrix(theta)

    def __repr__(self) -> str:
        return (
            f"{self.__class__.__name__}({self.irreps_in}, {self.irreps_out}, theta={self.irreps_theta} | "
            f"{self.weight.numel()} weights)"
        )


class RelaxedLinear(torch.nn.Module):
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
    ) -> None:
        super().__init__()
        self.irreps_in = parse_irreps("irreps_in", irreps_in)
        self.irreps_out = parse_irreps("irreps_out", irreps_out)
        self.dim_in = self.irreps_in.dim
        self.theta = as_weights(irreps_theta)
        check_connected(self, connected(self.irreps_in, self.irreps_out, self.irreps_theta))
        self.linear = o3.Linear(self.irreps_in, self.irreps_out, biases=biases)
        self.breaking: BreakingLinear | None = None
        if self.theta is not None:
            self.breaking = BreakingLinear(self.irreps_in, self.irreps_out, self.theta.irreps_theta)
            self.register_buffer("scalars", scalar_mean(self.theta.irreps_theta), persistent=False)

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

    def forward(self, x: Tensor) -> Tensor:
        """Return the image of ``x``."""
        check_last_dim("x", x, self.irreps_in, self.dim_in)
        check_dtype_device("x", x, self.linear.weight)
        out = self.linear(x)
        if self.theta is None or self.breaking is None:
            return out
        theta = self.theta()
        return (theta @ self.scalars) * out + self.breaking(x, theta)

    def __repr__(self) -> str:
        theta = "" if self.theta is None else f", theta={self.irreps_theta}"
        return f"{self.__class__.__name__}({self.irreps_in}, {self.irreps_out}{theta} | {self.weight_numel} weights)"
