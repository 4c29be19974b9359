"""The backend of the package OpenEquivariance, called with our paths, weights and normalisation."""

from __future__ import annotations

import functools
import importlib.util
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..o3.layout import places_in_ir_mul
from .paths import PathTable

if TYPE_CHECKING:
    import openequivariance


def why_not(spec: str) -> str | None:
    """Return why the package cannot run, :obj:`None` if it can. It takes all irreps."""
    if importlib.util.find_spec("openequivariance") is None:
        return "the package openequivariance is not installed"
    try:
        import openequivariance
    except (ImportError, AssertionError, OSError, RuntimeError) as error:  # an assertion is how it wants CUDA or HIP
        return f"the package openequivariance does not load: {error}"
    if not openequivariance.BUILT_EXTENSION:
        return f"the extension of the package openequivariance is missing: {openequivariance.BUILT_EXTENSION_ERROR}"
    return None


@torch.compiler.disable
def convolve(x: Tensor, sh: Tensor, w: Tensor, order: Tensor, num_receivers: int, spec: str, mul_ir: bool) -> Tensor:
    """Return the convolution as :func:`to_receivers` does.

    Sums repeat to the last bit if :func:`torch.use_deterministic_algorithms` is on, at the price of sorting the edges.
    """
    deterministic = torch.are_deterministic_algorithms_enabled()
    product = _convolution(spec, x.device, x.dtype, deterministic)
    with torch.cuda.device_of(x):
        return product(x, sh, w, order, num_receivers, mul_ir)


def problem(table: PathTable, dtype: torch.dtype) -> openequivariance.TPProblem:
    """Return the product as the package describes it: e3nn's instructions and normalisation, which are ours."""
    import openequivariance

    instructions = [(path.i, path.j, path.k, "uvu", True) for path in table.paths if path.v == 0]
    number = openequivariance.torch_to_oeq_dtype(dtype)
    return openequivariance.TPProblem(
        str(table.irreps_in),
        str(table.irreps_sh),
        str(table.blocks),  # not simplified: one block of the output to each path
        instructions,
        shared_weights=False,
        internal_weights=False,
        irrep_dtype=number,
        weight_dtype=number,
        layout="mul_ir",
    )


class _Convolution(torch.nn.Module):
    """The package's convolution, and the orders of weights and components around it.

    Args:
        table (PathTable): The paths.
        dtype (torch.dtype): ``torch.float32`` or ``torch.float64``.
        deterministic (bool): Whether to sum without atomic operations, over sorted edges.
    """

    weights: Tensor
    to_mul_ir: Tensor
    to_ir_mul: Tensor

    def __init__(self, table: PathTable, dtype: torch.dtype, deterministic: bool) -> None:
        super().__init__()
        import openequivariance

        self.deterministic = deterministic
        self.convolution = openequivariance.TensorProductConv(problem(table, dtype), deterministic=deterministic)
        # The package reorders weights piece by piece: reordered numbers say once and for all which goes where.
        numbers = torch.arange(table.weight_numel).view(1, -1)
        self.register_buffer("weights", self.convolution.reorder_weights_from_e3nn(numbers)[0])
        self.register_buffer("to_mul_ir", places_in_ir_mul(table.irreps_in))
        self.register_buffer("to_ir_mul", torch.argsort(places_in_ir_mul(table.irreps_out)))
        self.is_sorted = bool((self.weights[1:] > self.weights[:-1]).all())

    def forward(self, x: Tensor, sh: Tensor, w: Tensor, order: Tensor, num_receivers: int, mul_ir: bool) -> Tensor:
        """Return the sum over neighbours."""
        num_senders = x.shape[0]
        sender, receiver, _, by_sender = order[: 4 * len(sh)].view(4, -1)
        to_sorted_by_sender = None
        if self.deterministic:  # edges must be sorted by receiver and, of one receiver, by sender
            edges = by_sender[torch.argsort(receiver[by_sender], stable=True)]
            sender, receiver, sh, w = (t.index_select(0, edges) for t in (sender, receiver, sh, w))
            to_sorted_by_sender = torch.argsort(sender, stable=True)
        w = w if self.is_sorted else w.index_select(1, self.weights)
        x = x if mul_ir else x.index_select(1, self.to_mul_ir)
        if num_receivers > num_senders:  # the package knows one set of nodes
            x = torch.nn.functional.pad(x, (0, 0, 0, num_receivers - num_senders))
        y = self.convolution(x, sh, w, receiver, sender, to_sorted_by_sender)[:num_receivers]
        return y if mul_ir else y.index_select(1, self.to_ir_mul)


@functools.lru_cache(maxsize=256)
def _convolution(spec: str, device: torch.device, dtype: torch.dtype, deterministic: bool) -> _Convolution:
    with torch.cuda.device(device), torch.inference_mode(False):  # what is kept may be saved for backward
        return _Convolution(PathTable.from_spec(spec), dtype, deterministic).to(device)
