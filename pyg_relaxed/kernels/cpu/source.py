"""C from the path table: straight-line code for one edge, channels innermost."""

from __future__ import annotations

from collections import Counter
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
        matrices, before = self._matrices()
        for path, matrix in zip(self.paths, matrices, strict=True):
            lines.append(path.weight)
            for c, y in enumerate(path.out):
                terms = [f"{m} * x{a}" for (a, k), m in matrix.items() if k == c]
                lines.append(f"y[{y}] += w{path.n} * ({_sum(terms)});")
        return self._loop(lines, before)

    def to_sender(self) -> str:
        """Return the code of y += g sh w, y in the irreps of x."""
        lines = []
        sums: list[list[str]] = [[] for _ in self.x]
        matrices, before = self._matrices()
        for path, matrix in zip(self.paths, matrices, strict=True):
            lines.append(path.weight)
            lines += [f"const real g{path.n}_{c} = w{path.n} * g[{y}];" for c, y in enumerate(path.out)]
            for (a, c), m in matrix.items():
                sums[a].append(f"{m} * g{path.n}_{c}")
        lines += [_add(f"y{x[1:]}", terms) for x, terms in zip(self.x, sums, strict=True) if terms]
        return self._loop(lines, before)

    def to_edge(self) -> str:
        """Return the code of dsh += x w g, channel by channel, and of dw = x sh g."""
        xs = _Multiples("x", self.x)
        lines = []
        sums: list[list[str]] = [[] for _ in self.sh]
        for path in self.paths:
            n, terms = path.n, []
            lines.append(path.weight)
            lines += [f"const real g{n}_{c} = g[{y}];" for c, y in enumerate(path.out)]
            for b, sh in enumerate(self.sh):
                products = [f"{xs(a, r)} * g{n}_{c}" for (a, k, c), r in path.ratios.items() if k == b]
                if products:
                    lines.append(f"const real z{n}_{b} = {_sum(products)};")
                    terms.append(f"sh[{sh}] * z{n}_{b}")
                    sums[b].append(f"w{n} * z{n}_{b}")
            lines.append(f"dw[{path.place}] = {path.scale} * ({_sum(terms)});")
        lines += [_add(f"dsh[{sh} * CHANNELS + u]", terms) for sh, terms in zip(self.sh, sums, strict=True) if terms]
        return self._loop([*xs.lines, *lines], [])

    def _matrices(self) -> tuple[list[dict[tuple[int, int], str]], list[str]]:
        """Return the entries of sh C of each path, scalars of the edge that all channels share, and their code."""
        scalars = _Multiples("s", [f"sh[{sh}]" for sh in self.sh])
        matrices: list[dict[tuple[int, int], str]] = []
        sums = []
        for path in self.paths:
            terms: dict[tuple[int, int], list[str]] = {}
            for (a, b, c), ratio in path.ratios.items():
                terms.setdefault((a, c), []).append(scalars(b, ratio))
            matrices.append({})
            for (a, c), several in terms.items():
                name = f"m{path.n}_{a}_{c}" if len(several) > 1 else several[0]
                matrices[-1][a, c] = name
                if len(several) > 1:
                    sums.append(f"const real {name} = {_sum(several)};")
        return matrices, [*scalars.lines, *sums]

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
    """Names and numbers of one path in the code of its group.

    Most coefficients of a path differ in their sign alone: the weight takes their size, so that they cost nothing.
    """

    def __init__(self, table: PathTable, path: Path, n: int) -> None:
        self.n = n
        first, stride = path.weights
        self.place = f"{first} + u" if stride == 1 else f"{first} + {stride} * u"
        start, channels = table.position(path.k)
        self.out = [f"{start + c * channels} + u" for c in range(path.ir_out.dim)]
        C = table.coefficients(path)
        values = {(a, b, c): C[a, b, c].item() for a, b, c in torch.nonzero(C.abs() > 1e-12).tolist()}
        ((scale, _),) = Counter(round(value, 15) for value in values.values()).most_common(1)
        self.ratios = {place: value / scale for place, value in values.items()}
        self.scale = f"(real){scale:.17g}"
        self.weight = f"const real w{n} = {self.scale} * w[{self.place}];"


def _sum(terms: list[str]) -> str:
    """Return the code of a sum, minus where a term has one, not first: no instruction gives -a b alone."""
    first, *others = sorted(terms, key=lambda term: term.startswith("-"))
    return first + "".join(f" - {term[1:]}" if term.startswith("-") else f" + {term}" for term in others)


def _add(target: str, terms: list[str]) -> str:
    """Return the code that adds terms one by one: each is one multiplication and addition."""
    return f"{target} = {_sum([target, *terms])};"


class _Multiples:
    """Variables of C for multiples of some values: each is computed once, and for a sign there is none."""

    def __init__(self, letter: str, values: list[str]) -> None:
        self.letter = letter
        self.lines = [f"const real {letter}{n} = {value};" for n, value in enumerate(values)]
        self._names: dict[tuple[int, float], str] = {}

    def __call__(self, n: int, ratio: float) -> str:
        """Return the name of a multiple of value n, with its sign."""
        sign, size = "-" if ratio < 0 else "", round(abs(ratio), 12)
        if size == 1:
            return f"{sign}{self.letter}{n}"
        if (n, size) not in self._names:
            self._names[n, size] = name = f"{self.letter}{n}_{len(self._names)}"
            self.lines.append(f"const real {name} = (real){abs(ratio):.17g} * {self.letter}{n};")
        return sign + self._names[n, size]
