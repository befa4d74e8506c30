"""The store: what goes in comes out, once; what is kept and let go; damage is found."""

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from p2pllm import manifest
from p2pllm.errors import PeerError, Unavailable
from p2pllm.ids import ContentId, content_id
from p2pllm.manifest import CHUNK_BYTES, File
from p2pllm.store import Store
from tests.p2pllm.stores import (
    MIB,
    QUOTA,
    bytes_on_disk,
    random_file,
    refused,
    usage_of,
)
from tests.vectors.values import ADAPTER, IDENTITY


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
