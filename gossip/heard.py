"""The announcements heard, on disk: what catch-up answers from, and what a restart remembers.

Blocking and thread-safe; callers in trio go through to_thread. Bounds and eviction:
docs/specs/announce.md, "Catching up".
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gossip.messages import MAX_NEWS, Announce, NewsList
from p2pllm.durable import disk_full
from p2pllm.errors import LocalError
from p2pllm.ids import NodeId
from p2pllm.names import Place

MAX_OF_PUBLISHER = 200  # announcements of one publisher kept for one place
MAX_OF_PLACE = 5_000  # ten answers of the largest size
MAX_ALL = 100_000  # about 60 MB; checked every so many additions, since it takes a full scan
_CHECK_EVERY = 1_000
MAX_ASKED = 10_000  # peers and places of which we know how far we asked
_VERSION = 1
FAULTS = (sqlite3.DatabaseError, UnicodeDecodeError)  # what is damaged may be told in no text
_TICK_S = 1e-6  # smallest step between two times of hearing; a double holds 2.4e-7 today

_SCHEMA = f"""
CREATE TABLE heard (
    heard_at REAL PRIMARY KEY, expires_at REAL NOT NULL, place TEXT NOT NULL,
    publisher TEXT NOT NULL, manifest TEXT NOT NULL, raw BLOB NOT NULL,
    UNIQUE (place, publisher, manifest)
) WITHOUT ROWID;
CREATE INDEX heard_place ON heard (place, heard_at);
CREATE INDEX heard_expires ON heard (expires_at);
CREATE TABLE asked (
    peer TEXT NOT NULL, place TEXT NOT NULL, until REAL NOT NULL, PRIMARY KEY (peer, place)
);
PRAGMA user_version = {_VERSION};
"""


class HeardLog:
    """Every accepted announcement until it expires, oldest out first where there are too many."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._db = _open(path)
        self._added = 0
        with self._use() as db:
            newest = db.execute("SELECT max(heard_at) FROM heard").fetchone()[0]
        self._last: float = newest or 0.0

    def __enter__(self) -> "HeardLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; nothing can be asked afterwards."""
        with self._lock:
            self._db.close()

    def add(self, raw: bytes, announce: Announce, received_at: float) -> bool:
        """Keep an accepted announcement; False if this manifest was announced here before.

        A later announcement of the same manifest takes the place of the earlier one.
        """
        key = (str(announce.place), announce.by, announce.manifest)
        with self._use() as db:
            same = "place = ? AND publisher = ? AND manifest = ?"
            known = db.execute(f"SELECT expires_at FROM heard WHERE {same}", key).fetchone()
            if known is not None:
                if announce.expires_at <= known[0]:
                    return False
                db.execute(f"DELETE FROM heard WHERE {same}", key)
            # Strictly rising, so that "since then" never skips one of two at the same time.
            self._last = max(received_at, self._last + _TICK_S)
            row = (self._last, announce.expires_at, *key, raw)
            db.execute("INSERT INTO heard VALUES (?, ?, ?, ?, ?, ?)", row)
            _evict(db, key[0], announce.by, received_at)
            if self._added % _CHECK_EVERY == 0:
                _drop_oldest(db, "TRUE", (), MAX_ALL)
            self._added += 1
        return known is None

    def since(self, place: Place, then: float, limit: int = MAX_NEWS) -> list[bytes]:
        """What was heard for a place after `then`, oldest first."""
        return [raw for _, raw in self._rows(place, then, limit)]

    def news(self, place: Place, since: float, now: float) -> NewsList:
        """The answer to a peer that asks what it missed; nothing in it has expired."""
        rows = self._rows(place, since, MAX_NEWS + 1, now)
        given = rows[:MAX_NEWS]
        until = given[-1][0] if given else since
        return NewsList(
            announces=tuple(raw for _, raw in given), until=until, more=len(rows) > MAX_NEWS
        )

    def alive(self, now: float) -> list[bytes]:
        """Everything that has not expired, oldest first: what the rules must know after a start."""
        with self._use() as db:
            query = "SELECT raw FROM heard WHERE expires_at > ? ORDER BY heard_at"
            return [raw for (raw,) in db.execute(query, (now,))]

    def asked(self, peer: NodeId, place: Place) -> float:
        """Up to when (that peer's clock) we have its news of a place; 0 if it was never asked."""
        with self._use() as db:
            query = "SELECT until FROM asked WHERE peer = ? AND place = ?"
            row = db.execute(query, (peer, str(place))).fetchone()
        return float(row[0]) if row else 0.0

    def set_asked(self, peer: NodeId, place: Place, until: float) -> None:
        """Remember how far this peer's news of a place were taken."""
        with self._use() as db:
            db.execute("INSERT OR REPLACE INTO asked VALUES (?, ?, ?)", (peer, str(place), until))
            oldest = "(SELECT max(rowid) FROM asked) - ?"
            db.execute(f"DELETE FROM asked WHERE rowid <= {oldest}", (MAX_ASKED,))

    def _rows(
        self, place: Place, since: float, limit: int, now: float = 0.0
    ) -> list[tuple[float, bytes]]:
        query = (
            "SELECT heard_at, raw FROM heard WHERE place = ? AND heard_at > ?"
            " AND expires_at > ? ORDER BY heard_at LIMIT ?"
        )
        with self._use() as db:
            return db.execute(query, (str(place), since, now, limit)).fetchall()

    @contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        """The database for this thread alone, its changes kept together or not at all."""
        try:
            with self._lock, self._db:
                yield self._db
        except FAULTS as bad:
            raise cache_fault(self._path, bad) from bad


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # a crash may lose the last ones; peers have them
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            db.executescript(_SCHEMA)
        elif version != _VERSION:
            raise LocalError(
                "E0306",
                f"{path} is of version {version}, this program knows {_VERSION}",
                fix=["run the newer program, or move the file away: peers will tell it again"],
            )
    except FAULTS as bad:
        db.close()
        raise cache_fault(path, bad) from bad
    except LocalError:
        db.close()
        raise
    return db


