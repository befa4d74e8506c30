"""Blobs on their way in: each chunk checked, one fetch a blob, the whole promised at once."""

import os
import random
import threading
from contextlib import closing
from pathlib import Path

import pytest

from p2pllm.errors import LocalError, P2pllmError, PeerError, Unavailable
from p2pllm.manifest import CHUNK_BYTES, MAX_FILE_BYTES
from p2pllm.partial import Partial, footprint
from p2pllm.store import Store
from tests.p2pllm.stores import Blob, a_blob
from tests.vectors.values import named


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
