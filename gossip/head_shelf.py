"""The heads heard of each place, on disk: of each keeper its newest, whoever it came from.

They are told on to others, so a head outlives its keeper. Blocking and thread-safe; callers in trio
go through to_thread. Bounds and eviction: docs/specs/heads.md
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gossip.heard import FAULTS, cache_fault
from gossip.messages import MAX_KEEPERS, HeadList
from p2pllm.heads import Head, open_head
from p2pllm.ids import ContentId, NodeId, content_id
from p2pllm.names import Place

MAX_PLACES = 512  # 512 places of 64 keepers are 1 GB at the very most, and 30 MB as a rule
_VERSION = 1

_SCHEMA = f"""
CREATE TABLE heads (
    place TEXT NOT NULL, keeper TEXT NOT NULL, seq INTEGER NOT NULL, id TEXT NOT NULL,
    weight REAL NOT NULL, heard_at REAL NOT NULL, raw BLOB NOT NULL, PRIMARY KEY (place, keeper)
);
PRAGMA user_version = {_VERSION};
"""


class HeadShelf:
    """Verified heads of other nodes and our own, at most `MAX_KEEPERS` of a place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False)
        with self._use() as db:
            db.execute("PRAGMA journal_mode = WAL")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                db.executescript(_SCHEMA)
            elif version != _VERSION:
                why = f"it is of version {version}, this program knows {_VERSION}"
                raise cache_fault(path, ValueError(why))

    def close(self) -> None:
        """Close the database; nothing can be asked afterwards."""
        with self._lock:
            self._db.close()

    def add(self, raw: bytes, weight: float, now: float) -> Head | None:
        """Keep a head if it is newer than its keeper's last; None if it is not, or no room is left.

        weight   of its keeper here; where there are too many, the lightest go first
        Raises PeerError E0602 or E0603 if it is forged or malformed.
        """
        head = open_head(raw)
        place = str(head.place)
        with self._use() as db:
            query = "SELECT seq, raw FROM heads WHERE place = ? AND keeper = ?"
            held = db.execute(query, (place, head.by)).fetchone()
            # Two heads of one number break a rule; the same one of them counts everywhere.
            if held is not None and (head.seq, raw[64:]) <= (held[0], held[1][64:]):
                return None
            row = (place, head.by, head.seq, content_id(raw), weight, now, raw)
            db.execute("INSERT OR REPLACE INTO heads VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            _evict(db, place)
            kept = db.execute(query, (place, head.by)).fetchone()
        return head if kept is not None else None

    def of(self, place: Place) -> list[Head]:
        """The heads of a place, by keeper."""
        return [open_head(raw) for raw in self._raw(place)]

    def by(self, place: Place, keeper: NodeId) -> Head | None:
        """The head of one keeper."""
        with self._use() as db:
            query = "SELECT raw FROM heads WHERE place = ? AND keeper = ?"
            held = db.execute(query, (str(place), keeper)).fetchone()
        return open_head(held[0]) if held is not None else None

    def places(self) -> list[Place]:
        """Every place of which a head is here."""
        with self._use() as db:
            found = [raw for (raw,) in db.execute("SELECT raw FROM heads GROUP BY place")]
        return sorted({open_head(raw).place for raw in found})

    def known(self, place: Place) -> tuple[ContentId, ...]:
        """The ids of the records held of a place."""
        with self._use() as db:
            query = "SELECT id FROM heads WHERE place = ? ORDER BY keeper"
            return tuple(ContentId(id_) for (id_,) in db.execute(query, (str(place),)))

    def answer(self, place: Place, known: Sequence[ContentId]) -> HeadList:
        """What a peer that holds `known` lacks of a place."""
        have = set(known)
        return HeadList(heads=tuple(r for r in self._raw(place) if content_id(r) not in have))

    def forget(self, place: Place, keeper: NodeId) -> None:
        """Drop what a keeper said of a place."""
        with self._use() as db:
            db.execute("DELETE FROM heads WHERE place = ? AND keeper = ?", (str(place), keeper))

    def _raw(self, place: Place) -> list[bytes]:
        with self._use() as db:
            query = "SELECT raw FROM heads WHERE place = ? ORDER BY keeper"
            return [raw for (raw,) in db.execute(query, (str(place),))]

    @contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock, self._db:
                yield self._db
        except FAULTS as bad:
            raise cache_fault(self._path, bad) from bad


def _evict(db: sqlite3.Connection, place: str) -> None:
    light = (
        "SELECT keeper FROM heads WHERE place = ? ORDER BY weight DESC, heard_at DESC, keeper"
        " LIMIT -1 OFFSET ?"
    )
    db.execute(
        f"DELETE FROM heads WHERE place = ? AND keeper IN ({light})", (place, place, MAX_KEEPERS)
    )
    old = "SELECT place FROM heads GROUP BY place ORDER BY max(heard_at) DESC LIMIT -1 OFFSET ?"
    db.execute(f"DELETE FROM heads WHERE place IN ({old})", (MAX_PLACES,))
