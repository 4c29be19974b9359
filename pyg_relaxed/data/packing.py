"""A graph as bytes and back, without pickle: tensors by safetensors, all else as JSON in its header."""

from __future__ import annotations

import json
from typing import Any

import safetensors.numpy
import safetensors.torch
import torch
from torch import Tensor
from torch_geometric.data import Data

from .graph import AtomicData


def pack(data: Data) -> bytes:
    """Return a graph as bytes.

    Args:
        data: One graph, on the CPU.

    Raises:
        TypeError: For an attribute that is neither a tensor nor what JSON keeps as it is: text, numbers, true and
            false, None, lists and dictionaries of these.

    Example:
        >>> unpack(pack(AtomicData(z=torch.tensor([1]), frame="cartesian")))
        AtomicData(z=[1], frame='cartesian')
    """
    values = data.to_dict()
    tensors = {name: value.detach().contiguous() for name, value in values.items() if isinstance(value, Tensor)}
    others = {name: value for name, value in values.items() if name not in tensors}
    for name, value in others.items():
        if not _is_kept(value):
            raise TypeError(
                f"'{name}' is a {type(value).__name__}, which only pickle could write ({value!r:.80}): make it text, "
                "numbers, lists or dictionaries with text for keys, or leave it out"
            )
    metadata = {"attributes": json.dumps(others)}
    if any(value.dtype == torch.bfloat16 for value in tensors.values()):  # which NumPy has not
        return safetensors.torch.save({name: value.clone() for name, value in tensors.items()}, metadata)
    return safetensors.numpy.save({name: value.numpy() for name, value in tensors.items()}, metadata)  # 3 times as fast


def unpack(packed: bytes) -> AtomicData:
    """Return the graph in the bytes of :func:`pack`, in memory of its own."""
    size = int.from_bytes(packed[:8], "little")
    header = json.loads(packed[8 : 8 + size])
    others = json.loads(header["__metadata__"]["attributes"])
    return AtomicData(**safetensors.torch.load(packed), **others)


def _is_kept(value: Any) -> bool:
    try:
        return repr(json.loads(json.dumps(value))) == repr(value)  # by text: NaN is not equal to itself
    except (TypeError, ValueError):
        return False
