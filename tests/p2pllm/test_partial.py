"""Blobs on their way in: each chunk checked, progress kept, nothing trusted that was not hashed."""

import errno
import os
import random
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from p2pllm import codec, partial
from p2pllm.errors import LocalError, P2pllmError, PeerError, Unavailable
from p2pllm.ids import ContentId, content_id
from p2pllm.manifest import CHUNK_BYTES, MAX_FILE_BYTES
from p2pllm.partial import Map, Partial, footprint
from p2pllm.store import Store
from tests.vectors.values import named

QUOTA = 64 * CHUNK_BYTES


class Blob:
    """Some bytes with all that a fetch knows of them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.id: ContentId = content_id(data)
        self.count = -(-len(data) // CHUNK_BYTES)
        self.hashes = b"".join(blake3(self.chunk(i)).digest() for i in range(self.count))

    def __repr__(self) -> str:
        return f"Blob({len(self.data)} bytes, {self.id[:8]})"

    def chunk(self, index: int) -> memoryview:
        return memoryview(self.data)[index * CHUNK_BYTES :][:CHUNK_BYTES]

    def begin(self, store: Store) -> Partial:
        return store.begin(self.id, len(self.data), self.hashes)


def a_blob(chunks: float, seed: int = 0) -> Blob:
    return Blob(blake3(b"%d" % seed).digest(int(chunks * CHUNK_BYTES)))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path, QUOTA)) as opened:
        yield opened


def code(error: pytest.ExceptionInfo[P2pllmError]) -> str:
    return error.value.code


@pytest.mark.parametrize("chunks", [0, 0.5, 1, 3, 9.25])
def test_chunks_in_any_order_make_up_the_blob(store: Store, chunks: float) -> None:
    blob = a_blob(chunks)
    incoming = blob.begin(store)
    assert incoming.chunk_count == blob.count
    order = incoming.missing()
    assert order == list(range(blob.count))
    random.Random(1).shuffle(order)
    for index in order:
        offset, length = incoming.chunk_range(index)
        assert (offset, length) == (index * CHUNK_BYTES, len(blob.chunk(index)))
        incoming.accept(index, blob.chunk(index))
    assert not store.has(blob.id)
    assert incoming.finish() == blob.id
    assert store.path(blob.id).read_bytes() == blob.data
    assert store.path(blob.id).stat().st_mode & 0o777 == 0o444
    usage = store.usage()
    assert (usage.used_bytes, usage.reserved_bytes, usage.partials) == (len(blob.data), 0, 0)
    assert list((store.path(blob.id).parents[2] / "partial").iterdir()) == []
    incoming.close()
    incoming.discard()
    assert store.has(blob.id)


def test_a_wrong_chunk_is_refused_and_costs_only_itself(store: Store) -> None:
    blob, other = a_blob(3), a_blob(3, seed=1)
    with closing(blob.begin(store)) as incoming:
        incoming.accept(0, blob.chunk(0))
        for index, data in [(1, other.chunk(1)), (1, blob.chunk(2)), (1, blob.chunk(1)[:-1])]:
            with pytest.raises(PeerError) as refused:
                incoming.accept(index, data)
            assert code(refused) == "E0604"
        with pytest.raises(PeerError):
            incoming.accept(2, memoryview(blob.data)[2 * CHUNK_BYTES - 1 :])
        assert incoming.missing() == [1, 2]


def test_a_chunk_that_is_here_is_not_written_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = a_blob(2)
    with closing(blob.begin(store)) as incoming:
        incoming.accept(1, blob.chunk(1))
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", None)
            incoming.accept(1, blob.chunk(1))


def test_finish_waits_for_every_chunk(store: Store) -> None:
    blob = a_blob(3)
    with closing(blob.begin(store)) as incoming:
        incoming.accept(0, blob.chunk(0))
        with pytest.raises(Unavailable) as refused:
            incoming.finish()
        assert code(refused) == "E0401"
        assert incoming.missing() == [1, 2]


def test_a_chunk_list_that_lies_about_the_blob_is_found_at_the_end(store: Store) -> None:
    blob = a_blob(2)
    wrong = named("what the manifest promised")
    incoming = store.begin(wrong, len(blob.data), blob.hashes)
    for index in range(2):
        incoming.accept(index, blob.chunk(index))
    with pytest.raises(PeerError) as refused:
        incoming.finish()
    assert code(refused) == "E0605"
    assert not store.has(wrong)
    assert (store.usage().reserved_bytes, store.usage().partials) == (0, 0)
    store.begin(wrong, len(blob.data), blob.hashes).discard()


def test_a_chunk_list_of_the_wrong_length_is_refused(store: Store) -> None:
    for size, hashes in [
        (1, b""),
        (CHUNK_BYTES, bytes(64)),
        (CHUNK_BYTES + 1, bytes(32)),
        (-1, b""),
    ]:
        with pytest.raises(PeerError) as refused:
            store.begin(named("x"), size, hashes)
        assert code(refused) == "E0603"
    with pytest.raises(PeerError) as refused:
        store.begin(named("x"), MAX_FILE_BYTES + 1, bytes(32 * 32769))
    assert code(refused) == "E0603"


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


def test_a_blob_has_one_fetch_at_a_time(store: Store) -> None:
    blob = a_blob(1)
    incoming = blob.begin(store)
    with pytest.raises(LocalError) as refused:
        blob.begin(store)
    assert code(refused) == "E0307"
    incoming.accept(0, blob.chunk(0))
    incoming.finish()
    with pytest.raises(LocalError) as refused:
        blob.begin(store)
    assert code(refused) == "E0307"


def test_a_blob_that_was_put_while_it_was_fetched_is_kept_once(store: Store) -> None:
    blob = a_blob(2)
    incoming = blob.begin(store)
    for index in range(2):
        incoming.accept(index, blob.chunk(index))
    store.put_bytes(blob.data)
    incoming.finish()
    usage = store.usage()
    assert (usage.used_bytes, usage.reserved_bytes) == (len(blob.data), 0)
    assert store.path(blob.id).read_bytes() == blob.data


def test_the_whole_blob_is_promised_before_its_first_byte(tmp_path: Path) -> None:
    blob, other = a_blob(4), a_blob(4, seed=1)
    quota = footprint(len(blob.data)) + len(other.data)
    with closing(Store(tmp_path, quota)) as store:
        blob.begin(store).close()
        with pytest.raises(LocalError) as refused:
            other.begin(store)
        assert code(refused) == "E0801"
        assert len(list((tmp_path / "partial").iterdir())) == 2
    with closing(Store(tmp_path, quota)) as store:  # the promise is on disk too
        with pytest.raises(LocalError):
            other.begin(store)
        blob.begin(store).discard()
        assert store.usage().reserved_bytes == 0
        other.begin(store).close()


def test_concurrent_fetches_never_pass_the_quota_together(tmp_path: Path) -> None:
    blobs = [a_blob(2, seed) for seed in range(8)]
    quota, go = 3 * footprint(2 * CHUNK_BYTES), threading.Barrier(len(blobs))
    begun: list[Partial] = []
    codes: list[str] = []
    with closing(Store(tmp_path, quota)) as store:

        def begin(blob: Blob) -> None:
            go.wait()
            try:
                begun.append(blob.begin(store))
            except LocalError as error:
                codes.append(error.code)

        threads = [threading.Thread(target=begin, args=[blob]) for blob in blobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(begun), codes) == (3, ["E0801"] * 5)
        on_disk = sum(path.stat().st_size for path in (tmp_path / "partial").iterdir())
        assert on_disk <= store.usage().reserved_bytes == quota


def test_gc_drops_interrupted_fetches_that_no_root_wants(store: Store) -> None:
    wanted, running, left = a_blob(1, seed=1), a_blob(1, seed=2), a_blob(1, seed=3)
    wanted.begin(store).close()
    left.begin(store).close()
    with closing(running.begin(store)):
        size = footprint(CHUNK_BYTES)
        assert store.gc([wanted.id], dry_run=True) == [(left.id, size)]
        assert store.gc([wanted.id], dry_run=False) == [(left.id, size)]
        assert store.usage().partials == 2
    with store.hold():
        left.begin(store).close()
        assert {blob for blob, _ in store.gc([], dry_run=False)} == {wanted.id, running.id}


def test_many_threads_fill_one_blob(store: Store) -> None:
    blob = a_blob(40.5)
    incoming = blob.begin(store)
    indices = incoming.missing() * 2  # every chunk comes twice
    random.Random(2).shuffle(indices)
    faults: list[BaseException] = []

    def work(share: list[int]) -> None:
        try:
            for index in share:
                incoming.accept(index, blob.chunk(index))
        except P2pllmError as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=[indices[n::6]]) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert incoming.finish() == blob.id
    assert store.verify() == []


def test_a_late_chunk_never_lands_in_another_file(store: Store, tmp_path: Path) -> None:
    """A thread that outlives the fetch holds a descriptor number that is soon another file's."""
    blob = a_blob(20)
    incoming = blob.begin(store)
    stopped: list[str] = []

    def work() -> None:
        try:
            while True:
                incoming.accept(3, blob.chunk(3))
                incoming._bits[0] = 0  # so that it writes again
        except LocalError as error:
            stopped.append(error.code)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    incoming.discard()
    with (tmp_path / "innocent").open("w+b") as innocent:
        assert innocent.fileno() == incoming.fd  # the number was given again
        for thread in threads:
            thread.join()
        assert os.fstat(innocent.fileno()).st_size == 0
    assert stopped == ["E1001"] * 3


def test_closing_waits_for_a_chunk_that_is_being_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = a_blob(2)
    incoming = blob.begin(store)
    writing, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    real = os.pwrite

    def slow(fd: int, data: memoryview, offset: int) -> int:
        writing.set()
        assert go_on.wait(10)
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", slow)
    late = threading.Thread(target=incoming.accept, args=[1, blob.chunk(1)])
    late.start()
    assert writing.wait(10)
    end = threading.Thread(target=lambda: (incoming.discard(), ended.set()))
    end.start()
    assert not ended.wait(0.1)
    os.fstat(incoming.fd)  # still ours
    go_on.set()
    late.join()
    end.join()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(incoming.fd)


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
    assert list((tmp_path / "partial").iterdir()) == []
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
    [data] = tmp_path.glob("partial/*.data")
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
