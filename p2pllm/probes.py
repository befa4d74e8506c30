"""Which documents a node probes with now: a part that turns, and a reserve that is never used.

Which document is in which part is decided by a secret of the node, so that no publisher can train
on the probe. The reserve shows whether updates were fitted to the probe all the same: measure on
both, and compare.
"""

from collections.abc import Sequence

from blake3 import blake3

from p2pllm.corpus import in_order

RESERVE = 0.2  # of all documents
SLOTS = 8  # the others, by a hash
ACTIVE = 4  # slots in use in an epoch; the next one takes one slot in and lets one go


def active(documents: Sequence[str], secret: bytes, epoch: int) -> list[str]:
    """The documents to probe with in this epoch: about 40 % of all, a quarter of them new."""
    window = {(epoch + slot) % SLOTS for slot in range(ACTIVE)}
    return [text for text in in_order(documents) if _slot(text, secret) in window]


def resting(documents: Sequence[str], secret: bytes, epoch: int) -> list[str]:
    """The documents of other epochs: neither used in this one nor in reserve; about 40 % of all."""
    used = {*active(documents, secret, epoch), *reserve(documents, secret)}
    return [text for text in in_order(documents) if text not in used]


def reserve(documents: Sequence[str], secret: bytes) -> list[str]:
    """The documents that no epoch uses."""
    return [text for text in in_order(documents) if _slot(text, secret) is None]


def _slot(document: str, secret: bytes) -> int | None:
    key = blake3(secret, derive_key_context="p2pllm 2026 probe slots").digest()
    draw = blake3(document.encode(), key=key).digest(length=16)
    if int.from_bytes(draw[:8]) < RESERVE * 2**64:
        return None
    return draw[8] % SLOTS
