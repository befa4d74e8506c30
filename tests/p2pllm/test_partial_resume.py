"""What is kept of a fetch that ended early, and what is trusted of it."""

import errno
import os
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from p2pllm import codec, partial
from p2pllm.errors import LocalError, P2pllmError
from p2pllm.manifest import CHUNK_BYTES
from p2pllm.partial import Map, footprint
from p2pllm.store import Store
from tests.p2pllm.stores import (
    QUOTA,
    a_blob,
)
from tests.vectors.values import named


def code(error: pytest.ExceptionInfo[P2pllmError]) -> str:
    return error.value.code


def test_progress_outlives_close_and_the_process(tmp_path: Path) -> None:
    blob = a_blob(5.5)
    with closing(Store(tmp_path, QUOTA)) as store:
        incoming = blob.begin(store)
        for index in (0, 2, 5):
            incoming.accept(index, blob.chunk(index))
        incoming.close()
        incoming.close()
        reserved = store.usage().reserved_bytes
    with closing(Store(tmp_path, QUOTA)) as store:
        assert store.usage().reserved_bytes == reserved == footprint(len(blob.data))
        incoming = blob.begin(store)
        assert incoming.missing() == [1, 3, 4]
        for index in incoming.missing():
            incoming.accept(index, blob.chunk(index))
        incoming.finish()
        assert store.verify() == []


def test_closing_the_store_keeps_the_progress_of_what_is_open(tmp_path: Path) -> None:
    blob = a_blob(2)
    with closing(Store(tmp_path, QUOTA)) as store:
        incoming = blob.begin(store)
        incoming.accept(1, blob.chunk(1))
    with pytest.raises(LocalError) as refused:
        incoming.accept(0, blob.chunk(0))
    assert code(refused) == "E1001"
    with closing(Store(tmp_path, QUOTA)) as store, closing(blob.begin(store)) as incoming:
        assert incoming.missing() == [0]


