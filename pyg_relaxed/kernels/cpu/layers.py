"""The layers of a radial network for a part of the edges, with two orders of derivatives.

The network is the one of :func:`pyg_relaxed.kernels.perceptron`: layer n multiplies ``inputs[n]`` by ``M[n]``, which
gives ``sums[n]``, and SiLU makes the next inputs of these. A dot marks a derivative along given directions.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import silu

Layers = list[Tensor]
_silu_backward = torch.ops.aten.silu_backward


def matrices(flat: Tensor, widths: list[int]) -> Layers:
    """Return the matrices that are one after the other in a flat tensor, as views."""
    shapes = list(pairwise(widths))
    return [piece.view(shape) for piece, shape in zip(flat.split([a * b for a, b in shapes]), shapes, strict=True)]


def forward(x: Tensor, M: Layers, out: Tensor) -> tuple[Layers, Layers]:
    """Write what the network makes of ``x``, and return inputs and sums of its layers."""
    inputs, sums = [x], []
    for matrix in M[:-1]:
        sums.append(inputs[-1] @ matrix)
        inputs.append(silu(sums[-1]))
    torch.mm(inputs[-1], M[-1], out=out)
    return inputs, sums


def backward(inputs: Layers, sums: Layers, M: Layers, d: Tensor, dM: Layers, out: Tensor) -> Tensor:
    """Write the derivative in the first inputs, where the output has ``d``, and add to ``dM`` unless it is empty."""
    for n in reversed(range(len(M))):
        if dM:
            dM[n].addmm_(inputs[n].T, d)
        if n == 0:
            return torch.mm(d, M[0].T, out=out)
        d = _silu_backward(d @ M[n].T, sums[n - 1])
    raise AssertionError


def tangent(
    inputs: Layers, sums: Layers, M: Layers, x_dot: Tensor, M_dot: Layers, out: Tensor
) -> tuple[Layers, Layers]:
    """Write the derivative of the output along directions (none of the matrices' if empty); return dotted layers."""
    inputs_dot, sums_dot = [x_dot], []
    for n in range(len(M)):
        product = torch.mm(inputs_dot[n], M[n], **({"out": out} if n == len(M) - 1 else {}))
        if M_dot:
            product.addmm_(inputs[n], M_dot[n])
        if n < len(M) - 1:
            sums_dot.append(product)
            inputs_dot.append(_silu_backward(product, sums[n]))
    return inputs_dot, sums_dot


def backward_of_tangent(
    layers: tuple[Layers, Layers],
    dotted: tuple[Layers, Layers],
    M: Layers,
    M_dot: Layers,
    d: Tensor,
    d_dot: Tensor,
    dM: Layers,
    out: Tensor,
) -> Tensor:
    """Do what :func:`backward` does where the derivative along directions has ``d_dot`` beside."""
    (inputs, sums), (inputs_dot, sums_dot) = layers, dotted
    for n in reversed(range(len(M))):
        dM[n].addmm_(inputs[n].T, d).addmm_(inputs_dot[n].T, d_dot)
        product = torch.mm(d, M[n].T, **({"out": out} if n == 0 else {}))
        if M_dot:
            product.addmm_(d_dot, M_dot[n].T)
        if n == 0:
            return product
        product_dot = d_dot @ M[n].T
        s = sums[n - 1].sigmoid()
        curvature = s * (1 - s) * (2 + sums[n - 1] * (1 - 2 * s))  # second derivative of SiLU
        d = _silu_backward(product, sums[n - 1]).add_(curvature.mul_(sums_dot[n - 1]).mul_(product_dot))
        d_dot = _silu_backward(product_dot, sums[n - 1])
    raise AssertionError
