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
FLAGS += ["-fPIC"]
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


def load(*sources: str) -> ctypes.CDLL:
    """Return the library of some files of C, compiled at the same time unless a good copy is in the cache.

    Raises:
        CompilerError: If there is no compiler, it fails, or files cannot be written or loaded.
    """
    if sys.platform == "win32":
        raise CompilerError("C is compiled on Linux and macOS only")
    compiler = find_compiler()
    if compiler is None:
        raise CompilerError(f"no C compiler found{_of_environment()}")
    try:
        return _load(sources, compiler)
    except OSError as error:  # a full disk, or one that nothing may be run from
        raise CompilerError(f"{error} (set XDG_CACHE_HOME to another directory)") from error


def _of_environment() -> str:
    return f" at CC={os.environ['CC']}, which goes before all others" if os.environ.get("CC") else ""


def _load(sources: tuple[str, ...], compiler: list[str]) -> ctypes.CDLL:
    identity = "\0".join([*sources, *compiler, *FLAGS, _processor()])
    key = hashlib.sha256(identity.encode()).hexdigest()[:32]
    directory = cache_directory()
    for path in directory.glob(f"{key}-*.so"):
        if _is_intact(path):
            return ctypes.CDLL(str(path))
    with tempfile.TemporaryDirectory(dir=directory, prefix="build-") as folder:
        built = _compile(compiler, sources, Path(folder))
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


def _compile(compiler: list[str], sources: tuple[str, ...], folder: Path) -> Path:
    parts, built = [], folder / "kernel.so"
    for n, source in enumerate(sources):
        parts.append((folder / f"kernel{n}.c", folder / f"kernel{n}.o"))
        parts[n][0].write_text(source, encoding="utf-8")
    output = ""
    for native in [*NATIVE, None]:
        command = [*compiler, *FLAGS, *([native] if native else [])]
        output = _run(*([*command, "-c", str(code), "-o", str(part)] for code, part in parts))
        output = output or _run([*command, "-shared", "-o", str(built), *(str(part) for _, part in parts)])
        if not output:
            return built
    raise CompilerError(f"'{shlex.join(compiler)}' failed:\n{output[-2000:]}")


def _run(*commands: list[str]) -> str:
    """Run commands at the same time and return what those that failed have said."""
    processes = []
    try:
        for command in commands:
            processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    except OSError as error:
        for process in processes:
            process.kill()
            process.wait()
        raise CompilerError(f"'{commands[0][0]}' does not start: {error}") from None
    said = [(process.communicate()[0], process.returncode) for process in processes]
    return "\n".join(dict.fromkeys(output or f"exit status {status}" for output, status in said if status))


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
