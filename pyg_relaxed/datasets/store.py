"""Processed graphs on disk: one SQLite file, a row for each entry, written as soon as the entry is done."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..data import AtomicData, unpack

_MEMORY = ":memory:"
_WAIT = 60.0  # seconds, for whoever else is in the file


class Row(NamedTuple):
    """What became of one entry: a graph, packed, and its summary; a reason why not; or neither, if filtered out."""

    number: int
    place: str
    graph: bytes | None
    summary: dict[str, Any] | None
    reason: str | None


class GraphStore:
    """Rows by number. A row is there as a whole or not at all, whatever happens to the process that writes it.

    One process at a time writes, beside the file, and names what it has written like the file when all is done: others
    see the whole of it or nothing. Each process and thread reads by a connection of its own.

    Args:
        path (str or Path): The file, made by :meth:`writing`, or ``":memory:"``, for one process and thread.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._part = self.path if self.path == _MEMORY else f"{self.path}.part"
        self._connections = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    @contextlib.contextmanager
    def writing(self, anew: bool = False) -> Iterator[set[int] | None]:
        """Wait until no other process writes, then give the entries done so far, or None if all are.

        Args:
            anew: Whether to begin again, unless another process has while this one waited.

        Raises:
            ValueError: If what an interrupted process has left is damaged.
        """
        before = self._version()
        if before is not None and not anew:
            yield None
            return
        with self._lock():
            if self._version() not in (None, before):
                yield None
                return
            if anew:
                self._delete_part()
            try:
                yield self._begin()
                self._end()
            finally:
                self._close()

    def write(self, row: Row) -> None:
        """Add a row."""
        summary = None if row.summary is None else json.dumps(row.summary)
        with self._connection(self._part) as connection:
            values = (row.number, row.place, row.graph, summary, row.reason)
            connection.execute("INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?, ?)", values)

    def rows(self) -> list[Row]:
        """Return all rows in order, without their graphs.

        Raises:
            ValueError: If the file is damaged.
        """
        with self._readable(self.path):
            query = "SELECT number, place, summary, reason FROM rows ORDER BY number"
            return [
                Row(number, place, None, None if summary is None else json.loads(summary), reason)
                for number, place, summary, reason in self._connection(self.path).execute(query)
            ]

    def graph(self, number: int) -> AtomicData:
        """Return the graph of an entry."""
        query = "SELECT graph FROM rows WHERE number = ?"
        (packed,) = self._connection(self.path).execute(query, (number,)).fetchone()
        return unpack(packed)

    def graphs(self) -> list[AtomicData]:
        """Return all graphs, in order."""
        query = "SELECT graph FROM rows WHERE graph IS NOT NULL ORDER BY number"
        return [unpack(packed) for (packed,) in self._connection(self.path).execute(query)]

    def _version(self) -> tuple[int, int] | None:
        """Return what tells the file from one made later; None if there is none."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _lock(self) -> contextlib.AbstractContextManager[Any]:
        from filelock import FileLock  # the system's: it goes with the process that holds it, however that ends

        return contextlib.nullcontext() if self.path == _MEMORY else FileLock(f"{self.path}.lock")

    def _begin(self) -> set[int]:
        with self._readable(self._part):
            connection = self._connection(self._part)
            # A commit appends to a log and does not wait for the disk: even row by row it costs little.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS rows"
                " (number INTEGER PRIMARY KEY, place TEXT, graph BLOB, summary TEXT, reason TEXT)"
            )
            return {number for (number,) in connection.execute("SELECT number FROM rows")}

    def _end(self) -> None:
        self._connection(self._part).execute("PRAGMA journal_mode = DELETE")  # a single file, without the log
        if self.path != _MEMORY:
            self._close()
            os.replace(self._part, self.path)

    def _delete_part(self) -> None:
        # The log of a killed process too: it would be taken for the next file's.
        for name in (self._part, f"{self._part}-wal", f"{self._part}-shm"):
            Path(name).unlink(missing_ok=True)

    def _close(self) -> None:
        if self.path != _MEMORY and (known := getattr(self._connections, "known", None)):
            known[1].close()
            del self._connections.known

    @contextlib.contextmanager
    def _readable(self, path: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            # What else is an OperationalError (locked, no space, no right to read) says nothing about the content.
            if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise OSError(f"{path} cannot be used now ({error}): try again") from error
            raise ValueError(f"{path} is damaged ({error}): delete it, or give force_reload=True") from None

    def _connection(self, path: str) -> sqlite3.Connection:
        known: tuple[tuple[int, str], sqlite3.Connection] | None = getattr(self._connections, "known", None)
        key = os.getpid(), path
        if known is None or known[0] != key:  # a connection must not be used after a fork
            known = (key, _connect(path, path == self._part))
            self._connections.known = known
        return known[1]


def _connect(path: str, write: bool) -> sqlite3.Connection:
    if write:
        return sqlite3.connect(path, timeout=_WAIT)
    # Not to be made where it is missing, and readable where nothing may be written.
    return sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", timeout=_WAIT, uri=True)
