"""A want and its answer on an exchange stream, each within its deadline."""

import trio

from gossip.endpoint import Endpoint
from gossip.framing import read_frame, write_frame
from gossip.messages import EXCHANGE_PROTOCOL, MAX_REQUEST_BYTES, Give, Want
from p2pllm import codec
from p2pllm.errors import Unavailable
from p2pllm.ids import NodeId

OPEN_S = 15.0  # a dial through a relay takes several seconds
ANSWER_S = 20.0  # of which the peer may queue our want for a few
BUSY_WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0)  # after each "busy" in a row; then no more


async def open_exchange(endpoint: Endpoint, peer: NodeId) -> trio.SocketStream:
    """A stream for wants; Unavailable E0902 if the peer gives none in time."""
    with trio.move_on_after(OPEN_S):
        return await endpoint.open_stream(peer, EXCHANGE_PROTOCOL)
    raise Unavailable("E0902", f"no stream to the peer within {OPEN_S:.0f} s")


async def ask(stream: trio.SocketStream, want: Want) -> None:
    """Send a want; Unavailable E0501 if the peer does not take it."""
    with trio.move_on_after(ANSWER_S):
        return await write_frame(stream, codec.encode(want))
    raise Unavailable("E0501", f"the peer took no want for {ANSWER_S:.0f} s")


async def read_answer(stream: trio.SocketStream) -> Give:
    """The peer's answer if it is "ok" or "busy"; Unavailable E0401, E0710 or E0501 if not."""
    with trio.move_on_after(ANSWER_S):
        raw = await read_frame(stream, MAX_REQUEST_BYTES)
        give = codec.decode(raw, Give, MAX_REQUEST_BYTES)
        if give.status == "unknown":
            raise Unavailable("E0401", "the peer does not have the blob")
        if give.status == "refused":
            raise Unavailable("E0710", "the peer does not offer the blob")
        return give
    raise Unavailable("E0501", f"no answer for {ANSWER_S:.0f} s")


async def wait_a_turn(refused: int) -> None:
    """Wait before a peer that said "busy" is asked again; Unavailable E0906 after enough of it.

    refused  how often it had said so before, in a row
    """
    if refused >= len(BUSY_WAITS_S):
        raise Unavailable("E0906", f'the peer said "busy" {refused + 1} times')
    await trio.sleep(BUSY_WAITS_S[refused])
