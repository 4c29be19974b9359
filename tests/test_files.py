"""Model files: what was written is read, by every later version, and nothing else is."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import pyg_relaxed as pr
from pyg_relaxed import io
from pyg_relaxed.files import replacing

GOLDEN = Path(__file__).parent / "golden"


def make_golden(name="distortion-schema2"):
    """Write a golden file and its outputs. Run once for each schema; never overwrite one that was released."""
    torch.manual_seed(0)
    with pr.compat.default_dtype(torch.float64):
        model = pr.models.RelaxedDistortion([8, 22, 56], "0e+1o+2e", "4x0e+4x1o+2x2e", num_layers=1, cutoff=4.5)
    for theta in pr.thetas(model).values():
        theta.set_(torch.randn(theta.irreps_theta.dim)).project_("4mm").freeze("2e")
    pr.save(model, GOLDEN / f"{name}.safetensors", provenance={"made by": "tests/test_files.py"})
    outputs = {key: value.tolist() for key, value in model(crystal()).items()}
    (GOLDEN / f"{name}.json").write_text(json.dumps(outputs) + "\n")


def crystal():
    return pr.from_ase(pr.structures.load("BaTiO3_P4mm"), cutoff=4.5, dtype=torch.float64, extras=False)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.safetensors")), ids=lambda path: path.stem)
def test_files_of_every_release_are_read(path):
    if io.read_header(path)["clebsch_gordan"] != io.clebsch_gordan_convention():
        with pytest.raises(ValueError, match="written with Clebsch-Gordan convention"):
            pr.load(path)
        return
    expected = json.loads(path.with_suffix(".json").read_text())
    for name, value in pr.load(path)(crystal()).items():
        torch.testing.assert_close(value, torch.tensor(expected[name], dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def interrupted():
        with replacing(path) as new:
            new.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("file", "old")]
    with replacing(path) as first, replacing(path) as second:  # two processes at once
        first.write_text("first")
        second.write_text("second")
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("file", "first")]
    with pytest.raises(FileNotFoundError, match="create it first"), replacing(tmp_path / "no" / "file"):
        pass


def test_there_are_golden_files():
    assert list(GOLDEN.glob("*.safetensors"))


def network(**options):
    return pr.models.RelaxedE3NN("0e", "1o", "2x0e+2x1o", "0e+1o", num_layers=1, radial_hidden=(4,), **options)


@pytest.mark.parametrize("dtype", io.DTYPES.values())
def test_round_trip_in_every_dtype(tmp_path, dtype):
    model = network().to(dtype)
    for theta in pr.thetas(model).values():
        theta.set_(torch.tensor([1.0, 0.0, 0.0, 0.5])).freeze("1o")
    pr.save(model, tmp_path / "model.safetensors", frame="standard", provenance={"epochs": 3})
    again = pr.load(tmp_path / "model.safetensors")
    for (name, value), (other, restored) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert name == other
        assert restored.dtype == value.dtype
        assert torch.equal(restored, value)
    assert again.config == model.config
    header = io.read_header(tmp_path / "model.safetensors")
    assert header["frame"] == "standard"
    assert header["provenance"] == {"epochs": 3}
    assert not again.training


def rewrite(path, change):
    """Change the metadata of a file and make its hash right again: what a newer or a foreign program could write."""
    header, tensors = io.read_header(path), load_file(path)
    del header["sha256"]
    change(header)
    header["sha256"] = io._hash(header, tensors)
    save_file(tensors, path, metadata={"pyg_relaxed": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header.update(schema=99), "schema 99, this version of pyg-relaxed reads schema 1 to 2"),
        (lambda header: header.pop("schema"), "schema None"),
        (lambda header: header.update({"class": "os.system"}), "unknown model class 'os.system'"),
        (lambda header: header.update(dtype="load"), "unknown dtype 'load'"),
        (lambda header: header.update(clebsch_gordan=[0]), "Clebsch-Gordan convention"),
        (lambda header: header["config"].update(depth=3), "unexpected keyword argument 'depth'"),
        (lambda header: header["config"].update(irreps_hidden="3x0e+3x1o"), "size mismatch"),
    ],
)
def test_what_this_version_does_not_know_is_refused(tmp_path, change, message):
    path = tmp_path / "model.safetensors"
    pr.save(network(), path)
    rewrite(path, lambda header: None)
    pr.load(path)
    rewrite(path, change)
    with pytest.raises(ValueError, match=message) as error:
        pr.load(path)
    assert str(path) in str(error.value)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_a_changed_byte_is_noticed(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    if not path.exists():
        pr.save(network(), path)
    good = path.read_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[place] ^= 1 << data.draw(st.integers(0, 7))
    other = path.with_name("other.safetensors")
    other.write_bytes(bytes(bad))
    with pytest.raises(ValueError, match=r"other\.safetensors"):
        pr.load(other)


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_truncated_file_is_refused(tmp_path, length):
    path = tmp_path / "model.safetensors"
    pr.save(network(), path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="not a safetensors file"):
        pr.load(path)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_damaged_metadata_are_refused(tmp_path, text):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"pyg_relaxed": text})
    with pytest.raises(ValueError, match="the metadata are damaged"):
        pr.load(tmp_path / "a.safetensors")


def test_foreign_files_are_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="not written by pyg-relaxed"):
        pr.load(tmp_path / "foreign.safetensors")
    (tmp_path / "text.safetensors").write_text("nothing")
    with pytest.raises(ValueError, match="not a safetensors file"):
        pr.load(tmp_path / "text.safetensors")
    with pytest.raises(FileNotFoundError, match="no model file"):
        pr.load(tmp_path / "none.safetensors")


def test_what_cannot_be_written_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    pr.save(network(), path)
    before = path.read_bytes()
    with pytest.raises(TypeError, match="cannot save a Linear"):
        pr.save(torch.nn.Linear(1, 1), path)
    with pytest.raises(ValueError, match="'frame' must be one of"):
        pr.save(network(), path, frame="laboratory")
    with pytest.raises(TypeError, match="not JSON serializable"):
        pr.save(network(), path, provenance={"data": object()})
    with pytest.raises(FileNotFoundError, match="create it first"):
        pr.save(network(), tmp_path / "none" / "model.safetensors")

    def half(path, content):
        with path.open("wb") as file:
            file.write(content[:100])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="disk full"):
        pr.save(network(), path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    assert path.read_bytes() == before


def test_nothing_is_pickled(tmp_path):
    path = tmp_path / "model.safetensors"
    pr.save(network(), path)
    with safe_open(path, framework="pt") as file:
        assert set(file.metadata()) == {"pyg_relaxed"}
