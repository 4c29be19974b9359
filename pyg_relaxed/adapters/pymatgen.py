"""pymatgen's structures and molecules to graphs and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch_geometric.data import Batch, Data

from ..data import FRAMES, INFO_PREFIX, KEYS, SITE_PREFIX, TARGETS, as_label_names, build_graph, decode, to_tensor
from .labels import shaped

if TYPE_CHECKING:
    from pymatgen.core import IMolecule, IStructure, Molecule, Structure

    from ..data import AtomicData

    AnyStructure: TypeAlias = Structure | IStructure | Molecule | IMolecule

_ISOTOPES = {"D": 2, "T": 3}  # the only two that pymatgen has as elements of their own
_NAMES = {"magmom": "initial_magmoms", "charge": "initial_charges"}  # pymatgen's for what ASE calls initial
_OWN = ("z", "pos", "cell", "pbc", "edge_index", "edge_cell_shift", "cutoff", "frame", "charge", "spin", "frac_coords")
_DECORATION = ("oxi_states", "species_spins", "labels", "fixed")


def from_pymatgen(
    structure: AnyStructure,
    cutoff: float = 5.0,
    dtype: torch.dtype | None = None,
    frame: str | None = None,
    extras: bool = True,
    label_names: Mapping[str, str] | None = None,
) -> AtomicData:
    """Build the graph of a structure or molecule, with all that its sites and it hold; it is not changed.

    Oxidation states and spins of the species become ``oxi_states`` and ``species_spins``. Site properties become keys
    where the table has them (``magmom`` is ``initial_magmoms``, ``charge`` is ``initial_charges``,
    ``selective_dynamics`` is ``fixed``), else ``site_<name>``: tensors if numeric, else lists. Properties of the
    structure likewise, else ``info_<name>``. ``velocities`` stay ``site_velocities`` in the unit of whoever wrote them
    (Å/fs from a POSCAR, ASE's from ``Trajectory.from_ase``): they are no ``momenta``. The piezoelectric
    tensor may be 3 x 6 and the elastic tensor 6 x 6 in pymatgen's order of Voigt's notation.

    Args:
        structure: ``Structure``, ``IStructure``, ``Molecule`` or ``IMolecule``.
        cutoff: In Å.
        dtype: Of every float. None is ``torch.get_default_dtype()``; ``torch.float64`` makes the round trip exact.
        frame: Where the axes come from: pass :func:`~pyg_relaxed.data.frame_of_file` of the file it was read from,
            since pymatgen keeps no trace of it. None reads ``properties["frame"]``, without it ``"cartesian"``.
        extras: Also carry ``site_*`` and ``info_*``.
        label_names: Labels that stand elsewhere in the properties, such as ``{"energy": "dft_energy"}``; they are read
            from there alone.

    Raises:
        ValueError: For disordered sites, dummy species, bad positions or cells.

    Example:
        >>> from pymatgen.core import Structure
        >>> nacl = Structure.from_spacegroup("Fm-3m", [[5.64, 0, 0], [0, 5.64, 0], [0, 0, 5.64]], ["Na", "Cl"],
        ...                                  [[0, 0, 0], [0.5, 0, 0]])
        >>> from_pymatgen(nacl, cutoff=3.0).num_edges
        48
    """
    from pymatgen.core.structure import SiteCollection

    if not isinstance(structure, SiteCollection):
        raise TypeError(
            f"'structure' must be a pymatgen Structure or Molecule (got {type(structure).__name__}): from_ase takes "
            "ase.Atoms, adapters.read_structure a file"
        )
    named = as_label_names(label_names)
    lattice = getattr(structure, "lattice", None)
    given = _species(structure)
    properties = _relabelled(structure.properties, named)
    cell = np.zeros((3, 3)) if lattice is None else lattice.matrix
    if lattice is None:
        cell = np.asarray(properties.pop("cell", cell))
        given["charge"], given["spin"] = structure.charge, structure.spin_multiplicity
    else:
        given["charge"] = structure._charge  # None if it is no more than the sum of the oxidation states
        given["frac_coords"] = structure.frac_coords
        given["spin"] = properties.pop("spin") if isinstance(properties.get("spin"), int) else None
    for name, values in _relabelled(structure.site_properties, named).items():
        if name in named:
            values = shaped(name, values, len(structure), named[name])
        given.update(_site_property(name, values))
    for name, value in properties.items():
        if name in named or (name in TARGETS and to_tensor(value, torch.float64) is not None):
            given[name] = shaped(name, value, len(structure), named.get(name, name))
        else:
            given[_key_for(name, value, "graph") or INFO_PREFIX + name] = value
    if frame is None:
        frame = given.pop(INFO_PREFIX + "frame") if properties.get("frame") in FRAMES else "cartesian"
    if not extras:
        given = {name: value for name, value in given.items() if name in KEYS}
    z = given.pop("z")
    pbc = (False,) * 3 if lattice is None else lattice.pbc
    return build_graph(z, structure.cart_coords, cell, pbc, cutoff, dtype, frame, **given)


def to_pymatgen(data: Data) -> Structure | Molecule:
    """Return one graph as a ``Structure`` if it is periodic in any direction, else as a ``Molecule``.

    A molecule's cell, if it has one, is kept in ``properties["cell"]``. Labels become site properties and properties
    under the names of the table.

    Args:
        data: One graph, on any device; it is not changed.

    Raises:
        ValueError: For a batch, and for a periodic graph whose cell has no volume.

    Example:
        >>> from pymatgen.core import Molecule
        >>> to_pymatgen(from_pymatgen(Molecule("CO", [[0, 0, 0], [0, 0, 1.13]]))).composition.reduced_formula
        'CO'
    """
    from pymatgen.core import Lattice, Molecule, Structure

    if isinstance(data, Batch):
        raise ValueError(f"to_pymatgen takes one graph (got a batch of {data.num_graphs}): use data.to_data_list()")
    values = {name: decode(name, value) for name, value in data.to_dict().items()}
    names = {ours: theirs for theirs, ours in _NAMES.items()}
    sites, properties = {}, {}
    for name, value in values.items():
        if name.startswith(INFO_PREFIX):
            properties[name.removeprefix(INFO_PREFIX)] = value
        elif name.startswith(SITE_PREFIX):
            sites[name.removeprefix(SITE_PREFIX)] = value
        elif name in KEYS and name not in (*_OWN, *_DECORATION):
            (sites if KEYS[name].level == "node" else properties)[names.get(name, name)] = value
    if "fixed" in values:
        fixed = values["fixed"]
        whole = bool((fixed == fixed[:, :1]).all())  # partial ones: ours are along x, y, z, pymatgen's along a, b, c
        sites["selective_dynamics" if whole else "fixed"] = ~fixed if whole else fixed
    sites = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in sites.items()}
    properties = {k: v.tolist() if k in KEYS and isinstance(v, np.ndarray) else v for k, v in properties.items()}
    species, pos = _decorated(values), values["pos"].astype(np.float64)
    if "masses" in sites and np.allclose(sites["masses"], [float(s.atomic_mass) for s in species]):
        del sites["masses"]  # the isotopes say it
    common: dict[str, Any] = {"site_properties": sites, "labels": values.get("labels"), "properties": properties}
    cell, pbc = values.get("cell", np.zeros((3, 3))).astype(np.float64), values.get("pbc", np.zeros(3, dtype=bool))
    if values.get("frame", "cartesian") != "cartesian":
        properties["frame"] = values["frame"]
    if not pbc.any():
        if cell.any():
            properties["cell"] = cell.tolist()
        charge, spin = values.get("charge", 0.0), values.get("spin")
        return Molecule(species, pos, charge=charge, spin_multiplicity=spin, charge_spin_check=False, **common)
    if abs(np.linalg.det(cell)) < 1e-12:
        raise ValueError(
            f"pymatgen needs three lattice vectors, also where 'pbc' {pbc.tolist()} is False (got {cell.tolist()}): "
            "put a vector normal to the others in place of the missing one"
        )
    if "spin" in values:
        properties["spin"] = values["spin"]
    lattice = Lattice(cell, pbc=tuple(pbc.tolist()))
    if "frac_coords" in values:  # through the inverse of the cell the positions lose a digit
        structure = Structure(lattice, species, values["frac_coords"], charge=values.get("charge"), **common)
        if np.array_equal(structure.cart_coords, pos):
            return structure
    return Structure(lattice, species, pos, charge=values.get("charge"), coords_are_cartesian=True, **common)


def _species(structure: AnyStructure) -> dict[str, Any]:
    """Read what pymatgen writes into the species of a site."""
    from pymatgen.core import DummySpecies

    for n, site in enumerate(structure):
        if not site.is_ordered:
            raise ValueError(
                f"site {n} is disordered ({site.species_string}): choose one species for it, "
                "e.g. with pymatgen's OrderDisorderedStructureTransformation"
            )
        if isinstance(site.specie, DummySpecies):
            raise ValueError(f"site {n} holds {site.specie}, which is no element: replace or remove it")
    species = [site.specie for site in structure]
    given: dict[str, Any] = {"z": np.array([s.Z for s in species])}
    if any(s.name in _ISOTOPES for s in species):
        given["masses"] = np.array([float(s.atomic_mass) for s in species])
    for name, attribute in (("oxi_states", "oxi_state"), ("species_spins", "spin")):
        numbers = np.array([getattr(s, attribute, None) for s in species], dtype=np.float64)  # None becomes NaN
        if not np.isnan(numbers).all():
            given[name] = numbers
    if any(site.label != site.species_string for site in structure):
        given["labels"] = [site.label for site in structure]
    return given


def _relabelled(properties: Mapping[str, Any], label_names: Mapping[str, str]) -> dict[str, Any]:
    """Return properties with labels under their own names, without what else stands there."""
    labels = {found: name for name, found in label_names.items()}
    return {labels.get(key, key): value for key, value in properties.items() if key in labels or key not in label_names}


def _key_for(name: str, value: Any, level: str) -> str | None:
    """Return the key of the table that a property is, if its name and shape are those of one."""
    key = KEYS.get(name)
    if key is None or key.level != level or name in (*_OWN, *_DECORATION[:-1]):
        return None
    shapes = [len(key.shape) - (level == "graph")] + [2] * name.endswith("magmoms")
    numbers = to_tensor(value, torch.float64)
    return name if numbers is not None and numbers.ndim in shapes else None


def _site_property(name: str, values: Any) -> dict[str, Any]:
    """Return a site property under its name in the graph, numbers as an array and the rest as a list."""
    if any(hasattr(value, "global_moment") for value in values):  # pymatgen's Magmom, of some sites
        values = [getattr(value, "global_moment", (0.0, 0.0, value or 0.0)) for value in values]
    numbers = to_tensor(values, torch.float64)
    moves = numbers if name == "selective_dynamics" and numbers is not None and numbers.dtype == torch.bool else None
    if moves is not None and moves.ndim == 2 and (moves == moves[:, :1]).all():
        return {"fixed": ~moves}
    key = _key_for(_NAMES.get(name, name), values, "node")
    return {key or SITE_PREFIX + name: list(values) if numbers is None else numbers}


def _decorated(values: dict[str, Any]) -> list[Any]:
    """Write the species of the sites."""
    from pymatgen.core import Element, Species

    z = values["z"].tolist()
    unknown = np.full(len(z), np.nan)
    numbers = [values.get(name, unknown).tolist() for name in ("oxi_states", "species_spins", "masses")]
    species: list[Any] = []
    for n, oxi, spin, mass in zip(z, *numbers, strict=True):
        heavy = [symbol for symbol, whole in _ISOTOPES.items() if n == 1 and abs(mass - whole) < 0.1]
        element = Element[heavy[0]] if heavy else Element.from_Z(n)
        # whole numbers as pymatgen writes them: "Fe2+,spin=5"
        charge, moment = (None if np.isnan(v) else int(v) if v.is_integer() else v for v in (oxi, spin))
        species.append(element if charge is None and moment is None else Species(element.name, charge, spin=moment))
    return species
