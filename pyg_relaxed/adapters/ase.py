"""ASE's ``Atoms`` to graphs and back."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch_geometric.data import Batch, Data

from ..data import (
    FRAMES,
    INFO_PREFIX,
    KEYS,
    SITE_PREFIX,
    TARGETS,
    as_label_names,
    build_graph,
    decode,
    from_voigt,
    is_standard_cell,
)

if TYPE_CHECKING:
    from ase import Atoms

    from ..data import AtomicData

_ARRAYS = ("tags", "momenta", "masses", "initial_magmoms", "initial_charges", "oxi_states", "species_spins", "labels")
_INFO = ("charge", "spin", "electric_field", "magnetic_field")
_GEOMETRY = ("numbers", "positions")


def from_ase(
    atoms: Atoms,
    cutoff: float = 5.0,
    dtype: torch.dtype | None = None,
    frame: str | None = None,
    extras: bool = True,
    label_names: Mapping[str, str] | None = None,
) -> AtomicData:
    """Build the graph of an ``Atoms``, with its labels and all else it holds; ``atoms`` is not changed.

    Labels (energy, forces, stress, charges, ...) are read from ``REF_<name>`` in ``info`` and ``arrays``, else from the
    results of ``atoms.calc`` if they belong to this geometry (nothing is computed), else from ``<name>``. The stress
    may be Voigt-6 (xx, yy, zz, yz, xz, xy) or 3 x 3, and in the same order the piezoelectric tensor 3 x 6 and the
    elastic tensor 6 x 6; put VASP's through :func:`~pyg_relaxed.data.from_voigt` first. Any tensor may
    be flat, row by row, as extxyz files hold it: 9 numbers, or N x 9 for one of each atom. ``charge``, ``spin``,
    ``electric_field`` (V/Å) and ``magnetic_field`` (T) are read from ``info``; ``FixAtoms`` and ``FixCartesian`` become
    the mask ``fixed``. Custom arrays become ``site_<name>``, info ``info_<name>`` (but None, which PyG cannot hold).

    Args:
        atoms: The structure; any cell, periodic along any of its vectors, atoms anywhere.
        cutoff: In Å.
        dtype: Of every float. None is ``torch.get_default_dtype()``; ``torch.float64`` makes the round trip exact.
        frame: Where the axes come from, ``"cartesian"`` or ``"standard"``. None reads ``atoms.info["frame"]``; without
            it ``"standard"`` if ASE's CIF reader left its ``info["spacegroup"]`` and the cell still lies as it puts
            them, else ``"cartesian"``.
        extras: Also carry ``site_*`` and ``info_*``. Without them graphs from different sources batch more easily.
        label_names: Labels that have other names in ``info``, ``arrays`` or the results, such as ``{"energy":
            "dft_energy"}``; they are read from there alone.

    Raises:
        TypeError: If ``atoms`` is something else.
        ValueError: For no atoms, atoms that are no elements, bad positions, cells or labels.

    Example:
        >>> from ase.build import bulk
        >>> data = from_ase(bulk("Cu"), cutoff=3.0)
        >>> data.num_edges, data.cell.shape, data.frame
        (12, torch.Size([1, 3, 3]), 'cartesian')
    """
    from ase import Atoms

    if not isinstance(atoms, Atoms):
        raise TypeError(
            f"'atoms' must be an ase.Atoms (got {type(atoms).__name__}): from_pymatgen takes pymatgen's structures, "
            "adapters.read_structure a file, datasets.AtomsDataset a list or many files"
        )
    arrays = {name: array for name, array in atoms.arrays.items() if name not in _GEOMETRY}
    info = {name: value for name, value in atoms.info.items() if isinstance(name, str)}
    if len(info) < len(atoms.info):
        lost = [name for name in atoms.info if not isinstance(name, str)]
        warnings.warn(f"atoms.info keys {lost} are not text and are not carried: rename them", stacklevel=2)
    frame = _frame(atoms, info) if frame is None else frame
    given: dict[str, Any] = _labels(atoms, info, arrays, as_label_names(label_names))
    given.update({name: arrays.pop(name) for name in _ARRAYS if name in arrays})
    for name in _INFO:
        value = np.asarray(info.get(name))
        fits = value.shape == KEYS[name].shape[1:] and value.dtype.kind in "iuf"
        if fits and (KEYS[name].dtype == "float" or value % 1 == 0):
            given[name] = info.pop(name)
    given["fixed"] = fixed_components(atoms)
    if atoms.get_celldisp().any():
        given["celldisp"] = atoms.get_celldisp().reshape(3)
    if extras:
        given.update({SITE_PREFIX + name: array for name, array in arrays.items()})
        given.update({INFO_PREFIX + name: value for name, value in info.items()})
    is_text = {name: isinstance(v, np.ndarray | np.generic) and v.dtype.kind in "US" for name, v in given.items()}
    given = {name: v.tolist() if is_text[name] else v for name, v in given.items()}
    return build_graph(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, cutoff, dtype, frame, **given)


def to_ase(data: Data) -> Atoms:
    """Return the ``Atoms`` of one graph; labels come back as the results of a ``SinglePointCalculator``.

    Those that ASE has no name for (the polarizability, the piezoelectric and the elastic tensor) come back in ``info``
    and ``arrays`` under their own name, as ``REF_<name>`` where the graph holds something else by that name.

    Args:
        data: One graph, on any device; it is not changed.

    Raises:
        ValueError: For a batch.

    Example:
        >>> from ase.build import molecule
        >>> to_ase(from_ase(molecule("H2O"))).get_chemical_formula()
        'H2O'
    """
    from ase import Atoms
    from ase.calculators.calculator import all_properties
    from ase.calculators.singlepoint import SinglePointCalculator

    if not isinstance(data, Data):
        raise TypeError(f"'data' must be a graph of PyG (got {type(data).__name__})")
    if isinstance(data, Batch):
        raise ValueError(f"to_ase takes one graph (got a batch of {data.num_graphs}): use data.to_data_list()")
    values = {name: decode(name, value) for name, value in data.to_dict().items()}
    atoms = Atoms(numbers=values["z"], positions=values["pos"], cell=values.get("cell"), pbc=values.get("pbc"))
    for name, value in values.items():
        if name in _ARRAYS or name.startswith(SITE_PREFIX):
            atoms.set_array(name.removeprefix(SITE_PREFIX), np.array(value))
        elif name in _INFO or name.startswith(INFO_PREFIX):
            atoms.info[name.removeprefix(INFO_PREFIX)] = value
    if "fixed" in values:
        atoms.set_constraint(_constraints(values["fixed"]))
    if "celldisp" in values:
        atoms.set_celldisp(values["celldisp"])
    if values.get("frame", "cartesian") != "cartesian":
        atoms.info["frame"] = values["frame"]
    results = {name: values[name] for name in TARGETS if name in values}
    for name in [name for name in results if name not in all_properties]:
        where = atoms.arrays if KEYS[name].level == "node" else atoms.info
        where[f"REF_{name}" if name in where else name] = results.pop(name)
    if results:
        if "stress" in results:
            results["stress"] = _voigt(results["stress"])
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def for_extxyz(atoms: Atoms) -> Atoms:
    """Return a structure with its results that ASE writes to extxyz and reads back as it is.

    ASE refuses entries by the name of a result, and an empty text swallows the entry after it.
    """
    results = getattr(atoms.calc, "results", {})
    found = atoms.copy()
    found.calc = atoms.calc
    for name, value in atoms.info.items():
        if name in results or (isinstance(value, str) and not value):
            del found.info[name]
    for name in set(results).intersection(atoms.arrays):
        del found.arrays[name]
    return found


def _frame(atoms: Atoms, info: dict[str, Any]) -> str:
    if info.get("frame") in FRAMES:
        return str(info.pop("frame"))
    return "standard" if "spacegroup" in info and is_standard_cell(atoms.cell.array) else "cartesian"


def _labels(atoms: Atoms, info: dict[str, Any], arrays: dict[str, Any], label_names: dict[str, str]) -> dict[str, Any]:
    """Take the labels out of ``info`` and ``arrays`` or read the calculator's."""
    results = results_of(atoms)
    labels = {}
    for name in TARGETS:
        held = (arrays, info) if KEYS[name].level == "node" else (info,)
        if name in label_names:  # ASE's readers put what they know among the results
            places = [(label_names[name], source) for source in (*held, results)]
        else:
            places = [(f"REF_{name}", source) for source in held] + [(name, source) for source in (results, *held)]
        for found, source in places:
            if found in source:
                value = source[found] if source is results else source.pop(found)
                labels[name] = shaped(name, value, len(atoms), found)
                break
    return labels


