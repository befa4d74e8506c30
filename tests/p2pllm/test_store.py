"""The store: what goes in comes out, once, within its quota, and damage is found."""

import errno
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from blake3 import blake3

from p2pllm import manifest
from p2pllm.errors import LocalError, P2pllmError, PeerError, Unavailable
from p2pllm.ids import ContentId, content_id
from p2pllm.manifest import CHUNK_BYTES, File
from p2pllm.store import Store, Usage
from tests.vectors.values import ADAPTER, IDENTITY, named

MIB = 1024 * 1024
QUOTA = 64 * MIB


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "store", QUOTA)) as opened:
        yield opened


def random_file(path: Path, size: int, seed: int = 0) -> bytes:
    data = blake3(b"%d" % seed).digest(size)
    path.write_bytes(data)
    return data


def bytes_on_disk(root: Path) -> int:
    """All that the quota is for. Blobs first: a file that moves meanwhile is not counted twice."""
    total = 0
    for path in (
        path for name in ("blobs", "partial", "damaged") for path in (root / name).rglob("*")
    ):
        with suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def usage_of(store: Store) -> Usage:
    """Without what others do on this disk."""
    return msgspec.structs.replace(store.usage(), free_bytes=0)


def refused(code: str, action: Callable[[], object]) -> P2pllmError:
    with pytest.raises(P2pllmError) as caught:
        action()
    assert caught.value.code == code
    return caught.value


# What goes in comes out


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 7])
def test_a_file_comes_out_as_it_went_in(store: Store, tmp_path: Path, size: int) -> None:
    data = random_file(tmp_path / "source", size)
    heard: list[int] = []
    stored = store.put_file(tmp_path / "source", heard.append)
    assert store.path(stored.blake3).read_bytes() == data
    assert store.size(stored.blake3) == stored.size == size
    assert stored.blake3 == blake3(data).hexdigest()
    assert stored.sha256 == hashlib.sha256(data).hexdigest()
    pieces = [data[at : at + CHUNK_BYTES] for at in range(0, size, CHUNK_BYTES)]
    chunk_list = b"".join(blake3(piece).digest() for piece in pieces)
    assert store.read(stored.chunks, MIB) == chunk_list
    assert heard == sorted(heard)
    assert heard[-1:] == ([size] if size else [])


def test_a_blob_file_is_read_only_and_stands_under_its_first_two_digits(
    store: Store, tmp_path: Path
) -> None:
    blob = store.put_bytes(b"hello")
    path = store.path(blob)
    assert path == tmp_path / "store" / "blobs" / blob[:2] / blob
    assert path.stat().st_mode & 0o777 == 0o444


def test_the_same_bytes_are_kept_once(store: Store, tmp_path: Path) -> None:
    data = random_file(tmp_path / "one", 2 * MIB + 1)
    random_file(tmp_path / "two", 2 * MIB + 1)
    first = store.put_file(tmp_path / "one")
    before = usage_of(store)
    assert store.put_file(tmp_path / "two") == first
    assert store.put_bytes(data) == first.blake3
    assert usage_of(store) == before
    assert before.used_bytes == bytes_on_disk(tmp_path / "store") == 2 * MIB + 1 + 3 * 32


def test_another_file_of_the_same_size_is_kept_too(store: Store, tmp_path: Path) -> None:
    random_file(tmp_path / "one", MIB, seed=1)
    random_file(tmp_path / "two", MIB, seed=2)
    blobs = {store.put_file(tmp_path / name).blake3 for name in ("one", "two")}
    assert len(blobs) == 2
    assert all(store.has(blob) for blob in blobs)


def test_what_is_not_here_is_said_so(store: Store) -> None:
    blob = content_id(b"elsewhere")
    assert not store.has(blob)
    for ask in (store.path, store.size, store.remove, store.pin):
        assert isinstance(refused("E0401", lambda ask=ask: ask(blob)), Unavailable)
    refused("E0401", lambda: store.read(blob, 10))


def test_reading_is_bounded(store: Store) -> None:
    blob = store.put_bytes(b"12345")
    assert store.read(blob, 5) == b"12345"
    assert isinstance(refused("E0603", lambda: store.read(blob, 4)), PeerError)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: None])
def test_only_files_are_taken(store: Store, tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "odd")
    refused("E0204", lambda: store.put_file(tmp_path / "odd"))


