"""What this node remembers of others' updates: one SQLite file, durable at every commit.

Ledgers of places, the numbers behind each verdict, signed observations of ours and of others, and
the updates that wait. The ledger is the truth; all else is found from it or can be measured again.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import msgspec

from node.database import Database
from p2pllm.ids import ContentId, NodeId
from p2pllm.names import Place, parse_place

SCHEMA_VERSION = 1
MAX_OF_OBSERVER = 500  # observations kept of one other node; ours are kept all
MAX_OBSERVERS = 1000
MAX_ROUNDS_SHOWN = 500  # of a place, whose numbers are kept; about 8 kB an update and round
MAX_UPDATES = 5000  # of a place, of which it is known how far they came

_SCHEMA = """
CREATE TABLE IF NOT EXISTS ledger (
    place TEXT NOT NULL, number INTEGER NOT NULL, at REAL NOT NULL, raw BLOB NOT NULL,
    PRIMARY KEY (place, number)) STRICT;
CREATE TABLE IF NOT EXISTS summaries (
    place TEXT NOT NULL, round INTEGER NOT NULL, manifest TEXT NOT NULL, raw BLOB NOT NULL,
    PRIMARY KEY (place, round, manifest)) STRICT;
CREATE TABLE IF NOT EXISTS observations (
    observer TEXT NOT NULL, seq INTEGER NOT NULL, place TEXT NOT NULL, subject TEXT NOT NULL,
    manifest TEXT NOT NULL, verdict TEXT NOT NULL, raw BLOB NOT NULL,
    PRIMARY KEY (observer, seq)) STRICT;
CREATE INDEX IF NOT EXISTS observations_of ON observations (subject, place);
CREATE TABLE IF NOT EXISTS updates (
    place TEXT NOT NULL, manifest TEXT NOT NULL, peer TEXT NOT NULL, model TEXT NOT NULL,
    size INTEGER NOT NULL, state TEXT NOT NULL, code TEXT NOT NULL, message TEXT NOT NULL,
    reviews INTEGER NOT NULL, tries INTEGER NOT NULL, due_at REAL NOT NULL,
    heard_at REAL NOT NULL, ours INTEGER NOT NULL, sketch BLOB NOT NULL,
    PRIMARY KEY (place, manifest)) STRICT;
