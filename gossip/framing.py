"""Messages on a stream: a 4-byte big-endian length, then that many bytes, never more than agreed.

A reader states its bound before it reads, so a peer decides nothing about our memory: the buffer
grows with the bytes that arrived, not with the length that was announced.
"""

import trio

from p2pllm.errors import PeerError, Unavailable

_LENGTH_BYTES = 4


async def write_frame(stream: trio.abc.SendStream, data: bytes) -> None:
    """Send one message; Unavailable E0902 if the stream is gone."""
    try:
        await stream.send_all(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as gone:
        raise Unavailable("E0902", "the stream broke while a message was sent") from gone


async def read_frame(stream: trio.abc.ReceiveStream, max_bytes: int) -> bytes:
    """The next message of at most `max_bytes`.

    Raises Unavailable E0902 when the stream ends or breaks, PeerError E0603 on a longer message.
    """
    length = int.from_bytes(await read_exactly(stream, _LENGTH_BYTES), "big")
    if length > max_bytes:
        raise PeerError("E0603", f"a message of {length} bytes, at most {max_bytes} agreed")
    return await read_exactly(stream, length)


async def read_exactly(stream: trio.abc.ReceiveStream, count: int) -> bytes:
    """Exactly `count` bytes; Unavailable E0902 if the stream ends or breaks before."""
    data = bytearray()
    while len(data) < count:
        try:
            part = await stream.receive_some(min(count - len(data), 65536))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as gone:
            raise Unavailable("E0902", "the stream broke while a message was read") from gone
        if not part:
            raise Unavailable("E0902", f"the stream ended {count - len(data)} bytes early")
        data += part
    return bytes(data)
