"""Frames between the daemon and its DHT process."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.pipe import (
    MAX_FRAME_BYTES,
    Ask,
    Entry,
    Frames,
    Held,
    Reply,
    frame,
    read_ask,
    read_reply,
)
from p2pllm.errors import PeerError

ASKS = [
    Ask(number=1, verb="put", entries=(Entry(key="k", value=b"v"), Entry(key="l", value=b""))),
    Ask(number=2, verb="get", keys=("a", "b")),
    Ask(number=3, verb="bootstrap", addresses=("/ip4/127.0.0.1/tcp/1/p2p/x",)),
    Ask(number=4, verb="size"),
]


@given(st.lists(st.integers(1, 60), max_size=30))
def test_asks_arrive_whole_however_the_pipe_cuts_them(cuts: list[int]) -> None:
    stream, frames, got = b"".join(map(frame, ASKS)), Frames(), []
    for cut in cuts:
        got += frames.feed(stream[:cut])
        stream = stream[cut:]
    got += frames.feed(stream)
    assert [read_ask(body) for body in got] == ASKS


def test_replies_arrive_as_they_were_sent() -> None:
    reply = Reply(number=7, stored=(True, False), found=(Held(values=(b"x",), more=True),), size=3)
    [body] = Frames().feed(frame(reply))
    assert read_reply(body) == reply


def test_a_frame_that_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(PeerError, match="E0603"):
        Frames().feed((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))


@given(st.binary(max_size=200))
def test_a_frame_of_nonsense_is_refused(body: bytes) -> None:
    for read in (read_ask, read_reply):
        with pytest.raises(PeerError):
            read(body)
