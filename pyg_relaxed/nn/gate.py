"""Gates: e3nn's, arranged for a set of irreps."""

from __future__ import annotations

import torch

from ..compat import e3nn_nn, o3

ACTIVATIONS = {1: torch.nn.functional.silu, -1: torch.tanh}  # by parity: tanh is odd


def gated_irreps(irreps: o3.Irreps) -> tuple[o3.Irreps, o3.Irreps]:
    """Split irreps into scalars, which are activated, and the rest, which scalars gate."""
    scalars = o3.Irreps([(mul, ir) for mul, ir in irreps if ir.l == 0])
    gated = o3.Irreps([(mul, ir) for mul, ir in irreps if ir.l > 0])
    return scalars, gated


def make_gate(irreps: o3.Irreps) -> e3nn_nn.Gate:
    """Return e3nn's gate with output ``irreps`` (scalars first): SiLU on 0e, tanh on 0o, one 0e gate per other irrep.

    Example::

        >>> make_gate(o3.Irreps("4x0e+2x1o")).irreps_in
        6x0e+2x1o
    """
    scalars, gated = gated_irreps(irreps)
    gates = o3.Irreps([(gated.num_irreps, "0e")]) if gated.num_irreps else o3.Irreps()
    return e3nn_nn.Gate(
        scalars,
        [ACTIVATIONS[ir.p] for _, ir in scalars],
        gates,
        [ACTIVATIONS[1] for _ in gates],
        gated,
    )
