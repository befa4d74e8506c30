"""What updates gave a keeper's own text: asked of the keepers of a place before one is taken.

One stream /p2pllm/gains/1, one question, one answer. The answerer looks numbers up that a round of
its own has measured; nobody makes it compute. Wire format: docs/specs/gate.md, section 9.
"""

from collections.abc import Awaitable, Callable

import trio

from gossip.endpoint import Endpoint
from gossip.framing import read_frame, write_frame
from gossip.messages import (
    GAINS_PROTOCOL,
    MAX_GAINLIST_BYTES,
    MAX_GAINS_BYTES,
    GainList,
    GainsAsked,
)
from gossip.standing import Allowances
from p2pllm import codec
from p2pllm.ids import ContentId, NodeId
from p2pllm.names import Place

# A keeper asks once for a round's updates, and again every few seconds while others measure.
BURST, RATE = 64.0, 1.0
ANSWER_S = 10.0  # from a stream's start to its end, on either side

Told = Callable[[NodeId, Place, tuple[ContentId, ...]], Awaitable[GainList]]
"""told(asker, place, updates): whether this node keeps the place, and its signed numbers."""


async def serve_gains(endpoint: Endpoint, told: Told) -> None:
    """Answer peers' questions from now on, as long as the endpoint runs."""
    allowances = Allowances(RATE, BURST)

    async def answer(peer: NodeId, stream: trio.SocketStream) -> None:
        if allowances.spend(peer, 1, trio.current_time()) > 0:
            return  # it asks too much; the stream ends without an answer
        with trio.fail_after(ANSWER_S):
            raw = await read_frame(stream, MAX_GAINS_BYTES)
            asked = codec.decode(raw, GainsAsked, MAX_GAINS_BYTES)
            await write_frame(stream, codec.encode(await told(peer, asked.place, asked.updates)))

    await endpoint.handle(GAINS_PROTOCOL, answer)


async def ask_gains(
    endpoint: Endpoint, peer: NodeId, place: Place, updates: tuple[ContentId, ...]
) -> GainList:
    """What this peer measured of updates; its records are signed bytes, not yet checked.

    Raises Unavailable E0902 if it does not answer, PeerError E0603 if the answer is malformed.
    """
    stream = await endpoint.open_stream(peer, GAINS_PROTOCOL)
    async with stream:
        await write_frame(stream, codec.encode(GainsAsked(place=place, updates=updates)))
        raw = await read_frame(stream, MAX_GAINLIST_BYTES)
    return codec.decode(raw, GainList, MAX_GAINLIST_BYTES)