CREATE INDEX IF NOT EXISTS updates_by_state ON updates (place, state);
CREATE TABLE IF NOT EXISTS notes (
    at REAL NOT NULL, place TEXT NOT NULL, subject TEXT NOT NULL, act TEXT NOT NULL,
    reason TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS gains (
    place TEXT NOT NULL, manifest TEXT NOT NULL, by TEXT NOT NULL, raw BLOB NOT NULL,
    PRIMARY KEY (place, manifest, by)) STRICT;
CREATE TABLE IF NOT EXISTS decisions (
    number INTEGER PRIMARY KEY, at REAL NOT NULL, place TEXT NOT NULL, manifest TEXT NOT NULL,
    peer TEXT NOT NULL, stage TEXT NOT NULL, outcome TEXT NOT NULL, raw BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
"""


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """An update that this node heard of, and how far it came here."""

    place: Place
    manifest: ContentId
    peer: NodeId  # its publisher
    model: ContentId  # of the base it fits
    size: int  # bytes
    state: str  # waiting, fetched, judged, held, refused: node.round_plan
    code: str = ""  # why it is refused or cannot be judged yet
    message: str = ""
    reviews: int = 0  # rounds that judged it
    tries: int = 0  # fetches or jobs that failed, since one did not
    due_at: float = 0.0  # Unix seconds; it is not looked at before
    heard_at: float = 0.0
    ours: bool = False  # its bytes are here for judging alone, and go when it is refused
    sketch: bytes = b""  # the signed sketch that went ahead


class Line(msgspec.Struct, frozen=True):
    """One entry of a place's ledger, and when this node wrote it."""

    number: int
    at: float
    raw: bytes


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """A signed observation and the fields it is looked up by."""

    observer: NodeId
    seq: int
    place: Place
    subject: NodeId
    manifest: ContentId
    verdict: str
    raw: bytes


class Word(msgspec.Struct, frozen=True):
    """The latest verdict of one observer on one update."""

    observer: NodeId
    subject: NodeId
    verdict: str


class TrustDb:
    """The file. Thread-safe; every change is on disk when it returns."""

    def __init__(self, path: Path) -> None:
        mend = "restore it, or move it away: all peers then start on probation"
        self.database = Database(path, _SCHEMA, SCHEMA_VERSION, mend)
        self.together = self.database.together
        self._do, self._read = self.database.do, self.database.read

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    def places(self) -> list[Place]:
        """Every place with a ledger."""
        rows = self._read("SELECT DISTINCT place FROM ledger ORDER BY place")
        return [parse_place(row["place"]) for row in rows]

    def ledger(self, place: Place) -> list[Line]:
        """All entries of a place in order."""
        query = "SELECT number, at, raw FROM ledger WHERE place = ? ORDER BY number"
        return [Line(row["number"], row["at"], row["raw"]) for row in self._read(query, str(place))]

    def append(self, place: Place, line: Line) -> None:
        """The next entry; its number is one more than the last."""
        query = "INSERT INTO ledger VALUES (?,?,?,?)"
        self._do(query, str(place), line.number, line.at, line.raw)

    def keep_summary(self, place: Place, number: int, manifest: str, raw: bytes) -> None:
        """The numbers measured of one update in one round."""
        query = "INSERT OR REPLACE INTO summaries VALUES (?,?,?,?)"
        self._do(query, str(place), number, manifest, raw)

    def summaries(self, place: Place, manifest: str) -> dict[int, bytes]:
        """The numbers of one update, by round."""
        query = "SELECT round, raw FROM summaries WHERE place = ? AND manifest = ?"
        return {row["round"]: row["raw"] for row in self._read(query, str(place), manifest)}

    def put(self, update: Update) -> None:
        """Record an update, replacing what was known of it."""
        self._do(
            "INSERT OR REPLACE INTO updates VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            *(str(update.place), update.manifest, update.peer, update.model, update.size),
            *(update.state, update.code, update.message, update.reviews, update.tries),
            *(update.due_at, update.heard_at, update.ours, update.sketch),
        )

    def update(self, place: Place, manifest: ContentId) -> Update | None:
        """One update, if it was heard of."""
        query = "SELECT * FROM updates WHERE place = ? AND manifest = ?"
        rows = self._read(query, str(place), manifest)
        return _update(rows[0]) if rows else None

    def updates(self, place: Place | None = None) -> list[Update]:
        """The updates of a place, or of all, oldest first."""
        query = "SELECT * FROM updates WHERE ? IN ('', place) ORDER BY heard_at, manifest"
        return [_update(row) for row in self._read(query, str(place) if place else "")]

    def pending(self, place: Place) -> list[Update]:
        """The updates of a place that something is still to be done about, oldest first."""
        query = (
            "SELECT * FROM updates WHERE place = ? AND state IN ('waiting', 'fetched', 'held')"
            " ORDER BY heard_at, manifest"
        )
        return [_update(row) for row in self._read(query, str(place))]

    def for_judging(self) -> list[Update]:
        """The updates whose bytes are here for judging alone."""
        query = "SELECT * FROM updates WHERE ours = 1 ORDER BY heard_at, manifest"
        return [_update(row) for row in self._read(query)]

    def waiting(self, place: Place, peer: NodeId) -> tuple[int, int]:
        """How many updates of this publisher, and of all, wait at a place."""
        query = (
            "SELECT count(*) FILTER (WHERE peer = ?) AS same, count(*) AS every FROM updates"
            " WHERE place = ? AND state IN ('waiting', 'fetched')"
        )
        row = self._read(query, peer, str(place))[0]
        return row["same"], row["every"]

    def forget(self, place: Place, manifest: ContentId) -> None:
        """Drop the record of an update that will not be looked at again."""
        self._do("DELETE FROM updates WHERE place = ? AND manifest = ?", str(place), manifest)

    def tip(self, observer: NodeId) -> tuple[int, bytes]:
        """The last observation of an observer: its number and bytes; 0 and none at first."""
        query = "SELECT seq, raw FROM observations WHERE observer = ? ORDER BY seq DESC LIMIT 1"
        rows = self._read(query, observer)
        return (rows[0]["seq"], rows[0]["raw"]) if rows else (0, b"")

    def observe(self, row: Observed) -> None:
        """Keep one signed observation that was checked."""
        self._do(
            "INSERT OR REPLACE INTO observations VALUES (?,?,?,?,?,?,?)",
            *(row.observer, row.seq, str(row.place), row.subject, row.manifest),
            *(row.verdict, row.raw),
        )

    def observation(self, observer: NodeId, seq: int) -> bytes | None:
        """The observation of this number."""
        query = "SELECT raw FROM observations WHERE observer = ? AND seq = ?"
        rows = self._read(query, observer, seq)
        return bytes(rows[0]["raw"]) if rows else None

    def after(self, observer: NodeId, seq: int, limit: int) -> list[bytes]:
        """An observer's observations with higher numbers, in order."""
        query = "SELECT raw FROM observations WHERE observer = ? AND seq > ? ORDER BY seq LIMIT ?"
        return [row["raw"] for row in self._read(query, observer, seq, limit)]

    def observers(self) -> list[NodeId]:
        """Every node whose observations are here."""
        rows = self._read("SELECT DISTINCT observer FROM observations ORDER BY observer")
        return [NodeId(row["observer"]) for row in rows]

    def about(self, subject: str) -> list[bytes]:
        """Every observation of a peer, or of a manifest, in the order of observers and numbers."""
        query = (
            "SELECT raw FROM observations WHERE subject = ? OR manifest = ? ORDER BY observer, seq"
        )
        return [row["raw"] for row in self._read(query, subject, subject)]

    def words(self, place: Place, but: NodeId) -> list[Word]:
        """The latest verdict of every other observer on every update of a place."""
        query = (
            "SELECT observer, subject, verdict, max(seq) FROM observations WHERE place = ?"
            " AND observer != ? GROUP BY observer, subject, manifest ORDER BY observer, subject"
        )
        rows = self._read(query, str(place), but)
        return [
            Word(NodeId(row["observer"]), NodeId(row["subject"]), row["verdict"]) for row in rows
        ]

    def drop_observer(self, observer: NodeId) -> None:
        """Forget all that a node observed."""
        self._do("DELETE FROM observations WHERE observer = ?", observer)

    def prune(self, place: Place, rounds: int) -> None:
        """Keep a bound on what can be had again: numbers of old rounds, updates long done with."""
        query = "DELETE FROM summaries WHERE place = ? AND round <= ?"
        self._do(query, str(place), rounds - MAX_ROUNDS_SHOWN)
        self._do(
            "DELETE FROM updates WHERE place = ? AND state IN ('judged', 'refused') AND ours = 0"
            " AND manifest NOT IN (SELECT manifest FROM updates WHERE place = ?"
            " ORDER BY heard_at DESC LIMIT ?)",
            *(str(place), str(place), MAX_UPDATES),
        )

    def trim(self, observer: NodeId) -> None:
        """Keep the latest observations of another node."""
        self._do(
            "DELETE FROM observations WHERE observer = ? AND seq <= "
            "(SELECT max(seq) FROM observations WHERE observer = ?) - ?",
            *(observer, observer, MAX_OF_OBSERVER),
        )

    def note(self, at: float, place: str, subject: str, act: str, reason: str) -> None:
        """Record what the operator did, and why."""
        self._do("INSERT INTO notes VALUES (?,?,?,?,?)", at, place, subject, act, reason)

    def notes(self, subjects: Sequence[str]) -> list[dict[str, object]]:
        """What the operator did about any of these, oldest first; about all with none given."""
        rows = self._read("SELECT * FROM notes ORDER BY at")
        return [dict(row) for row in rows if not subjects or row["subject"] in subjects]

    def fact(self, name: str) -> bytes | None:
        """A remembered value."""
        rows = self._read("SELECT value FROM facts WHERE name = ?", name)
        return bytes(rows[0]["value"]) if rows else None

    def set_fact(self, name: str, value: bytes) -> None:
        """Remember a value."""
        self._do("INSERT OR REPLACE INTO facts VALUES (?,?)", name, value)


def _update(row: sqlite3.Row) -> Update:
    return Update(
        place=parse_place(row["place"]),
        manifest=ContentId(row["manifest"]),
        peer=NodeId(row["peer"]),
        model=ContentId(row["model"]),
        size=row["size"],
        state=row["state"],
        code=row["code"],
        message=row["message"],
        reviews=row["reviews"],
        tries=row["tries"],
        due_at=row["due_at"],
        heard_at=row["heard_at"],
        ours=bool(row["ours"]),
        sketch=row["sketch"],
    )