@pytest.mark.parametrize("change", [b"", b"x" * (3 * MIB)])
def test_a_file_that_changes_while_it_is_read_is_not_kept(
    store: Store, tmp_path: Path, change: bytes
) -> None:
    source = tmp_path / "source"
    random_file(source, 2 * MIB)
    refused(
        "E0204", lambda: store.put_file(source, lambda _done: source.write_bytes(change) and None)
    )
    assert bytes_on_disk(tmp_path / "store") == 0
    assert store.usage().reserved_bytes == 0


def test_progress_can_stop_a_copy_and_nothing_of_it_stays(store: Store, tmp_path: Path) -> None:
    random_file(tmp_path / "source", 3 * MIB)

    def stop(done: int) -> None:
        if done > MIB:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put_file(tmp_path / "source", stop)
    assert bytes_on_disk(tmp_path / "store") == 0
    assert store.usage().reserved_bytes == 0


# The quota


def test_the_quota_is_refused_before_the_first_byte(tmp_path: Path) -> None:
    random_file(tmp_path / "source", 2 * MIB)
    with closing(Store(tmp_path / "store", 2 * MIB + 63)) as store:
        error = refused("E0801", lambda: store.put_file(tmp_path / "source"))
        assert isinstance(error, LocalError)
        assert error.details["wanted_bytes"] == 2 * MIB + 64
        assert bytes_on_disk(tmp_path / "store") == 0
    with closing(Store(tmp_path / "store", 2 * MIB + 64)) as store:
        store.put_file(tmp_path / "source")
        assert bytes_on_disk(tmp_path / "store") == 2 * MIB + 64
        refused("E0801", lambda: store.put_bytes(b"x"))
        store.put_file(tmp_path / "source")  # here already: takes no room


def test_concurrent_writers_never_pass_the_quota_together(tmp_path: Path) -> None:
    quota, size = 10 * MIB, MIB + 1
    sources = [tmp_path / f"source{n}" for n in range(12)]
    for n, source in enumerate(sources):
        random_file(source, size, seed=n)
    worst, codes, go = [0], [], threading.Barrier(len(sources))
    with closing(Store(tmp_path / "store", quota)) as store:

        def put(source: Path) -> None:
            go.wait()
            try:
                store.put_file(source, lambda _: worst.append(bytes_on_disk(tmp_path / "store")))
            except LocalError as error:
                codes.append(error.code)

        threads = [threading.Thread(target=put, args=[source]) for source in sources]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert max(worst) <= quota
        assert codes == ["E0801"] * 3  # nine of size + 64 fit
        assert store.usage().used_bytes == bytes_on_disk(tmp_path / "store") == 9 * (size + 64)
        assert store.usage().reserved_bytes == 0


def test_a_quota_below_what_is_there_refuses_more_and_deletes_nothing(tmp_path: Path) -> None:
    with closing(Store(tmp_path, QUOTA)) as store:
        blob = store.put_bytes(b"x" * 1000)
    with closing(Store(tmp_path, 10)) as store:
        assert store.has(blob)
        refused("E0801", lambda: store.put_bytes(b"y"))
        store.remove(blob)
        store.put_bytes(b"y")


# A full disk


