"""One SQLite file of this node, opened so that what it was told is on disk at every commit."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2pllm.errors import LocalError


def open_database(path: Path, schema: str, version: int, mend: str) -> sqlite3.Connection:
    """The file at `path`, made if it is absent; any thread may use it, one at a time.

    version  of the schema; a file of a later one is refused
    mend     what the operator can do where the file is damaged
    Raises LocalError E0306.
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
    except sqlite3.DatabaseError as bad:
        raise LocalError("E0306", f"{path} is damaged", why=[str(bad)], fix=[mend]) from bad
    return db


class Database:
    """Such a file, for many threads; every change is on disk when it returns."""

    def __init__(self, path: Path, schema: str, version: int, mend: str) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._name = path.name
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
                if outer:
                    self._db.execute("ROLLBACK")
                if isinstance(fault, sqlite3.DatabaseError):
                    raise self._fault(fault) from fault
                raise
            self._depth -= 1
            if outer:
                self._commit()

    def _commit(self) -> None:
        try:
            self._db.execute("COMMIT")
        except sqlite3.DatabaseError as fault:
            self._db.execute("ROLLBACK")
            raise self._fault(fault) from fault

    def do(self, query: str, *values: object) -> None:
        """Change rows."""
        with self.together():
            self._db.execute(query, values)

    def read(self, query: str, *values: object) -> list[sqlite3.Row]:
        """Rows that a query finds."""
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def _fault(self, bad: sqlite3.DatabaseError) -> LocalError:
        if getattr(bad, "sqlite_errorname", "") == "SQLITE_FULL":
            return LocalError("E0802", f"{self._name} cannot grow: {bad}", fix=["free some space"])
        fix = ["restore it from a backup"]
        return LocalError("E0306", f"{self._name} cannot be used: {bad}", fix=fix)
