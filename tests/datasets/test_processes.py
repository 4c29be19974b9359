"""Data sets made by several processes, some of which are killed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from crystals import CUTOFF, Logged, assert_equal, dataset, labelled, lines, write_extxyz

from pyg_relaxed import from_ase


@pytest.fixture
def graphs():
    return [from_ase(atoms, CUTOFF, torch.float64) for atoms in labelled()]


def test_several_processes_make_the_same_set(tmp_path, graphs):
    path = write_extxyz(tmp_path)
    before = torch.get_rng_state()
    found = dataset(path, root=tmp_path / "processed", num_workers=2)
    assert torch.get_rng_state().equal(before)
    assert_equal(list(found), graphs)


def draw(data):
    data.info_drawn = torch.rand(1).item()
    return data


def test_what_a_transform_draws_repeats_with_the_seed_of_the_user():
    """Whether or not processes draw."""
    for num_workers in (0, 2):
        drawn = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            found = dataset(labelled(), pre_transform=draw, num_workers=num_workers)
            drawn.append([graph.info_drawn for graph in found])
        assert drawn[0] == drawn[1]
        assert not set(drawn[0]) & set(drawn[2])


INTERRUPTED = """
import sys
sys.path.insert(0, sys.argv[1])
from crystals import CUTOFF, Logged, dataset, labelled
from pathlib import Path
folder = Path(sys.argv[2])
dataset(labelled(30), root=folder / "processed", pre_transform=Logged(folder / "log", 0.05))
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX's")
def test_killed_in_between_it_goes_on_where_it_was(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", INTERRUPTED, str(Path(__file__).parent), str(tmp_path)]
    process = subprocess.Popen(command)
    while len(lines(tmp_path / "log")) < 10:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(lines(tmp_path / "log")) < 30
    log = next((tmp_path / "processed").glob("*.part-wal"))
    assert not list((tmp_path / "processed").glob("*.sqlite"))
    shutil.copytree(tmp_path / "processed", tmp_path / "copy")
    resumed = dataset(labelled(30), root=tmp_path / "processed", pre_transform=Logged(tmp_path / "log", 0.05))
    whole = dataset(labelled(30), root=tmp_path / "whole", pre_transform=Logged(tmp_path / "other"))
    assert_equal(list(resumed), list(whole))
    # The one in the works when the process was killed was never finished.
    assert len(lines(tmp_path / "log")) in (30, 31)
    assert set(lines(tmp_path / "log")) == set(lines(tmp_path / "other"))
    assert not log.exists()
    again = dataset(labelled(30), root=tmp_path / "copy", pre_transform=Logged(tmp_path / "a"), force_reload=True)
    assert len(lines(tmp_path / "a")) == 30
    assert_equal(list(again), list(whole))


AT_ONCE = """
import sys
sys.path.insert(0, sys.argv[1])
from crystals import CUTOFF, Logged, dataset, labelled
from pathlib import Path
folder = Path(sys.argv[2])
found = dataset(
    labelled(30), root=folder / "processed", in_memory=False, pre_transform=Logged(folder / "log", float(sys.argv[3])),
    force_reload=sys.argv[4] == "anew", num_workers=int(sys.argv[5]),
)
assert len(found) == 30, len(found)
for _ in range(3):
    assert sum(graph.num_nodes for graph in found) == 180
"""


def start(folder, seconds=0.02, kind="", num_workers=0):
    here = str(Path(__file__).parent)
    arguments = [here, str(folder), str(seconds), kind, str(num_workers)]
    command = [sys.executable, "-W", "ignore", "-c", AT_ONCE, *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def finish(processes):
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors


def test_of_many_processes_at_once_one_processes(tmp_path):
    finish([start(tmp_path) for _ in range(3)])
    assert len(lines(tmp_path / "log")) == 30
    assert sorted(file.suffix for file in (tmp_path / "processed").iterdir()) == [".lock", ".sqlite"]


def test_processing_again_disturbs_no_reader_and_no_writer(tmp_path):
    transform = Logged(tmp_path / "log", 0.02)
    reader = dataset(labelled(30), root=tmp_path / "processed", in_memory=False, pre_transform=transform)
    processes = [start(tmp_path, kind=kind) for kind in ("anew", "", "anew")]
    while any(process.poll() is None for process in processes):
        assert reader[0].num_nodes == 4
    finish(processes)
    assert len(lines(tmp_path / "log")) in (60, 90)  # who waited for another takes what that one has made


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX's")
@pytest.mark.parametrize("num_workers", [0, 1])
def test_who_is_killed_blocks_nobody(tmp_path, num_workers):
    killed = start(tmp_path, seconds=0.1, num_workers=num_workers)
    while len(lines(tmp_path / "log")) < 5:
        assert killed.poll() is None
        time.sleep(0.01)
    waiting = start(tmp_path, seconds=0.1)
    killed.kill()
    finish([waiting])
    killed.communicate()
