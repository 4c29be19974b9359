"""What data sets keep: processed once, anew when anything changes, without pickle, safe to share."""

import contextlib
import copy
import errno
import functools
import os
import sqlite3

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk
from crystals import Logged, assert_equal, dataset, labelled, lines, write_extxyz
from pymatgen.core import Structure
from torch_geometric.transforms import BaseTransform, Compose

from pyg_relaxed.adapters import open_source
from pyg_relaxed.datasets import AtomsDataset, store


def test_what_is_kept_is_processed_once(tmp_path):
    log = tmp_path / "log"
    first = dataset(labelled(), root=tmp_path / "p", pre_transform=Logged(log))
    again = dataset(labelled(), root=tmp_path / "p", pre_transform=Logged(log))
    assert len(lines(log)) == 6
    assert_equal(list(again), list(first))
    dataset(labelled(), root=tmp_path / "p", pre_transform=Logged(log), force_reload=True)
    assert len(lines(log)) == 12


def test_whatever_changes_is_processed_anew(tmp_path):
    path = write_extxyz(tmp_path)
    root = tmp_path / "processed"
    dataset(path, root=root)
    dataset(path, root=root, pre_transform=lambda data: data)
    dataset(path, root=root, pre_transform=lambda data: data.clone())
    AtomsDataset(path, 3.0, root, progress=False)
    path.write_text(path.read_text().replace("Cu", "Ag"))
    changed = dataset(path, root=root)
    assert 47 in changed[0].z
    assert len(list(root.glob("*.sqlite"))) == 5


class Scale(BaseTransform):
    def __init__(self, factor):
        self.factor = factor

    def forward(self, data):
        data.info_factor = self.factor
        return data


def closure(factor):
    return lambda data: Scale(factor)(data)


@pytest.mark.parametrize(
    "make",
    [
        Scale,
        closure,
        lambda k: lambda data, k=k: Scale(k)(data),
        lambda k: functools.partial(lambda factor, data: Scale(factor)(data), k),
        lambda k: Compose([closure(k)]),
        lambda k: Scale(k).forward,
    ],
)
def test_what_a_transform_holds_counts(make, tmp_path):
    """PyG's transforms do not say in their names what they are made with."""
    for factor in (1.0, 2.0, 1.0):
        (graph,) = dataset([bulk("Cu")], root=tmp_path, pre_transform=make(factor))
        assert graph.info_factor == factor
    assert len(list(tmp_path.glob("*.sqlite"))) == 2


@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda content: b"x" * 9000])
def test_a_damaged_file_is_named(damage, tmp_path):
    dataset(labelled(), root=tmp_path)
    (file,) = tmp_path.glob("*.sqlite")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=rf"{file.name} is damaged .*force_reload=True"):
        dataset(labelled(), root=tmp_path)
    assert len(dataset(labelled(), root=tmp_path, force_reload=True)) == 6


def test_graphs_on_disk_are_no_pickles(tmp_path):
    dataset(labelled(1), root=tmp_path)
    (file,) = tmp_path.glob("*.sqlite")
    content = file.read_bytes()
    assert content.startswith(b"SQLite format 3")
    assert b"torch" not in content
    assert b"numpy" not in content


def test_what_only_pickle_could_write_is_refused_by_name(tmp_path):
    atoms = bulk("Cu")
    atoms.info["thing"] = object()
    assert len(dataset([atoms], root=tmp_path)) == 1
    with pytest.raises(ValueError, match="item 0: 'info_thing' is a object, which only pickle could write"):
        dataset([atoms], root=tmp_path, extras=True)


