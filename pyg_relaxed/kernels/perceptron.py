"""Radial networks: what compiled kernels evaluate for some edges at a time, in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import silu


def perceptron(inputs: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Return the output of a multilayer perceptron without biases, with SiLU between its layers.

    Args:
        inputs (Tensor): Of each edge, ``[E, K]``.
        matrices (sequence of Tensor): One ``[fan_in, fan_out]`` for each layer.

    Example::

        >>> import torch
        >>> perceptron(torch.ones(1, 2), [torch.ones(2, 3), torch.ones(3, 1)])
        tensor([[5.2848]])
    """
    *hidden, last = matrices
    for matrix in hidden:
        inputs = silu(inputs @ matrix)
    return inputs @ last
