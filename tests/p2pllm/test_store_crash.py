"""A store whose process is killed in the middle of writing keeps all that it acknowledged."""

import random
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from p2pllm.ids import ContentId, content_id
from p2pllm.store import Store
from tests.p2pllm import crashing_store

ROOT = Path(__file__).parents[2]
KILLS = 15


def run_and_kill(folder: Path, seed: int, lines: int) -> list[list[str]]:
    """Let it work until it has said so many lines, kill -9, and return all it said."""
    command = [sys.executable, "-m", "tests.p2pllm.crashing_store", str(folder), str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    with process:
        said = [process.stdout.readline().split() for _ in range(lines)]
        process.kill()
        rest = process.stdout.read()
    assert process.returncode == -9, said
    # The last line may be cut off by the kill: only whole lines count.
    return said + [line.split() for line in rest.splitlines(keepends=True) if line.endswith("\n")]


def check(folder: Path, said: list[list[str]], chunks: dict[ContentId, set[int]]) -> None:
    """Everything acknowledged is here, nothing else is left, and the sums are right."""
    for what, blob, *rest in (words for words in said if words != ["open"]):
        if what == "chunk":
            chunks.setdefault(ContentId(blob), set()).add(int(rest[0]))
    with closing(Store(folder / "store", 2**30)) as store:
        assert store.verify() == []
        for what, blob in (words for words in said if len(words) == 2):
            assert store.has(ContentId(blob)), (what, blob)
        usage = store.usage()
        stored = [path for path in folder.glob("store/blobs/*/*") if path.is_file()]
        assert usage.blobs == len(stored)
        assert usage.used_bytes == sum(path.stat().st_size for path in stored)
        assert list(folder.glob("store/damaged/*")) == []
        partials = list(folder.glob("store/partial/*"))
        assert len(partials) == 2 * usage.partials  # no temporary file, no lone half
        for seed in range(6):
            check_fetch(store, seed, chunks)
        assert store.usage().reserved_bytes == usage.reserved_bytes


def check_fetch(store: Store, seed: int, chunks: dict[ContentId, set[int]]) -> None:
    """A fetch goes on where it was: no chunk that was accepted is asked for again."""
    data = crashing_store.fetch_bytes(seed)
    blob = content_id(data)
    if blob in chunks and not store.has(blob):
        incoming = store.begin(blob, len(data), crashing_store.fetch_hashes(data))
        assert not chunks[blob] & set(incoming.missing())
        incoming.close()


def test_kill_9_again_and_again_loses_nothing_acknowledged(tmp_path: Path) -> None:
    rng = random.Random(7)
    chunks: dict[ContentId, set[int]] = {}
    whole = 0
    for seed in range(KILLS):
        said = run_and_kill(tmp_path, seed, rng.randrange(1, 60))
        check(tmp_path, said, chunks)
        whole += sum(words[0] == "whole" for words in said)
    assert chunks
    assert whole  # some fetches ended, some were cut off
