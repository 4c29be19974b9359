"""Labels in structures: where they stand, in which shapes, and what of them a model has predicted."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from ..data import KEYS, TARGETS, from_voigt, info_key, level_of, to_tensor

if TYPE_CHECKING:
    from ase import Atoms

    from .pymatgen import AnyStructure

REFERENCE: Final = "REF_"  # before the name of a label in ``info`` and ``arrays``: it is read first
PREDICTED: Final = "predicted_"  # before the name of what a model has predicted, where labels keep their place
PREDICTED_BY: Final = "predicted_by"  # in ``info``: by which model, and the names of what it was
MARK: Final = "pyg-relaxed:"  # with which ours begin, see ``io.fingerprint``
CALCULATOR: Final = "atoms.calc"


def find_labels(
    atoms: Atoms, info: dict[str, Any], arrays: dict[str, Any], label_names: Mapping[str, str]
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return for each label its key and the dictionary that holds it: ``info``, ``arrays`` or the results."""
    results = results_of(atoms)
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for name in sorted(TARGETS, key=lambda name: name not in label_names):  # what is named comes before what is not
        held = (arrays, info) if KEYS[name].level == "node" else (info,)
        if name in label_names:  # ASE's readers put what they know among the results
            places = [(label_names[name], source) for source in (*held, results)]
        else:
            places = [(REFERENCE + name, source) for source in held] + [(name, source) for source in (results, *held)]
        taken = [(key, id(source)) for key, source in found.values() if source is not results]
        for key, source in places:
            if key in source and (key, id(source)) not in taken:
                found[name] = key, source
                break
    return found


def take_labels(
    atoms: Atoms, info: dict[str, Any], arrays: dict[str, Any], label_names: Mapping[str, str]
) -> dict[str, Any]:
    """Return the labels in the shapes of the table, and take them out of ``info`` and ``arrays``."""
    labels = {}
    for name, (key, source) in find_labels(atoms, info, arrays, label_names).items():
        value = source.pop(key) if source is info or source is arrays else source[key]
        labels[name] = shaped(name, value, len(atoms), key)
    return labels


