"""The models this node holds, and the jobs it ran: one small SQLite file, durable at every commit.

What a model is stands in its manifest, a blob of the store. Here stands what we did with it: made
it, took it from a peer, offer it to others.
"""

import sqlite3
from pathlib import Path
from typing import Literal

import msgspec

from node.database import Database
from p2pllm.errors import LocalError
from p2pllm.ids import ContentId
from p2pllm.manifest import Manifest
from p2pllm.names import Place, Ref, exact_ref

SCHEMA_VERSION = 1
_PAGE_BYTES = 4096  # of a database; SQLite takes a shorter one for a new one
Origin = Literal["local", "pulled"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS models (
    manifest TEXT PRIMARY KEY, lang TEXT NOT NULL, domain TEXT NOT NULL, sub TEXT NOT NULL,
    name TEXT NOT NULL, kind TEXT NOT NULL, model TEXT NOT NULL, origin TEXT NOT NULL,
    offered INTEGER NOT NULL, announced INTEGER NOT NULL, tag TEXT NOT NULL,
    created_at REAL NOT NULL, added_at REAL NOT NULL, folder TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS models_by_name ON models (lang, domain, sub, name);
CREATE TABLE IF NOT EXISTS jobs (
    job TEXT PRIMARY KEY, kind TEXT NOT NULL, state TEXT NOT NULL, started_at REAL NOT NULL,
    finished_at REAL, outcome TEXT) STRICT;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One model of ours."""

    manifest: ContentId
    place: Place
    name: str
    kind: str
    model: ContentId
    origin: Origin
    offered: bool  # peers may fetch it
    announced: bool  # peers of its place have been told
    tag: str
    created_at: float  # of the manifest
    added_at: float
    folder: str  # where people load it from

    @property
    def ref(self) -> str:
        """Its exact reference."""
        return exact_ref(self.place, self.name, self.manifest)


class Library:
    """The node's own record of its models and jobs. Thread-safe; every change is on disk.

    What is newest is told by the order of writing, since a clock may be set back.
    """

    def __init__(self, path: Path) -> None:
        mend = "move it and the folder models away; models can be imported and pulled again"
        if _is_lost(path):  # else what no model owns would be tidied away
            raise LocalError(
                "E0306",
                f"{path} is gone or cut off, and its models are still there",
                fix=["put it back from a copy", mend],
            )
        self._db = Database(path, _SCHEMA, SCHEMA_VERSION, mend)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add(self, manifest_id: ContentId, manifest: Manifest, held: Held) -> None:
        """Record a model, replacing what we knew of the same manifest."""
        place = manifest.place
        row = (manifest_id, place.lang, place.domain, place.sub, manifest.name, manifest.kind)
        row2 = (manifest.model, held.origin, held.offered, held.announced, held.tag)
        row3 = (manifest.created_at, held.added_at, held.folder)
        self._db.do(
            "INSERT OR REPLACE INTO models VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            *(*row, *row2, *row3),
        )

    def remove(self, manifest_id: ContentId) -> None:
        """Forget a model."""
        self._db.do("DELETE FROM models WHERE manifest = ?", manifest_id)

    def mark_announced(self, manifest_id: ContentId) -> None:
        """Peers of the place have been told of it."""
        self._db.do("UPDATE models SET announced = 1 WHERE manifest = ?", manifest_id)

    def set_offered(self, manifest_id: ContentId, *, offered: bool) -> None:
        """Whether peers may fetch it."""
        self._db.do("UPDATE models SET offered = ? WHERE manifest = ?", int(offered), manifest_id)

    def set_folder(self, manifest_id: ContentId, folder: str) -> None:
        """Where people load it from now."""
        self._db.do("UPDATE models SET folder = ? WHERE manifest = ?", folder, manifest_id)

    def models(self) -> list[Held]:
        """All models, newest last."""
        return [_held(row) for row in self._db.read("SELECT * FROM models ORDER BY rowid")]

    def get(self, manifest_id: ContentId) -> Held | None:
        """The model of this manifest, if we hold it."""
        rows = self._db.read("SELECT * FROM models WHERE manifest = ?", manifest_id)
        return _held(rows[0]) if rows else None

    def base_of(self, model: ContentId) -> Held | None:
        """A base with this model id, if we hold one."""
        query = "SELECT * FROM models WHERE kind = 'base' AND model = ? ORDER BY offered DESC"
        rows = self._db.read(query, model)
        return _held(rows[0]) if rows else None

    def find(self, ref: Ref) -> Held:
        """The one model a reference names: the newest of that name, or E0402 / E0203."""
        place = ref.place
        rows = self._db.read(
            "SELECT * FROM models WHERE lang = ? AND domain = ? AND sub = ? AND name = ?"
            " AND (? = '' OR tag = ?) AND manifest LIKE ? ORDER BY rowid DESC",
            *(place.lang, place.domain, place.sub, ref.name, ref.tag, ref.tag, ref.id + "%"),
        )
        if not rows:
            raise LocalError(
                "E0402",
                f"no model {ref} on this node",
                fix=["p2pllm ls", f"p2pllm search --lang {place.lang}", f"p2pllm pull {ref}"],
            )
        if ref.id and len(rows) > 1:
            names = [_held(row).ref for row in rows]
            raise LocalError("E0203", f"{ref} names {len(rows)} models", why=names)
        return _held(rows[0])

    def put_job(self, job: str, kind: str, state: str, started_at: float) -> None:
        """Record a job that begins."""
        query = "INSERT OR REPLACE INTO jobs VALUES (?,?,?,?,NULL,NULL)"
        self._db.do(query, job, kind, state, started_at)

    def end_job(self, job: str, state: str, finished_at: float, outcome: str) -> None:
        """Record how a job ended; `outcome` is JSON."""
        query = "UPDATE jobs SET state = ?, finished_at = ?, outcome = ? WHERE job = ?"
        self._db.do(query, state, finished_at, outcome, job)

    def jobs(self, limit: int = 200) -> list[sqlite3.Row]:
        """The latest jobs, newest first."""
        return self._db.read("SELECT * FROM jobs ORDER BY rowid DESC LIMIT ?", limit)

    def fact(self, name: str, default: str) -> str:
        """A remembered value of the node itself."""
        rows = self._db.read("SELECT value FROM facts WHERE name = ?", name)
        return str(rows[0]["value"]) if rows else default

    def set_fact(self, name: str, value: str) -> None:
        """Remember a value of the node itself."""
        self._db.do("INSERT OR REPLACE INTO facts VALUES (?,?)", name, value)


def _held(row: sqlite3.Row) -> Held:
    return Held(
        manifest=ContentId(row["manifest"]),
        place=Place(row["lang"], row["domain"], row["sub"]),
        name=row["name"],
        kind=row["kind"],
        model=ContentId(row["model"]),
        origin=row["origin"],
        offered=bool(row["offered"]),
        announced=bool(row["announced"]),
        tag=row["tag"],
        created_at=row["created_at"],
        added_at=row["added_at"],
        folder=row["folder"],
    )


def _is_lost(path: Path) -> bool:
    """Whether there is no database, or less of one than a page, beside models laid out by it."""
    files = (path, path.with_name(path.name + "-wal"))
    there = any(file.is_file() and file.stat().st_size >= _PAGE_BYTES for file in files)
    return not there and next((path.parent / "models").rglob("*@*"), None) is not None
