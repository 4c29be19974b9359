"""Compile C once per machine and keep the library in the user's cache directory."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

logger = logging.getLogger(__name__)

FLAGS = ["-std=gnu11", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd"]
FLAGS += ["-shared", "-fPIC"]
NATIVE = ["-march=native", "-mcpu=native"]  # the name of the option depends on the processor


class CompilerError(RuntimeError):
    """No library could be made or loaded: there is no compiler, it failed, or files cannot be written or run."""


@functools.lru_cache(maxsize=1)
def find_compiler() -> list[str] | None:
    """Return the command of a C compiler: ``$CC``, the system's, or the one of the package ziglang."""
    if os.environ.get("CC"):
        command = shlex.split(os.environ["CC"])
        return command if shutil.which(command[0]) else None
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return [found]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    return None


def load(source: str) -> ctypes.CDLL:
    """Return the library of some C source, compiled unless a good copy is in the cache.

    Raises:
        CompilerError: If there is no compiler, it fails, or files cannot be written or loaded.
    """
    if sys.platform == "win32":
        raise CompilerError("C is compiled on Linux and macOS only")
    compiler = find_compiler()
    if compiler is None:
        raise CompilerError("no C compiler found")
    try:
        return _load(source, compiler)
    except OSError as error:  # a full disk, or one that nothing may be run from
        raise CompilerError(f"{error} (set XDG_CACHE_HOME to another directory)") from error


def _load(source: str, compiler: list[str]) -> ctypes.CDLL:
    identity = "\0".join([source, *compiler, *FLAGS, _processor()])
    key = hashlib.sha256(identity.encode()).hexdigest()[:32]
    directory = cache_directory()
    for path in directory.glob(f"{key}-*.so"):
        if _is_intact(path):
            return ctypes.CDLL(str(path))
    with tempfile.TemporaryDirectory(dir=directory, prefix="build-") as folder:
        built = _compile(compiler, source, Path(folder))
        path = directory / f"{key}-{_digest(built)}.so"
        built.chmod(0o700)
        built.replace(path)  # atomic: processes that start together each put a whole file
    return ctypes.CDLL(str(path))


@functools.lru_cache(maxsize=1)
def cache_directory() -> Path:
    """Return the directory of compiled libraries, ours alone: ``$XDG_CACHE_HOME/pyg_relaxed`` or a temporary one."""
    with contextlib.suppress(OSError, RuntimeError):  # the latter where there is no home
        default = "Library/Caches" if sys.platform == "darwin" else ".cache"
        directory = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / default) / "pyg_relaxed"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_private(directory) and os.access(directory, os.W_OK):
            return directory
    directory = Path(tempfile.mkdtemp(prefix="pyg_relaxed-"))
    atexit.register(_remove, directory, os.getpid())
    logger.info("there is no private cache directory: compiled code goes to %s, for this process alone", directory)
    return directory


def _remove(directory: Path, process: int) -> None:
    if os.getpid() == process:  # and not one that it has forked
        shutil.rmtree(directory, ignore_errors=True)


def _compile(compiler: list[str], source: str, folder: Path) -> Path:
    code, built = folder / "kernel.c", folder / "kernel.so"
    code.write_text(source, encoding="utf-8")
    output = ""
    for native in [*NATIVE, None]:
        command = [*compiler, *FLAGS, *([native] if native else []), "-o", str(built), str(code)]
        try:
            result = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise CompilerError(f"'{shlex.join(compiler)}' does not start: {error}") from None
        if result.returncode == 0:
            return built
        output = result.stderr
    raise CompilerError(f"'{shlex.join(compiler)}' failed:\n{output[-2000:]}")


def _is_intact(path: Path) -> bool:
    """Tell whether a library is ours and has the content that its name promises."""
    try:
        return _is_private(path) and path.stem.rpartition("-")[2] == _digest(path)
    except OSError:
        return False


def _is_private(path: Path) -> bool:
    """Tell whether nobody but this user can have written a file or directory."""
    status = path.lstat()
    return (
        not stat.S_ISLNK(status.st_mode)
        and status.st_uid == os.getuid()
        and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


@functools.lru_cache(maxsize=1)
def _processor() -> str:
    """Return what the compiler adapts code to: home directories are shared by unlike machines."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.processor()}"