def cache_fault(path: Path, bad: Exception) -> LocalError:
    """What SQLite says of a file whose content others have."""
    if getattr(bad, "sqlite_errorname", "") == "SQLITE_FULL":
        return disk_full(path.name, str(bad))
    return LocalError(
        "E0306",
        f"{path} cannot be used: {bad}",
        fix=["move the file away: peers will tell its content again"],
    )


def _evict(db: sqlite3.Connection, place: str, publisher: str, now: float) -> None:
    """Drop the expired, then the oldest over each bound; a place is relieved of its loudest."""
    db.execute("DELETE FROM heard WHERE expires_at <= ?", (now,))
    where, limits = "place = ? AND publisher = ?", (place, publisher)
    _drop_oldest(db, where, limits, MAX_OF_PUBLISHER)
    count = db.execute("SELECT count(*) FROM heard WHERE place = ?", (place,)).fetchone()[0]
    if count > MAX_OF_PLACE:
        query = (
            "SELECT publisher, count(*) AS many FROM heard WHERE place = ?"
            " GROUP BY publisher ORDER BY many DESC LIMIT 1"
        )
        loudest, many = db.execute(query, (place,)).fetchone()
        _drop_oldest(db, where, (place, loudest), many - (count - MAX_OF_PLACE))


def _drop_oldest(db: sqlite3.Connection, where: str, limits: tuple[str, ...], keep: int) -> None:
    oldest = f"SELECT heard_at FROM heard WHERE {where} ORDER BY heard_at DESC LIMIT -1 OFFSET ?"
    db.execute(f"DELETE FROM heard WHERE heard_at IN ({oldest})", (*limits, keep))
