"""The layers of a radial network for a part of the edges, with two orders of derivatives.

The network is the one of :func:`pyg_relaxed.kernels.perceptron`: layer n multiplies ``inputs[n]`` by ``M[n]``, and SiLU
makes the next inputs of that, with ``slopes[n]``: its derivatives there, as many as will be used. A dot marks a
derivative along given directions.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from .silu import silu

Layers = list[Tensor]


def matrices(flat: Tensor, widths: list[int]) -> Layers:
    """Return the matrices that are one after the other in a flat tensor, as views."""
    shapes = list(pairwise(widths))
    return [piece.view(shape) for piece, shape in zip(flat.split([a * b for a, b in shapes]), shapes, strict=True)]


def forward(x: Tensor, M: Layers, out: Tensor, derivatives: int = 0) -> tuple[Layers, list[Layers]]:
    """Write what the network makes of ``x``, and return inputs and slopes of its layers."""
    inputs, slopes = [x], []
    for matrix in M[:-1]:
        value, *slope = silu(inputs[-1] @ matrix, derivatives)
        inputs.append(value)
        slopes.append(slope)
    torch.mm(inputs[-1], M[-1], out=out)
    return inputs, slopes


def backward(inputs: Layers, slopes: list[Layers], M: Layers, d: Tensor, dM: Layers, out: Tensor) -> Tensor:
    """Write the derivative in the first inputs, where the output has ``d``, and add to ``dM`` unless it is empty."""
    for n in reversed(range(len(M))):
        if dM:
            dM[n].addmm_(inputs[n].T, d)
        if n == 0:
            return torch.mm(d, M[0].T, out=out)
        d = (d @ M[n].T).mul_(slopes[n - 1][0])
    raise AssertionError


def tangent(
    inputs: Layers, slopes: list[Layers], M: Layers, x_dot: Tensor, M_dot: Layers, out: Tensor
) -> tuple[Layers, Layers]:
    """Write the derivative of the output along directions (none of the matrices' if empty); return dotted layers."""
    inputs_dot, slopes_dot = [x_dot], []
    for n in range(len(M)):
        product = torch.mm(inputs_dot[n], M[n], **({"out": out} if n == len(M) - 1 else {}))
        if M_dot:
            product.addmm_(inputs[n], M_dot[n])
        if n < len(M) - 1:
            first, second = slopes[n]
            inputs_dot.append(first * product)
            slopes_dot.append(product.mul_(second))
    return inputs_dot, slopes_dot


def backward_of_tangent(
    layers: tuple[Layers, list[Layers]],
    dotted: tuple[Layers, Layers],
    M: Layers,
    M_dot: Layers,
    d: Tensor,
    d_dot: Tensor,
    dM: Layers,
    out: Tensor,
) -> Tensor:
    """Do what :func:`backward` does where the derivative along directions has ``d_dot`` beside."""
    (inputs, slopes), (inputs_dot, slopes_dot) = layers, dotted
    for n in reversed(range(len(M))):
        dM[n].addmm_(inputs[n].T, d).addmm_(inputs_dot[n].T, d_dot)
        product = torch.mm(d, M[n].T, **({"out": out} if n == 0 else {}))
        if M_dot:
            product.addmm_(d_dot, M_dot[n].T)
        if n == 0:
            return product
        product_dot = d_dot @ M[n].T
        d = product.mul_(slopes[n - 1][0]).addcmul_(slopes_dot[n - 1], product_dot)
        d_dot = product_dot.mul_(slopes[n - 1][0])
    raise AssertionError
