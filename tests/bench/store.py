"""The store beside plain hashing and writing of the same bytes, interleaved in one run.

put_file does more than the plain run (SHA-256, chunk list, index, folders); a fetch checks each
chunk and then the whole. `plain` is one BLAKE3 over each MiB, a write of it, and one fsync.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from blake3 import blake3

from p2pllm.ids import content_id
from p2pllm.manifest import CHUNK_BYTES
from p2pllm.store import Store


def main(argv: list[str]) -> dict[str, Any]:
    """Medians in MB/s (10**6 bytes), and their ratios to the plain run."""
    parser = argparse.ArgumentParser(prog="store")
    parser.add_argument("--mb", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dir", type=Path, help="where to write (default: the temporary folder)")
    options = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="p2pllm-bench-", dir=options.dir))
    try:
        return _measure(folder, options.mb * 10**6, options.rounds)
    finally:
        shutil.rmtree(folder)


def _measure(folder: Path, size: int, rounds: int) -> dict[str, Any]:
    data = memoryview(blake3(b"bench").digest(size))
    (folder / "source").write_bytes(data)
    runs: dict[str, Callable[[Path], float]] = {
        "plain": lambda at: _plain(at, data),
        "put_file": lambda at: _put(at, folder / "source", size),
        "fetch": lambda at: _fetch(at, data),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name, run in runs.items():
            at = folder / f"{name}-{number}"
            seconds[name].append(run(at))
            shutil.rmtree(at)
            print(f"{name} {size / seconds[name][-1] / 1e6:.0f} MB/s", file=sys.stderr)
    middle = {name: statistics.median(taken) for name, taken in seconds.items()}
    return {
        "mb": size / 1e6,
        "rounds": rounds,
        **{f"{name}_mb_s": round(size / taken / 1e6, 1) for name, taken in middle.items()},
        "put_file_ratio": round(middle["plain"] / middle["put_file"], 3),
        "fetch_ratio": round(middle["plain"] / middle["fetch"], 3),
        "verify_mb_s": round(_verify(folder / "verify", folder / "source", size), 1),
    }


def _plain(at: Path, data: memoryview) -> float:
    at.mkdir()
    start = time.perf_counter()
    fd = os.open(at / "file", os.O_WRONLY | os.O_CREAT, 0o600)
    for offset in range(0, len(data), CHUNK_BYTES):
        piece = data[offset : offset + CHUNK_BYTES]
        blake3(piece).digest()
        assert os.pwrite(fd, piece, offset) == len(piece)
    os.fsync(fd)
    os.close(fd)
    return time.perf_counter() - start


def _put(at: Path, source: Path, size: int) -> float:
    with closing(Store(at, 2 * size)) as store:
        start = time.perf_counter()
        store.put_file(source)
        return time.perf_counter() - start


def _fetch(at: Path, data: memoryview) -> float:
    pieces = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
    hashes = b"".join(blake3(piece).digest() for piece in pieces)
    blob = content_id(data)
    with closing(Store(at, 2 * len(data))) as store:
        start = time.perf_counter()
        incoming = store.begin(blob, len(data), hashes)
        for index in incoming.missing():
            incoming.accept(index, pieces[index])
        incoming.finish()
        return time.perf_counter() - start


def _verify(at: Path, source: Path, size: int) -> float:
    with closing(Store(at, 2 * size)) as store:
        store.put_file(source)
        start = time.perf_counter()
        assert store.verify() == []
        return size / (time.perf_counter() - start) / 1e6
