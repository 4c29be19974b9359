"""Triton from the path table: straight-line code for one edge and a block of channels."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import torch

from ..paths import Path, PathTable

MAX_BLOCK = 64  # channels of one program
ACCUMULATORS = 64  # numbers per channel that one kernel keeps in registers while it runs along a row


def generate(table: PathTable, mul_ir: bool) -> str:
    """Return the Triton source of the three sums of a path table, for one layout of x, g and y.

    The kernels ``to_receivers_0``, ... fill the outputs of a row among them, ``to_senders_0``, ... likewise;
    ``to_edges`` is one. The dtype is that of the tensors they are called with.

    Args:
        table (PathTable): The paths.
        mul_ir (bool): Whether nodes are in e3nn's layout; otherwise channels are innermost.

    Example::

        >>> table = PathTable.from_spec("8x0e+8x1o,0e+1o,16x0e+16x1o")
        >>> "def to_receivers_0" in generate(table, mul_ir=False)
        True
    """
    paths = [_Path(table, path, n, mul_ir) for n, path in enumerate(table.paths)]
    channels = max(mul for mul, _ in table.irreps_in)
    header = [
        "import triton",
        "import triton.language as tl",
        "",
        f"CHANNELS = tl.constexpr({channels})",
        f"BLOCK = tl.constexpr({block_size(table)})",
    ]
    outputs = [list(group) for _, group in groupby(paths, key=lambda path: path.k)]
    inputs = [[path for path in paths if path.i == i] for i in range(len(table.irreps_in))]
    receivers = [
        _to_receivers(table, n, part) for n, part in enumerate(_parts(outputs, [len(o[0].y) for o in outputs]))
    ]
    sizes = [ir.dim for _, ir in table.irreps_in]
    blocks = _parts(list(enumerate(inputs)), sizes)
    senders = [_to_senders(table, n, dict(part), mul_ir) for n, part in enumerate(blocks)]
    return "\n\n\n".join(["\n".join(header), *receivers, *senders, _to_edges(table, paths)]) + "\n"


def block_size(table: PathTable) -> int:
    """Return the number of channels of one program: a power of two, as Triton wants it."""
    channels = max(mul for mul, _ in table.irreps_in)
    return min(MAX_BLOCK, 1 << (channels - 1).bit_length())


class _Path:
    """Names, addresses and numbers of one path."""

    def __init__(self, table: PathTable, path: Path, n: int, mul_ir: bool) -> None:
        self.n, self.i, self.k, self.mul = n, path.i, path.k, path.mul
        self.title = f"{path.mul}x{path.ir_in} x {path.ir_sh} -> {path.ir_out}"
        self.x = block_addresses(table, path.i, mul_ir)
        self.y = _output_addresses(table, path, mul_ir)
        self.weight = _address(*path.weights)
        start = table.irreps_sh.slices()[path.j].start + path.v * path.ir_sh.dim
        self.sh = [start + b for b in range(path.ir_sh.dim)]
        coefficients = table.coefficients(path)
        nonzero = torch.nonzero(coefficients.abs() > 1e-12).tolist()
        self.coefficients = {(a, b, c): repr(coefficients[a, b, c].item()) for a, b, c in nonzero}
        self.matrix = {(a, c): f"m{n}_{a}_{c}" for a, _, c in self.coefficients}

    def matrices(self) -> list[str]:
        """Return the code of the matrix sh C: scalars of the edge, the same for all channels."""
        return [
            f"{m} = {_sum(f'{v} * sh{self.sh[b]}' for (i, b, k), v in self.coefficients.items() if (i, k) == (a, c))}"
            for (a, c), m in self.matrix.items()
        ]

    def load_x(self) -> list[str]:
        """Return the code that loads the block of x."""
        return [f"x{self.i}_{a} = {_load('x_e', x, self.mul)}" for a, x in enumerate(self.x)]

    def load_weight(self) -> str:
        """Return the code that loads the weights."""
        return f"w{self.n} = {_load('w_e', self.weight, self.mul)}"


def _to_receivers(table: PathTable, number: int, outputs: list[list[_Path]]) -> str:
    """Return the kernel of y_i += x sh w, for some blocks of the output."""
    paths = [path for output in outputs for path in output]
    accumulators = {f"y{p.k}_{c}": (y, p.mul) for p in paths for c, y in enumerate(p.y)}
    lines = [f"x_e = x + tl.load(order + end + e) * {table.irreps_in.dim}"]
    for _, group in groupby(paths, key=lambda path: path.i):
        for n, path in enumerate(group):
            lines += [*(path.load_x() if n == 0 else []), f"# {path.title}", path.load_weight(), *path.matrices()]
            for c in range(len(path.y)):
                terms = [f"{m} * x{path.i}_{a}" for (a, k), m in path.matrix.items() if k == c]
                lines.append(f"y{path.k}_{c} += w{path.n} * ({_sum(terms)})")
    return _row_kernel(f"to_receivers_{number}", "x", table, paths, lines, accumulators, table.irreps_out.dim)


def _to_senders(table: PathTable, number: int, blocks: dict[int, list[_Path]], mul_ir: bool) -> str:
    """Return the kernel of y_j += g sh w, for some blocks of x, in whose irreps y is."""
    paths = [path for block in blocks.values() for path in block]
    accumulators = {
        f"y{i}_{a}": (address, table.irreps_in[i].mul)
        for i in blocks
        for a, address in enumerate(block_addresses(table, i, mul_ir))
    }
    lines = [f"g_e = g + tl.load(order + end + e) * {table.irreps_out.dim}"] if paths else []
    for path in paths:
        lines += [f"# {path.title}", path.load_weight(), *path.matrices()]
        for c, y in enumerate(path.y):
            lines.append(f"g{path.n}_{c} = w{path.n} * {_load('g_e', y, path.mul)}")
        for a in range(len(path.x)):
            terms = [f"{m} * g{path.n}_{c}" for (i, c), m in path.matrix.items() if i == a]
            lines += [f"y{path.i}_{a} += {_sum(terms)}"] if terms else []
    return _row_kernel(f"to_senders_{number}", "g", table, paths, lines, accumulators, table.irreps_in.dim)


def _row_kernel(
    name: str,
    given: str,
    table: PathTable,
    paths: list[_Path],
    body: list[str],
    accumulators: dict[str, tuple[str, int]],
    dim: int,
) -> str:
    """Return a kernel that sums along one row of edges, in their order, and writes the sums once."""
    loop = [
        "e = tl.load(order + edge + k)",
        f"w_e = w + e * {table.weight_numel}",
        *_load_sh(table, paths),
        *body,
    ]
    return "\n".join(
        [
            '@triton.jit(do_not_specialize=["end", "edge", "ptr"])',
            f"def {name}({given}, sh, w, y, order, end, edge, ptr):",
            "    row = tl.program_id(0).to(tl.int64)",
            "    u = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)",
            *(f"    {y} = tl.zeros([BLOCK], dtype=y.dtype.element_ty)" for y in accumulators),
            "    for k in range(tl.load(order + ptr + row), tl.load(order + ptr + row + 1)):",
            *(f"        {line}" for line in loop),
            f"    y_row = y + row * {dim}",
            *(f"    {_store('y_row', address, y, mul)}" for y, (address, mul) in accumulators.items()),
        ]
    )


def _to_edges(table: PathTable, paths: list[_Path]) -> str:
    """Return the kernel of dsh = x w g, summed over channels, and of dw = x sh g, for one edge."""
    lines = []
    for _, group in groupby(paths, key=lambda path: path.i):
        for n, path in enumerate(group):
            lines += [*(path.load_x() if n == 0 else []), f"# {path.title}", path.load_weight(), *_edge(path)]
    components = range(table.irreps_sh.dim)
    return "\n".join(
        [
            '@triton.jit(do_not_specialize=["sender", "receiver", "edge"])',
            "def to_edges(x, sh, w, g, dsh, dw, order, sender, receiver, edge, WANT_W: tl.constexpr):",
            "    e = tl.load(order + edge + tl.program_id(0))",
            f"    x_e = x + tl.load(order + sender + e) * {table.irreps_in.dim}",
            f"    g_e = g + tl.load(order + receiver + e) * {table.irreps_out.dim}",
            f"    w_e = w + e * {table.weight_numel}",
            f"    dw_e = dw + e * {table.weight_numel}",
            *(f"    {line}" for line in _load_sh(table, paths)),
            *(f"    d{b} = tl.zeros([BLOCK], dtype=dsh.dtype.element_ty)" for b in components),
            "    for first in range(0, CHANNELS, BLOCK):",
            "        u = first + tl.arange(0, BLOCK)",
            *(f"        {line}" for line in lines),
            *(f"    tl.store(dsh + e * {table.irreps_sh.dim} + {b}, tl.sum(d{b}))" for b in components),
        ]
    )


def _edge(path: _Path) -> list[str]:
    n = path.n
    lines = [f"g{n}_{c} = {_load('g_e', y, path.mul)}" for c, y in enumerate(path.y)]
    lines += [f"p{n}_{a}_{c} = x{path.i}_{a} * g{n}_{c}" for a, c in path.matrix]
    terms = []
    for b, sh in enumerate(path.sh):
        products = [f"{v} * p{n}_{a}_{c}" for (a, k, c), v in path.coefficients.items() if k == b]
        if products:
            lines += [f"z{n}_{b} = {_sum(products)}", f"d{sh} += w{n} * z{n}_{b}"]
            terms.append(f"sh{sh} * z{n}_{b}")
    store = _store("dw_e", path.weight, _sum(terms), path.mul)
    return [*lines, "if WANT_W:", f"    {store}"]


def _load_sh(table: PathTable, paths: list[_Path]) -> list[str]:
    used = sorted({path.sh[b] for path in paths for _, b, _ in path.coefficients})
    return [f"sh{b} = tl.load(sh + e * {table.irreps_sh.dim} + {b})" for b in used]


def block_addresses(table: PathTable, i: int, mul_ir: bool) -> list[str]:
    """Return where the components of a block of x stand in a row, for channels ``u``."""
    mul, ir = table.irreps_in[i]
    start = table.irreps_in.slices()[i].start
    return [_address(start + a, ir.dim) if mul_ir else _address(start + a * mul, 1) for a in range(ir.dim)]


def _output_addresses(table: PathTable, path: Path, mul_ir: bool) -> list[str]:
    first, channels = table.position(path.k)
    dim = path.ir_out.dim
    if not mul_ir:
        return [_address(first + c * channels, 1) for c in range(dim)]
    (start,) = (s.start for s in table.irreps_out.slices() if s.start <= first < s.stop)
    return [_address(start + dim * (first - start) + c, dim) for c in range(dim)]


def _address(first: int, stride: int) -> str:
    return f"{first} + u" if stride == 1 else f"{first} + {stride} * u"


def _load(row: str, address: str, mul: int) -> str:
    return f"tl.load({row} + {address}, mask=u < {mul}, other=0.0)"


def _store(row: str, address: str, value: str, mul: int) -> str:
    return f"tl.store({row} + {address}, {value}, mask=u < {mul})"


def _sum(terms: Iterable[str]) -> str:
    return " + ".join(terms)


def _parts(groups: list, sizes: list[int]) -> list[list]:
    """Return the groups in parts whose sizes add up to :data:`ACCUMULATORS` at most, where one alone does."""
    parts: list[list] = []
    room = 0
    for group, size in zip(groups, sizes, strict=True):
        if size > room:
            parts.append([])
            room = ACCUMULATORS
        parts[-1].append(group)
        room -= size
    return parts
