"""Memory for large tensors, used again by the next call.

The system hands out fresh memory page by page, cleared when it is first touched, and takes it back when a tensor of
this size dies. For derivatives in the weights of all edges that takes longer than to compute them.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

SMALLEST, LARGEST = 1 << 20, 1 << 28  # bytes: below, torch's allocator keeps memory; above, it is too much to hold
KEPT = 1 << 30  # bytes in all

_pieces: list[tuple[mmap.mmap, weakref.ref[memoryview]]] = []  # and what the tensor in a piece holds, if it lives
_lock = threading.Lock()
if hasattr(os, "register_at_fork"):  # a process that forks while another thread holds the lock would leave it locked
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return a tensor on the CPU, if it is large and if possible in a piece that an earlier one has left."""
    numel = math.prod(shape)
    size = numel * dtype.itemsize
    if not SMALLEST <= size <= LARGEST or not hasattr(mmap, "MAP_ANONYMOUS"):
        return torch.empty(shape, dtype=dtype)
    with _lock:
        mapped = _take(size)
        piece = memoryview(mapped)  # held by the tensor
        _pieces.append((mapped, weakref.ref(piece)))
        while sum(len(kept) for kept, _ in _pieces) > KEPT:
            del _pieces[0]  # it lives as long as its tensor does
    return torch.frombuffer(piece, dtype=dtype, count=numel).view(shape)


def empty_like(tensor: Tensor) -> Tensor:
    """Return :func:`empty` of the shape and dtype of another tensor."""
    return empty(tensor.shape, tensor.dtype)


def _take(size: int) -> mmap.mmap:
    """Return a piece that no tensor holds any more, out of those that are kept, or a new one."""
    for n, (piece, holder) in enumerate(_pieces):
        if size <= len(piece) <= 2 * size and holder() is None:
            del _pieces[n]
            return piece
    # Private, so that processes do not share it after a fork.
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
