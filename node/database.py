"""One SQLite file of this node, opened so that what it was told is on disk at every commit."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gossip.heard import FAULTS
from p2pllm.durable import disk_full
from p2pllm.errors import LocalError

_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")  # and not the disk, or rights


def open_database(path: Path, schema: str, version: int, mend: str) -> sqlite3.Connection:
    """The file at `path`, made if it is absent; any thread may use it, one at a time.

    version  of the schema; a file of a later one is refused
    mend     what the operator can do where the file is damaged
    Raises LocalError E0306, E0802 without room.
    """
    try:
        db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        found = db.execute("PRAGMA user_version").fetchone()[0]
        if found > version:
            raise LocalError(
                "E0306",
                f"{path} was written by a newer p2pllm (version {found})",
                fix=["upgrade p2pllm, or use another --home"],
            )
        db.executescript(schema)
        db.execute(f"PRAGMA user_version = {version}")
    except FAULTS as bad:
        raise _told(path, bad, mend) from bad
    return db


def _told(path: Path, bad: Exception, mend: str) -> LocalError:
    name = str(getattr(bad, "sqlite_errorname", ""))
    if name == "SQLITE_FULL":
        return disk_full(path.name, str(bad))
    if name.startswith(_DAMAGE) or not name:
        return LocalError("E0306", f"{path} is damaged", why=[str(bad)], fix=[mend])
    return LocalError("E0306", f"{path} cannot be used", why=[str(bad)], fix=["p2pllm doctor"])


class Database:
    """Such a file, for many threads; every change is on disk when it returns."""

    def __init__(self, path: Path, schema: str, version: int, mend: str) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._path, self._mend = path, mend
        self._db = open_database(path, schema, version, mend)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is written inside is on disk together or not at all."""
        with self._lock:
            outer = self._depth == 0
            if outer:
                self._db.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException as fault:
                self._depth -= 1
                if outer and self._db.in_transaction:  # a full disk may have ended it
                    self._db.execute("ROLLBACK")
                if isinstance(fault, FAULTS):
                    raise self._fault(fault) from fault
                raise
            self._depth -= 1
            if outer:
                self._commit()

    def _commit(self) -> None:
        try:
            self._db.execute("COMMIT")
        except FAULTS as fault:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise self._fault(fault) from fault

    def do(self, query: str, *values: object) -> None:
        """Change rows."""
        with self.together():
            self._db.execute(query, values)

    def read(self, query: str, *values: object) -> list[sqlite3.Row]:
        """Rows that a query finds."""
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except FAULTS as fault:
                raise self._fault(fault) from fault

    def _fault(self, bad: Exception) -> LocalError:
        return _told(self._path, bad, self._mend)
