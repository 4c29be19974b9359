"""The elements a model knows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def atomic_numbers(species: Sequence[str | int]) -> list[int]:
    """Return the atomic numbers of some elements, rising.

    Raises:
        ValueError: If one is no element, or there are none, or one is there twice.

    Example::

        >>> atomic_numbers(["Ti", 8])
        [8, 22]
    """
    if isinstance(species, str) or not len(species):
        raise ValueError(f"'species' must be a list of elements such as ['Ti', 'O'] (got {species!r})")
    numbers = sorted(_number(element) for element in species)
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"'species' names an element twice (got {list(species)})")
    return numbers


def for_each(numbers: Sequence[int], name: str, values: float | Mapping[str | int, float]) -> list[float]:
    """Return one value for each atomic number, out of one for all or a dictionary by element.

    Raises:
        ValueError: If the dictionary lacks an element or names another one, or a value is no number; ``name`` says
            which argument it is.
    """
    for value in values.values() if isinstance(values, Mapping) else [values]:
        if isinstance(value, str) or not math.isfinite(value):
            raise ValueError(f"'{name}' must be a finite number, or one for each element (got {values!r})")
    if not isinstance(values, Mapping):
        return [float(values)] * len(numbers)
    by_number = {_number(element): float(value) for element, value in values.items()}
    if set(by_number) != set(numbers):
        raise ValueError(f"'{name}' must have a value for each of {list(numbers)} (got {list(values)})")
    return [by_number[number] for number in numbers]


def covalent_radii(numbers: Sequence[int]) -> list[float]:
    """Return the covalent radii of some elements, Å (Cordero et al., Dalton Trans. 2008, 2832, as ASE has them)."""
    from ase.data import covalent_radii as radii

    return [float(radii[number]) for number in numbers]


def _number(element: str | int) -> int:
    from ase.data import atomic_numbers as known

    is_symbol = isinstance(element, str) and not element.isdigit()
    number = known.get(element, 0) if is_symbol else int(element)
    if not 1 <= number <= 118:
        raise ValueError(f"{element!r} is no element: give a symbol such as 'Ti' or an atomic number")
    return number
