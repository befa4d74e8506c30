"""What peers that lie, stop or never end can do to an exchange: little, and they are dropped."""

import tempfile
from contextlib import closing
from pathlib import Path

import pytest
import trio

import gossip.asking
import gossip.bulk
import gossip.exchange
from gossip.exchange import serve
from gossip.fetch import fetch_blob, fetch_bytes, fetch_model
from gossip.framing import read_frame, write_frame
from gossip.messages import EXCHANGE_PROTOCOL, Give, Want
from p2pllm import codec, keys
from p2pllm.errors import LocalError, PeerError, Unavailable
from p2pllm.ids import content_id
from p2pllm.manifest import CHUNK_BYTES, Manifest
from p2pllm.store import Store
from tests.gossip.exchange_nodes import (
    Answer,
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
    spoil,
)

DATA = data_of(4 * CHUNK_BYTES)
SIZE = len(DATA)


def test_corrupt_provider_is_dropped_and_the_transfer_completes() -> None:
    async def check() -> None:
        async with open_nodes(3) as (us, good, bad):
            data = data_of(24 * CHUNK_BYTES)
            for peer in (good, bad):
                file = put(peer.store, data)
                await serve(peer.endpoint, peer.store, everyone)
            spoil(bad.store.path(file.blake3), offset=0, step=CHUNK_BYTES)
            report = await fetch_blob(us.endpoint, us.store, file, [bad.id, good.id], ignore)
            assert us.store.path(file.blake3).read_bytes() == data
            assert [(r.peer, r.code) for r in report.refused] == [(bad.id, "E0604")]
            assert report.by_peer[bad.id].chunks == 0
            assert report.by_peer[bad.id].bad_chunks in (1, 2)  # each thread may be at one
            assert report.by_peer[good.id].chunks == 24

    trio.run(check)


def test_chunk_list_that_lies_is_dropped_with_its_sender() -> None:
    async def check() -> None:
        async with open_nodes(3) as (us, good, bad):
            data = data_of(3 * CHUNK_BYTES)
            for peer in (good, bad):
                file = put(peer.store, data)
                await serve(peer.endpoint, peer.store, everyone)
            spoil(bad.store.path(file.chunks), offset=5, step=1000)
            report = await fetch_blob(us.endpoint, us.store, file, [bad.id, good.id], ignore)
            assert [(r.peer, r.code) for r in report.refused] == [(bad.id, "E0605")]
            assert report.by_peer[good.id].chunks == 3

    trio.run(check)


def test_provider_that_stops_midway_costs_only_what_it_owed() -> None:
    async def check() -> None:
        async with open_nodes(3) as (us, good, quitter):
            data, gone = data_of(20 * CHUNK_BYTES), trio.Event()
            for peer in (good, quitter):
                file = put(peer.store, data)
            chunks = iter(range(3))

            async def stop_after_three(stream: trio.SocketStream, want: Want) -> None:
                part = part_of(quitter, want)
                await write_frame(stream, codec.encode(offer(data, part)))
                for start in range(0, len(part), CHUNK_BYTES):
                    if next(chunks, None) is None:
                        await stream.send_all(part[start : start + 1000])
                        gone.set()
                        raise PeerError("E0603", "and away")
                    await stream.send_all(part[start : start + CHUNK_BYTES])

            async def wait_for_that(stream: trio.SocketStream, want: Want) -> None:
                await gone.wait()
                await give(stream, part_of(good, want), len(data))

            await answer_with(quitter, stop_after_three)
            await answer_with(good, wait_for_that)
            report = await fetch_blob(us.endpoint, us.store, file, [quitter.id, good.id], ignore)
            assert us.store.path(file.blake3).read_bytes() == data
            assert [(r.peer, r.code) for r in report.refused] == [(quitter.id, "E0902")]
            assert report.by_peer[quitter.id].chunks <= 3
            assert report.chunks == 20

    trio.run(check)


def test_slowest_provider_does_not_set_the_end() -> None:
    async def check() -> None:
        async with open_nodes(3) as (us, good, slow):
            data = data_of(12 * CHUNK_BYTES)
            for peer in (good, slow):
                file = put(peer.store, data)
            asked = trio.Event()

            async def hang(stream: trio.SocketStream, want: Want) -> None:
                await write_frame(stream, codec.encode(offer(data, part_of(slow, want))))
                asked.set()
                await trio.sleep_forever()

            async def wait_for_that(stream: trio.SocketStream, want: Want) -> None:
                await asked.wait()
                await give(stream, part_of(good, want), len(data))

            await answer_with(slow, hang)
            await answer_with(good, wait_for_that)
            with trio.fail_after(gossip.bulk.STALL_S / 2):
                report = await fetch_blob(us.endpoint, us.store, file, [slow.id, good.id], ignore)
            assert report.by_peer[good.id].chunks == 12

    trio.run(check)


