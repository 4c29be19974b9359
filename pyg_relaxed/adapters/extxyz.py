"""What of a structure fits a file in the extended XYZ format, as ASE writes it and reads it back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .labels import results_of

if TYPE_CHECKING:
    from ase import Atoms


def for_extxyz(atoms: Atoms) -> Atoms:
    """Return a structure that ASE writes to extxyz and reads back, without what the format has no place for.

    Tensors of atoms become rows of numbers. Left out are entries of ``info`` by the names of results, empty ones (they
    swallow the next), texts of several lines, lists that are no arrays, and objects; arrays of texts with spaces; and
    results of another geometry.

    Args:
        atoms: The structure; it is not changed.
    """
    from ase.calculators.calculator import all_properties
    from ase.calculators.singlepoint import SinglePointCalculator

    found = atoms.copy()
    results = {name: _rows(value) for name, value in results_of(atoms).items() if name in all_properties}
    found.info = {str(key): value for key, value in atoms.info.items() if key not in results and _fits(value)}
    for name, value in atoms.arrays.items():
        if name in results or ":" in name or not (_is_plain(value) or _is_words(value)):
            del found.arrays[name]
        else:
            found.arrays[name] = _rows(value)
    if results:
        found.calc = SinglePointCalculator(found, **results)
    return found


def _rows(value: Any) -> Any:
    return value.reshape(len(value), -1) if isinstance(value, np.ndarray) and value.ndim > 2 else value


def _fits(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip()) and value.isprintable()
    if isinstance(value, bool | int | float | np.bool_ | np.number):
        return not isinstance(value, np.complexfloating)
    if isinstance(value, Mapping):
        return bool(value) and all(isinstance(key, str) and _fits(one) for key, one in value.items())
    if isinstance(value, list | tuple):
        try:
            value = np.asarray(value)
        except ValueError:  # of unequal lengths
            return False
    return isinstance(value, np.ndarray) and value.size > 0 and (_is_plain(value) or _is_words(value))


def _is_plain(value: np.ndarray) -> bool:
    return value.dtype.kind in "bif"


def _is_words(value: np.ndarray) -> bool:
    return value.dtype.kind == "U" and all(word.isprintable() and len(word.split()) == 1 for word in value.flat)
