"""Names of nodes and of bytes: parse them, print them, make them."""

import re
from typing import Annotated, NewType

import base58
import msgspec
from blake3 import blake3

from p2pllm.errors import LocalError, PeerError

ContentId = NewType("ContentId", str)
"""BLAKE3-256 of some bytes, 64 lowercase hex digits; equals what `b3sum` prints."""

NodeId = NewType("NodeId", str)
"""libp2p peer id of an Ed25519 key, base58: '12D3KooW' and 44 characters more."""

# \Z, not $: a pattern that ends in $ would let a trailing newline through.
ContentIdField = Annotated[ContentId, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
NodeIdField = Annotated[NodeId, msgspec.Meta(pattern=r"\A12D3KooW[1-9A-HJ-NP-Za-km-z]{44}\Z")]

_CONTENT_ID = re.compile(r"[0-9a-f]{64}")
# A peer id of an Ed25519 key is the identity multihash (code 0, length 36) of the protobuf
# PublicKey {type: Ed25519 = 1, data: 32 bytes}. libp2p specs, peer-ids, "Ed25519".
_PEER_ID_PREFIX = bytes([0x00, 0x24, 0x08, 0x01, 0x12, 0x20])


def content_id(data: bytes | bytearray | memoryview) -> ContentId:
    """The name of these bytes."""
    return ContentId(blake3(data).hexdigest())


def parse_content_id(text: str) -> ContentId:
    """A content id out of text; PeerError E0601 if it is none."""
    if not _CONTENT_ID.fullmatch(text):
        raise PeerError("E0601", f"not a content id (64 lowercase hex digits): {text[:80]!r}")
    return ContentId(text)


def node_id_of(public_key: bytes) -> NodeId:
    """The node id of a 32-byte Ed25519 public key."""
    assert len(public_key) == 32
    return NodeId(base58.b58encode(_PEER_ID_PREFIX + public_key).decode())


def node_id_bytes(node: NodeId) -> bytes:
    """The 38-byte binary peer id, as p2pd's control messages carry it."""
    return base58.b58decode(node)


def parse_node_id(text: str) -> NodeId:
    """A node id out of text; PeerError E0602 if it does not hold an Ed25519 key."""
    try:
        raw = base58.b58decode(text) if len(text) <= 64 else b""
    except ValueError:
        raw = b""
    if len(raw) != 38 or not raw.startswith(_PEER_ID_PREFIX):
        raise PeerError("E0602", f"not the id of an Ed25519 peer: {text[:80]!r}")
    return NodeId(text)


def typed_node_id(text: str) -> NodeId:
    """A node id that a person typed; LocalError E0204 if it is none."""
    try:
        return parse_node_id(text)
    except PeerError as bad:
        raise LocalError("E0204", bad.message, fix=["p2pllm peers", "p2pllm id"]) from bad


def public_key_of(node: NodeId) -> bytes:
    """The 32-byte Ed25519 public key a node id carries; PeerError E0602 if it carries none."""
    return base58.b58decode(parse_node_id(node))[len(_PEER_ID_PREFIX) :]
