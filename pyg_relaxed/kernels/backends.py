"""Which backend runs: one switch, and one line in the log that says what would be faster."""

from __future__ import annotations

import functools
import importlib
import logging
from types import ModuleType

import torch
from torch.autograd import forward_ad

logger = logging.getLogger(__name__)

DTYPES = (torch.float32, torch.float64)
# On a GPU none is measured yet. Triton's kernels come first because they repeat results exactly, have derivatives of
# every order, pass through torch.compile, take all irreps and need no package but torch's own. Of the others,
# cuEquivariance is the one whose paths and weights are checked against the reference without a GPU.
PREFERENCE = {"cpu": ("cpu",), "cuda": ("triton", "cuequivariance", "openequivariance")}
_warned: set[str] = set()  # devices
BACKENDS = ("auto", "torch", *PREFERENCE["cpu"], *PREFERENCE["cuda"])


def check_backend(backend: str) -> None:
    """Raise unless a backend of this name exists.

    Raises:
        ValueError: If there is none.
    """
    if backend not in BACKENDS:
        raise ValueError(f"'backend' must be one of {', '.join(BACKENDS)} (got '{backend}')")


@torch.compiler.assume_constant_result
def choose(backend: str, spec: str, device: str, dtype: torch.dtype) -> str:
    """Return the backend to run: the wanted one, or the preferred among those that take this device and dtype.

    Raises:
        RuntimeError: If the wanted backend cannot run here; "auto" always can.
    """
    return _choose(backend, spec, device, dtype)


def is_transformed() -> bool:
    """Tell whether forward derivatives or ``torch.func`` are at work, neither of which knows custom operators."""
    if torch.compiler.is_compiling():
        return False
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def module(backend: str) -> ModuleType:
    """Return the module of a backend for a GPU, loaded where it is used."""
    return importlib.import_module(f"{__package__}.{backend}")


@functools.lru_cache(maxsize=1024)
def _choose(backend: str, spec: str, device: str, dtype: torch.dtype) -> str:
    if backend == "torch":
        return "torch"
    reasons = {}
    for name in PREFERENCE.get(device, ()) if backend == "auto" else (backend,):
        reason = _why_not(name, spec, device, dtype)
        if reason is None:
            logger.info("tensor product %s in %s runs on the backend '%s'", spec, dtype, name)
            return name
        reasons[name] = reason
    if backend != "auto":
        raise RuntimeError(f"the backend '{backend}' cannot run: {reasons[backend]}")
    if reasons and dtype in DTYPES:
        _warn_once(device, "; ".join(f"{name}: {reason}" for name, reason in reasons.items()))
    return "torch"


def _why_not(name: str, spec: str, device: str, dtype: torch.dtype) -> str | None:
    wanted = "cpu" if name == "cpu" else "cuda"
    if device != wanted or dtype not in DTYPES:
        return f"it takes float32 and float64 on {wanted} (got {dtype} on {device})"
    if name == "cpu":
        return _why_not_cpu(spec, dtype)
    reason: str | None = module(name).why_not(spec)
    return reason


def _why_not_cpu(spec: str, dtype: torch.dtype) -> str | None:
    from .cpu.compiler import CompilerError
    from .cpu.library import library

    try:
        library(spec, dtype)
    except CompilerError as error:
        return str(error)
    return None


def _warn_once(device: str, reasons: str) -> None:
    if device in _warned:
        return
    _warned.add(device)
    if device == "cpu":
        logger.warning(
            "convolutions run on plain torch, some 50 times slower than compiled C: %s. Install a C compiler such as "
            "gcc, or `pip install pyg-relaxed[compiler]`",
            reasons,
        )
    else:
        logger.warning(
            "convolutions on this GPU run on plain torch, which is slow and takes much memory: %s. Install triton and "
            "a C compiler, or `pip install pyg-relaxed[gpu]`",
            reasons,
        )
