"""Processed graphs on disk: one SQLite file, a row for each entry, written as soon as the entry is done."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any, NamedTuple

from ..data import AtomicData, unpack


class Row(NamedTuple):
    """What became of one entry: a graph, packed, and its summary; a reason why not; or neither, if filtered out."""

    number: int
    place: str
    graph: bytes | None
    summary: dict[str, Any] | None
    reason: str | None


class GraphStore:
    """Rows by number. A row is there as a whole or not at all, whatever happens to the process that writes it.

    Each process and thread reads by a connection of its own.

    Args:
        path (str or Path): The file, made if it is missing, or ``":memory:"``, for one process and thread.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._connections = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def delete(self) -> None:
        """Remove the file, and the log of a killed process beside it: it would be taken for the next file's."""
        if self.path != ":memory:":
            for name in (self.path, f"{self.path}-wal", f"{self.path}-shm"):
                Path(name).unlink(missing_ok=True)

    def open(self) -> set[int]:
        """Make the file if it is missing, and return the entries that are done.

        Raises:
            ValueError: If the file is damaged.
        """
        try:
            self._connection().execute(
                "CREATE TABLE IF NOT EXISTS rows"
                " (number INTEGER PRIMARY KEY, place TEXT, graph BLOB, summary TEXT, reason TEXT)"
            )
            return {number for (number,) in self._connection().execute("SELECT number FROM rows")}
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{self.path} is damaged ({error}): delete it, or give force_reload=True") from None

    def begin(self) -> None:
        """Prepare to write rows."""
        # A commit appends to a log and does not wait for the disk: even row by row it costs little.
        self._connection().execute("PRAGMA journal_mode = WAL")
        self._connection().execute("PRAGMA synchronous = NORMAL")

    def write(self, row: Row) -> None:
        """Add a row, unless another process has."""
        summary = None if row.summary is None else json.dumps(row.summary)
        with self._connection() as connection:
            values = (row.number, row.place, row.graph, summary, row.reason)
            connection.execute("INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?, ?)", values)

    def end(self) -> None:
        """Leave a single file, without the log."""
        self._connection().execute("PRAGMA journal_mode = DELETE")

    def rows(self, only_failed: bool = False) -> list[Row]:
        """Return all rows, or those with a reason, in order and without their graphs."""
        condition = "WHERE reason IS NOT NULL" if only_failed else ""
        query = f"SELECT number, place, summary, reason FROM rows {condition} ORDER BY number"
        return [
            Row(number, place, None, None if summary is None else json.loads(summary), reason)
            for number, place, summary, reason in self._connection().execute(query)
        ]

    def graph(self, number: int) -> AtomicData:
        """Return the graph of an entry."""
        (packed,) = self._connection().execute("SELECT graph FROM rows WHERE number = ?", (number,)).fetchone()
        return unpack(packed)

    def _connection(self) -> sqlite3.Connection:
        known: tuple[int, sqlite3.Connection] | None = getattr(self._connections, "known", None)
        if known is None or known[0] != os.getpid():  # a connection must not be used after a fork
            known = (os.getpid(), sqlite3.connect(self.path, timeout=60))
            self._connections.known = known
        return known[1]
