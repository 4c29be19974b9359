"""What a callable is, as text: two that would give different results have different ones."""

from __future__ import annotations

import functools
import hashlib
import re
import types
from typing import Any

from ..data import to_numpy


def described(value: Any) -> str:
    """Return what tells a callable from others: its code, and the values of all that it holds and refers to.

    Functions are described by what they compile to, their defaults and closures and the functions and plain values of
    their module that they name; objects by their class and attributes; never by where they are in memory.

    Args:
        value: A function, a method, a PyG transform, or any object.

    Example:
        >>> described(lambda x: x + 1) == described(lambda x: x + 1), described(abs) == described(len)
        (True, False)
    """
    return hashlib.blake2b(repr(_parts(value, set())).encode()).hexdigest()


def _parts(value: Any, seen: set[int]) -> Any:
    if value is None or isinstance(value, str | bytes | int | float | complex):
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
    if isinstance(value, type):
        return value.__qualname__
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return (str(value.dtype), tuple(value.shape), hashlib.blake2b(to_numpy(value).tobytes()).hexdigest())
    name = type(value).__qualname__  # without the module: a script is __main__ when run and not when imported
    called = [getattr(type(value), method, None) for method in ("__call__", "forward")]
    code = [_parts(method, seen) for method in called if isinstance(method, types.FunctionType)]
    if attributes := getattr(value, "__dict__", None):
        return (name, code, [(key, _parts(v, seen)) for key, v in attributes.items()])
    return (name, code, re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)))


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return None
