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
    is_standard_cell,
)
from .labels import set_labels, take_labels

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
    given: dict[str, Any] = take_labels(atoms, info, arrays, as_label_names(label_names))
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
    set_labels(atoms, {name: values[name] for name in TARGETS if name in values})
    return atoms


def _frame(atoms: Atoms, info: dict[str, Any]) -> str:
    if info.get("frame") in FRAMES:
        return str(info.pop("frame"))
    return "standard" if "spacegroup" in info and is_standard_cell(atoms.cell.array) else "cartesian"


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
