"""DHT records for tests, with what does not matter filled in."""

import time
from typing import Any

from p2pllm.advert import Advert, Presence, Provider
from p2pllm.ids import content_id
from p2pllm.keys import Identity
from p2pllm.names import Place

MODEL = content_id(b"a base")


def advert(identity: Identity, number: int = 0, now: float | None = None, **changes: Any) -> Advert:
    now = time.time() if now is None else now
    fields: dict[str, Any] = {
        "by": identity.node,
        "manifest": content_id(f"manifest {number}".encode()),
        "kind": "adapter",
        "place": Place("en", "medical"),
        "name": f"model-{number}",
        "model": MODEL,
        "size": 300 * 2**20,
        "download": 5 * 2**20,
        "params": 135_000_000,
        "licence": "Apache-2.0",
        "created_at": now - number,
        "issued_at": now,
        "expires_at": now + 3600,
    }
    return Advert(**(fields | changes))


def provider(identity: Identity, what: str = MODEL, now: float | None = None) -> Provider:
    now = time.time() if now is None else now
    return Provider(
        by=identity.node,
        what=what,
        manifest=content_id(b"manifest"),
        issued_at=now,
        expires_at=now + 3600,
    )


def presence(identity: Identity, now: float | None = None, **changes: Any) -> Presence:
    now = time.time() if now is None else now
    fields = {
        "by": identity.node,
        "instance": "0" * 32,
        "issued_at": now,
        "expires_at": now + 600,
    }
    return Presence(**(fields | changes))
