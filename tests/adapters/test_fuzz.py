"""A thousand damaged files: each gives a correct graph or an error that says what is wrong, never a crash or a hang.

The files are read in a process of their own (this file, run as a program), which a watchdog ends after 5 s without
progress and whose memory is limited; it writes one line of JSON for each.
"""

import faulthandler
import itertools
import json
import re
import subprocess
import sys
import traceback
import warnings
from collections import Counter
from io import BytesIO, StringIO
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk, fcc111, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp import Poscar

from pyg_relaxed import structures
from pyg_relaxed.adapters import from_ase, read_structure
from pyg_relaxed.data import edge_vectors, neighbour_list

NUM_FILES = {"cif": 334, "POSCAR": 333, "extxyz": 333}
CUTOFF = 4.0
SECONDS, BYTES = 5, 4 << 30
NUMBERS = [
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-0",
    "zero",
    "1e-2",
    "1e-30",
    "1e30",
    "1e6",
    "1e16",
    "-1",
    "999999999",
    "0",
    "²",
]
SYMBOLS = ["Xx", "Q", "X", "D", "Ba2+", "Ti0.5", "Og", "", "1", "é"]


def valid_files(kind):
    """Return undamaged files of a format, by ASE and by pymatgen."""
    crystals = [structures.load(name) for name in structures.NAMES]
    crystals += [bulk("NaCl", "rocksalt", a=5.64), bulk("Cu", cubic=True), bulk("Si") * 2]
    slab = fcc111("Cu", (1, 1, 3), vacuum=5, periodic=True)
    slab.set_constraint(FixAtoms([0]))
    if kind == "extxyz":
        water = molecule("H2O")
        water.calc = SinglePointCalculator(water, energy=-1.0, forces=np.ones((3, 3)), dipole=np.ones(3))
        slab.pbc = [True, True, False]
        return [text_of(atoms, "extxyz") for atoms in (*crystals, water, slab, [water, crystals[0]])]
    files = [text_of(atoms, "cif" if kind == "cif" else "vasp") for atoms in (*crystals, slab)]
    for atoms in crystals:
        structure = AseAtomsAdaptor.get_structure(atoms)
        structure.add_oxidation_state_by_guess()
        text = CifWriter(structure, symprec=0.01) if kind == "cif" else Poscar(structure)
        files.append(str(text).encode())
    return files


def text_of(atoms, file_format):
    stream = BytesIO() if file_format == "cif" else StringIO()
    ase.io.write(stream, atoms, format=file_format)
    content = stream.getvalue()
    return content if isinstance(content, bytes) else content.encode()


def damaged(content, rng):
    """Return a file with one or two faults."""
    for _ in range(rng.integers(1, 3)):
        content = rng.choice(FAULTS)(content, rng)
    return content


def lines_deleted(content, rng):
    lines = content.splitlines(keepends=True)
    start = rng.integers(len(lines) + 1)
    return b"".join(lines[:start] + lines[start + rng.integers(1, 4) :])


def line_doubled(content, rng):
    lines = content.splitlines(keepends=True)
    n = rng.integers(len(lines) + 1)
    return b"".join(lines[: n + 1] + lines[n:])


def lines_swapped(content, rng):
    lines = content.splitlines(keepends=True) or [b""]
    a, b = rng.integers(len(lines), size=2)
    lines[a], lines[b] = lines[b], lines[a]
    return b"".join(lines)


def cut_off(content, rng):
    return content[: rng.integers(len(content) + 1)]


def words_replaced(pattern, words, content, rng, most=2):
    found = list(re.finditer(pattern, content))
    for match in sorted((found[n] for n in rng.permutation(len(found))[:most]), key=re.Match.start, reverse=True):
        content = content[: match.start()] + str(rng.choice(words)).encode() + content[match.end() :]
    return content


def numbers_replaced(content, rng):
    return words_replaced(rb"-?\d+\.\d+", NUMBERS, content, rng)


def counts_replaced(content, rng):
    return words_replaced(rb"(?<![\d.])\d+(?![\d.])", ["999999999", "-3", "0", "1", "7", "10" * 20], content, rng)


def elements_replaced(content, rng):
    return words_replaced(rb"\b(Ba|Ti|O|Na|Cl|Cu|Si|H)\b", SYMBOLS, content, rng)


def occupancies_replaced(content, rng):
    return words_replaced(rb"(?m)\b1(\.0+)?\s*$", ["0.5", "0", "-1", "nan", "1.5"], content, rng, 5)


