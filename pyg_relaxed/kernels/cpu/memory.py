"""Memory for what is as large as the weights of all edges, used again by the next call.

The system hands out fresh memory page by page, cleared when it is first touched, and takes it back when a tensor of
this size dies. For derivatives in the weights that takes longer than to compute them.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading

import torch
from torch import Tensor

SMALLEST, LARGEST = 1 << 22, 1 << 28  # bytes: below, torch's allocator keeps memory; above, it is too much to hold
KEPT = 4  # pieces

_pieces: list[mmap.mmap] = []
_lock = threading.Lock()
if hasattr(os, "register_at_fork"):  # a process that forks while another thread holds the lock would leave it locked
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def _references_to_unused() -> int:
    """Return the count of references to a piece that no tensor uses; it differs between releases of Python."""
    for piece in [bytearray(1)]:
        return sys.getrefcount(piece)
    raise AssertionError


UNUSED = _references_to_unused()


def empty_like(tensor: Tensor) -> Tensor:
    """Return memory for as much contiguous data, if large and if possible a piece that an earlier tensor has left."""
    size = tensor.numel() * tensor.element_size()
    if not SMALLEST <= size <= LARGEST or not hasattr(mmap, "MAP_ANONYMOUS"):
        return torch.empty_like(tensor, memory_format=torch.contiguous_format)
    with _lock:
        for piece in _pieces:
            if len(piece) == size and sys.getrefcount(piece) == UNUSED:
                return torch.frombuffer(piece, dtype=tensor.dtype).view(tensor.shape)
        # Private, so that processes do not share it after a fork.
        piece = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        _pieces.append(piece)
        del _pieces[:-KEPT]
        return torch.frombuffer(piece, dtype=tensor.dtype).view(tensor.shape)
