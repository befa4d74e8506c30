"""The control protocol of p2pd, the Go libp2p daemon: one request a connection of a unix socket.

Messages are protobuf with a varint length before them. The binary and its message types ship in
the hivemind package; both are found by path, for importing that package would load torch.
"""

import functools
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import base58
import msgspec
import trio
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from gossip.framing import read_exactly
from p2pllm.errors import LocalError, PeerError, Unavailable
from p2pllm.ids import NodeId, node_id_bytes, parse_node_id

MAX_CONTROL_BYTES = 1024 * 1024  # a list of all connected peers is the longest answer
_UNIX = 400  # multiaddr code of a unix socket path
_MAX_WAIT_S = 60  # what p2pd itself waits for a dial when we set no deadline


class PeerInfo(msgspec.Struct, frozen=True):
    """A connected peer and the addresses it is reached by."""

    node: NodeId
    addresses: tuple[str, ...]


class Incoming(msgspec.Struct, frozen=True):
    """What p2pd says about a stream it hands us; `node` is authenticated."""

    node: NodeId
    protocol: str


def binary() -> Path:
    """Where the p2pd executable is; LocalError E0305 if hivemind is not installed."""
    return _hivemind() / "hivemind_cli" / "p2pd"


async def identify(control: Path) -> tuple[NodeId, list[str]]:
    """Our node id as p2pd knows it, and the addresses it can be dialled at."""
    pb = _messages()
    answer = (await _ask(control, pb.Request(type=pb.Request.IDENTIFY))).identify
    return _node(answer.id), _addresses(answer.addrs)


async def connect(control: Path, peer: NodeId, address: Multiaddr) -> None:
    """Dial a peer at an address without its /p2p/ part; Unavailable E0901."""
    pb = _messages()
    wanted = pb.ConnectRequest(
        peer=node_id_bytes(peer), addrs=[address.to_bytes()], timeout=_seconds_left()
    )
    await _ask(control, pb.Request(type=pb.Request.CONNECT, connect=wanted), "E0901")


async def list_peers(control: Path) -> list[PeerInfo]:
    """The peers connected now, one entry each; peers without an Ed25519 key are left out."""
    pb = _messages()
    found: dict[NodeId, set[str]] = {}
    for peer in (await _ask(control, pb.Request(type=pb.Request.LIST_PEERS))).peers:
        try:
            node = _node(peer.id)
        except PeerError:
            continue
        found.setdefault(node, set()).update(_addresses(peer.addrs))
    return [PeerInfo(node, tuple(sorted(found[node]))) for node in sorted(found)]


async def open_stream(control: Path, peer: NodeId, protocol: str) -> trio.SocketStream:
    """A stream to a peer: the control connection itself, once p2pd said yes."""
    pb = _messages()
    wanted = pb.StreamOpenRequest(
        peer=node_id_bytes(peer), proto=[protocol], timeout=_seconds_left()
    )
    request = pb.Request(type=pb.Request.STREAM_OPEN, streamOpen=wanted)
    return (await _request(control, request, "E0902"))[1]


async def register(control: Path, protocol: str, inbox: Path) -> None:
    """Have p2pd dial the unix socket `inbox` for each incoming stream of a protocol."""
    pb = _messages()
    wanted = pb.StreamHandlerRequest(addr=_unix_address(inbox), proto=[protocol], balanced=False)
    await _ask(control, pb.Request(type=pb.Request.STREAM_HANDLER, streamHandler=wanted))


async def hold(control: Path) -> trio.SocketStream:
    """A connection that keeps p2pd alive: when the last such one closes, it exits by itself."""
    pb = _messages()
    return (await _request(control, pb.Request(type=pb.Request.PERSISTENT_CONN_UPGRADE)))[1]


async def read_incoming(stream: trio.SocketStream) -> Incoming:
    """The first message on a connection to the inbox: who opened the stream, for what."""
    info = await _read(stream, _messages().StreamInfo())
    return Incoming(_node(info.peer), info.proto)