def cell_zeroed(content, rng):
    """A line or a quotation of three or nine numbers, or a length of a CIF file."""
    spots = list(
        re.finditer(rb'(?m)^ *(-?\d+\.\d+\s*){3}$|(?<=")(-?\d+\.\d+ ?){9}(?=")|(?<=_cell_length_[abc]).*', content)
    )
    if not spots:
        return content
    spot = spots[rng.integers(min(len(spots), 3))]
    number = [b" 0.0", b" 0.01", b" 1e-4", b" 1e9"][rng.integers(4)]
    how_many = len(spot[0].split())
    return content[: spot.start()] + number * how_many + b"\n"[: spot[0].endswith(b"\n")] + content[spot.end() :]


def bytes_flipped(content, rng):
    array = np.frombuffer(content, dtype=np.uint8).copy()
    if len(array):
        array[rng.integers(len(array), size=3)] ^= np.uint8(1) << rng.integers(8, size=3).astype(np.uint8)
    return array.tobytes()


def bytes_inserted(content, rng):
    n = rng.integers(len(content) + 1)
    return (
        content[:n]
        + [b"\xff\xfe", b"\x00", b"\xc3\x28", b"\r", b"'", b'"', b"\n\n", b"_loop"][rng.integers(8)]
        + content[n:]
    )


def emptied(content, rng):
    return [b"", b"\n", b" \n \n", b"\xef\xbb\xbf" + content][rng.integers(4)]


FAULTS = [lines_deleted, line_doubled, lines_swapped, cut_off, numbers_replaced, numbers_replaced, counts_replaced]
FAULTS += [elements_replaced, occupancies_replaced, cell_zeroed, bytes_flipped, bytes_inserted, emptied]


def outcome(path):
    """Return ``"graph"`` or what refused the file.

    Raises:
        AssertionError: For a wrong graph, and for an error that does not say what is wrong.
    """
    try:
        atoms = read_structure(path)
    except ValueError as error:
        return named(error, re.escape(path.name), "reader")
    try:
        data = from_ase(atoms, CUTOFF, dtype=torch.float64)
    except ValueError as error:
        place = r"\batoms? \d|\d+ atoms in the cell|'(cell|pbc|energy|forces|stress|dipole)'"
        return named(error, place, "graph refused")
    assert_correct(atoms, data)
    return "graph"


def named(error, place, result):
    """Return ``result`` if an error says where the fault is."""
    assert re.search(place, str(error)), f"no place in {error!r}"
    assert "MemoryError" not in str(error), f"out of memory: {error!r}"
    return result


def assert_correct(atoms, data):
    """Compare a graph with the structure, without the code under test."""
    assert len(atoms) == data.num_nodes > 0
    assert ((data.z >= 1) & (data.z <= 118)).all()
    assert data.pos.isfinite().all()
    assert data.cell.isfinite().all()
    np.testing.assert_array_equal(data.z, atoms.numbers)
    np.testing.assert_array_equal(data.pos, atoms.positions)
    lengths = edge_vectors(data).norm(dim=1).numpy()
    assert (lengths <= CUTOFF + 1e-6).all()
    (src, dst), shift = data.edge_index.numpy(), data.edge_cell_shift.numpy()
    there = np.column_stack([src, dst, shift])
    back = np.column_stack([dst, src, -shift])
    assert (there[np.lexsort(there.T)] == back[np.lexsort(back.T)]).all(), "an edge has no way back"
    distances = brute_force(atoms)
    if distances is not None:
        assert (distances < CUTOFF - 1e-6).sum() <= len(lengths) <= (distances < CUTOFF + 1e-6).sum()


def brute_force(atoms, most=3_000_000):
    """Return all distances between atoms and images of atoms, but the zeros; None if there are too many."""
    cell, periodic = atoms.cell.complete().array, atoms.pbc
    fractions = atoms.positions @ np.linalg.inv(cell)
    fractions[:, periodic] %= 1
    reach = np.where(periodic, np.ceil(CUTOFF * np.linalg.norm(np.linalg.inv(cell), axis=0)) + 1, 0)
    if np.prod(2 * reach + 1) * len(atoms) ** 2 > most:
        return None
    images = np.array(list(itertools.product(*(np.arange(-n, n + 1) for n in reach))))
    vectors = (fractions[:, None, None] - fractions[None, :, None] + images) @ cell
    distances = np.linalg.norm(vectors, axis=-1)
    itself = np.eye(len(atoms), dtype=bool)[:, :, None] & (images == 0).all(axis=1)
    return distances[~itself]


