"""Which blobs the store holds and how large they are: a sqlite table made from the files.

The files are the truth. The table is trusted only after a clean close; after a crash, or when it
is damaged, it is made anew from the files. Format: docs/specs/store.md, section 4.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from p2pllm.durable import disk_full
from p2pllm.errors import LocalError
from p2pllm.ids import ContentId

FORMAT = 1  # of the whole store folder; kept in sqlite's user_version

_SCHEMA = f"""
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS blobs (id TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS blobs_by_size ON blobs (size);
CREATE TABLE IF NOT EXISTS closed (cleanly INTEGER NOT NULL);
PRAGMA user_version = {FORMAT};
"""
_ALL = "SELECT id, size FROM blobs ORDER BY id"


class Index:
    """The table of one store. Thread-safe; one statement is one transaction."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = _open_or_replace(path)
        self._failed = False
        self.trusted = self._rows("SELECT cleanly FROM closed") == [(1,)]
        self._mark(cleanly=False)

    def close(self) -> None:
        """Say that the table equals the files, unless a write of it failed."""
        with self._lock:
            if not self._failed:
                self._failed = True
                self._mark(cleanly=True)
            self._db.close()

    def add(self, blob: ContentId, size: int) -> None:
        """A blob is about to be stored."""
        self._rows("INSERT OR REPLACE INTO blobs VALUES (?, ?)", blob, size)

    def drop(self, blob: ContentId) -> int | None:
        """A blob is gone, or did not come: its size, None if it was not listed."""
        rows = self._rows("DELETE FROM blobs WHERE id = ? RETURNING size", blob)
        return rows[0][0] if rows else None

    def all(self) -> list[tuple[ContentId, int]]:
        """Every blob and its size, in the order of ids."""
        return [(ContentId(blob), size) for blob, size in self._rows(_ALL)]

    def holds_size(self, size: int) -> bool:
        """Is there any blob of exactly this size?"""
        return bool(self._rows("SELECT 1 FROM blobs WHERE size = ? LIMIT 1", size))

    def totals(self) -> tuple[int, int]:
        """How many blobs, and how many bytes they have together."""
        [(count, size)] = self._rows("SELECT count(*), coalesce(sum(size), 0) FROM blobs")
        return count, size

    def replace_all(self, blobs: Iterable[tuple[ContentId, int]]) -> None:
        """Make the table say this and nothing else."""
        with self._lock, self._faults_told(), _transaction(self._db):
            self._db.execute("DELETE FROM blobs")
            self._db.executemany("INSERT INTO blobs VALUES (?, ?)", blobs)

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock, self._faults_told():
            return self._db.execute(statement, values).fetchall()

    def _mark(self, *, cleanly: bool) -> None:
        with self._faults_told(), _transaction(self._db):
            self._db.execute("DELETE FROM closed")
            self._db.execute("INSERT INTO closed VALUES (?)", (int(cleanly),))

    @contextmanager
    def _faults_told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as fault:
            self._failed = True  # so that the next start makes the table anew
            raise _told(fault) from fault


def _open_or_replace(path: Path) -> sqlite3.Connection:
    try:
        try:
            return _open(path)
        except sqlite3.OperationalError:
            raise  # the disk, or rights: a new file would meet the same
        except sqlite3.DatabaseError:
            # Not a database, or a damaged one. It holds nothing that the files do not say.
            for part in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
                part.unlink(missing_ok=True)
            return _open(path)
    except sqlite3.Error as fault:
        raise _told(fault) from fault


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        [(found,)] = db.execute("PRAGMA user_version").fetchall()
        if found > FORMAT:
            raise LocalError(
                "E0306",
                f"the store is of format {found}, this version knows {FORMAT}",
                fix=["use the version of p2pllm that wrote it"],
            )
        [(state,)] = db.execute("PRAGMA quick_check(1)").fetchall()
        if state != "ok":
            raise sqlite3.DatabaseError(state)
        db.executescript(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _told(fault: sqlite3.Error) -> LocalError:
    if getattr(fault, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return disk_full("the store's index", str(fault))
    return LocalError(
        "E0306",
        "the store's index cannot be used",
        why=[str(fault)],
        fix=["start the node again: the index is made anew from the files"],
    )