def results_of(atoms: Atoms) -> dict[str, Any]:
    """Return the results of a calculator, if they belong to this geometry."""
    results = {name: value for name, value in getattr(atoms.calc, "results", {}).items() if value is not None}
    changes = atoms.calc.check_state(atoms) if results and hasattr(atoms.calc, "check_state") else []
    if changes:
        warnings.warn(
            f"the results of atoms.calc ({', '.join(results)}) belong to other {', '.join(changes)} and are not read: "
            "compute them again, or set atoms.calc = None",
            stacklevel=4,
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


def _voigt(stress: np.ndarray) -> np.ndarray:
    """Return Voigt-6 for a symmetric stress; one with a torque has nine numbers and keeps them."""
    return stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] if np.array_equal(stress, stress.T) else stress


def fixed_components(atoms: Atoms) -> np.ndarray | None:
    """Return which Cartesian components do not move, shape ``[N, 3]``, None if all do."""
    from ase.constraints import FixAtoms, FixCartesian

    fixed = np.zeros((len(atoms), 3), dtype=bool)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            fixed[constraint.index] = True
        elif isinstance(constraint, FixCartesian):
            fixed[constraint.index] |= constraint.mask
        else:
            warnings.warn(
                f"the constraint {type(constraint).__name__} is not carried (only FixAtoms and FixCartesian are): "
                "set it again on the atoms that to_ase returns",
                stacklevel=3,
            )
    return fixed if fixed.any() else None


def _constraints(fixed: np.ndarray) -> list[Any]:
    from ase.constraints import FixAtoms, FixCartesian

    whole = fixed.all(axis=1)
    constraints: list[Any] = [FixAtoms(np.flatnonzero(whole))] if whole.any() else []
    for mask in np.unique(fixed[~whole & fixed.any(axis=1)], axis=0):
        constraints.append(FixCartesian(np.flatnonzero((fixed == mask).all(axis=1)), mask))
    return constraints