def label_places(structure: Atoms | AnyStructure, label_names: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return under which key each label stands, or that the calculator has it, and the keys of all other numbers."""
    from ase import Atoms

    if isinstance(structure, Atoms):
        info, arrays = structure.info, structure.arrays
        found = find_labels(structure, info, arrays, label_names)
        places = {n: key if source is info or source is arrays else CALCULATOR for n, (key, source) in found.items()}
        others = {k: v for k, v in (arrays | info).items() if k not in ("numbers", "positions")}
    else:
        others = structure.properties | structure.site_properties
        places = {name: label_names.get(name, name) for name in TARGETS if label_names.get(name, name) in others}
    numbers = [str(key) for key, value in others.items() if _is_numbers(value)]
    return places, sorted(set(numbers).difference(places.values()))


def _is_numbers(value: Any) -> bool:
    if isinstance(value, list):
        return to_tensor(value, torch.float64) is not None
    return isinstance(value, int | float | np.number) or (isinstance(value, np.ndarray) and value.dtype.kind in "iuf")


def results_of(atoms: Atoms) -> dict[str, Any]:
    """Return the results of a calculator, if they belong to this geometry."""
    results = {name: value for name, value in getattr(atoms.calc, "results", {}).items() if value is not None}
    changes = atoms.calc.check_state(atoms) if results and hasattr(atoms.calc, "check_state") else []
    if changes:
        warnings.warn(
            f"the results of atoms.calc ({', '.join(results)}) belong to other {', '.join(changes)} and are not read: "
            "compute them again, or set atoms.calc = None",
            stacklevel=5,
        )
        return {}
    return results


def shaped(name: str, value: Any, num_atoms: int, found: str = "") -> np.ndarray:
    """Return a label, ``found`` under some name, in the shape of the table, without the leading 1.

    Raises:
        ValueError: If it is not numbers, or of another shape.
    """
    key, name = KEYS[name], found or name
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"'{name}' must be numbers (got {value!r}): correct it, or give it another name")
    expected = tuple(num_atoms if isinstance(n, str) else n for n in key.shape[key.level == "graph" :])
    if key.voigt and array.shape == key.voigt_shape:
        return from_voigt(array, key.voigt, "ase")
    if key.level == "graph" and array.shape == key.shape:  # as graphs hold it
        return array[0]
    if array.shape == expected or (key.name == "magmoms" and array.shape == (num_atoms, 3)):
        return array
    if key.rank > 1 and array.shape == (*expected[: -key.rank], 3**key.rank):
        return array.reshape(expected)
    or_voigt = f", or {key.voigt_shape} in Voigt's notation," if key.rank > 2 else ""
    raise ValueError(
        f"'{name}' must have shape {expected}{or_voigt} (got {array.shape}): correct it, or give it another name"
    )


def set_labels(atoms: Atoms, labels: Mapping[str, np.ndarray]) -> None:
    """Give a structure labels as the results of a ``SinglePointCalculator``.

    Those that ASE has no name for get their own name in ``info`` and ``arrays``, ``REF_<name>`` where that is taken.
    """
    from ase.calculators.calculator import all_properties
    from ase.calculators.singlepoint import SinglePointCalculator

    results = dict(labels)
    for name in [name for name in results if name not in all_properties]:
        where = atoms.arrays if KEYS[name].level == "node" else atoms.info
        where[REFERENCE + name if name in where else name] = results.pop(name)
    if results:
        if "stress" in results:
            results["stress"] = _voigt(results["stress"])
        atoms.calc = SinglePointCalculator(atoms, **results)


def set_predicted(atoms: Atoms, predicted: Mapping[str, np.ndarray], by: str) -> None:
    """Put what a model has predicted beside all that a structure holds, in place of what another of ours has.

    Raises:
        ValueError: If the structure holds something else by those names.

    Args:
        atoms: The structure.
        predicted: By the names of a graph.
        by: Which model it was, as :func:`~pyg_relaxed.io.fingerprint` says it.
    """
    drop_predicted(atoms)
    for key in (PREDICTED_BY, *(PREDICTED + info_key(name) for name in predicted)):
        if key in atoms.info or key in atoms.arrays:
            raise ValueError(f"the structure has a '{key}' that is not of pyg-relaxed: rename it, or it would be lost")
    for name, value in predicted.items():
        where = atoms.arrays if level_of(name) == "node" else atoms.info
        where[PREDICTED + info_key(name)] = value
    atoms.info[PREDICTED_BY] = " ".join([by, *(info_key(name) for name in predicted)])


def predicted_by(atoms: Atoms) -> tuple[str, list[str]]:
    """Return which of our models has predicted something of a structure, empty if none, and the names of what."""
    by, *names = str(atoms.info.get(PREDICTED_BY, "")).split() or [""]
    return (by, names) if by.startswith(MARK) else ("", [])


def drop_predicted(atoms: Atoms) -> None:
    """Take what one of our models has predicted out of a structure."""
    by, names = predicted_by(atoms)
    for key in (*(PREDICTED + name for name in names), PREDICTED_BY) if by else ():
        atoms.info.pop(key, None)
        atoms.arrays.pop(key, None)


def results_as_predicted(atoms: Atoms, by: str) -> None:
    """Put the results of a model, as our calculators leave them, where what is predicted stands: they are no labels."""
    results = atoms.calc.results
    names = [name for name in TARGETS if name in results and name != "free_energy"]  # the energy again
    predicted = {name: results[name] for name in names}
    if "stress_tensor" in results:
        predicted["stress"] = results["stress_tensor"]  # all nine
    atoms.calc = None
    for key in (PREDICTED_BY, *(PREDICTED + name for name in predicted)):  # of others, and of another geometry
        atoms.info.pop(key, None)
        atoms.arrays.pop(key, None)
    set_predicted(atoms, predicted, by)


def _voigt(stress: np.ndarray) -> np.ndarray:
    """Return Voigt-6 for a symmetric stress; one with a torque has nine numbers and keeps them."""
    return stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] if np.array_equal(stress, stress.T) else stress


def drop_labels(atoms: Atoms) -> None:
    """Take out of a structure what is of its geometry alone: labels, ``REF_<label>``, results, what is predicted."""
    for key in (*TARGETS, *(REFERENCE + name for name in TARGETS)):
        atoms.info.pop(key, None)
        atoms.arrays.pop(key, None)
    drop_predicted(atoms)
    atoms.calc = None
