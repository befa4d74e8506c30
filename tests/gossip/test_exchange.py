"""Blobs and models between real nodes: shared out, checked, resumed."""

import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import trio

import gossip.asking
import gossip.bulk
import gossip.exchange
from gossip.exchange import serve
from gossip.fetch import fetch_blob, fetch_bytes, fetch_model
from gossip.framing import write_frame
from gossip.ledger import FetchEvent
from gossip.messages import Give, Want
from p2pllm import codec
from p2pllm.errors import Unavailable
from p2pllm.ids import NodeId, content_id
from p2pllm.manifest import CHUNK_BYTES, File
from p2pllm.store import Store
from tests.gossip.exchange_nodes import (
    QUOTA,
    Answer,
    Node,
    answer_with,
    data_of,
    everyone,
    give,
    ignore,
    model,
    offer,
    open_nodes,
    part_of,
    put,
)


def test_blobs_of_all_lengths_arrive_whole_with_their_chunk_lists() -> None:
    async def check() -> None:
        async with open_nodes(2) as (us, peer):
            await serve(peer.endpoint, peer.store, everyone)
            for size in (1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * CHUNK_BYTES - 7):
                data = data_of(size)
                file = put(peer.store, data)
                events: list[FetchEvent] = []
                report = await fetch_blob(us.endpoint, us.store, file, [peer.id], events.append)
                assert us.store.path(file.blake3).read_bytes() == data
                hashes = peer.store.read(file.chunks, CHUNK_BYTES)
                assert us.store.read(file.chunks, CHUNK_BYTES) == hashes
                assert (report.bytes, report.chunks) == (size, -(-size // CHUNK_BYTES))
                assert report.by_peer[peer.id].bytes == size
                assert report.refused == ()
                assert (events[-1].done, events[-1].total) == (size, size)
                again = await fetch_blob(us.endpoint, us.store, file, [peer.id], ignore)
                assert again.bytes == 0

    trio.run(check)


def test_several_providers_share_a_blob() -> None:
    async def check() -> None:
        async with open_nodes(4) as (us, *peers):
            data, asked, all_asked = data_of(64 * CHUNK_BYTES + 5), set[NodeId](), trio.Event()

            def provider(peer: Node) -> Answer:
                async def answer(stream: trio.SocketStream, want: Want) -> None:
                    asked.add(peer.id)
                    if len(asked) == len(peers):
                        all_asked.set()
                    await all_asked.wait()  # so that none is done before another begins
                    await give(stream, part_of(peer, want), len(data))

                return answer

            for peer in peers:
                file = put(peer.store, data)
                await answer_with(peer, provider(peer))
            everybody = [peer.id for peer in peers]
            report = await fetch_blob(us.endpoint, us.store, file, everybody, ignore)
            assert us.store.path(file.blake3).read_bytes() == data
            assert report.chunks == 65
            assert report.bytes == len(data)
            assert set(report.by_peer) == set(everybody)

    trio.run(check)


_RECEIVER = """
import sys, trio
from pathlib import Path
import msgspec
from gossip.endpoint import open_endpoint
from gossip.fetch import fetch_blob
from p2pllm import keys
from p2pllm.manifest import File
from p2pllm.store import Store


async def main():
    home, address = Path(sys.argv[1]), sys.argv[2]
    file = msgspec.json.decode(sys.argv[3], type=File)
    keys.load_or_create(home / "key")
    async with open_endpoint(home / "run", home / "key", ["/ip4/127.0.0.1/tcp/0"]) as endpoint:
        peer = await endpoint.connect(address)
        tell = lambda event: print(event.done, flush=True)
        await fetch_blob(endpoint, Store(home / "store", 2**30), file, [peer], tell)
trio.run(main)
"""


def test_killed_receiver_fetches_nothing_twice() -> None:
    """The provider stops after ten chunks, so that the kill falls where all ten are counted."""

    async def check() -> None:
        async with open_nodes(2) as (us, peer):
            data = data_of(30 * CHUNK_BYTES)
            file = put(peer.store, data)
            chunks, given = iter(range(10)), [0]

            async def stop_after_ten(stream: trio.SocketStream, want: Want) -> None:
                part = part_of(peer, want)
                await write_frame(stream, codec.encode(offer(data, part)))
                for start in range(0, len(part), CHUNK_BYTES):
                    if halted and next(chunks, None) is None:
                        await trio.sleep_forever()
                    given[0] += 1
                    await stream.send_all(part[start : start + CHUNK_BYTES])

            halted = True
            await answer_with(peer, stop_after_ten)
            with tempfile.TemporaryDirectory(prefix="p2r") as home:
                await _fetch_until_killed(home, peer, file, 10 * CHUNK_BYTES)
                halted = False
                with closing(Store(Path(home) / "store", QUOTA)) as store:
                    report = await fetch_blob(us.endpoint, store, file, [peer.id], ignore)
                    assert store.path(file.blake3).read_bytes() == data
            assert report.chunks == 20
            assert given[0] == 30

    trio.run(check)


async def _fetch_until_killed(home: str, peer: Node, file: File, done: int) -> None:
    """Fetch in a process of its own, killed by SIGKILL once it says that so many bytes are here."""
    address = (await peer.endpoint.addresses())[0]
    command = [sys.executable, "-c", _RECEIVER, home, address, msgspec.json.encode(file).decode()]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    said = b""
    with trio.fail_after(60):
        async with process.stdout as output:
            async for part in output:
                said += part
                if str(done).encode() in said.split(b"\n")[:-1]:
                    break
            process.kill()
            await process.wait()


def test_cancelled_fetch_ends_at_once_and_keeps_what_came() -> None:
    async def check() -> None:
        async with open_nodes(2) as (us, peer):
            data = data_of(8 * CHUNK_BYTES)
            file = put(peer.store, data)
            chunks = iter(range(3))

            async def stop_after_three(stream: trio.SocketStream, want: Want) -> None:
                part = part_of(peer, want)
                await write_frame(stream, codec.encode(offer(data, part)))
                for start in range(0, len(part), CHUNK_BYTES):
                    if halted and next(chunks, None) is None:
                        await trio.sleep_forever()
                    await stream.send_all(part[start : start + CHUNK_BYTES])

            halted = True
            await answer_with(peer, stop_after_three)
            started = trio.current_time()
            with trio.CancelScope() as scope:

                def stop_when_there(event: FetchEvent) -> None:
                    if event.done == 3 * CHUNK_BYTES:
                        scope.cancel()

                await fetch_blob(us.endpoint, us.store, file, [peer.id], stop_when_there)
            assert scope.cancelled_caught
            assert trio.current_time() - started < gossip.bulk.STALL_S / 2
            halted = False
            report = await fetch_blob(us.endpoint, us.store, file, [peer.id], ignore)
            assert report.chunks == 5

    trio.run(check)


def test_who_may_have_what_is_asked_with_the_authenticated_peer() -> None:
    async def check() -> None:
        async with open_nodes(3) as (us, friend, peer):
            file = put(peer.store, data_of(10))
            await serve(peer.endpoint, peer.store, lambda b, p: (b, p) == (file.blake3, friend.id))
            assert await fetch_bytes(friend.endpoint, file.blake3, 10, [peer.id]) == data_of(10)
            with pytest.raises(Unavailable):
                await fetch_bytes(us.endpoint, file.blake3, 10, [peer.id])

    trio.run(check)


def test_busy_provider_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip.asking, "BUSY_WAITS_S", (0.01,) * 3)

    async def check() -> None:
        async with open_nodes(2) as (us, peer):
            data = data_of(4 * CHUNK_BYTES)
            file = put(peer.store, data)
            refusals = iter(range(3))

            async def busy_at_first(stream: trio.SocketStream, want: Want) -> None:
                if next(refusals, None) is not None:
                    await write_frame(stream, codec.encode(Give(status="busy")))
                    return
                await give(stream, part_of(peer, want), len(data))

            await answer_with(peer, busy_at_first)
            report = await fetch_blob(us.endpoint, us.store, file, [peer.id], ignore)
            assert report.chunks == 4
            assert report.refused == ()

    trio.run(check)


def test_model_arrives_with_all_its_files_and_its_manifest_last() -> None:
    async def check() -> None:
        async with open_nodes(3) as (us, *peers):
            for peer in peers:
                made, record = model(peer.store, [data_of(3 * CHUNK_BYTES + 9), b"{}", b"licence"])
                await serve(peer.endpoint, peer.store, everyone)
            events: list[FetchEvent] = []
            got, report = await fetch_model(
                us.endpoint, us.store, content_id(record), [p.id for p in peers], events.append
            )
            assert got == made
            assert us.store.read(content_id(record), len(record)) == record
            for file in made.files:
                assert us.store.has(file.blake3)
                assert us.store.has(file.chunks)
            assert report.bytes == made.size
            assert (events[-1].done, events[-1].total) == (made.size, made.size)

    trio.run(check)
