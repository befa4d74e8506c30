"""A process that writes into a store until it is killed, and says what it was promised.

One line on stdout for each thing that was acknowledged: `bytes ID`, `file ID`, `chunk ID INDEX`,
`whole ID`. Run by test_store_crash.py: `python crashing_store.py FOLDER SEED`.
"""

import random
import sys
import threading
from contextlib import closing
from pathlib import Path

from blake3 import blake3

from p2pllm.ids import ContentId, content_id
from p2pllm.manifest import CHUNK_BYTES
from p2pllm.store import Store


def say(*words: object) -> None:
    """A line, written at once and whole."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def fetch_bytes(seed: int) -> bytes:
    """The blob that a fetch of this seed brings: five and a half chunks."""
    return blake3(b"fetch %d" % seed).digest(5 * CHUNK_BYTES + CHUNK_BYTES // 2)


def fetch_hashes(data: bytes) -> bytes:
    """Its chunk list."""
    starts = range(0, len(data), CHUNK_BYTES)
    return b"".join(blake3(data[at : at + CHUNK_BYTES]).digest() for at in starts)


def _fetch(store: Store, seed: int, rng: random.Random) -> None:
    data = fetch_bytes(seed)
    blob: ContentId = content_id(data)
    if store.has(blob):
        return
    incoming = store.begin(blob, len(data), fetch_hashes(data))
    order = incoming.missing()
    rng.shuffle(order)
    for index in order:
        start = index * CHUNK_BYTES
        incoming.accept(index, memoryview(data)[start : start + CHUNK_BYTES])
        say("chunk", blob, index)
        if rng.random() < 0.1:
            incoming.close()
            return
    incoming.finish()
    say("whole", blob)


def main(folder: Path, seed: int) -> None:
    """Write for ever, from two threads."""
    rng = random.Random(seed)
    source = folder / f"source-{seed}"
    with closing(Store(folder / "store", 2**30)) as store:
        say("open")

        def put() -> None:
            for n in range(10**6):
                say("bytes", store.put_bytes(b"%d %d" % (seed, n) * 500))

        threading.Thread(target=put, daemon=True).start()
        for n in range(10**6):
            source.write_bytes(
                blake3(b"%d %d" % (seed, n)).digest(rng.randrange(1, 3 * CHUNK_BYTES))
            )
            say("file", store.put_file(source).blake3)
            _fetch(store, rng.randrange(6), rng)
            if n % 7 == 6:
                store.gc(store.pinned(), dry_run=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
