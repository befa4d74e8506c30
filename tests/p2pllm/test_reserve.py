"""On a full disk a removal has the reserve's room; tried on a file system that is really full."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2pllm import reserve
from p2pllm.reserve import SIZES, Reserve

ROOT = Path(__file__).parent.parent.parent
FULL = """
import sys
from contextlib import closing
from pathlib import Path
import trio
from p2pllm.errors import LocalError
from tests.node.test_tidy import _kept

models, folder = _kept(Path(sys.argv[1]))
with closing(models.store), closing(models.library):
    models.reserve.set_aside()
    with open(sys.argv[1] + "/fill", "wb", buffering=0) as file:
        for size in (65536, 512):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                pass
    (held,) = models.library.models()
    try:
        models.library.remove(held.manifest)
    except LocalError as full:
        print(full.code)
    print(trio.run(models.drop, held) > 0, models.library.models(), folder.exists())
"""


def test_a_model_is_removed_from_a_disk_that_is_full(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=4m tmpfs {tmp_path}"
    script = f'{mount} && exec "$0" -c "$1" {tmp_path}'
    command = ["unshare", "-Urm", "sh", "-c"]
    if subprocess.run([*command, mount], capture_output=True, check=False).returncode:
        pytest.skip("no file system of its own can be mounted here")
    ran = subprocess.run(
        [*command, script, sys.executable, FULL],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.stdout.split("\n")[:2] == ["E0802", "True [] False"], ran.stderr


def test_its_room_is_free_inside_the_block_and_taken_after(tmp_path: Path) -> None:
    kept = Reserve(tmp_path / "reserve")
    kept.set_aside()
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= SIZES[0]
    with kept.lent():
        with kept.lent():
            assert not list(tmp_path.iterdir())
        assert not list(tmp_path.iterdir())  # the outer one is not done
    assert (tmp_path / "reserve").stat().st_size == SIZES[0]


def test_where_there_is_less_room_it_takes_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def allocate(fd: int, size: int) -> None:
        if size > 256 * 1024:
            raise OSError(errno.ENOSPC, "full")
        os.ftruncate(fd, size)

    monkeypatch.setattr(reserve, "allocate", allocate)
    Reserve(tmp_path / "reserve").set_aside()
    assert (tmp_path / "reserve").stat().st_size == 256 * 1024
    Reserve(tmp_path / "gone" / "reserve").set_aside()  # which cannot be, and ends nothing
