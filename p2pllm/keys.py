"""A node's one Ed25519 key: make it, keep it, sign with it, verify with the public half."""

import os
from pathlib import Path

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from p2pllm.errors import LocalError, PeerError
from p2pllm.ids import NodeId, node_id_of, public_key_of

SIGNATURE_BYTES = 64
# A serialized libp2p PrivateKey: field 1 (type) = Ed25519, field 2 (data) = seed and public key,
# 64 bytes. Go's libp2p refuses the 32-byte form. One file then serves p2pd and us.
_KEY_FILE_PREFIX = bytes([0x08, 0x01, 0x12, 0x40])
_KEY_FILE_BYTES = len(_KEY_FILE_PREFIX) + 64


class Identity:
    """The private key of this node. Its `repr` shows the public id only."""

    def __init__(self, key: SigningKey) -> None:
        self._key = key
        self.node: NodeId = node_id_of(bytes(key.verify_key))

    def __repr__(self) -> str:
        return f"Identity({self.node})"

    def sign(self, purpose: str, body: bytes) -> bytes:
        """A 64-byte signature over the purpose prefix and these bytes."""
        return self._key.sign(_prefixed(purpose, body)).signature

    def seed(self) -> bytes:
        """The 32 secret bytes; for py-libp2p's key object and nothing else."""
        return bytes(self._key)

    def key_file_bytes(self) -> bytes:
        """The key as p2pd's `-id` file wants it."""
        return _KEY_FILE_PREFIX + bytes(self._key) + bytes(self._key.verify_key)


def verify(node: NodeId, purpose: str, body: bytes, signature: bytes) -> None:
    """Return if `node` signed these bytes for this purpose; else PeerError E0602."""
    try:
        VerifyKey(public_key_of(node)).verify(_prefixed(purpose, body), signature)
    except (BadSignatureError, ValueError) as bad:
        raise PeerError("E0602", f"signature on a {purpose} is not {node}'s") from bad


def generate() -> Identity:
    """A new identity from the system's random source."""
    return Identity(SigningKey.generate())


def load(path: Path) -> Identity:
    """The identity kept in a key file; LocalError E0301 if the file is not one."""
    raw = path.read_bytes()
    ok = len(raw) == _KEY_FILE_BYTES and raw.startswith(_KEY_FILE_PREFIX)
    key = SigningKey(raw[4:36]) if ok else None
    if key is None or bytes(key.verify_key) != raw[36:]:
        raise LocalError(
            "E0301",
            f"{path} is not a node key",
            why=["a key file holds one libp2p PrivateKey of type Ed25519, 68 bytes"],
            fix=["restore the file from a backup, or move it away to get a new identity"],
        )
    return Identity(key)


def load_or_create(path: Path) -> Identity:
    """The identity kept at `path`; made, with mode 0600, if there is none yet."""
    if path.exists():
        return load(path)
    identity = generate()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(identity.key_file_bytes())
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
    return identity


def _prefixed(purpose: str, body: bytes) -> bytes:
    # The zero byte ends the purpose, so no purpose and body can be read as another pair.
    return b"p2pllm:" + purpose.encode() + b"\0" + body
