"""Heads between nodes: ask a peer for the heads of a place that are not here yet.

One stream /p2pllm/heads/1, one question, one answer. Any peer of the place answers with all it
holds, its own and others', so a keeper that is gone, or beyond a split, is heard through those who
met it. Wire format: docs/specs/heads.md.
"""

import time
from collections.abc import Callable

import trio

from gossip.endpoint import Endpoint
from gossip.framing import read_frame, write_frame
from gossip.head_shelf import HeadShelf
from gossip.messages import (
    HEADS_PROTOCOL,
    MAX_HEADLIST_BYTES,
    MAX_HEADS_BYTES,
    HeadList,
    HeadsAsked,
)
from gossip.standing import Allowances
from p2pllm import codec
from p2pllm.errors import PeerError
from p2pllm.heads import Head, open_head
from p2pllm.ids import NodeId
from p2pllm.names import Place

# A peer asks one question a place in a round of ten seconds: forty places for ever, and many more
# at once when it comes back. An answer that says nothing new is some 30 bytes and 1 ms.
BURST, RATE = 256.0, 4.0
ANSWER_S = 30.0  # from a stream's start to its end
COST_BYTES = 65536  # of an answer weigh as much as one question

_disk = trio.CapacityLimiter(2)


async def serve_heads(
    endpoint: Endpoint, shelf: HeadShelf, lacks: Callable[[NodeId, Place], None]
) -> None:
    """Answer peers' questions from now on, as long as the endpoint runs.

    lacks   called with a peer that was answered and names a head of the place that is not here
    """
    allowances = Allowances(RATE, BURST)

    async def answer(peer: NodeId, stream: trio.SocketStream) -> None:
        if allowances.spend(peer, 1, trio.current_time()) > 0:
            return  # it asks too much; the stream ends without an answer
        with trio.fail_after(ANSWER_S):
            raw = await read_frame(stream, MAX_HEADS_BYTES)
            question = codec.decode(raw, HeadsAsked, MAX_HEADS_BYTES)
            found = await trio.to_thread.run_sync(
                shelf.answer, question.place, question.known, limiter=_disk
            )
            data = codec.encode(found)
            allowances.spend(peer, len(data) / COST_BYTES, trio.current_time())
            await write_frame(stream, data)
            here = await trio.to_thread.run_sync(shelf.known, question.place, limiter=_disk)
            if set(question.known) - set(here):
                lacks(peer, question.place)

    await endpoint.handle(HEADS_PROTOCOL, answer)


async def sync_heads(
    endpoint: Endpoint,
    shelf: HeadShelf,
    peer: NodeId,
    place: Place,
    weight: Callable[[NodeId], float],
) -> list[Head]:
    """Take from a peer the heads of a place that are newer than ours; those that were.

    weight   of a keeper here
    Raises Unavailable E0902 if it does not answer, PeerError E0602 or E0603 if what it says is
    forged or malformed; what came before the bad one is kept.
    """
    known = await trio.to_thread.run_sync(shelf.known, place, limiter=_disk)
    stream = await endpoint.open_stream(peer, HEADS_PROTOCOL)
    async with stream:
        await write_frame(stream, codec.encode(HeadsAsked(place=place, known=known)))
        raw = await read_frame(stream, MAX_HEADLIST_BYTES)
    told = codec.decode(raw, HeadList, MAX_HEADLIST_BYTES)
    fresh = []
    for record in told.heads:
        head = open_head(record)
        if head.place != place:
            raise PeerError("E0603", f"asked {peer} for heads of {place}, got one of {head.place}")
        kept = await trio.to_thread.run_sync(
            shelf.add, record, weight(head.by), time.time(), limiter=_disk
        )
        fresh += [kept] if kept is not None else []
    return fresh
