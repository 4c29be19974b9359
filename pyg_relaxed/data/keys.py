"""The one table of what a structure is: every attribute of a graph, its level, shape, dtype, unit and irreps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ..checks import nearest

Level = Literal["node", "edge", "graph"]
Dtype = Literal["float", "double", "int", "bool", "str"]
Role = Literal["input", "target", "extra"]


@dataclass(frozen=True)
class Key:
    """One attribute of a graph.

    Args:
        name: Its name in the :class:`~pyg_relaxed.data.AtomicData`.
        level: What it belongs to. It decides how PyG batches and cuts it, never its name or size.
        shape: Its shape, with ``"N"`` atoms and ``"E"`` edges; graph-level ones start with 1, so that they batch.
        dtype: ``"float"`` follows the dtype asked for; ``"double"`` is always float64; ``"int"`` is int64; ``"str"`` is
            text, a list in a batch.
        doc: What it is, in one line.
        unit: Its unit, empty if it has none.
        irreps: How it turns with the axes (Cartesian components, in the order of its indices), ``"0e"`` if not at all.
            Those of all components, whatever symmetry the indices have.
        role: ``"input"`` of a model, ``"target"`` of a loss, or ``"extra"``, carried so that nothing is lost.
        rank: How many of its last indices are Cartesian, 0 if it does not turn.
        axial: Whether the inversion does to it the opposite of what its rank says, as to magnetic moments.
        voigt: What :func:`~pyg_relaxed.data.from_voigt` calls it, empty if it has no such notation.

    Example:
        >>> KEYS["stress"].shape, KEYS["stress"].unit, KEYS["stress"].rank
        ((1, 3, 3), 'eV/Å^3', 2)
        >>> KEYS["elastic_tensor"].voigt, KEYS["elastic_tensor"].voigt_shape
        ('stiffness', (6, 6))
    """

    name: str
    level: Level
    shape: tuple[int | str, ...]
    dtype: Dtype
    doc: str
    unit: str = ""
    irreps: str = "0e"
    role: Role = "extra"
    rank: int = 0
    axial: bool = False
    voigt: str = ""

    @property
    def voigt_shape(self) -> tuple[int, ...]:
        """Its shape in Voigt's notation, without the leading dimension; empty if it has none."""
        return (3,) * (self.rank % 2) + (6,) * (self.rank // 2) if self.voigt else ()


# All components of a tensor of rank 2, 3 and 4: products of as many 1o.
_RANK_2, _RANK_3, _RANK_4 = "0e+1e+2e", "0o+3x1o+2x2o+3o", "3x0e+6x1e+6x2e+3x3e+4e"

_TABLE = (
    # what the structure is
    Key("z", "node", ("N",), "int", "atomic numbers, 1 to 118", role="input"),
    Key("pos", "node", ("N", 3), "float", "Cartesian positions", "Å", "1o", "input", 1),
    Key(
        "cell", "graph", (1, 3, 3), "float", "rows are the lattice vectors; zeros without one", "Å", "3x1o", "input", 1
    ),
    Key("pbc", "graph", (1, 3), "bool", "periodic along each lattice vector", role="input"),
    Key("edge_index", "edge", (2, "E"), "int", "row 0 the neighbour (source), row 1 the receiver", role="input"),
    Key("edge_cell_shift", "edge", ("E", 3), "int", "lattice vectors added to the neighbour", role="input"),
    Key("cutoff", "graph", (1,), "float", "the edges are all pairs within it", "Å", role="input"),
    Key("frame", "graph", (), "str", "where the axes come from, see data/frame.py", role="input"),
    Key("charge", "graph", (1,), "float", "total charge", "e", role="input"),
    Key("spin", "graph", (1,), "int", "spin multiplicity 2S + 1", role="input"),
    Key("electric_field", "graph", (1, 3), "float", "uniform field it is in", "V/Å", "1o", "input", 1),
    Key("magnetic_field", "graph", (1, 3), "float", "uniform field it is in", "T", "1e", "input", 1, axial=True),
    # what is known about it (energies are large, and small differences of them count; tension is positive, as in ASE)
    Key("energy", "graph", (1,), "double", "potential energy", "eV", role="target"),
    Key("free_energy", "graph", (1,), "double", "energy consistent with the forces", "eV", role="target"),
    Key("energies", "node", ("N",), "double", "energy per atom", "eV", role="target"),
    Key("forces", "node", ("N", 3), "float", "-dE/dpos", "eV/Å", "1o", "target", 1),
    Key("stress", "graph", (1, 3, 3), "float", "dE/dstrain / V", "eV/Å^3", _RANK_2, "target", 2, voigt="stress"),
    Key("dipole", "graph", (1, 3), "float", "dipole moment", "e·Å", "1o", "target", 1),
    Key("polarization", "graph", (1, 3), "float", "dipole moment per volume", "e/Å^2", "1o", "target", 1),
    Key("dielectric_tensor", "graph", (1, 3, 3), "float", "relative permittivity", "", _RANK_2, "target", 2),
    Key("polarizability", "graph", (1, 3, 3), "float", "d dipole / d field", "e·Å²/V", _RANK_2, "target", 2),
    Key(
        *("piezoelectric_tensor", "graph", (1, 3, 3, 3), "float", "e_ijk = dP_i/dstrain_jk, e_ijk = e_ikj", "C/m^2"),
        *(_RANK_3, "target", 3),
        voigt="piezoelectric_stress",
    ),
    Key(
        *("elastic_tensor", "graph", (1, 3, 3, 3, 3), "float", "C_ijkl = dstress_ij/dstrain_kl", "GPa"),
        *(_RANK_4, "target", 4),
        voigt="stiffness",
    ),
    Key("born_effective_charges", "node", ("N", 3, 3), "float", "V dP/du", "e", _RANK_2, "target", 2),
    Key("charges", "node", ("N",), "float", "computed charges", "e", role="target"),
    Key("magmom", "graph", (1,), "float", "computed total magnetic moment", "μB", role="target"),
    Key("magmoms", "node", ("N",), "float", "computed magnetic moments, [N] or [N, 3]", "μB", "0e", "target", 1, True),
    # what the round trips need
    Key("initial_charges", "node", ("N",), "float", "charges given", "e"),
    Key(
        "initial_magmoms",
        "node",
        ("N",),
        "float",
        "magnetic moments given, [N] or [N, 3] (then 1e)",
        "μB",
        rank=1,
        axial=True,
    ),
    Key("masses", "node", ("N",), "float", "where not the element's own", "u"),
    Key("momenta", "node", ("N", 3), "float", "momenta in ASE's units", "(eV·u)^1/2", "1o", rank=1),
    Key("tags", "node", ("N",), "int", "ASE's tags"),
    Key("fixed", "node", ("N", 3), "bool", "Cartesian components that do not move"),
    Key("celldisp", "graph", (1, 3), "float", "origin of the cell", "Å", "1o", rank=1),
    Key("oxi_states", "node", ("N",), "float", "oxidation states, NaN where not given"),
    Key("species_spins", "node", ("N",), "float", "spins of pymatgen's species, NaN where not given"),
    Key("labels", "node", ("N",), "str", "names of the sites"),
    Key("frac_coords", "node", ("N", 3), "float", "fractional coordinates as pymatgen held them, valid for pos alone"),
)

KEYS: Final[dict[str, Key]] = {key.name: key for key in _TABLE}
TARGETS: Final = tuple(key.name for key in _TABLE if key.role == "target")

# Two open families, for what users hang on their structures. No "node" in the name: PyG counts nodes by it.
SITE_PREFIX: Final = "site_"
INFO_PREFIX: Final = "info_"


def level_of(name: str) -> Level | None:
    """Return the level of an attribute, or None for one that only PyG knows.

    Args:
        name: A key, ``site_*`` (any other per-atom property) or ``info_*`` (any other property of the structure).

    Example:
        >>> level_of("cell"), level_of("site_wyckoff_index"), level_of("info_space_group_index"), level_of("batch")
        ('graph', 'node', 'graph', None)
    """
    if name in KEYS:
        return KEYS[name].level
    if name.startswith(SITE_PREFIX):
        return "node"
    return "graph" if name.startswith(INFO_PREFIX) else None


def check_labels(names: Iterable[str]) -> None:
    """Raise unless all are labels.

    Raises:
        ValueError: If one is not.
    """
    for name in names:
        if name.startswith((INFO_PREFIX, SITE_PREFIX)):
            where = "info" if name.startswith(INFO_PREFIX) else "arrays"
            raise ValueError(
                f"'{name}' is read from '{info_key(name)}' in atoms.{where} and nowhere else: give what stands there "
                f"this name, or call it '{name[:5]}NAME' after it"
            )
        if name not in TARGETS:
            raise ValueError(f"'{name}' is no label: {nearest(name, TARGETS)}")


def as_label_names(label_names: Mapping[str, str] | None) -> dict[str, str]:
    """Return under which names labels stand that have others than their own, each its own.

    Raises:
        ValueError: If one is no label, or two have the same name.

    Example:
        >>> as_label_names(None), as_label_names({"energy": "dft_energy"})
        ({}, {'energy': 'dft_energy'})
    """
    found = dict(label_names or {})
    check_labels(found)
    names = list(found.values())
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"'{twice[0]}' cannot be two labels at once ('label_names' {found})")
    return found


def info_key(name: str) -> str:
    """Return under which key of ASE's ``info`` and ``arrays`` an attribute of graphs stands.

    Example:
        >>> info_key("electric_field"), info_key("info_pressure"), info_key("site_wyckoff")
        ('electric_field', 'pressure', 'wyckoff')
    """
    return name.removeprefix(INFO_PREFIX).removeprefix(SITE_PREFIX)
