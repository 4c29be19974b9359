"""Compiled libraries are made once, kept privately, and never loaded unless they are what their name says."""

import ctypes
import logging
import os
import stat
import subprocess
import sys

import pytest
import torch

from pyg_relaxed.kernels import TensorProductConv, backends
from pyg_relaxed.kernels.cpu import compiler
from pyg_relaxed.kernels.cpu.library import library

SOURCE = "int answer(void) { return 42; }"
needs_compiler = pytest.mark.skipif(compiler.find_compiler() is None, reason="no C compiler")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache directory, and nothing remembered of the machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remembered = (compiler.cache_directory, compiler.find_compiler, library, backends._choose)
    for function in remembered:
        function.cache_clear()
    yield tmp_path / "pyg_relaxed"
    monkeypatch.undo()
    for function in remembered:
        function.cache_clear()


def compiled(directory):
    return list(directory.glob("*.so"))


def answer():
    return compiler.load(SOURCE).answer()


@needs_compiler
def test_compiles_once_into_a_private_directory(cache, monkeypatch):
    assert answer() == 42
    (path,) = compiled(cache)
    assert stat.S_IMODE(cache.stat().st_mode) == stat.S_IMODE(path.stat().st_mode) == 0o700
    monkeypatch.setattr(compiler, "_compile", None)  # it would fail now
    assert answer() == 42
    assert list(cache.iterdir()) == [path]


@needs_compiler
@pytest.mark.parametrize("damage", ["truncated", "changed", "writable by others", "a link"])
def test_a_broken_or_foreign_file_is_not_loaded_but_made_again(cache, monkeypatch, damage):
    answer()
    (path,) = compiled(cache)
    content = path.read_bytes()
    path.unlink()  # the library that this process has loaded keeps its content
    path.write_bytes({"truncated": content[: len(content) // 2], "changed": content + b"x"}.get(damage, content))
    path.chmod(0o700)
    if damage == "writable by others":
        path.chmod(0o777)
    elif damage == "a link":
        path.rename(cache.parent / "elsewhere.so")
        path.symlink_to(cache.parent / "elsewhere.so")
    builds, real = [], compiler._compile
    monkeypatch.setattr(compiler, "_compile", lambda *args: builds.append(1) or real(*args))
    assert answer() == 42
    assert builds == [1]
    assert [compiler._is_intact(other) for other in compiled(cache)] == [True]


@needs_compiler
def test_a_directory_that_others_can_write_to_is_not_used(cache):
    cache.mkdir()
    cache.chmod(0o777)
    assert answer() == 42
    assert not compiled(cache)
    assert compiler.cache_directory() != cache


@needs_compiler
def test_many_processes_can_start_at_once(cache):
    code = f"from pyg_relaxed.kernels.cpu import compiler\nassert compiler.load({SOURCE!r}).answer() == 42"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert all(compiler._is_intact(path) for path in compiled(cache))
    assert not list(cache.glob("build-*"))


def test_without_a_compiler_torch_runs_and_one_line_says_so(cache, monkeypatch, caplog):
    monkeypatch.setenv("CC", "/no/such/compiler")
    monkeypatch.setattr(backends, "_warned", set())
    arguments = torch.ones(2, 1), torch.ones(1, 1), torch.ones(1, 1), torch.tensor([[0], [1]])
    with caplog.at_level(logging.WARNING, "pyg_relaxed"):
        for _ in range(2):
            assert TensorProductConv("1x0e", "0e", lmax=0)(*arguments).tolist() == [[0.0], [1.0]]
            assert TensorProductConv("1x0o", "0e", lmax=0)(*arguments).tolist() == [[0.0], [1.0]]
    (record,) = caplog.records
    assert "50 times slower" in record.message
    assert "no C compiler found at CC=/no/such/compiler" in record.message
    assert "pip install pyg-relaxed[compiler]" in record.message
    with pytest.raises(RuntimeError, match="the backend 'cpu' cannot run: no C compiler found"):
        TensorProductConv("1x0e", "0e", lmax=0, backend="cpu")(*arguments)


@needs_compiler
def test_what_a_compiler_says_is_passed_on(cache):
    with pytest.raises(compiler.CompilerError, match="unknown type name"):
        compiler.load("unknown answer(void);")
    assert list(cache.iterdir()) == []


def test_a_compiler_of_pip_will_do(cache, monkeypatch, tmp_path):
    pytest.importorskip("ziglang")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(tmp_path / "zig"))
    monkeypatch.setattr(compiler.shutil, "which", lambda name: None)
    assert compiler.find_compiler()[-2:] == ["ziglang", "cc"]
    assert answer() == 42
    op = TensorProductConv("4x0e+4x1o", "0e+1o", lmax=1, backend="cpu")
    reference = TensorProductConv("4x0e+4x1o", "0e+1o", lmax=1, backend="torch")
    edge_index = torch.randint(0, 5, (2, 30))
    arguments = torch.randn(5, 16), torch.randn(30, 4), torch.randn(30, op.weight_numel), edge_index
    torch.testing.assert_close(op(*arguments), reference(*arguments), rtol=1e-5, atol=1e-5)


def test_threads_without_openmp(monkeypatch):
    from pyg_relaxed.kernels.cpu import library as module

    monkeypatch.setattr(module, "_openmp", lambda: None)
    threads = []
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: threads.append(os.getpid()))
    module._in_parallel(function, None, 3)
    assert len(threads) == 3


@needs_compiler
def test_without_a_home_the_cache_is_temporary_and_goes_with_the_process(tmp_path):
    code = f"""
from pathlib import Path
def home():
    raise RuntimeError("no home")
Path.home = home
from pyg_relaxed.kernels.cpu import compiler
assert compiler.load({SOURCE!r}).answer() == 42
print(compiler.cache_directory())
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    environment.pop("XDG_CACHE_HOME", None)
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert result.stdout.startswith(str(tmp_path))
    assert list(tmp_path.glob("pyg_relaxed-*")) == []


@needs_compiler
@pytest.mark.parametrize("step", ["compile", "load"])
def test_a_full_disk_and_one_that_nothing_runs_from_are_no_reason_to_stop(cache, monkeypatch, caplog, step):
    def fail(*_):
        raise OSError("failed to map segment from shared object")

    monkeypatch.setattr(backends, "_warned", set())
    monkeypatch.setattr(*((compiler, "_compile", fail) if step == "compile" else (compiler.ctypes, "CDLL", fail)))
    arguments = torch.ones(2, 1), torch.ones(1, 1), torch.ones(1, 1), torch.tensor([[0], [1]])
    with caplog.at_level(logging.WARNING, "pyg_relaxed"):
        assert TensorProductConv("1x0e", "0e", lmax=0)(*arguments).tolist() == [[0.0], [1.0]]
    assert "set XDG_CACHE_HOME to another directory" in caplog.text


def test_windows_runs_torch(cache, monkeypatch):
    monkeypatch.setattr(compiler.sys, "platform", "win32")
    with pytest.raises(compiler.CompilerError, match="Linux and macOS"):
        compiler.load(SOURCE)
