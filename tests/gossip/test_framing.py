"""Frames come out as they went in, and never more than the reader agreed to."""

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from gossip.framing import read_frame, write_frame
from p2pllm.errors import PeerError, Unavailable


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 50))
def test_frames_arrive_whole_and_in_order(frames: list[bytes], step: int) -> None:
    async def check() -> None:
        ours, theirs = trio.testing.memory_stream_one_way_pair()
        for frame in frames:
            await write_frame(ours, frame)
        got = [await read_frame(_Slow(theirs, step), 300) for _ in frames]
        assert got == frames

    trio.run(check)


def test_longer_frame_than_agreed_is_refused_before_it_is_read() -> None:
    async def check() -> None:
        ours, theirs = trio.testing.memory_stream_one_way_pair()
        await ours.send_all((2**32 - 1).to_bytes(4, "big"))
        with pytest.raises(PeerError) as refused:
            await read_frame(theirs, 1024)
        assert refused.value.code == "E0603"

    trio.run(check)


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\0\5abcd"])
def test_stream_that_ends_early_is_unavailable(sent: bytes) -> None:
    async def check() -> None:
        ours, theirs = trio.testing.memory_stream_one_way_pair()
        await ours.send_all(sent)
        await ours.aclose()
        with pytest.raises(Unavailable) as ended:
            await read_frame(theirs, 1024)
        assert ended.value.code == "E0902"

    trio.run(check)


def test_broken_stream_is_unavailable_both_ways() -> None:
    async def check() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.aclose()
        with pytest.raises(Unavailable):
            await write_frame(ours, b"x")
        with pytest.raises(Unavailable):
            await read_frame(ours, 10)
        with pytest.raises(Unavailable):
            await read_frame(theirs, 10)

    trio.run(check)


class _Slow(trio.abc.ReceiveStream):
    """Hands out at most `step` bytes at a time."""

    def __init__(self, inner: trio.abc.ReceiveStream, step: int) -> None:
        self._inner, self._step = inner, step

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._inner.receive_some(min(max_bytes or self._step, self._step)))

    async def aclose(self) -> None:
        await self._inner.aclose()