def parse_address(text: str) -> tuple[NodeId, Multiaddr]:
    """Peer and dialling address out of '/ip4/…/tcp/…/p2p/12D3…'; LocalError E0204 if not one."""
    address, mark, peer = text.rpartition("/p2p/")
    try:
        if not mark:
            raise ValueError("it does not end in /p2p/PEER-ID")
        return parse_node_id(peer), Multiaddr(address)
    except (ValueError, MultiaddrError, PeerError) as bad:
        raise LocalError(
            "E0204",
            f"not the address of a node: {text[:200]!r}",
            why=[str(bad)],
            fix=["write it as `p2pllm id` shows it, such as /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…"],
        ) from bad


def check_listening(text: str) -> None:
    """Return if this may be an address of ours to listen on; else LocalError E0205."""
    try:
        protocols = [protocol.name for protocol in Multiaddr(text).protocols()]
        if not {"tcp", "udp"} & set(protocols) or "p2p" in protocols:
            raise ValueError("it names no TCP or UDP port alone")
    except (ValueError, MultiaddrError) as bad:
        raise LocalError(
            "E0205",
            f"not an address to listen on: {text[:200]!r}",
            why=[str(bad)],
            fix=["write it as --listen /ip4/0.0.0.0/tcp/4001"],
        ) from bad


@functools.cache
def _hivemind() -> Path:
    found = importlib.util.find_spec("hivemind")  # found, not imported
    if found is None or not found.submodule_search_locations:
        raise LocalError(
            "E0305",
            "p2pd is not installed: the hivemind package carries it",
            fix=["pip install hivemind"],
        )
    return Path(found.submodule_search_locations[0])


@functools.cache
def _messages() -> Any:  # generated code without types
    path = _hivemind() / "proto" / "p2pd_pb2.py"
    spec = importlib.util.spec_from_file_location("p2pd_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def _ask(control: Path, request: Any, code: str = "E0902") -> Any:
    response, stream = await _request(control, request, code)
    await stream.aclose()
    return response


async def _request(
    control: Path, request: Any, code: str = "E0902"
) -> tuple[Any, trio.SocketStream]:
    """The answer and the open connection; Unavailable: `code` if refused, E0903 if p2pd is gone."""
    raw = request.SerializeToString()
    try:
        stream = await trio.open_unix_socket(str(control))
    except OSError as gone:
        raise Unavailable("E0903", f"p2pd does not answer on {control}: {gone}") from gone
    try:
        response = await _converse(stream, raw)
        if response.type != response.OK:
            raise Unavailable(code, f"p2pd refused: {response.error.msg[:500]}")
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return response, stream


async def _converse(stream: trio.SocketStream, raw: bytes) -> Any:
    try:
        await stream.send_all(_varint(len(raw)) + raw)
        return await _read(stream, _messages().Response())
    except (trio.BrokenResourceError, Unavailable) as gone:
        raise Unavailable("E0903", "p2pd closed its control connection") from gone


async def _read(stream: trio.SocketStream, message: Any) -> Any:
    # Byte by byte, for what follows the message already belongs to the stream.
    length = shift = 0
    while True:
        byte = (await read_exactly(stream, 1))[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
        if shift > 28:
            raise Unavailable("E0902", "p2pd sent a length that never ends")
    if length > MAX_CONTROL_BYTES:
        raise Unavailable("E0902", f"p2pd sent a message of {length} bytes")
    message.ParseFromString(await read_exactly(stream, length))
    return message


def _seconds_left() -> int:
    # p2pd's own timeout, so that it gives up no later than the caller does.
    left = trio.current_effective_deadline() - trio.current_time()
    return math.ceil(max(1.0, min(left, _MAX_WAIT_S)))  # a cancelled caller's is minus infinity


def _node(raw: bytes) -> NodeId:
    return parse_node_id(base58.b58encode(raw).decode())


def _addresses(raw: Sequence[bytes]) -> list[str]:
    known = []
    for address in raw:
        try:
            known.append(str(Multiaddr(address)))
        except (MultiaddrError, ValueError):
            continue  # a transport that p2pd speaks and our parser does not know yet
    return known


def _unix_address(path: Path) -> bytes:
    # The value keeps its leading slash, as Go expects; py-multiaddr would drop it.
    raw = str(path).encode()
    return _varint(_UNIX) + _varint(len(raw)) + raw


def _varint(number: int) -> bytes:
    encoded = b""
    while number > 127:
        encoded += bytes([number & 127 | 128])
        number >>= 7
    return encoded + bytes([number])