@pytest.mark.parametrize("call", ["pwrite", "posix_fallocate", "fsync", "rename", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_and_leaves_nothing_behind(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    random_file(tmp_path / "source", 2 * MIB)
    real = getattr(os, call)

    def full(*arguments: object, **named_ones: object) -> object:
        if call in ("rename", "open") and ".tmp" not in str(arguments[0]):
            return real(*arguments, **named_ones)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        error = refused("E0802", lambda: store.put_file(tmp_path / "source"))
    assert isinstance(error, LocalError)
    assert bytes_on_disk(tmp_path / "store") == 0
    usage = store.usage()
    assert (usage.blobs, usage.used_bytes, usage.reserved_bytes) == (0, 0, 0)
    stored = store.put_file(tmp_path / "source")
    assert store.verify() == []
    assert store.has(stored.blake3)


def test_a_blob_that_the_disk_cannot_hold_is_refused_before_the_first_byte(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quota allows it; the disk does not, since a part of it is left for the index and logs."""
    disk = SimpleNamespace(f_frsize=1, f_blocks=64 * MIB, f_bavail=4 * MIB)
    monkeypatch.setattr(os, "statvfs", lambda _path: disk)
    assert store.usage().free_bytes == 3 * MIB
    refused("E0802", lambda: store.begin(named("x"), 3 * MIB, bytes(96)))
    random_file(tmp_path / "source", 3 * MIB)
    refused("E0802", lambda: store.put_file(tmp_path / "source"))
    assert bytes_on_disk(tmp_path / "store") == 0
    assert store.usage().reserved_bytes == 0
    store.begin(named("x"), 2 * MIB, bytes(64)).discard()


_ON_A_SMALL_DISK = """
import sys
from contextlib import closing, suppress
from pathlib import Path
from blake3 import blake3
from p2pllm.errors import LocalError
from p2pllm.store import Store, Usage

disk, kept = Path(sys.argv[1]), []
with closing(Store(disk, 2**40)) as store:
    for n in range(1000):
        try:
            kept.append(store.put_bytes(blake3(b"%d" % n).digest(300_000)))
        except LocalError as error:
            assert error.code == "E0802", error
            break
    else:
        raise AssertionError("the disk never filled")
    size = 3 * 2**20
    try:
        store.begin(kept[0][::-1], size, bytes(96))
    except LocalError as error:
        assert error.code == "E0802", error
    store.pin(kept[0])  # the floor leaves room for what must still be written
    store.remove(kept.pop())
    kept.append(store.put_bytes(b"there is room again" * 1000))
with closing(Store(disk, 2**40)) as store:
    assert len(kept) > 10
    assert all(store.has(blob) for blob in kept)
    assert store.verify() == [] and store.pinned() == {kept[0]}
print("survived", len(kept))
"""


def test_a_disk_that_really_fills_leaves_the_store_sound(tmp_path: Path) -> None:
    """A 8 MiB tmpfs in a mount namespace of its own, so that nothing outlives the test."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o size=8m none "$1" && exec {sys.executable} -W error -c "$2" "$1"'
    probe = subprocess.run(
        ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs none "$1"', "sh", disk],
        capture_output=True,
        check=False,
    )
    if probe.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {probe.stderr.decode().strip()}")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", disk, _ON_A_SMALL_DISK],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("survived")


# Keeping and letting go


def test_gc_deletes_what_nothing_reaches_and_a_dry_run_deletes_nothing(store: Store) -> None:
    kept, pinned, lost = (store.put_bytes(text) for text in (b"kept", b"pinned", b"lost!"))
    store.pin(pinned)
    assert store.gc([kept], dry_run=True) == [(lost, 5)]
    assert store.has(lost)
    assert store.gc([kept], dry_run=False) == [(lost, 5)]
    assert not store.has(lost)
    assert store.has(kept)
    assert store.has(pinned)
    assert store.usage().used_bytes == 10
    store.unpin(pinned)
    assert store.gc([kept], dry_run=False) == [(pinned, 6)]


def test_gc_keeps_the_files_of_a_manifest_that_is_a_root_or_pinned(
    store: Store, tmp_path: Path
) -> None:
    random_file(tmp_path / "source", MIB)
    stored = store.put_file(tmp_path / "source")
    entry = File(
        path="adapter_model.safetensors",
        size=stored.size,
        blake3=stored.blake3,
        chunks=stored.chunks,
        sha256=stored.sha256,
    )
    blob, raw = manifest.seal(IDENTITY, msgspec.structs.replace(ADAPTER, files=(entry,)))
    assert store.put_bytes(raw) == blob
    everything = {blob, stored.blake3, stored.chunks}
    assert store.gc([blob], dry_run=False) == []
    store.pin(blob)
    assert store.gc([], dry_run=False) == []
    store.unpin(blob)
    assert {gone for gone, _ in store.gc([], dry_run=False)} == everything
    assert store.usage().used_bytes == 0


def test_a_hold_keeps_what_comes_in_until_something_names_it(store: Store) -> None:
    old = store.put_bytes(b"old")
    here, asked = store.put_bytes(b"here already"), store.put_bytes(b"asked for")
    with store.hold():
        assert store.has(asked)
        new = store.put_bytes(b"new")
        store.put_bytes(b"here already")
        with store.hold():
            pass
        assert store.gc([], dry_run=False) == [(old, 3)]
    assert {blob for blob, _ in store.gc([], dry_run=False)} == {new, here, asked}


def test_roots_are_read_while_nothing_comes_in(store: Store) -> None:
    """A flow that ends while gc starts is already in the database that gc asks for its roots."""
    arrived = threading.Event()

    def put() -> None:
        store.put_bytes(b"came in meanwhile")
        arrived.set()

    def roots() -> Iterator[ContentId]:
        thread.start()
        assert not arrived.wait(0.2)
        yield content_id(b"another")

    thread = threading.Thread(target=put)
    assert store.gc(roots(), dry_run=False) == []
    thread.join()
    assert store.has(content_id(b"came in meanwhile"))


def test_pins_outlive_the_process_and_the_index(tmp_path: Path) -> None:
    with closing(Store(tmp_path, QUOTA)) as store:
        blob = store.put_bytes(b"pin me")
        store.pin(blob)
        store.pin(blob)
    (tmp_path / "index.db").unlink()
    with closing(Store(tmp_path, QUOTA)) as store:
        assert store.pinned() == {blob}
        refused("E0712", lambda: store.remove(blob))
        assert store.usage().pinned == 1
        store.unpin(blob)
        store.remove(blob)
    assert (tmp_path / "pins").read_text() == ""


def test_a_damaged_list_of_pins_is_refused_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "pins").write_text("not an id\n")
    refused("E0306", lambda: Store(tmp_path, QUOTA))
    (tmp_path / "pins").unlink()
    Store(tmp_path, QUOTA).close()  # the failed start let go of the lock


# Looking after it


def flip(path: Path, at: int) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def test_a_flipped_byte_is_found_and_its_blob_set_aside(store: Store, tmp_path: Path) -> None:
    data = random_file(tmp_path / "source", 3 * MIB)
    bad, good = store.put_file(tmp_path / "source"), store.put_bytes(b"good")
    before = store.usage()
    flip(store.path(bad.blake3), 2 * MIB + 3)
    heard: list[int] = []
    assert store.verify(heard.append) == [bad.blake3]
    assert heard == sorted(heard)
    assert heard[-1] == before.used_bytes
    assert not store.has(bad.blake3)
    assert store.has(good)
    assert (tmp_path / "store" / "damaged" / bad.blake3).stat().st_size == 3 * MIB
    assert store.usage().used_bytes == before.used_bytes == bytes_on_disk(tmp_path / "store")
    assert store.verify() == []
    assert store.put_bytes(data) == bad.blake3
    assert store.path(bad.blake3).read_bytes() == data
    assert store.gc([bad.blake3, bad.chunks, good], dry_run=False) == [(bad.blake3, 3 * MIB)]
    assert store.usage().used_bytes == before.used_bytes == bytes_on_disk(tmp_path / "store")


def test_a_damaged_small_blob_is_never_read_out(store: Store) -> None:
    blob = store.put_bytes(b"a manifest, say")
    flip(store.path(blob), 3)
    refused("E0401", lambda: store.read(blob, 100))
    assert not store.has(blob)


def test_a_truncated_and_a_vanished_blob_are_found(store: Store, tmp_path: Path) -> None:
    short, gone = store.put_bytes(b"short" * 100), store.put_bytes(b"gone" * 100)
    store.path(short).chmod(0o600)
    os.truncate(store.path(short), 7)
    store.path(gone).unlink()
    assert set(store.verify()) == {short, gone}
    assert store.usage().used_bytes == bytes_on_disk(tmp_path / "store") == 7
    assert store.usage().blobs == 0


def test_a_blob_that_cannot_be_read_back_is_set_aside(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = store.put_bytes(b"on a bad sector")

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", broken)
    assert store.verify() == [blob]


# The index


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
        store._shelf.index.add(named("not come yet"), 100)
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        store._shelf.index.drop(named("not come yet"))
    with closing(Store(tmp_path / "b", QUOTA)) as store:
        assert (store.usage().blobs, store.usage().used_bytes) == (1, 4)


def test_an_index_that_fails_refuses_the_blob_and_is_made_anew(tmp_path: Path) -> None:
    with closing(Store(tmp_path, QUOTA)) as store:
        kept = store.put_bytes(b"kept")
        store._shelf.index._db.execute("DROP TABLE blobs")
        refused("E0306", lambda: store.put_bytes(b"not kept"))
        assert bytes_on_disk(tmp_path) == 4
    with closing(Store(tmp_path, QUOTA)) as store:
        assert store.has(kept)
        assert (store.usage().blobs, store.usage().used_bytes) == (1, 4)
