"""The index follows the files, and names follow data to the disk."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from blake3 import blake3

from p2pllm.ids import content_id
from p2pllm.store import Store
from tests.p2pllm.stores import QUOTA, bytes_on_disk, refused, usage_of
from tests.vectors.values import named


def test_a_lost_or_damaged_index_is_made_anew(tmp_path: Path) -> None:
    with closing(Store(tmp_path, QUOTA)) as store:
        blobs = [store.put_bytes(b"%d" % n * 100) for n in range(20)]
        usage = usage_of(store)
    whole = (tmp_path / "index.db").read_bytes()
    for damage in (None, b"", b"not a database", whole[:5000], whole[:4096] + bytes(4096)):
        (tmp_path / "index.db").unlink()
        if damage is not None:
            (tmp_path / "index.db").write_bytes(damage)
        with closing(Store(tmp_path, QUOTA)) as store:
            assert all(store.has(blob) for blob in blobs)
            assert usage_of(store) == usage


def test_a_clean_close_is_trusted_and_a_crash_is_not(tmp_path: Path) -> None:
    with closing(Store(tmp_path, QUOTA)) as store:
        blob = store.put_bytes(b"here")
    (tmp_path / "blobs" / blob[:2] / blob).unlink()
    with closing(Store(tmp_path, QUOTA)) as store:
        assert store.usage().blobs == 1  # by the index: it is not read through at each start
        store.rebuild()
        assert store.usage().blobs == 0
        assert store.usage().used_bytes == 0


def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    Store(tmp_path, QUOTA).close()
    with closing(sqlite3.connect(tmp_path / "index.db")) as db:
        db.execute("PRAGMA user_version = 99")
    before = (tmp_path / "index.db").read_bytes()
    refused("E0306", lambda: Store(tmp_path, QUOTA))
    assert (tmp_path / "index.db").read_bytes() == before


def test_a_second_owner_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    with closing(Store(tmp_path, QUOTA)):
        refused("E0303", lambda: Store(tmp_path, QUOTA))
    Store(tmp_path, QUOTA).close()


def test_files_that_are_no_blobs_are_passed_by(tmp_path: Path) -> None:
    with closing(Store(tmp_path, QUOTA)) as store:
        blob = store.put_bytes(b"a blob")
    (tmp_path / "index.db").unlink()
    folder = tmp_path / "blobs" / blob[:2]
    (folder / "notes.txt").write_text("mine")
    (folder / content_id(b"in the wrong folder")).write_text("lost")
    (tmp_path / "partial" / "junk").write_text("junk")
    with closing(Store(tmp_path, QUOTA)) as store:
        assert (store.usage().blobs, store.usage().used_bytes) == (1, 6)
        assert store.gc([], dry_run=False) == [(blob, 6)]
    assert (folder / "notes.txt").exists()
    assert not (tmp_path / "partial" / "junk").exists()


@pytest.fixture
def disk_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The names that are fsynced and renamed, in order.

    What a power cut may lose hangs on that order, and no kill can show it.
    """
    calls: list[tuple[str, str]] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(fd: int) -> None:
        calls.append(("fsync", Path(os.readlink(f"/proc/self/fd/{fd}")).name))
        real_fsync(fd)

    def rename(source: Path, target: Path) -> None:
        calls.append(("rename", Path(target).name))
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    return calls


def test_data_reaches_the_disk_before_its_name_does(
    store: Store, tmp_path: Path, disk_calls: list[tuple[str, str]]
) -> None:
    blob = store.put_bytes(b"precious")
    named_after_data = [("fsync", "blobs"), ("rename", blob), ("fsync", blob[:2])]
    assert disk_calls == [("fsync", "put-0.tmp"), *named_after_data]
    disk_calls.clear()
    store.pin(blob)
    assert disk_calls == [("fsync", "pins.tmp"), ("rename", "pins"), ("fsync", "store")]
    (tmp_path / "source").write_bytes(b"a file")
    disk_calls.clear()
    blob = store.put_file(tmp_path / "source").blake3
    assert disk_calls[0] == ("fsync", "put-1.tmp")
    assert disk_calls[-2:] == [("rename", blob), ("fsync", blob[:2])]


def test_a_fetched_blob_reaches_the_disk_before_its_name_does(
    store: Store, disk_calls: list[tuple[str, str]]
) -> None:
    data = b"fetched"
    incoming = store.begin(content_id(data), len(data), blake3(data).digest())
    incoming.accept(0, memoryview(data))
    disk_calls.clear()
    blob = incoming.finish()
    assert disk_calls[0] == ("fsync", f"{blob}.data")
    assert disk_calls[-2:] == [("rename", blob), ("fsync", blob[:2])]


def test_an_index_that_is_ahead_of_the_files_after_a_crash_is_not_believed(tmp_path: Path) -> None:
    """The row is written before the file has its name: a kill may come between."""
    with closing(Store(tmp_path / "a", QUOTA)) as store:
        store.put_bytes(b"here")
    with closing(Store(tmp_path / "a", QUOTA)) as store:
        store._blobs.index.add(named("not come yet"), 100)
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        store._blobs.index.drop(named("not come yet"))
    with closing(Store(tmp_path / "b", QUOTA)) as store:
        assert (store.usage().blobs, store.usage().used_bytes) == (1, 4)


def test_an_index_that_fails_refuses_the_blob_and_is_made_anew(tmp_path: Path) -> None:
    with closing(Store(tmp_path, QUOTA)) as store:
        kept = store.put_bytes(b"kept")
        store._blobs.index._db.execute("DROP TABLE blobs")
        refused("E0306", lambda: store.put_bytes(b"not kept"))
        assert bytes_on_disk(tmp_path) == 4
    with closing(Store(tmp_path, QUOTA)) as store:
        assert store.has(kept)
        assert (store.usage().blobs, store.usage().used_bytes) == (1, 4)