def test_refused_unknown_and_unreachable_are_told_apart() -> None:
    async def check() -> None:
        async with open_nodes(4) as (us, refusing, empty, quiet):
            file = put(refusing.store, data_of(10))
            await serve(refusing.endpoint, refusing.store, lambda _blob, _peer: False)
            await serve(empty.endpoint, empty.store, everyone)
            peers = [refusing.id, empty.id, quiet.id, keys.generate().node]
            with pytest.raises(Unavailable) as failed:
                await fetch_bytes(us.endpoint, file.blake3, 100, peers)
            assert failed.value.code == "E0906"
            codes = [line.partition("[")[2][:5] for line in failed.value.why]
            assert codes == ["E0710", "E0401", "E0902", "E0902"]
            with pytest.raises(Unavailable) as failed:
                await fetch_blob(us.endpoint, us.store, file, peers, ignore)
            assert failed.value.code == "E0906"
            assert len(failed.value.why) == 4

    trio.run(check)


def test_silent_provider_meets_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip.asking, "ANSWER_S", 0.3)

    async def silent(_stream: trio.SocketStream, _want: Want) -> None:
        await trio.sleep_forever()

    trio.run(_expect_refusal, silent, "E0501")


def test_provider_that_stops_sending_meets_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip.bulk, "STALL_S", 1)

    async def stop(stream: trio.SocketStream, _want: Want) -> None:
        await write_frame(stream, codec.encode(Give(status="ok", size=SIZE, length=CHUNK_BYTES)))
        await stream.send_all(bytes(1000))
        await trio.sleep_forever()

    trio.run(_expect_refusal, stop, "E0501")


def test_provider_that_trickles_meets_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip.bulk, "STALL_S", 1)

    async def trickle(stream: trio.SocketStream, _want: Want) -> None:
        await write_frame(stream, codec.encode(Give(status="ok", size=SIZE, length=CHUNK_BYTES)))
        while True:
            await stream.send_all(b"x")
            await trio.sleep(0.1)

    trio.run(_expect_refusal, trickle, "E0501")


def test_offer_of_another_length_is_refused() -> None:
    async def other(stream: trio.SocketStream, _want: Want) -> None:
        head = Give(status="ok", size=SIZE, length=CHUNK_BYTES + 1)
        await write_frame(stream, codec.encode(head))
        await stream.send_all(bytes(CHUNK_BYTES + 1))
        await trio.sleep_forever()

    trio.run(_expect_refusal, other, "E0603")


def test_offer_of_another_size_is_refused() -> None:
    async def other(stream: trio.SocketStream, _want: Want) -> None:
        head = Give(status="ok", size=SIZE * 2, length=CHUNK_BYTES)
        await write_frame(stream, codec.encode(head))
        await trio.sleep_forever()

    trio.run(_expect_refusal, other, "E0603")


def test_endless_answer_is_refused() -> None:
    async def endless(stream: trio.SocketStream, _want: Want) -> None:
        await stream.send_all((2**31).to_bytes(4, "big"))
        while True:
            await stream.send_all(bytes(65536))

    trio.run(_expect_refusal, endless, "E0603")


def test_endless_data_after_a_chunk_is_refused() -> None:
    async def endless(stream: trio.SocketStream, want: Want) -> None:
        part = DATA[want.first * CHUNK_BYTES : (want.first + want.count) * CHUNK_BYTES]
        head = Give(status="ok", size=SIZE, length=len(part))
        await write_frame(stream, codec.encode(head))
        await stream.send_all(part)
        while True:
            await stream.send_all(b"\xff" * 65536)

    trio.run(_expect_refusal, endless, "E0603")


def test_always_busy_provider_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip.asking, "BUSY_WAITS_S", (0.01, 0.01))

    async def busy(stream: trio.SocketStream, _want: Want) -> None:
        await write_frame(stream, codec.encode(Give(status="busy")))

    trio.run(_expect_refusal, busy, "E0906")


def test_more_uploads_than_turns_wait_or_are_told_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip.exchange, "UPLOADS", 1)
    monkeypatch.setattr(gossip.exchange, "QUEUE_S", 0.1)

    async def check() -> None:
        async with open_nodes(2) as (us, peer):
            file = put(peer.store, data_of(64 * CHUNK_BYTES))
            await serve(peer.endpoint, peer.store, everyone)
            want = codec.encode(Want(blob=file.blake3, first=0, count=64))
            async with (
                await us.endpoint.open_stream(peer.id, EXCHANGE_PROTOCOL) as greedy,
                await us.endpoint.open_stream(peer.id, EXCHANGE_PROTOCOL) as other,
            ):
                await write_frame(greedy, want)  # and then it does not read
                assert codec.decode(await read_frame(greedy, 1024), Give, 1024).status == "ok"
                await write_frame(other, want)
                assert codec.decode(await read_frame(other, 1024), Give, 1024).status == "busy"

    trio.run(check)


