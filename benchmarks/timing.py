"""Measure cases in alternation and print them side by side."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

TURN = 0.1  # seconds
PACKAGES = ("torch", "torch-geometric", "e3nn", "cuequivariance-torch", "nequip", "mace-torch", "matgl")


def alternate(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of a call of each case in each round.

    Every round has its turn of every case: so many calls that they take a tenth of a second, after one that does not
    count. That one gives back to the system, or takes from it, what memory the case before has left, and fills the
    caches. The first round does not count either.
    """
    calls = dict.fromkeys(cases, 1)
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for counts in [False] + [True] * rounds:
        for name, case in cases.items():
            gc.collect()
            case()  # the first of all compiles and sorts
            begin = time.perf_counter()
            for _ in range(calls[name]):
                case()
            duration = (time.perf_counter() - begin) / calls[name]
            if counts:
                seconds[name].append(duration)
            else:
                calls[name] = max(1, round(TURN / duration))
    return seconds


def show(
    title: str, seconds: dict[str, list[float]], ours: str = "pyg-relaxed", ratio_is: str = "ours is faster by"
) -> None:
    """Print minimum, median and maximum of each case, and the ratio of its median to ours."""
    print(f"\n**{title}**\n\n| | minimum | median | maximum | {ratio_is} |\n|---|---|---|---|---|")
    reference = statistics.median(seconds[ours])
    for name, times in seconds.items():
        columns = " | ".join(f"{1e3 * t:.2f} ms" for t in (min(times), statistics.median(times), max(times)))
        ratio = "" if name == ours else f"{statistics.median(times) / reference:.2f}"
        print(f"| {name} | {columns} | {ratio} |", flush=True)


def machine() -> None:
    """Print what the figures belong to."""
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} not installed")
    print(
        f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, Python {platform.python_version()}"
    )
    print(", ".join(versions))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = fields.get("flags", "").split()
    vectors = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else platform.machine()
    return f"{fields.get('model name', platform.machine())} ({vectors})"
