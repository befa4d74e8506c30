"""One SQLite file of this node, opened so that what it was told is on disk at every commit."""

import sqlite3
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