class Failing(BaseTransform):
    """Raise an error at the third graph, while a file is there."""

    def __init__(self, error, sign):
        self.error, self.sign = error, str(sign)

    def forward(self, data):
        if os.path.exists(self.sign) and data.energy == labelled()[2].get_potential_energy():
            raise self.error
        return data


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.EIO, "Input/output error"),
        FileNotFoundError(errno.ENOENT, "gone"),
        sqlite3.OperationalError("database is locked"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_no_fault_of_a_structure_is_raised_and_tried_again(error, on_error, tmp_path):
    sign = tmp_path / "sign"
    sign.touch()
    transform = Failing(error, sign)
    with pytest.raises(type(error)) as caught:
        dataset(labelled(), root=tmp_path, on_error=on_error, pre_transform=transform)
    assert isinstance(error, KeyboardInterrupt) or "while item 2 was processed" in caught.value.__notes__[0]
    sign.unlink()
    error.__dict__.clear()  # the note would count as another transform
    assert len(dataset(labelled(), root=tmp_path, on_error=on_error, pre_transform=transform)) == 6


def test_what_is_the_fault_of_a_structure_is_remembered(tmp_path):
    sign = tmp_path / "sign"
    sign.touch()
    for _ in range(2):
        with pytest.warns(UserWarning, match="1 of 6 entries are left out, the first is item 2: bad"):
            dataset(labelled(), root=tmp_path, on_error="skip", pre_transform=Failing(ValueError("bad"), sign))
        sign.unlink(missing_ok=True)


def test_a_missing_file_of_a_list_is_an_entry_and_looked_for_again(tmp_path):
    path = tmp_path / "late.extxyz"
    source = [bulk("Cu"), path, f"{path}@0"]
    with pytest.warns(UserWarning, match=rf"2 of 3 entries are left out, the first is item 1: no .*{path.name}"):
        assert len(dataset(source, root=tmp_path, on_error="skip")) == 1
    ase.io.write(path, bulk("Cu"))
    assert len(dataset(source, root=tmp_path, on_error="skip")) == 3


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


class Silent:
    def __repr__(self):
        raise RuntimeError("no text")


LONG = np.arange(5000.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({1: "a", "b": 2}, {1: "a", "b": 3}),
        ({(0, 1): 1.0}, {(0, 1): 2.0}),
        ({None: 1}, {None: 2}),
        ({"a": {1: {"b": LONG}}}, {"a": {1: {"b": LONG + (LONG == 2500)}}}),
        ({"a": np.array([None, {"b": 1}])}, {"a": np.array([None, {"b": 2}])}),
        ({"a": None}, {"a": "None"}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": {1, "b"}}, {"a": {2, "b"}}),
        ({"a": Slotted(1)}, {"a": Slotted(2)}),
        ({"a": torch.ones(2, requires_grad=True)}, {"a": torch.ones(2)[:1]}),
        ({"a": "\udce4"}, {"a": "ä"}),
        ({"a": Silent()}, {"a": 1}),
    ],
)
def test_whatever_info_holds_is_told_apart(one, other):
    def digest(info):
        atoms = bulk("Cu")
        atoms.info = info
        return open_source([atoms]).digest()

    assert digest(one) == digest(copy.deepcopy(one) if one.get("a") is None else one)
    assert digest(one) != digest(other)


def test_results_of_another_geometry_are_not_those_of_this_one():
    one, other = labelled(1)[0], labelled(1)[0]
    other.calc.atoms.positions += 0.1
    assert open_source([one]).digest() != open_source([other]).digest()


def test_pymatgen_structures_are_told_apart_by_what_they_hold_and_not_by_what_they_were_asked():
    def structure(**properties):
        return Structure(np.eye(3) * 4, ["Fe2+"], [[0, 0, 0]], properties=properties)

    asked = structure(a={1: 2})
    asked.lattice.get_niggli_reduced_lattice()
    assert open_source([asked]).digest() == open_source([structure(a={1: 2})]).digest()
    assert open_source([asked]).digest() != open_source([structure(a={1: 3})]).digest()


def test_a_locked_file_is_not_called_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_WAIT", 0.1)
    dataset(labelled(), root=tmp_path)
    (file,) = tmp_path.glob("*.sqlite")
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OSError, match=r"cannot be used now .*locked"):
            dataset(labelled(), root=tmp_path)
    assert len(dataset(labelled(), root=tmp_path)) == 6


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_finished_set_is_read_where_nothing_may_be_written(tmp_path):
    dataset(labelled(), root=tmp_path)
    tmp_path.chmod(0o500)
    try:
        assert len(dataset(labelled(), root=tmp_path)) == 6
    finally:
        tmp_path.chmod(0o700)