def test_want_that_breaks_a_rule_ends_its_stream_and_no_other() -> None:
    past_the_end = Want(blob=content_id(b"x" * 100), first=1, count=1)
    wrong = [b"", b"garbage", b"x" * 2000, *map(codec.encode, (Give(status="ok"), past_the_end))]

    async def check() -> None:
        async with open_nodes(2) as (us, peer):
            file = put(peer.store, b"x" * 100)
            await serve(peer.endpoint, peer.store, everyone)
            for frame in wrong:
                async with await us.endpoint.open_stream(peer.id, EXCHANGE_PROTOCOL) as stream:
                    await write_frame(stream, frame)
                    with pytest.raises(Unavailable):
                        await read_frame(stream, 1024)
                assert await fetch_bytes(us.endpoint, file.blake3, 100, [peer.id]) == b"x" * 100

    trio.run(check)


def test_small_blob_that_is_another_or_too_large_is_refused() -> None:
    async def check() -> None:
        async with open_nodes(3) as (us, good, bad):
            for peer in (good, bad):
                file = put(peer.store, b"x" * 100)
                await serve(peer.endpoint, peer.store, everyone)
            spoil(bad.store.path(file.blake3), offset=50, step=1000)
            got = await fetch_bytes(us.endpoint, file.blake3, 100, [bad.id, good.id])
            assert got == b"x" * 100
            for peers, limit, code in (([bad.id], 100, "E0605"), ([good.id], 99, "E0603")):
                with pytest.raises(Unavailable) as failed:
                    await fetch_bytes(us.endpoint, file.blake3, limit, peers)
                assert f"[{code}]" in failed.value.why[0]

    trio.run(check)


def test_forged_manifest_is_refused_before_any_file() -> None:
    async def check() -> None:
        async with open_nodes(2) as (us, peer):
            _, record = model(peer.store, [b"data"])
            forged = record[:80] + bytes([record[80] ^ 1]) + record[81:]
            peer.store.put_bytes(forged)
            await serve(peer.endpoint, peer.store, everyone)
            with pytest.raises(PeerError):
                await fetch_model(us.endpoint, us.store, content_id(forged), [peer.id], ignore)
            assert us.store.usage().blobs == 0

    trio.run(check)


def test_manifest_the_caller_does_not_want_is_refused_before_any_file() -> None:
    def refuse(seen: Manifest) -> None:
        raise PeerError("E0610", f"{seen.name} is not what was advertised")

    async def check() -> None:
        async with open_nodes(2) as (us, peer):
            _, record = model(peer.store, [b"data"])
            await serve(peer.endpoint, peer.store, everyone)
            wanted = content_id(record)
            with pytest.raises(PeerError, match="tiny is not what was advertised"):
                await fetch_model(us.endpoint, us.store, wanted, [peer.id], ignore, refuse)
            assert us.store.usage().blobs == 0

    trio.run(check)


def test_full_store_ends_the_fetch_as_our_own_fault() -> None:
    async def check() -> None:
        async with open_nodes(2) as (us, peer):
            file = put(peer.store, DATA)
            await serve(peer.endpoint, peer.store, everyone)
            with (
                tempfile.TemporaryDirectory() as small,
                closing(Store(Path(small), 2**20)) as store,
            ):
                with pytest.raises(LocalError) as full:
                    await fetch_blob(us.endpoint, store, file, [peer.id], ignore)
                assert full.value.code == "E0801"

    trio.run(check)


async def _expect_refusal(answer: Answer, code: str) -> None:
    """A fetch with this lone provider fails, for this reason, and leaves nothing open."""
    async with open_nodes(2) as (us, peer):
        file = put(peer.store, DATA)
        await answer_with(peer, answer)
        with trio.fail_after(30), pytest.raises(Unavailable) as failed:
            await fetch_blob(us.endpoint, us.store, file, [peer.id], ignore)
        assert failed.value.code == "E0906"
        assert f"[{code}]" in failed.value.why[0]
        with closing(us.store.begin(file.blake3, SIZE, peer.store.read(file.chunks, 1000))) as left:
            assert left.size == SIZE


def test_a_peer_that_asks_too_much_waits_on_all_its_streams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gossip.exchange, "RATE", 4.0)
    monkeypatch.setattr(gossip.exchange, "BURST", 3.0)

    async def check() -> None:
        async with open_nodes(2) as (us, them):
            file = put(them.store, DATA)
            await serve(them.endpoint, them.store, everyone)
            began = trio.current_time()
            for _ in range(5):
                await fetch_bytes(us.endpoint, file.chunks, CHUNK_BYTES, [them.id])
            assert trio.current_time() - began >= 2 / 4.0 - 0.05

    trio.run(check)
