"""No room: the quota is never passed, and a full disk is told and survived."""

import errno
import os
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from p2pllm.errors import LocalError
from p2pllm.store import Store
from tests.p2pllm.stores import (
    MIB,
    QUOTA,
    bytes_on_disk,
    random_file,
    refused,
)
from tests.vectors.values import named


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
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
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
