"""The node's SQLite files: what is refused when they are opened."""

import sqlite3
from pathlib import Path

import pytest

from node.__main__ import _known as known
from node.database import Database, open_database
from p2pllm.errors import LocalError

SCHEMA = "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY) STRICT;"


def test_a_file_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    open_database(path, SCHEMA, 2, "move it away").close()
    with pytest.raises(LocalError, match="newer p2pllm") as caught:
        open_database(path, SCHEMA, 1, "move it away")
    assert caught.value.code == "E0306"
    assert sqlite3.connect(path).execute("PRAGMA user_version").fetchone() == (2,)


def test_a_damaged_file_is_refused_with_what_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(LocalError, match="is damaged") as caught:
        open_database(path, SCHEMA, 1, "move it away")
    assert list(caught.value.fix) == ["move it away"]


def test_damage_that_is_no_text_is_told_too(tmp_path: Path) -> None:
    database = Database(tmp_path / "some.db", SCHEMA, 1, "move it away")
    database.do("INSERT INTO facts VALUES (?)", "find me")
    database.close()
    path = tmp_path / "some.db"
    path.write_bytes(path.read_bytes().replace(b"find me", b"find\xffme"))
    database = Database(path, SCHEMA, 1, "move it away")
    with pytest.raises(LocalError, match="is damaged") as caught:
        database.read("SELECT name FROM facts")
    assert list(caught.value.fix) == ["move it away"]
    assert known(ExceptionGroup("", [ExceptionGroup("", [caught.value])])) is caught.value
    assert known(ExceptionGroup("", [caught.value, ValueError()])) is None
    database.close()


def full(database: Database) -> Database:
    """The same file on a disk without room for another page."""
    [(pages,)] = database.read("PRAGMA page_count")
    database.read(f"PRAGMA max_page_count = {pages}")
    return database


def test_a_full_disk_is_told_as_one_and_nothing_is_lost(tmp_path: Path) -> None:
    database = full(Database(tmp_path / "some.db", SCHEMA, 1, "move it away"))
    for number in range(2):  # the second time, too: the first must leave no transaction open
        with pytest.raises(LocalError, match="disk is full") as caught:
            database.do("INSERT INTO facts VALUES (?)", str(number) * 100_000)
        assert caught.value.code == "E0802"
    database.do("INSERT INTO facts VALUES (?)", "short")
    assert [row["name"] for row in database.read("SELECT name FROM facts")] == ["short"]
    database.close()
