"""Files that are written as a whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def check_directory(path: str | Path) -> None:
    """Raise unless a file can have this path.

    Raises:
        FileNotFoundError: If its directory does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no directory {path.parent} to write {path.name} to: create it first")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give the name of a file to write, which takes the place of another at the end, unless an error is raised.

    Several processes may replace the same file at once: each writes one of its own.

    Args:
        path: The file to be replaced, or a new one.

    Raises:
        FileNotFoundError: If its directory does not exist.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(f"{folder}/text") as new:
        ...         _ = new.write_text("whole")
        ...     [(path.name, path.read_text()) for path in Path(folder).iterdir()]
        [('text', 'whole')]
    """
    path = Path(path)
    check_directory(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())  # a machine that goes down leaves the old file or the new one
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a file of text as :func:`replacing` does."""
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8")
