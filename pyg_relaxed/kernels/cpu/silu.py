"""SiLU compiled, with its derivatives."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from .library import run, worker
from .memory import empty
from .source import TYPES


class _Silu(ctypes.Structure):
    """The structure ``Silu`` of ``silu.c``."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("numel", "tasks", "next")),
        *((name, ctypes.c_void_p) for name in ("x", "value", "first", "second")),
    ]


def silu(x: Tensor, derivatives: int = 0) -> list[Tensor]:
    """Return SiLU of a contiguous tensor, followed by its derivatives up to this order, at most the second."""
    made = list(empty((1 + derivatives, *x.shape), x.dtype))
    run(_library(x.dtype), _Silu(numel=x.numel()), x=x, **dict(zip(("value", "first", "second"), made, strict=False)))
    return made


@functools.lru_cache(maxsize=2)
def _library(dtype: torch.dtype) -> Callable[..., None]:
    source = Path(__file__).with_name("silu.c").read_text(encoding="utf-8")
    return worker(f"typedef {TYPES[dtype]} real;\n#define BITS {8 * dtype.itemsize}\n{source}")
