"""The backend of NVIDIA's package cuEquivariance, called with our paths, weights and normalisation."""

from __future__ import annotations

import functools
import importlib.util
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..o3.layout import places_in_ir_mul
from .paths import PathTable

if TYPE_CHECKING:
    import cuequivariance

PACKAGES = ("cuequivariance_torch", "cuequivariance_ops_torch")
MIN_EXTENT = 8  # below, kernels of method "uniform_1d" have little to do for each coefficient


def why_not(spec: str) -> str | None:
    """Return why the package cannot compute this product, :obj:`None` if it can."""
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            return f"the package {package} is not installed"
    table = PathTable.from_spec(spec)
    if _extent(table) < MIN_EXTENT:
        return (
            f"its method 'uniform_1d' cuts all channels in pieces of one length, so the multiplicities of "
            f"{table.irreps_in} must have a common divisor of at least {MIN_EXTENT} (got {_extent(table)})"
        )
    return None


@torch.compiler.disable
def convolve(x: Tensor, sh: Tensor, w: Tensor, order: Tensor, num_receivers: int, spec: str, mul_ir: bool) -> Tensor:
    """Return the convolution as :func:`to_receivers` does. On a GPU sums do not repeat to the last bit."""
    product = _convolution(spec, x.device, "uniform_1d" if x.is_cuda else "naive")
    with torch.cuda.device_of(x):
        return product(x, sh, w, order, num_receivers, mul_ir)


def polynomial(table: PathTable) -> cuequivariance.SegmentedPolynomial:
    """Return the product as a polynomial of weights, x and those components of sh that it needs, channels innermost.

    Every segment is one component of as many channels as all multiplicities can be divided into, which is the form
    that the method ``"uniform_1d"`` takes.
    """
    import cuequivariance

    extent = _extent(table)
    product = cuequivariance.SegmentedTensorProduct.from_subscripts("u,u,,u")
    for operand, size in ((0, table.weight_numel), (1, table.irreps_in.dim), (3, table.irreps_out.dim)):
        product.add_segments(operand, size // extent * [(extent,)])
    places = {component: n for n, component in enumerate(_used(table))}
    product.add_segments(2, len(places) * [()])
    w = 0
    for path in table.paths:
        pieces = path.mul // extent
        x = table.irreps_in.slices()[path.i].start // extent
        sh = table.irreps_sh.slices()[path.j].start + path.v * path.ir_sh.dim
        y, stride = (n // extent for n in table.position(path.k))
        coefficients = table.coefficients(path)
        for a, b, c in torch.nonzero(coefficients.abs() > 1e-12).tolist():
            value = coefficients[a, b, c].numpy()
            for n in range(pieces):
                product.add_path(w + n, x + a * pieces + n, places[sh + b], y + c * stride + n, c=value)
        w += pieces  # path by path: see _Convolution.weights
    return cuequivariance.SegmentedPolynomial.eval_last_operand(product)


class _Convolution(torch.nn.Module):
    """The polynomial, and the orders of weights and components that it needs.

    Args:
        table (PathTable): The paths.
        method (str): ``"uniform_1d"``, on a GPU, or ``"naive"``, plain torch.
    """

    used: Tensor
    weights: Tensor
    to_ir_mul: Tensor
    to_mul_ir: Tensor

    def __init__(self, table: PathTable, method: str) -> None:
        super().__init__()
        from cuequivariance_torch import SegmentedPolynomial

        self.polynomial = SegmentedPolynomial(polynomial(table), method=method)
        weights = [
            first + stride * torch.arange(mul) for (first, stride), mul in ((p.weights, p.mul) for p in table.paths)
        ]
        self.register_buffer("weights", torch.cat(weights))
        self.register_buffer("used", torch.tensor(_used(table)))
        self.register_buffer("to_ir_mul", torch.argsort(places_in_ir_mul(table.irreps_in)))
        self.register_buffer("to_mul_ir", places_in_ir_mul(table.irreps_out))
        self.is_sorted = bool((self.weights[1:] > self.weights[:-1]).all())

    def forward(self, x: Tensor, sh: Tensor, w: Tensor, order: Tensor, num_receivers: int, mul_ir: bool) -> Tensor:
        """Return the sum over neighbours."""
        sender, receiver = order[: 2 * len(sh)].view(2, -1)
        w = w if self.is_sorted else w.index_select(1, self.weights)
        x = x.index_select(1, self.to_ir_mul) if mul_ir else x
        # The package does not promise to write the derivatives in components that it does not need.
        sh = sh if len(self.used) == sh.shape[1] else sh.index_select(1, self.used)
        shape = x.new_empty(num_receivers, 1)  # the package reads its length
        (y,) = self.polynomial([w, x, sh], {1: sender}, {0: shape}, {0: receiver})
        return y.index_select(1, self.to_mul_ir) if mul_ir else y


@functools.lru_cache(maxsize=256)
def _convolution(spec: str, device: torch.device, method: str) -> _Convolution:
    with torch.inference_mode(False):  # what is kept may be saved for backward
        return _Convolution(PathTable.from_spec(spec), method).to(device)


def _used(table: PathTable) -> list[int]:
    """Return the components of sh that some path multiplies."""
    slices = table.irreps_sh.slices()
    starts = {slices[path.j].start + path.v * path.ir_sh.dim: path.ir_sh.dim for path in table.paths}
    return sorted(start + b for start, dim in starts.items() for b in range(dim))


def _extent(table: PathTable) -> int:
    return math.gcd(*(mul for mul, _ in table.irreps_in))
