"""C from the path table: straight-line code for one edge, channels innermost."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path as FilePath

import torch

from ...compat import o3
from ..paths import Path, PathTable

HEADER, LAYOUT, RUNTIME = (FilePath(__file__).with_name(name) for name in ("edge.h", "layout.h", "runtime.c"))
TYPES = {torch.float32: "float", torch.float64: "double"}


def generate(table: PathTable, dtype: torch.dtype) -> list[str]:
    """Return the C source of the three sums of a path table (see ``runtime.c``) for one dtype, in four files.

    Args:
        table (PathTable): The paths.
        dtype (torch.dtype): ``torch.float32`` or ``torch.float64``.

    Example::

        >>> from pyg_relaxed.compat import o3
        >>> table = PathTable(o3.Irreps("8x0e+8x1o"), o3.Irreps("0e+1o"), lmax=1)
        >>> runtime, *edge_functions = generate(table, torch.float32)
        >>> "void work(Sum *s)" in runtime
        True
    """
    groups = [_Group(table, list(paths)) for _, paths in groupby(table.paths, key=lambda path: path[:3])]
    constants = {
        "DIM_IN": table.irreps_in.dim,
        "DIM_SH": table.irreps_sh.dim,
        "DIM_OUT": table.irreps_out.dim,
        "WEIGHTS": table.weight_numel,
        "CHANNELS": max(mul for mul, _ in table.irreps_in),
        "BYTES_OF_REAL": dtype.itemsize,
    }
    head = [
        f"typedef {TYPES[dtype]} real;",
        *(f"#define {name} {value}" for name, value in constants.items()),
        HEADER.read_text(encoding="utf-8"),
    ]
    layouts = [LAYOUT.read_text(encoding="utf-8"), *_layout_functions("in", table.irreps_in)]
    layouts += _layout_functions("out", table.irreps_out)
    runtime = RUNTIME.read_text(encoding="utf-8").replace("/* GENERATED */", "\n".join(layouts))
    edge_functions = [
        _edge_function("edge_to_receiver", ["x", "sh", "w", "y"], [group.to_receiver() for group in groups]),
        _edge_function("edge_to_sender", ["g", "sh", "w", "y"], [group.to_sender() for group in groups]),
        _edge_function("edge_to_edge", ["x", "sh", "w", "g", "dsh", "dw"], [group.to_edge() for group in groups]),
    ]
    return ["\n".join([*head, body]) for body in (runtime, *edge_functions)]


def _edge_function(name: str, arguments: list[str], groups: list[str]) -> str:
    """Return a function of one edge: each group is one of its own, as compilers take long for long functions."""
    written = ("y", "dsh", "dw")
    types = ", ".join(f"{'' if a in written else 'const '}real *restrict {a}" for a in arguments)
    return "\n".join(
        [
            *(f"static NOINLINE void group{n}({types}) {{\n{code}\n}}" for n, code in enumerate(groups)),
            f"void {name}({types}) {{",
            *(f"    group{n}({', '.join(arguments)});" for n in range(len(groups))),
            "}",
        ]
    )


def _layout_functions(side: str, irreps: o3.Irreps) -> list[str]:
    """Return the functions that turn a row from one layout to the other, in the macros of ``layout.h``."""
    lines = []
    for to in ("ir_mul", "mul_ir"):
        lines.append(f"static NOINLINE void {side}_to_{to}(const real *restrict from, real *restrict to) {{")
        for mul, ir in irreps:
            lines += _layout_of_block(to, mul, ir.dim) if ir.dim > 1 else [f"memcpy(to, from, {mul} * sizeof(real));"]
            lines.append(f"from += {mul * ir.dim}, to += {mul * ir.dim};")
        lines.append("}")
    return lines


def _layout_of_block(to: str, mul: int, dim: int) -> list[str]:
    """Return the loops over the channels of one irrep: whole registers, and the rest one by one."""
    written = "to + {n} * {mul} + u" if to == "ir_mul" else "to + {dim} * u + {n} * LANES"
    read = "from + {dim} * u + {n} * LANES" if to == "ir_mul" else "from + {n} * {mul} + u"
    lines = ["{", "int u = 0;", "#ifdef HAS_SHUFFLES", f"for (; u + LANES <= {mul}; u += LANES) {{"]
    lines += [f"const vec r{n} = *(const vec *)({read.format(n=n, mul=mul, dim=dim)});" for n in range(dim)]
    for n in range(dim):
        macro = f"TO_{to.upper()}, {dim}, {n}"
        code = f"SHUFFLE(FIRST, r0, r1, {macro}, 0)"
        for k in range(2, dim):
            code = f"SHUFFLE(NEXT, {code}, r{k}, {macro}, {k})"
        lines.append(f"*(vec *)({written.format(n=n, mul=mul, dim=dim)}) = {code};")
    one = "to[c * {mul} + u] = from[{dim} * u + c];" if to == "ir_mul" else "to[{dim} * u + c] = from[c * {mul} + u];"
    loops = f"for (; u < {mul}; u++) for (int c = 0; c < {dim}; c++) " + one.format(mul=mul, dim=dim)
    return [*lines, "}", "#endif", loops, "}"]


class _Group:
    """The paths from one block of x and one copy of a block of sh: they share their loads and one loop."""

    def __init__(self, table: PathTable, paths: list[Path]) -> None:
        first = paths[0]
        self.mul, ir_in = table.irreps_in[first.i]
        self.x = [f"x[{table.irreps_in.slices()[first.i].start + a * self.mul} + u]" for a in range(ir_in.dim)]
        start = table.irreps_sh.slices()[first.j].start + first.v * first.ir_sh.dim
        self.sh = [start + b for b in range(first.ir_sh.dim)]
        self.paths = [_Code(table, path, n) for n, path in enumerate(paths)]

    def to_receiver(self) -> str:
        """Return the code of y += x sh w."""
        lines = [f"const real x{a} = {x};" for a, x in enumerate(self.x)]
        for path in self.paths:
            for c, y in enumerate(path.out):
                terms = [f"{m} * x{a}" for (a, k), m in path.matrix.items() if k == c]
                lines.append(f"y[{y}] += w[{path.weight}] * ({' + '.join(terms)});")
        return self._loop(lines, self._matrices())

    def to_sender(self) -> str:
        """Return the code of y += g sh w, y in the irreps of x."""
        lines = []
        sums: list[list[str]] = [[] for _ in self.x]
        for path in self.paths:
            for c, y in enumerate(path.out):
                lines.append(f"const real g{path.n}_{c} = w[{path.weight}] * g[{y}];")
            for (a, c), m in path.matrix.items():
                sums[a].append(f"{m} * g{path.n}_{c}")
        lines += [f"y{x[1:]} += {' + '.join(terms)};" for x, terms in zip(self.x, sums, strict=True) if terms]
        return self._loop(lines, self._matrices())

    def to_edge(self) -> str:
        """Return the code of dsh += x w g, channel by channel, and of dw = x sh g."""
        lines = [f"const real x{a} = {x};" for a, x in enumerate(self.x)]
        sums: list[list[str]] = [[] for _ in self.sh]
        for path in self.paths:
            n = path.n
            lines += [f"const real g{n}_{c} = g[{y}];" for c, y in enumerate(path.out)]
            lines += [f"const real p{n}_{a}_{c} = x{a} * g{n}_{c};" for a, c in path.matrix]
            terms = []
            for b, sh in enumerate(self.sh):
                products = [f"{value} * p{n}_{a}_{c}" for (a, k, c), value in path.coefficients.items() if k == b]
                if products:
                    lines.append(f"const real z{n}_{b} = {' + '.join(products)};")
                    terms.append(f"sh[{sh}] * z{n}_{b}")
                    sums[b].append(f"w[{path.weight}] * z{n}_{b}")
            lines.append(f"dw[{path.weight}] = {' + '.join(terms)};")
        lines += [
            f"dsh[{sh} * CHANNELS + u] += {' + '.join(terms)};"
            for sh, terms in zip(self.sh, sums, strict=True)
            if terms
        ]
        return self._loop(lines, [])

    def _matrices(self) -> list[str]:
        """Return the code of the matrices sh C of all paths: scalars of the edge, the same for all channels."""
        lines = []
        for path in self.paths:
            terms: dict[str, list[str]] = {}
            for (a, b, c), value in path.coefficients.items():
                terms.setdefault(path.matrix[a, c], []).append(f"{value} * sh[{self.sh[b]}]")
            lines += [f"const real {m} = {' + '.join(products)};" for m, products in terms.items()]
        return lines

    def _loop(self, lines: list[str], before: list[str]) -> str:
        return "\n".join(
            [
                "    {",
                *(f"        {line}" for line in before),
                "        VECTORISE",
                f"        for (int u = 0; u < {self.mul}; u++) {{",
                *(f"            {line}" for line in lines),
                "        }",
                "    }",
            ]
        )


class _Code:
    """Names and numbers of one path in the code of its group."""

    def __init__(self, table: PathTable, path: Path, n: int) -> None:
        self.n = n
        first, stride = path.weights
        self.weight = f"{first} + u" if stride == 1 else f"{first} + {stride} * u"
        start, channels = table.position(path.k)
        self.out = [f"{start + c * channels} + u" for c in range(path.ir_out.dim)]
        C = table.coefficients(path)
        self.coefficients = {
            (a, b, c): f"(real){C[a, b, c].item():.17g}" for a, b, c in torch.nonzero(C.abs() > 1e-12).tolist()
        }
        self.matrix = {(a, c): f"m{n}_{a}_{c}" for a, _, c in self.coefficients}
