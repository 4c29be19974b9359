"""Which backend runs: one switch, and one line in the log that says what would be faster."""

from __future__ import annotations

import functools
import logging

import torch

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "torch", "cpu")


def check_backend(backend: str) -> None:
    """Raise unless a backend of this name exists.

    Raises:
        ValueError: If there is none.
    """
    if backend not in BACKENDS:
        raise ValueError(f"'backend' must be one of {', '.join(BACKENDS)} (got '{backend}')")


@torch.compiler.assume_constant_result
def choose(backend: str, spec: str, device: str, dtype: torch.dtype) -> str:
    """Return the backend to run: the wanted one, or the fastest that takes this device and dtype.

    Raises:
        RuntimeError: If the wanted backend cannot run here; "auto" always can.
    """
    return _choose(backend, spec, device, dtype)


@functools.lru_cache(maxsize=1024)
def _choose(backend: str, spec: str, device: str, dtype: torch.dtype) -> str:
    if backend == "torch":
        return "torch"
    reason = _why_not_cpu(spec, device, dtype)
    if reason is None:
        logger.info("tensor product %s in %s runs on compiled C", spec, dtype)
        return "cpu"
    if backend == "cpu":
        raise RuntimeError(f"the backend 'cpu' cannot run: {reason}")
    if device == "cpu" and dtype in (torch.float32, torch.float64):
        _warn_once(reason)
    return "torch"


def _why_not_cpu(spec: str, device: str, dtype: torch.dtype) -> str | None:
    if device != "cpu" or dtype not in (torch.float32, torch.float64):
        return f"it takes float32 and float64 on the CPU (got {dtype} on {device})"
    from .cpu.compiler import CompilerError
    from .cpu.library import library

    try:
        library(spec, dtype)
    except CompilerError as error:
        return str(error)
    return None


@functools.lru_cache(maxsize=1)
def _warn_once(reason: str) -> None:
    logger.warning(
        "convolutions run on plain torch, some 50 times slower than compiled C: %s. Install a C compiler such as gcc, "
        "or `pip install pyg-relaxed[compiler]`",
        reason,
    )
