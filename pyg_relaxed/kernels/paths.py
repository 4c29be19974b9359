"""The path table: which irreps couple to which, in what order, with what weights. It feeds every backend."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..compat import o3


class Path(NamedTuple):
    """One "uvu" path: block ``i`` of x and copy ``v`` of block ``j`` of sh into block ``k`` of the output."""

    i: int
    j: int
    v: int
    k: int
    ir_in: o3.Irrep
    ir_sh: o3.Irrep
    ir_out: o3.Irrep
    mul: int
    weights: tuple[int, int]  # first weight, stride between channels


class PathTable:
    """Paths of e3nn's depthwise ("uvu") tensor product, with its order of paths and weights and its normalisation.

    Args:
        irreps_in (o3.Irreps): Irreps of the node features, with multiplicities.
        irreps_sh (o3.Irreps): Irreps of the edges.
        lmax (int, optional): Keep the outputs up to this degree.
        irreps_out (o3.Irreps, optional): Keep the outputs among these irreps; multiplicities are ignored.

    Raises:
        ValueError: If no output remains, or not exactly one of ``lmax`` and ``irreps_out`` is given.

    Example::

        >>> table = PathTable(o3.Irreps("8x0e+8x1o"), o3.Irreps("0e+1o"), lmax=1)
        >>> table.irreps_out, table.weight_numel
        (16x0e+16x1o+8x1e, 40)
    """

    def __init__(
        self,
        irreps_in: o3.Irreps,
        irreps_sh: o3.Irreps,
        lmax: int | None = None,
        irreps_out: o3.Irreps | None = None,
    ) -> None:
        if (lmax is None) == (irreps_out is None):
            raise ValueError(f"give either 'lmax' or 'irreps_out' (got lmax={lmax} and irreps_out={irreps_out})")
        self.irreps_in = irreps_in
        self.irreps_sh = irreps_sh
        found = [
            (i, j, ir)
            for i, (_, ir_in) in enumerate(irreps_in)
            for j, (_, ir_sh) in enumerate(irreps_sh)
            for ir in ir_in * ir_sh
            if (irreps_out is None and lmax is not None and ir.l <= lmax)
            or (irreps_out is not None and ir in irreps_out)
        ]
        if not found:
            wanted = f"l <= {lmax}" if irreps_out is None else str(irreps_out)
            raise ValueError(
                f"no path connects 'irreps_in' {irreps_in} and 'irreps_sh' {irreps_sh} to an output among {wanted}"
            )
        unsorted = o3.Irreps([(irreps_in[i].mul, ir) for i, _, ir in found])
        blocks, position, _ = unsorted.sort()
        self.blocks = blocks
        self.irreps_out = blocks.simplify()
        self.paths: list[Path] = []
        weight = 0
        for n, (i, j, ir) in enumerate(found):
            (mul, ir_in), (mul_sh, ir_sh) = irreps_in[i], irreps_sh[j]
            for v in range(mul_sh):
                self.paths.append(Path(i, j, v, position[n], ir_in, ir_sh, ir, mul, (weight + v, mul_sh)))
            weight += mul * mul_sh
        self.weight_numel = weight

    @classmethod
    def from_spec(cls, spec: str) -> PathTable:
        """Return the table that :attr:`spec` names."""
        irreps_in, irreps_sh, irreps_out = (o3.Irreps(part) for part in spec.split(","))
        return cls(irreps_in, irreps_sh, irreps_out=irreps_out)

    @property
    def spec(self) -> str:
        """The table as a string, from which :meth:`from_spec` makes it again: operators take no objects."""
        return f"{self.irreps_in},{self.irreps_sh},{self.irreps_out}"

    def position(self, k: int) -> tuple[int, int]:
        """Return where output block ``k`` begins when channels are innermost, and the stride of its components."""
        _, ir = self.blocks[k]
        (term,) = (n for n, (_, other) in enumerate(self.irreps_out) if other == ir)  # sorted: one term per irrep
        before = sum(mul for mul, other in self.blocks[:k] if other == ir)
        return self.irreps_out.slices()[term].start + before, self.irreps_out[term].mul

    def coefficients(self, path: Path) -> Tensor:
        """Return the coefficients of a path, ``[ir_in.dim, ir_sh.dim, ir_out.dim]``, normalisation included."""
        # e3nn: irrep_normalization="component", path_normalization="element", one path to each output block.
        scale = (path.ir_out.dim / self.irreps_sh[path.j].mul) ** 0.5
        return o3.wigner_3j(path.ir_in.l, path.ir_sh.l, path.ir_out.l, dtype=torch.float64) * scale
