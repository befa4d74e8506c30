"""What a file of cached teacher logits says of itself, and how large it may be. No torch.

The file: docs/specs/logits.md.
"""

from typing import Annotated, Literal

import msgspec

from p2pllm.errors import PeerError
from p2pllm.ids import ContentIdField
from p2pllm.weights import Tensor

MAX_KEEP = 64  # entries a token: 64 of 6 bytes is where a cache stops being small
MAX_TOKENS = 2**24  # of one file: some 1.1 GB at 16 entries
SMALL_VOCABULARY = 2**16  # up to here an entry's index takes two bytes
HEADER = "p2pllm.logits"  # key of the description in the file's metadata

Kind = Literal["top", "sampled", "mixed"]


class Caching(msgspec.Struct, frozen=True, kw_only=True):
    """What of a teacher's answers is kept."""

    keep: Annotated[int, msgspec.Meta(ge=1, le=MAX_KEEP)] = 24  # entries a token
    kind: Kind = "mixed"
    # top: the likeliest, and one tail for the rest. sampled: that many draws, unbiased. mixed: half
    # of them the likeliest, half draws from the rest, unbiased too and less noisy.
    temperature: Annotated[float, msgspec.Meta(ge=0.1, le=10)] = 1.0
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 0  # of the draws


class Description(msgspec.Struct, frozen=True, kw_only=True, tag="logits.1"):
    """Whose answers to what a cache holds."""

    teacher: ContentIdField  # of its weights
    tokenizer: ContentIdField
    text: ContentIdField  # of the rows' token ids, as 32-bit little-endian integers
    vocabulary: Annotated[int, msgspec.Meta(ge=2, le=2**20)]
    rows: Annotated[int, msgspec.Meta(ge=1, le=MAX_TOKENS)]
    seq: Annotated[int, msgspec.Meta(ge=2, le=2**17)]
    caching: Caching


def decode_description(text: str) -> Description:
    """A description out of a file's metadata; PeerError E0603 if it breaks a rule."""
    try:
        found = msgspec.json.decode(text, type=Description)
    except msgspec.MsgspecError as bad:
        raise PeerError("E0603", f"cached logits: {str(bad)[:200]}") from bad
    if found.rows * found.seq > MAX_TOKENS:
        raise PeerError("E0603", f"cached logits of over {MAX_TOKENS} tokens")
    return found


def check_tensors(found: dict[str, Tensor], said: Description) -> None:
    """Refuse a file whose tensors are not what its description says: PeerError E0603."""
    whole = "U16" if said.vocabulary <= SMALL_VOCABULARY else "I32"
    answers = (said.rows, said.seq - 1, said.caching.keep)
    wanted = {"tokens": (whole, (said.rows, said.seq)), "index": (whole, answers)}
    wanted["value"] = ("F16", answers)
    if {name: (one.dtype, one.shape) for name, one in found.items()} != wanted:
        raise PeerError("E0603", "cached logits: the tensors are not those described")


def bytes_per_token(said: Description) -> float:
    """What a cache takes on disk for each token it foretells, its header left out."""
    whole = 2 if said.vocabulary <= SMALL_VOCABULARY else 4
    return said.caching.keep * (whole + 2) + whole * said.seq / (said.seq - 1)
