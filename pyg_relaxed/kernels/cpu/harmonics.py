"""Spherical harmonics compiled, with two orders of derivatives, as operators of torch."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...compat import o3
from ...o3.contraction import clebsch_gordan
from .higher import gradients
from .library import run, worker
from .memory import empty
from .source import TYPES

KINDS = ("values", "gradient", "curvature")
Coefficients = dict[tuple[int, int, int], float]


class _Harmonics(ctypes.Structure):
    """The structure ``Harmonics`` of ``harmonics.c``."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("kind", "edges", "tasks", "next")),
        *((name, ctypes.c_void_p) for name in ("v", "g", "q", "y", "dv", "dg")),
    ]


def recursion(lmax: int) -> list[Coefficients]:
    r"""Return for each degree the coefficients of :math:`S_{l,m} = \sum_{na} T^{(l)}_{nam}\, S_{l-1,n}\, u_a`.

    They are Clebsch-Gordan coefficients; scale and sign, by which releases of e3nn differ, follow from its values.
    """
    u = torch.tensor([0.48, -0.6, 0.64], dtype=torch.float64)
    degrees: list[Coefficients] = [{}]
    previous = torch.ones(1, dtype=torch.float64)
    for l in range(1, lmax + 1):
        C = clebsch_gordan(l - 1, 1, l)
        found = torch.einsum("nam,n,a->m", C, previous, u)
        previous = o3.spherical_harmonics(l, u, normalize=False, normalization="component")
        C = C * (found @ previous) / (found @ found)
        degrees.append({(n, a, m): C[n, a, m].item() for n, a, m in torch.nonzero(C.abs() > 1e-12).tolist()})
    return degrees


def generate(lmax: int, dtype: torch.dtype) -> str:
    """Return the C source of the harmonics up to a degree for one dtype."""
    T = recursion(lmax)
    rows = {(l, m): l * l + m for l in range(lmax + 1) for m in range(2 * l + 1)}
    solid, output, first, second = ["const real S0_0 = 1;"], [], [], []
    gradient: list[list[str]] = [[], [], []]
    curvature: list[list[str]] = [[], [], []]
    for (l, m), row in rows.items():
        terms = [f"(real){c:.17g} * S{l - 1}_{n} * u{a}" for (n, a, k), c in T[l].items() if k == m]
        along = [f"(real){l * c:.17g} * S{l - 1}_{n} * p{a}" for (n, a, k), c in T[l].items() if k == m]
        if l > 0:
            solid.append(f"const real S{l}_{m} = {' + '.join(terms)};")
        output.append(f"y[{row}][i] = S{l}_{m};")
        second.append(f"dg[{row}][i] = {'s * (' + ' + '.join(along) + ')' if along else '0'};")
    for l in range(1, lmax + 1):
        for (n, a, m), c in T[l].items():
            gradient[a].append(f"(real){l * c:.17g} * S{l - 1}_{n} * g[{rows[l, m]}][i]")
        for n in range(2 * l - 1) if l > 1 else ():
            terms = [f"(real){c:.17g} * p{a} * g[{rows[l, m]}][i]" for (k, a, m), c in T[l].items() if k == n]
            second.append(f"const real h{l}_{n} = {' + '.join(terms)};")
        for (k, b, n), c in T[l - 1].items():
            curvature[b].append(f"(real){l * (l - 1) * c:.17g} * S{l - 2}_{k} * h{l}_{n}")
    for a in range(3):
        first.append(f"const real G{a} = {' + '.join(gradient[a]) or '0'};")
        second.append(f"const real K{a} = {' + '.join(curvature[a]) or '0'};")
    macros = {"SOLID": solid, "OUTPUT": output, "FIRST": first, "SECOND": second}
    generated = [f"#define {name} {' '.join(lines)}" for name, lines in macros.items()]
    template = Path(__file__).with_name("harmonics.c").read_text(encoding="utf-8")
    head = [f"typedef {TYPES[dtype]} real;", f"#define DIM {len(rows)}"]
    return "\n".join([*head, template.replace("/* GENERATED */", "\n".join(generated))])


