"""What the gate decided, by which numbers, and what keepers told of updates: rows of trust.db."""

import msgspec

from node.trust_db import TrustDb
from p2pllm.ids import ContentId, NodeId
from p2pllm.names import Place, parse_place

MAX_DECISIONS = 5000  # of all places; about 2 kB each
MAX_GAINS = 20_000  # signed numbers of updates, ours and others'; about 500 bytes each


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """One decision of the gate, with the numbers it rests on."""

    at: float  # Unix seconds
    place: Place
    manifest: ContentId
    peer: NodeId  # its publisher
    stage: str  # cheap, shadow, together, commit, trial, child, up, down
    outcome: str  # accept, hold, reject, commit, promote, rollback
    raw: bytes  # JSON


class GateLog:
    """The rows. Thread-safe; every change is on disk when it returns."""

    def __init__(self, db: TrustDb) -> None:
        self._db = db.database

    def keep_gain(self, place: Place, manifest: ContentId, by: NodeId, raw: bytes) -> None:
        """Keep signed numbers of one update that were checked; the later of a node replace."""
        self._db.do("INSERT OR REPLACE INTO gains VALUES (?,?,?,?)", str(place), manifest, by, raw)
        self._db.do(
            "DELETE FROM gains WHERE rowid <= (SELECT max(rowid) FROM gains) - ?", MAX_GAINS
        )

    def gains(self, place: Place, manifest: ContentId) -> dict[NodeId, bytes]:
        """The signed numbers of one update, by who measured it."""
        query = "SELECT by, raw FROM gains WHERE place = ? AND manifest = ? ORDER BY by"
        rows = self._db.read(query, str(place), manifest)
        return {NodeId(row["by"]): bytes(row["raw"]) for row in rows}

    def decide(self, one: Decided) -> None:
        """Keep a decision; what is held again replaces what was held last."""
        what = (str(one.place), one.manifest)
        with self._db.together():
            self._db.do(
                "DELETE FROM decisions WHERE place = ? AND manifest = ? AND stage = ?"
                " AND outcome = 'hold'",
                *(*what, one.stage),
            )
            self._db.do(
                "INSERT INTO decisions (at, place, manifest, peer, stage, outcome, raw)"
                " VALUES (?,?,?,?,?,?,?)",
                *(one.at, *what, one.peer, one.stage, one.outcome, one.raw),
            )
            self._db.do(
                "DELETE FROM decisions WHERE number <= (SELECT max(number) FROM decisions) - ?",
                MAX_DECISIONS,
            )

    def decisions(self, subject: str) -> list[Decided]:
        """The decisions about an update, a publisher or a place, oldest first."""
        query = "SELECT * FROM decisions WHERE ? IN (place, manifest, peer) ORDER BY number"
        return [
            Decided(
                at=row["at"],
                place=parse_place(row["place"]),
                manifest=ContentId(row["manifest"]),
                peer=NodeId(row["peer"]),
                stage=row["stage"],
                outcome=row["outcome"],
                raw=bytes(row["raw"]),
            )
            for row in self._db.read(query, subject)
        ]

    def refused(self, place: Place) -> set[ContentId]:
        """The updates of a place that the gate decided against last."""
        query = (
            "SELECT manifest, outcome, max(number) FROM decisions WHERE place = ? GROUP BY manifest"
        )
        rows = self._db.read(query, str(place))
        return {ContentId(row["manifest"]) for row in rows if row["outcome"] == "reject"}
