"""A verb that only asks the daemon is quick, since it loads next to nothing."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.double import open_double

ROOT = Path(__file__).parent.parent.parent
HEAVY = {"torch", "transformers", "peft", "hivemind", "libp2p", "multiaddr", "google"}
NOT_NEEDED = {"trio", "anyio", "starlette", "hypercorn", "msgspec", "msgpack", "blake3", "nacl"}
LOADED = """
import sys
from node.cli import main
status = main(sys.argv[1:])
print(status, *sorted({name.split(".")[0] for name in sys.modules}), file=sys.stderr)
"""
ASKING = (
    ["status"],
    ["id"],
    ["peers"],
    ["ls"],
    ["search", "--lang", "en"],
    ["show", "en/medical/abstracts"],
    ["rm", "en/medical/abstracts"],
    ["base", "ls"],
    ["store", "du"],
    ["jobs"],
    ["doctor"],
    ["help", "pull"],
    ["version"],
    [],
)
RUNS = 9
BAR_S = 0.2  # on a quiet machine
TIMES_BARE = 25  # measured: 8 times the start of bare Python; slow machines are slow at both


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="p2p") as name:
        yield Path(name)


@pytest.mark.parametrize("argv", ASKING, ids=" ".join)
def test_a_verb_that_only_asks_loads_no_heavy_library(home: Path, argv: list[str]) -> None:
    with open_double(home / "run" / "api.sock"):
        done = subprocess.run(
            [sys.executable, "-c", LOADED, "--home", str(home), *argv],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    status, *loaded = done.stderr.splitlines()[-1].split()
    assert status in ("0", "10")
    assert not set(loaded) & (HEAVY | NOT_NEEDED)


def took_s(argv: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(argv, cwd=ROOT, capture_output=True, check=True)
    return time.perf_counter() - began


def test_status_answers_in_a_fifth_of_a_second(home: Path) -> None:
    bare: list[float] = []
    ours: list[float] = []
    with open_double(home / "run" / "api.sock"):
        for _ in range(RUNS):  # interleaved, so that a busy moment hits both
            bare.append(took_s([sys.executable, "-c", "pass"]))
            ours.append(took_s([sys.executable, "-m", "node.cli", "status", "--home", str(home)]))
    bound_s = max(BAR_S, TIMES_BARE * statistics.median(bare))
    assert statistics.median(ours) < bound_s, f"bare {bare}, status {ours}"