def read_all(folder, kinds):
    """Read the damaged files and write what came of each."""
    warnings.simplefilter("ignore")  # what is not carried is warned about; that is another test
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
    for kind in kinds:
        sources = valid_files(kind)
        for n in range(NUM_FILES[kind]):
            rng = np.random.default_rng([sum(map(ord, kind)), n])
            path = folder / (f"POSCAR-{n}" if kind == "POSCAR" else f"{n}.{kind}")
            path.write_bytes(damaged(sources[rng.integers(len(sources))], rng))
            report(kind=kind, file=str(path))
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            try:
                result = outcome(path)
            except BaseException:
                result = traceback.format_exc()
            faulthandler.cancel_dump_traceback_later()
            report(kind=kind, file=str(path), result=result)


def report(**line):
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    command = [sys.executable, __file__, str(folder), *NUM_FILES]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    assert run.returncode == 0, f"{lines[-1] if lines else ''} ended the process: {run.stderr[-3000:]}"
    return [line for line in lines if "result" in line]


@pytest.mark.parametrize("kind", NUM_FILES)
def test_damaged_files_give_a_correct_graph_or_a_clear_error(results, kind):
    found = [line for line in results if line["kind"] == kind]
    assert len(found) == NUM_FILES[kind]
    wrong = [line for line in found if line["result"] not in ("graph", "reader", "graph refused")]
    assert not wrong, f"{len(wrong)} of {len(found)}, the first: {wrong[0]['file']}\n{wrong[0]['result']}"
    counts = Counter(line["result"] for line in found)
    assert min(counts["graph"], counts["reader"], counts["graph refused"]) > 10  # the faults reach every stage


FREE, PERIODIC = [False] * 3, [True] * 3


@pytest.mark.parametrize(
    ("positions", "cell", "pbc", "num_edges"),
    [
        # vesin 0.6.2 divides by zero in boxes that are long or flat beyond 1e5 cutoffs, which ends the process
        ([[0, 0, 0], [1e6, 0, 0]], np.zeros((3, 3)), FREE, 0),
        ([[0, 0, 0], [1e7, 0, 0], [1e7, 0, 1.5], [-1e7, 5, 0]], np.zeros((3, 3)), FREE, 2),
        ([[0, 0, 0], [5e5, 0, 2], [5e5, 0, 5]], np.diag([1e6, 4.1, 4.1]), PERIODIC, 4),
        ([[0, 0, 0], [0, 1e7, 0], [0, 1e7 + 2, 0]], np.diag([4.1, 0, 0]), [True, False, False], 2),
        ([[0, 0, 0], [1999, 1999, 0]], np.diag([2000, 2000, 0]), [True, True, False], 2),
        ([[0, 0, 0], [1999, 1999, 1e8]], np.diag([2000, 2000, 0]), [True, True, False], 0),
    ],
)
def test_wide_and_flat_boxes(positions, cell, pbc, num_edges):
    edge_index, shift = neighbour_list(positions, cell, pbc, CUTOFF)
    vectors = (
        np.diff(np.array(positions, dtype=float)[edge_index.T.numpy()[:, ::-1]], axis=1)[:, 0] + shift.numpy() @ cell
    )
    assert edge_index.shape[1] == num_edges
    assert (np.linalg.norm(vectors, axis=1) < CUTOFF).all()


@pytest.mark.parametrize(
    ("positions", "cell", "message"),
    [
        ([[0, 0, 0]], np.eye(3) * 0.01, "1 atoms in the cell .* about 2.7e\\+08 neighbours each within 4 Å"),
        ([[0, 0, 0]], [[4, 0, 0], [4, 1e-5, 0], [0, 0, 4]], "its reduced form, if its vectors are nearly parallel"),
        ([[0, 0, 0]], [[6, 0, 0], [-0.005, 0.0087, 0], [0, 0, 1e6]], "images of the cell"),
        (np.arange(90).reshape(30, 3) / 90, np.eye(3) * 0.4, "30 atoms in the cell"),
        ([[0, 0, 0], [1e30, 0, 0]], np.eye(3) * 4, "atom 1 has position .*, more than 1e8 Å away"),
    ],
)
def test_absurd_geometries_are_refused_before_the_search(positions, cell, message):
    with pytest.raises(ValueError, match=message):
        neighbour_list(positions, cell, PERIODIC, CUTOFF)


if __name__ == "__main__":
    read_all(Path(sys.argv[1]), sys.argv[2:])
