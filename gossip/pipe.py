"""What the daemon and its DHT process say to each other: length-prefixed msgpack on two pipes.

A frame is four bytes of length, most significant first, and one struct. Asks carry a number of
their own; each is answered once, in any order. The first reply has the number 0: the node is up.
Both ends are ours, so a malformed frame ends the conversation.
"""

from typing import Annotated, Literal

import msgspec

from p2pllm import codec
from p2pllm.advert import MAX_RECORD_BYTES
from p2pllm.errors import PeerError

MAX_KEYS = 64  # got by one ask
MAX_ENTRIES = 512  # put by one ask
MAX_ADDRESSES = 256  # joined by in one ask
MAX_FRAME_BYTES = 32 * 1024 * 1024  # 64 full keys, of 256 records of 1 KiB, are 17 MB
READY = 0
_LENGTH_BYTES = 4

Verb = Literal["put", "get", "bootstrap", "size"]
Key = Annotated[str, msgspec.Meta(max_length=256)]
Value = Annotated[bytes, msgspec.Meta(max_length=MAX_RECORD_BYTES)]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One signed record and the key it goes under."""

    key: Key
    value: Value


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What the DHT keeps under one key."""

    values: tuple[Value, ...] = ()  # signed records, the latest of each sub-key
    more: bool = False  # some node refused records here: look one level of shards below


class Ask(msgspec.Struct, frozen=True, kw_only=True, tag="dht.ask.1"):
    """The daemon wants something done."""

    number: Annotated[int, msgspec.Meta(ge=1)]
    verb: Verb
    entries: Annotated[tuple[Entry, ...], msgspec.Meta(max_length=MAX_ENTRIES)] = ()
    keys: Annotated[tuple[Key, ...], msgspec.Meta(max_length=MAX_KEYS)] = ()
    addresses: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_ADDRESSES)] = ()


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag="dht.reply.1"):
    """What came of it; the fields that the verb does not use stay empty."""

    number: Annotated[int, msgspec.Meta(ge=0)]
    stored: tuple[bool, ...] = ()  # one an entry
    found: tuple[Held, ...] = ()  # one a key
    size: int = 0  # of the routing table
    met: tuple[str, ...] = ()  # ids of the nodes joined by that answered
    refused: int = 0  # calls of peers that asked too much, since the process began
    fault: str = ""  # why nothing came of it


def frame(message: Ask | Reply) -> bytes:
    """One message as it goes down the pipe."""
    body = codec.encode(message)
    assert len(body) <= MAX_FRAME_BYTES
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


class Frames:
    """Bytes in as they arrive, whole message bodies out."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that these bytes complete; PeerError E0603 if one is too long."""
        self._held += data
        bodies = []
        while len(self._held) >= _LENGTH_BYTES:
            end = _LENGTH_BYTES + int.from_bytes(self._held[:_LENGTH_BYTES], "big")
            if end > _LENGTH_BYTES + MAX_FRAME_BYTES:
                raise PeerError("E0603", f"a frame of {end} bytes on the pipe of the DHT process")
            if len(self._held) < end:
                break
            bodies.append(bytes(self._held[_LENGTH_BYTES:end]))
            del self._held[:end]
        return bodies


def read_ask(body: bytes) -> Ask:
    """An ask out of a frame's body."""
    return codec.decode(body, Ask, MAX_FRAME_BYTES)


def read_reply(body: bytes) -> Reply:
    """A reply out of a frame's body."""
    return codec.decode(body, Reply, MAX_FRAME_BYTES)
