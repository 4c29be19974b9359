"""What of a structure fits a file in the extended XYZ format, as ASE writes it and reads it back."""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ..data import KEYS, from_voigt
from .labels import REFERENCE, results_of

if TYPE_CHECKING:
    from ase import Atoms

# What the format itself writes in the line of ``info``, and columns that ASE reads as something else.
_OF_INFO: Final = frozenset({"Lattice", "Properties", "pbc"})
_OF_COLUMNS: Final = frozenset({"symbols", "species", "pos", "Z", "charge", "move_mask"})
_COLUMN: Final = re.compile(r"[\w.+-]+")
_LARGEST: Final = 2**31 - 1  # integers of atoms are read as 32 bits


def to_extxyz(atoms: Atoms) -> str:
    """Return a structure as a file in extxyz holds it, without what :func:`for_extxyz` leaves out.

    Raises:
        ValueError: If it cannot be written even so, such as one with arrays ``a`` of two columns and ``a1``.
    """
    from ase.io.extxyz import write_xyz

    text = io.StringIO()
    try:
        write_xyz(text, [for_extxyz(atoms)])
    except Exception as error:  # ASE raises anything
        raise ValueError(f"cannot be written as extxyz: {error}") from error
    return text.getvalue()


def for_extxyz(atoms: Atoms) -> Atoms:
    """Return a structure that ASE writes to extxyz and reads back, without what the format has no place for.

    Tensors of atoms become rows of numbers, and a stress all its nine numbers. What ASE does not read back as it was,
    or what spoils other entries, is left out, and so are results of another geometry. Results that ASE has no name for
    stand in ``info`` and ``arrays``.

    Args:
        atoms: The structure; it is not changed.
    """
    from ase.calculators.calculator import all_properties
    from ase.calculators.singlepoint import SinglePointCalculator

    found = atoms.copy()
    info, arrays = _with_texts_for_keys(atoms.info), dict(atoms.arrays)
    results = results_of(atoms)
    for name in [name for name in results if name not in all_properties]:
        where = arrays if name in KEYS and KEYS[name].level == "node" else info
        where.setdefault(name, results.pop(name))
    _keep_whole(results if "stress" in results else info, info)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ASE's, of entries that it leaves out
        found.info = {key: value for key, value in info.items() if key not in results and _fits(key, value)}
    for name, value in arrays.items():
        if name in ("numbers", "positions"):
            continue
        found.arrays.pop(name, None)
        is_of_all = name in KEYS and KEYS[name].level == "graph"  # ASE would take it for a result
        if (
            name not in results
            and name not in _OF_COLUMNS
            and not is_of_all
            and _COLUMN.fullmatch(name)
            and _is_column(value)
        ):
            found.arrays[name] = _rows(value)
    if results:
        found.calc = SinglePointCalculator(found, **{name: _rows(value) for name, value in results.items()})
    return found


def _with_texts_for_keys(info: Mapping[Any, Any]) -> dict[str, Any]:
    """Return ``info`` with its keys as texts; of 5 and ``"5"`` the text stays."""
    texts = {key: value for key, value in info.items() if isinstance(key, str)}
    return {key: _plain(value) for key, value in ({str(key): value for key, value in info.items()} | texts).items()}


def _plain(value: Any) -> Any:
    """Return lists and dictionaries without NumPy in them, where they can be JSON; ASE writes no other."""
    if not isinstance(value, list | tuple | Mapping):
        return value
    try:
        return json.loads(json.dumps(value, default=lambda one: one.tolist()))
    except (AttributeError, TypeError, ValueError):
        return value


def _keep_whole(held: dict[str, Any], info: dict[str, Any]) -> None:
    """Bring a stress, and a virial, to where ASE reads all of it: it wants nine numbers, and makes six of a stress."""
    virial, stress = _as_numbers(info.get("virial")), _as_numbers(held.get("stress"))
    if virial is not None:
        info["virial"] = virial
    if stress is not None and stress.shape == (6,):
        held["stress"] = from_voigt(stress, "stress", "ase")
    elif stress is not None and stress.shape == (3, 3):
        held["stress"] = stress
        if not np.array_equal(stress, stress.T):
            info.setdefault(REFERENCE + "stress", held.pop("stress"))


def _as_numbers(value: Any) -> np.ndarray | None:
    try:
        return None if value is None else np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return None


def _fits(key: str, value: Any) -> bool:
    """Tell whether ASE reads an entry of ``info`` back from what it writes, and the next one too."""
    from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict

    if key in _OF_INFO or not key.isprintable() or not _is_readable(value):
        return False
    end = f"{key}_"
    try:
        found = key_val_str_to_dict(key_val_dict_to_str({key: value, end: 1}))
        return list(found) == [key, end] and _is_same(value, found[key])
    except Exception:  # ASE's parser stumbles in many ways
        return False


def _is_readable(value: Any) -> bool:
    if isinstance(value, str):
        return value.isprintable()
    return isinstance(value, bool | int | float | np.generic | np.ndarray | list | tuple | Mapping)


def _is_same(value: Any, found: Any) -> bool:
    if isinstance(found, str):
        return found == str(value)
    if isinstance(value, str):  # one that looks like a number, and comes back as such
        return np.size(found) > 0 and bool(np.isfinite(found).all()) and not value.startswith("_JSON")
    if isinstance(found, list | dict):
        return bool(found == json.loads(json.dumps(value.tolist() if isinstance(value, np.ndarray) else value)))
    given = np.asarray(value)
    return bool(np.array_equal(np.ravel(found).astype(given.dtype), given.ravel(), equal_nan=given.dtype.kind == "f"))


def _is_column(value: np.ndarray) -> bool:
    if value.size == 0:
        return False
    if value.dtype.kind in "iu":
        return int(value.min()) >= -_LARGEST and int(value.max()) <= _LARGEST
    if value.dtype.kind == "U":
        return all(word.isprintable() and len(word.split()) == 1 for word in value.flat)
    return value.dtype.kind in "bf"


def _rows(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    value = value.astype(np.int64) if value.dtype.kind == "u" else value  # ASE writes no other
    return value.reshape(len(value), -1) if value.ndim > 2 else value