@functools.lru_cache(maxsize=32)
def library(lmax: int, dtype: torch.dtype) -> Callable[..., None]:
    """Return the compiled harmonics up to a degree.

    Raises:
        CompilerError: If they cannot be compiled.
    """
    return worker(generate(lmax, dtype))


def _run(kind: str, lmax: int, v: Tensor, **others: Tensor) -> None:
    run(library(lmax, v.dtype), _Harmonics(kind=KINDS.index(kind), edges=len(v)), v=v, **others)


@torch.library.custom_op("pyg_relaxed::harmonics", mutates_args=(), device_types="cpu")
def harmonics(v: Tensor, lmax: int) -> Tensor:
    """Return the harmonics of the directions of vectors ``[E, 3]``, ``[E, (lmax + 1)^2]``."""
    v, y = v.contiguous(), empty((len(v), (lmax + 1) ** 2), v.dtype)
    _run("values", lmax, v=v, y=y)
    return y


@torch.library.custom_op("pyg_relaxed::harmonics_gradient", mutates_args=(), device_types="cpu")
def harmonics_gradient(v: Tensor, g: Tensor, lmax: int) -> Tensor:
    """Return the derivative of :func:`harmonics` in v along g."""
    v, g = v.contiguous(), g.contiguous()
    dv = torch.empty_like(v)
    _run("gradient", lmax, v=v, g=g, dv=dv)
    return dv


@torch.library.custom_op("pyg_relaxed::harmonics_curvature", mutates_args=(), device_types="cpu")
def harmonics_curvature(q: Tensor, v: Tensor, g: Tensor, lmax: int) -> tuple[Tensor, Tensor]:
    """Return the derivatives of :func:`harmonics_gradient` in v and g along q."""
    q, v, g = q.contiguous(), v.contiguous(), g.contiguous()
    dv, dg = torch.empty_like(v), empty(g.shape, g.dtype)
    _run("curvature", lmax, q=q, v=v, g=g, dv=dv, dg=dg)
    return dv, dg


@harmonics.register_fake
def _(v: Tensor, lmax: int) -> Tensor:
    return v.new_empty(len(v), (lmax + 1) ** 2)


@harmonics_gradient.register_fake
def _(v: Tensor, g: Tensor, lmax: int) -> Tensor:
    return v.new_empty(v.shape)


@harmonics_curvature.register_fake
def _(q: Tensor, v: Tensor, g: Tensor, lmax: int) -> tuple[Tensor, Tensor]:
    return v.new_empty(v.shape), g.new_empty(g.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.lmax = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    return harmonics_gradient(*ctx.saved_tensors, g, ctx.lmax), None


def _double_backward(ctx: Any, q: Tensor) -> tuple[Tensor | None, ...]:
    return *harmonics_curvature(q, *ctx.saved_tensors, ctx.lmax), None


def _triple_backward(ctx: Any, *w: Tensor) -> tuple[Tensor | None, ...]:
    """Return third derivatives, seldom asked for, by those of e3nn's harmonics."""
    if ctx.lmax == 0:
        return None, None, None, None

    def run(q: Tensor, v: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        y = o3.spherical_harmonics(list(range(ctx.lmax + 1)), v, normalize=True, normalization="component")
        (dv,) = torch.autograd.grad(y, v, g, create_graph=True)
        return torch.autograd.grad(dv, (v, g), q, create_graph=True)

    return *gradients(run, ctx.saved_tensors, w), None


harmonics.register_autograd(_backward, setup_context=_keep)
harmonics_gradient.register_autograd(_double_backward, setup_context=_keep)
harmonics_curvature.register_autograd(_triple_backward, setup_context=_keep)
