"""What an object is, as text: two that would give different results have different ones."""

from __future__ import annotations

import functools
import hashlib
import re
import types
from typing import Any

import numpy as np
import torch

from ..data import to_numpy


def described(value: Any) -> str:
    """Return what tells an object from others: the values of all that it holds and, of a callable, its code.

    Functions are described by what they compile to, their defaults and closures and the functions and plain values of
    their module that they name; objects by their class and all that a copy of them would hold; never by where they are
    in memory.

    Args:
        value: A function, a method, a PyG transform, or any object.

    Example:
        >>> described(lambda x: x + 1) == described(lambda x: x + 1), described(abs) == described(len)
        (True, False)
        >>> described({1: None, "a": [2.0]}) == described({1: None, "a": [2.5]})
        False
    """
    return hashlib.blake2b(repr(_parts(value, set())).encode("utf-8", "surrogatepass")).hexdigest()


def _parts(value: Any, seen: set[int]) -> Any:
    if value is None or type(value) in (str, bytes, bool, int, float, complex):
        return value
    if id(value) in seen:
        return "seen"
    seen = seen | {id(value)}
    if isinstance(value, types.CodeType):
        return (value.co_code.hex(), value.co_names, [_parts(constant, seen) for constant in value.co_consts])
    if isinstance(value, types.MethodType):
        return (_parts(value.__func__, seen), _parts(value.__self__, seen))
    if isinstance(value, types.FunctionType):
        cells = [_contents(cell) for cell in value.__closure__ or ()]
        named = {name: value.__globals__.get(name) for name in value.__code__.co_names}
        named = {name: v for name, v in named.items() if not isinstance(v, types.ModuleType | type)}
        held = (value.__defaults__, value.__kwdefaults__, cells, named)
        return (value.__qualname__, _parts(value.__code__, seen), _parts(held, seen))
    if isinstance(value, functools.partial):
        return (_parts(value.func, seen), _parts((value.args, value.keywords), seen))
    if isinstance(value, dict):
        return [(_parts(key, seen), _parts(v, seen)) for key, v in value.items()]
    if isinstance(value, list | tuple):
        return [_parts(v, seen) for v in value]
    if isinstance(value, set | frozenset):
        return sorted(repr(_parts(v, seen)) for v in value)
    if isinstance(value, type | types.ModuleType):
        return value.__name__ if isinstance(value, types.ModuleType) else value.__qualname__
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        return _numbers(value, seen)
    return _object(value, seen)


def _numbers(value: Any, seen: set[int]) -> Any:
    if isinstance(value, torch.Tensor) and value.layout != torch.strided:
        value = value.to_dense()
    kind, array = str(value.dtype), to_numpy(value)
    if array.dtype.hasobject:  # its bytes are addresses
        return (kind, array.shape, _parts(array.tolist(), seen))
    mask = value.mask.tobytes() if isinstance(value, np.ma.MaskedArray) else b""
    return (kind, array.shape, hashlib.blake2b(array.tobytes() + mask).hexdigest())


def _object(value: Any, seen: set[int]) -> Any:
    name = type(value).__qualname__  # without the module: a script is __main__ when run and not when imported
    called = [getattr(type(value), method, None) for method in ("__call__", "forward")]
    code = [_parts(method, seen) for method in called if isinstance(method, types.FunctionType)]
    if attributes := getattr(value, "__dict__", None):
        return (name, code, [(key, _parts(v, seen)) for key, v in attributes.items()])
    try:
        held = value.__reduce_ex__(2)  # what a copy takes: slots, dates, fractions
        return (name, code, held if isinstance(held, str) else [_parts(v, seen) for v in _lists(held[1:])])
    except Exception:  # of whatever class it is
        pass
    try:
        return (name, code, re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)))
    except Exception:
        return (name, code)


def _lists(held: Any) -> list[Any]:
    """Return the parts of what ``__reduce_ex__`` gives, with its iterators read."""
    return [list(v) if hasattr(v, "__next__") else v for v in held]


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return None
