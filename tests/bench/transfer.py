"""200 MB between two real nodes, beside two bare p2pd and plain TCP with BLAKE3, interleaved.

Two processes, each with its own key, p2pd and store. `verified` is all of `fetch_blob`: chunks
checked and written, the whole checked and committed to the store. `bare` moves the same bytes over
the same two p2pd from sendfile to recv_into and drops them. `tcp` is sendfile to recv_into on
loopback TCP, hashed with BLAKE3 as it arrives. A round runs all three; figures are medians.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import trio
from blake3 import blake3

from gossip import bulk, exchange, fetch
from gossip.endpoint import Endpoint, open_endpoint
from p2pllm import keys
from p2pllm.ids import ContentId, NodeId, parse_node_id
from p2pllm.manifest import File
from p2pllm.store import Store

LISTEN = ["/ip4/127.0.0.1/tcp/0"]
BARE = "/p2pllm/bench/bare/1"
MB = 1e6


class Offer(msgspec.Struct, frozen=True):
    """What the serving process prints when it is ready."""

    node: NodeId
    address: str
    tcp_port: int
    pids: list[int]
    file: File


class Sample(msgspec.Struct, frozen=True):
    """One transfer."""

    mb_s: float
    cpu_s_per_gb: float


def main(argv: list[str]) -> dict[str, Any]:
    """Run the bench, or with --serve its other process."""
    options = argparse.ArgumentParser(prog="python -m tests.bench transfer")
    options.add_argument("--mb", type=int, default=200, help="10^6 bytes a transfer")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument(
        "--dir", type=Path, help="where the stores are; default: the temporary folder"
    )
    options.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args(argv)
    if chosen.serve:
        trio.run(_serve, chosen.serve, int(chosen.mb * MB))
        return {}
    with tempfile.TemporaryDirectory(prefix="p2x", dir=chosen.dir) as folder:
        return trio.run(_measure, Path(folder), chosen.mb, chosen.rounds)


async def _measure(folder: Path, mb: int, rounds: int) -> dict[str, Any]:
    keys.load_or_create(folder / "key")
    with _server(folder / "server", mb) as (offer, server):
        async with open_endpoint(folder / "run", folder / "key", LISTEN) as endpoint:
            with closing(Store(folder / "store", 4 * int(mb * MB) + 2**30)) as store:
                await endpoint.connect(offer.address)
                return await _rounds(endpoint, store, offer, rounds, server)


async def _rounds(
    endpoint: Endpoint, store: Store, offer: Offer, rounds: int, server: psutil.Process
) -> dict[str, Any]:
    everyone = [*map(psutil.Process, offer.pids), psutil.Process(), psutil.Process(endpoint.pid)]
    idle = {process.pid: process.memory_info().rss for process in everyone}

    async def verified() -> None:
        await fetch.fetch_blob(endpoint, store, offer.file, [offer.node], lambda _event: None)

    async def bare() -> None:
        await _fetch_bare(endpoint, offer)

    async def tcp() -> None:
        await trio.to_thread.run_sync(_fetch_tcp, offer)

    ways: list[tuple[str, Callable[[], Any]]] = [
        ("verified", verified),
        ("bare", bare),
        ("tcp", tcp),
    ]
    samples: dict[str, list[Sample]] = {name: [] for name, _ in ways}
    for number in range(rounds + 1):
        for name, way in ways[number % 3 :] + ways[: number % 3]:
            sample = await _timed(way, offer.file.size, everyone)
            if number:  # the first round warms caches and connections
                samples[name].append(sample)
                print(f"round {number} {name:>8} {sample.mb_s:6.0f} MB/s", file=sys.stderr)
            if name == "verified":
                store.remove(offer.file.blake3)
                store.remove(offer.file.chunks)
    return _summary(samples, offer, endpoint, idle)


def _summary(
    samples: dict[str, list[Sample]], offer: Offer, endpoint: Endpoint, idle: dict[int, int]
) -> dict[str, Any]:
    speed = {name: statistics.median(s.mb_s for s in found) for name, found in samples.items()}
    pairs = list(zip(samples["verified"], samples["bare"], strict=True))
    sides = {"sender": offer.pids[0], "receiver": os.getpid()}
    p2pds = (offer.pids[1], endpoint.pid)
    return {
        "mb": offer.file.size / MB,
        "rounds": len(pairs),
        "mb_s": round(speed["verified"], 1),
        "bare_p2pd_mb_s": round(speed["bare"], 1),
        "tcp_blake3_mb_s": round(speed["tcp"], 1),
        "ratio_p2pd": round(speed["verified"] / speed["bare"], 3),
        "ratio_p2pd_worst_round": round(min(v.mb_s / b.mb_s for v, b in pairs), 3),
        "ratio_tcp": round(speed["verified"] / speed["tcp"], 3),
        "cpu_s_per_gb": round(statistics.median(s.cpu_s_per_gb for s in samples["verified"]), 2),
        "bare_cpu_s_per_gb": round(statistics.median(s.cpu_s_per_gb for s in samples["bare"]), 2),
        "rss_mb": round(max(_peak_rss(pid) for pid in sides.values()) / MB, 1),
        "rss_beyond_idle_mb": {
            name: round((_peak_rss(pid) - idle[pid]) / MB, 1) for name, pid in sides.items()
        },
        "p2pd_rss_mb": round(max(map(_peak_rss, p2pds)) / MB, 1),
    }


async def _timed(way: Callable[[], Any], size: int, everyone: list[psutil.Process]) -> Sample:
    cpu, started = _cpu_seconds(everyone), time.perf_counter()
    await way()
    seconds = time.perf_counter() - started
    return Sample(size / MB / seconds, (_cpu_seconds(everyone) - cpu) / (size / 1e9))


def _cpu_seconds(everyone: list[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (p.cpu_times() for p in everyone))


def _peak_rss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel reports no VmHWM")


async def _fetch_bare(endpoint: Endpoint, offer: Offer) -> None:
    def drain(sock: socket.socket) -> None:
        buffer, left = bytearray(2**20), offer.file.size
        while left:
            got = sock.recv_into(buffer)
            assert got
            left -= got

    async with await endpoint.open_stream(offer.node, BARE) as stream:
        await bulk.in_threads(stream, drain, trio.CapacityLimiter(1))


def _fetch_tcp(offer: Offer) -> None:
    whole, buffer = blake3(), memoryview(bytearray(2**20))
    with socket.create_connection(("127.0.0.1", offer.tcp_port)) as sock:
        while got := sock.recv_into(buffer):
            whole.update(buffer[:got])
    assert ContentId(whole.hexdigest()) == offer.file.blake3


@contextmanager
def _server(folder: Path, mb: int) -> Iterator[tuple[Offer, psutil.Process]]:
    """The serving process; it ends when its standard input does."""
    folder.mkdir()
    command = [
        sys.executable,
        "-m",
        "tests.bench.transfer",
        "--serve",
        str(folder),
        "--mb",
        str(mb),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        offer = msgspec.json.decode(process.stdout.readline(), type=Offer)
        yield offer, psutil.Process(process.pid)


async def _serve(folder: Path, size: int) -> None:
    keys.load_or_create(folder / "key")
    source = folder / "blob"
    with source.open("wb") as file:
        for start in range(0, size, 2**20):
            file.write(os.urandom(min(2**20, size - start)))
    with closing(Store(folder / "store", 2 * size + 2**30)) as store:
        stored = store.put_file(source)
        path = store.path(stored.blake3)
        source.unlink()
        async with open_endpoint(folder / "run", folder / "key", LISTEN) as endpoint:
            await exchange.serve(endpoint, store, lambda _blob, _peer: True)

            async def bare(_peer: NodeId, stream: trio.SocketStream) -> None:
                with path.open("rb") as file:
                    await bulk.in_threads(
                        stream,
                        lambda sock: bulk.send_file(sock, file.fileno(), 0, size),
                        trio.CapacityLimiter(1),
                    )

            await endpoint.handle(BARE, bare)
            offer = Offer(
                node=parse_node_id(endpoint.node),
                address=(await endpoint.addresses())[0],
                tcp_port=_serve_tcp(path),
                pids=[os.getpid(), endpoint.pid],
                file=File(
                    path="blob",
                    size=stored.size,
                    blake3=stored.blake3,
                    chunks=stored.chunks,
                    sha256=stored.sha256,
                ),
            )
            print(json.dumps(msgspec.to_builtins(offer)), flush=True)
            await trio.to_thread.run_sync(sys.stdin.read)  # until the bench closes it


def _serve_tcp(path: Path) -> int:
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            with connection, path.open("rb") as file:
                connection.sendfile(file)

    threading.Thread(target=accept, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


if __name__ == "__main__":
    main(sys.argv[1:])
