"""Small records about updates between nodes: what a node observed, and an update's sketch.

Streams /p2pllm/testimony/1 and /p2pllm/sketch/1, one question, one answer. What the bytes mean is
node's to judge: here they are bounded and passed on. Wire format: docs/specs/witness.md.
"""

from collections.abc import Awaitable, Callable

import trio

from gossip.endpoint import Endpoint
from gossip.framing import read_frame, write_frame
from gossip.messages import (
    MAX_REQUEST_BYTES,
    MAX_SKETCHED_BYTES,
    MAX_TOLD,
    MAX_TOLD_BYTES,
    SKETCH_PROTOCOL,
    TESTIMONY_PROTOCOL,
    SketchAsked,
    Sketched,
    TestimonyAsked,
    Told,
)
from gossip.standing import Allowances
from p2pllm import codec
from p2pllm.ids import ContentId, NodeId

# A node asks each of its peers about once a minute, and for a sketch once an update.
BURST, RATE = 64.0, 0.5
ANSWER_S = 15.0  # from a stream's start to its end, on either side

Observed = Callable[[int, int], Awaitable[list[bytes]]]
"""observed(after, limit): this node's own signed observations with higher numbers."""
SketchOf = Callable[[ContentId], Awaitable[bytes]]
"""sketch_of(manifest): the signed sketch of an update, empty if none may be told."""


async def serve_testimony(endpoint: Endpoint, observed: Observed, sketch_of: SketchOf) -> None:
    """Answer peers' questions from now on, as long as the endpoint runs."""
    allowances = Allowances(RATE, BURST)

    async def tell(peer: NodeId, stream: trio.SocketStream) -> None:
        if allowances.spend(peer, 1, trio.current_time()) > 0:
            return  # it asks too much; the stream ends without an answer
        with trio.fail_after(ANSWER_S):
            raw = await read_frame(stream, MAX_REQUEST_BYTES)
            question = codec.decode(raw, TestimonyAsked, MAX_REQUEST_BYTES)
            records = await observed(question.after, MAX_TOLD)
            await write_frame(stream, codec.encode(Told(records=tuple(records))))

    async def sketch(peer: NodeId, stream: trio.SocketStream) -> None:
        if allowances.spend(peer, 1, trio.current_time()) > 0:
            return
        with trio.fail_after(ANSWER_S):
            raw = await read_frame(stream, MAX_REQUEST_BYTES)
            question = codec.decode(raw, SketchAsked, MAX_REQUEST_BYTES)
            record = await sketch_of(question.manifest)
            await write_frame(stream, codec.encode(Sketched(record=record)))

    await endpoint.handle(TESTIMONY_PROTOCOL, tell)
    await endpoint.handle(SKETCH_PROTOCOL, sketch)


async def ask_testimony(endpoint: Endpoint, peer: NodeId, after: int) -> tuple[bytes, ...]:
    """What this peer observed after a number of its own: signed bytes, not yet checked.

    Raises Unavailable E0902 if it does not answer, PeerError E0603 if the answer is malformed.
    """
    stream = await endpoint.open_stream(peer, TESTIMONY_PROTOCOL)
    async with stream:
        await write_frame(stream, codec.encode(TestimonyAsked(after=after)))
        return codec.decode(await read_frame(stream, MAX_TOLD_BYTES), Told, MAX_TOLD_BYTES).records


async def ask_sketch(endpoint: Endpoint, peer: NodeId, manifest: ContentId) -> bytes:
    """The signed sketch of an update, not yet checked; empty if the peer has none."""
    stream = await endpoint.open_stream(peer, SKETCH_PROTOCOL)
    async with stream:
        await write_frame(stream, codec.encode(SketchAsked(manifest=manifest)))
        raw = await read_frame(stream, MAX_SKETCHED_BYTES)
        return codec.decode(raw, Sketched, MAX_SKETCHED_BYTES).record