def test_a_chunk_written_but_not_marked_is_counted_when_the_fetch_goes_on(tmp_path: Path) -> None:
    """What a kill leaves: bytes in the file, an older map."""
    blob = a_blob(6)
    with closing(Store(tmp_path, QUOTA)) as store:
        incoming = blob.begin(store)
        early = next(tmp_path.glob("partial/*.map")).read_bytes()
        for index in (1, 4):
            incoming.accept(index, blob.chunk(index))
        incoming.close()
        next(tmp_path.glob("partial/*.map")).write_bytes(early)
        data = next(tmp_path.glob("partial/*.data"))
        with data.open("r+b") as file:  # half a chunk, as a kill within a write leaves it
            file.seek(2 * CHUNK_BYTES)
            file.write(blob.chunk(2)[: CHUNK_BYTES // 2])
        with closing(blob.begin(store)) as incoming:
            assert incoming.missing() == [0, 2, 3, 5]


def test_another_chunk_list_keeps_only_the_chunks_that_fit_it(store: Store) -> None:
    blob = a_blob(4)
    lie = blob.hashes[:64] + bytes(32) + blob.hashes[96:]
    incoming = store.begin(blob.id, len(blob.data), lie)
    for index in (0, 1, 3):
        incoming.accept(index, blob.chunk(index))
    incoming.close()
    incoming = blob.begin(store)
    assert incoming.missing() == [2]
    incoming.accept(2, blob.chunk(2))
    incoming.finish()


def test_another_size_starts_over_with_another_promise(store: Store) -> None:
    blob = a_blob(4)
    incoming = store.begin(blob.id, 9 * CHUNK_BYTES, bytes(32 * 9))
    incoming.close()
    with closing(blob.begin(store)) as incoming:
        assert incoming.missing() == [0, 1, 2, 3]
        assert store.usage().reserved_bytes == footprint(len(blob.data))


@pytest.mark.parametrize("damage", [b"", b"\xc1", bytes(100), "bits", "size", "no data"])
def test_a_damaged_map_costs_the_progress_only(tmp_path: Path, damage: bytes | str) -> None:
    blob = a_blob(3)
    with closing(Store(tmp_path, QUOTA)) as store:
        incoming = blob.begin(store)
        incoming.accept(0, blob.chunk(0))
        incoming.close()
    [progress], [data] = tmp_path.glob("partial/*.map"), tmp_path.glob("partial/*.data")
    found = codec.decode(progress.read_bytes(), Map, partial.MAX_MAP_BYTES)
    if damage == "bits":
        progress.write_bytes(codec.encode(msgspec.structs.replace(found, bits=b"")))
    elif damage == "size":
        os.truncate(data, CHUNK_BYTES)
    elif damage == "no data":
        data.unlink()
    elif isinstance(damage, bytes):
        progress.write_bytes(damage)
    with closing(Store(tmp_path, QUOTA)) as store:
        assert (store.usage().partials, store.usage().reserved_bytes) == (0, 0)
        assert list((tmp_path / "partial").iterdir()) == []
        with closing(blob.begin(store)) as incoming:
            assert incoming.missing() == [0, 1, 2]


def test_a_begin_that_finds_the_disk_full_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(LocalError) as refused:
            a_blob(2).begin(store)
    assert code(refused) == "E0802"
    assert list((tmp_path / "store" / "partial").iterdir()) == []
    assert (store.usage().reserved_bytes, store.usage().partials) == (0, 0)
    a_blob(2).begin(store).discard()


def test_a_disk_that_cannot_set_space_aside_is_used_all_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    blob = a_blob(1.5)
    monkeypatch.setattr(os, "posix_fallocate", unable)
    incoming = blob.begin(store)
    for index in incoming.missing():
        incoming.accept(index, blob.chunk(index))
    incoming.finish()
    assert store.path(blob.id).read_bytes() == blob.data


def test_a_fetch_killed_while_it_was_finished_can_go_on(store: Store, tmp_path: Path) -> None:
    blob = a_blob(1)
    blob.begin(store).close()
    [data] = tmp_path.glob("store/partial/*.data")
    data.chmod(0o444)  # as `finish` leaves it for a moment; root could write to it all the same
    incoming = blob.begin(store)
    assert data.stat().st_mode & 0o777 == 0o600
    incoming.accept(0, blob.chunk(0))
    incoming.finish()


def test_a_start_forgets_fetches_that_are_not_needed_or_not_what_they_say(tmp_path: Path) -> None:
    came, mixed_up = a_blob(1, seed=1), a_blob(1, seed=2)
    with closing(Store(tmp_path, QUOTA)) as store:
        came.begin(store).close()
        store.put_bytes(came.data)
        mixed_up.begin(store).close()
    for path in tmp_path.glob(f"partial/{mixed_up.id}.*"):
        path.rename(path.with_stem(named("another")))
    with closing(Store(tmp_path, QUOTA)) as store:
        assert (store.usage().partials, store.usage().reserved_bytes) == (0, 0)
        assert list((tmp_path / "partial").iterdir()) == []


@pytest.mark.parametrize("call", ["pwrite", "posix_fallocate", "fdatasync"])
def test_a_full_disk_is_told_and_the_progress_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    blob = a_blob(3)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def accept_and_resume() -> None:
        incoming.accept(1, blob.chunk(1))
        incoming.close()
        blob.begin(store)

    incoming = blob.begin(store)
    incoming.accept(0, blob.chunk(0))
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(LocalError) as refused:
            accept_and_resume()
        assert code(refused) == "E0802"
    incoming.close()
    incoming = blob.begin(store)
    assert 0 not in incoming.missing()
    for index in incoming.missing():
        incoming.accept(index, blob.chunk(index))
    incoming.finish()
    assert store.verify() == []


def test_the_map_reaches_the_disk_after_the_bytes_it_speaks_of(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob, calls = a_blob(6), list[str]()
    real_sync, real_rename, real_write = os.fdatasync, os.rename, os.pwrite

    def sync(fd: int) -> None:
        calls.append("sync data")
        real_sync(fd)

    def rename(source: Path, target: Path) -> None:
        calls.append(f"new {target.suffix}")
        real_rename(source, target)

    def write(fd: int, data: memoryview, offset: int) -> int:
        if len(data) == CHUNK_BYTES:
            calls.append("chunk")
        return real_write(fd, data, offset)

    incoming = blob.begin(store)
    monkeypatch.setattr(partial, "_SAVE_EVERY", 2)
    monkeypatch.setattr(os, "fdatasync", sync)
    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(os, "pwrite", write)
    for index in range(5):
        incoming.accept(index, blob.chunk(index))
    incoming.close()
    saved = ["sync data", "new .map"]
    assert calls == ["chunk", "chunk", *saved, "chunk", "chunk", *saved, "chunk", *saved]
