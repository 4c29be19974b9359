"""Foreign values to tensors and back, without losing any."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .keys import INFO_PREFIX, KEYS, level_of

_DTYPES = {"int": torch.int64, "bool": torch.bool, "double": torch.float64}


def to_numpy(value: Any, dtype: npt.DTypeLike | None = None) -> np.ndarray:
    """Return a tensor (detached, from any device) or anything like an array as a NumPy array.

    Args:
        value: What to convert; it is not changed, but may be shared.
        dtype: Of the result, by default its own.

    Example:
        >>> to_numpy(torch.ones(2, requires_grad=True))
        array([1., 1.], dtype=float32)
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()  # NumPy has no bfloat16
    return np.asarray(value, dtype=dtype)


def to_tensor(value: Any, dtype: torch.dtype) -> Tensor | None:
    """Copy a number or an array of numbers into a tensor, floats in ``dtype``; None if it is neither.

    Args:
        value: Anything.
        dtype: Floating dtype.

    Example:
        >>> to_tensor([1.0, 2.0], torch.float32), to_tensor("a", torch.float32)
        (tensor([1., 2.]), None)
    """
    try:
        array = to_numpy(value)
    except ValueError:  # ragged
        return None
    if array.dtype.kind not in "biufc":
        return None
    if array.dtype.kind == "f":
        return torch.tensor(array.astype(np.float64), dtype=dtype)
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def dtype_of(name: str, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of the graph attribute ``name`` in a graph whose floats have this one."""
    return _DTYPES.get(KEYS[name].dtype, dtype) if name in KEYS else dtype


def encode(name: str, value: Any, dtype: torch.dtype) -> Any:
    """Return ``value`` as the graph attribute ``name``: a tensor where it can be one, with a leading 1 at graph level.

    Args:
        name: Its name in the graph, which decides its level and dtype.
        value: A number, an array, text, a list, or any object (copied).
        dtype: Floating dtype.

    Raises:
        ValueError: If a value that must be an integer is none, or a real one is complex.

    Example:
        >>> encode("energy", -1.5, torch.float64)
        tensor([-1.5000], dtype=torch.float64)
    """
    as_is = isinstance(value, (str, list, tuple)) and name.startswith(INFO_PREFIX)
    dtype = dtype_of(name, dtype)
    tensor = None if as_is else to_tensor(value, dtype if dtype.is_floating_point else torch.float64)
    if tensor is None:
        return str(value) if isinstance(value, str) else copy.deepcopy(value)
    if name in KEYS:
        tensor = _cast(name, tensor, dtype)
    return tensor.unsqueeze(0) if level_of(name) == "graph" else tensor


def _cast(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the tensor in the dtype of its key; no digits are cut off but those of floats."""
    if tensor.is_complex():
        raise ValueError(f"'{name}' must be real (got {tensor.flatten()[:3].tolist()}): give its real part")
    cast = tensor.to(dtype)
    if tensor.is_floating_point() and not dtype.is_floating_point and not torch.equal(cast.to(tensor.dtype), tensor):
        place = (cast != tensor).nonzero()[0].tolist()
        kind = "true or false" if dtype == torch.bool else "integers"
        raise ValueError(
            f"'{name}' must be {kind} (got {tensor[tuple(place)].item()} at {place}): round it, or rename it"
        )
    return cast


def decode(name: str, value: Any) -> Any:
    """Return the graph attribute ``name`` as a number, an array or an object: the inverse of :func:`encode`.

    Args:
        name: Its name in the graph.
        value: What the graph holds.

    Example:
        >>> decode("energy", torch.tensor([-1.5]))
        -1.5
    """
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    array = to_numpy(value).copy()
    if level_of(name) != "graph":
        return array
    return array[0].item() if array.ndim == 1 else array[0]
