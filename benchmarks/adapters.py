"""From ASE's structures to graphs: the neighbour search beside the library's bare call, the adapter beside its peers'.

    python benchmarks/adapters.py

Peers are those of NequIP, MACE and matgl that are installed. MACE pins another release of e3nn than NequIP, so `make
bench` runs this in two environments.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import graphs
import timing
from ase import Atoms
from vesin import NeighborList

import pyg_relaxed as pr
from pyg_relaxed.data import neighbour_list


def crystal(repeat: tuple[int, int, int]) -> Atoms:
    """Return BaTiO3, 5 atoms in each of the cells, thermally disordered."""
    atoms = pr.structures.load("BaTiO3_Pm-3m").repeat(repeat)
    atoms.rattle(0.05, seed=0)
    return atoms


def bare_search(atoms: Atoms, is_sorted: bool) -> Callable[[], object]:
    """Return vesin's own call: pairs and shifts, sorted by the first atom of a pair or not at all."""
    search = NeighborList(cutoff=graphs.CUTOFF, full_list=True, sorted=is_sorted)
    return lambda: search.compute(atoms.positions, atoms.cell.array, True, "ijS")


def nequip_adapter(atoms: Atoms) -> Callable[[], object] | None:
    """Return NequIP's conversion with its neighbour list, where the package is installed."""
    try:
        from nequip.data import compute_neighborlist_, from_ase
    except ImportError:
        return None
    return lambda: compute_neighborlist_(from_ase(atoms), r_max=graphs.CUTOFF)


def mace_adapter(atoms: Atoms) -> Callable[[], object] | None:
    """Return MACE's conversion with its neighbour list, where the package is installed."""
    try:
        from mace.data import AtomicData, config_from_atoms
        from mace.tools import AtomicNumberTable
    except ImportError:
        return None
    table = AtomicNumberTable(sorted(set(atoms.numbers.tolist())))
    return lambda: AtomicData.from_config(config_from_atoms(atoms), z_table=table, cutoff=graphs.CUTOFF)


def matgl_adapter(atoms: Atoms) -> Callable[[], object] | None:
    """Return matgl's conversion with its neighbour list, where the package is installed."""
    try:
        from matgl.ext.ase import Atoms2Graph
    except ImportError:
        return None
    convert = Atoms2Graph(element_types=tuple(sorted(set(atoms.symbols))), cutoff=graphs.CUTOFF)
    return lambda: convert.get_graph(atoms)


PEERS = {"NequIP": nequip_adapter, "MACE": mace_adapter, "matgl": matgl_adapter}


def main() -> None:
    timing.machine()
    atoms = crystal((16, 16, 16))
    cases = {
        "vesin, any order": bare_search(atoms, False),
        "vesin, sorted by receiver": bare_search(atoms, True),
        "pyg-relaxed": lambda: neighbour_list(atoms.positions, atoms.cell.array, atoms.pbc, graphs.CUTOFF),
    }
    timing.show(f"neighbour list, {len(atoms)} atoms, sorted by receiver, sender, shift", timing.alternate(cases, 7))
    for repeat in ((1, 1, 1), (2, 2, 2), (5, 5, 8)):
        measure_adapter(crystal(repeat))


def measure_adapter(atoms: Atoms) -> None:
    """Print the time of a conversion, and how much of it is vesin's own."""
    cases = {
        "vesin alone": bare_search(atoms, False),
        "pyg-relaxed": lambda: pr.from_ase(atoms, graphs.CUTOFF),
    }
    for name, peer in PEERS.items():
        if (convert := peer(atoms)) is not None:
            cases[name] = convert
    seconds = timing.alternate(cases, 7)
    timing.show(f"from_ase, {len(atoms)} atoms", seconds)
    share = statistics.median(seconds["vesin alone"]) / statistics.median(seconds["pyg-relaxed"])
    print(f"\n{share:.0%} of it is the neighbour library's.")


if __name__ == "__main__":
    main()
