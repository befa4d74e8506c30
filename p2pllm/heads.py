"""What a place serves now: a signed set of accepted (update, weight) pairs that merges.

Merging commutes and is idempotent, and dropping a hash undoes it, since a head is a set in
canonical order and nothing is derived from how it came about. Format: docs/specs/records.md.
"""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec

from p2pllm import codec
from p2pllm.durable import full_disk_is_expected, replace_file
from p2pllm.errors import LocalError, PeerError
from p2pllm.ids import ContentId, ContentIdField, NodeIdField
from p2pllm.keys import Identity
from p2pllm.names import Place

PURPOSE = "head.1"
MAX_ACCEPTED = 256  # LoRA updates stacked at one place; each costs memory wherever it is served
MAX_HEIRS = 8
MAX_HEAD_BYTES = 32 * 1024  # 256 pairs of at most 100 bytes, and the rest

Stamp = tuple[int, int]


class Accepted(msgspec.Struct, frozen=True, order=True):
    """One update a place accepted, and how much of it counts."""

    manifest: ContentIdField
    weight: Annotated[float, msgspec.Meta(gt=0, le=1)]


class Head(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="head.1"):
    """The accepted set of one place as one node sees it. Signed as `head.1`."""

    by: NodeIdField
    place: Place
    seq: Annotated[int, msgspec.Meta(ge=1, le=2**53)]  # grows with each change by this node
    accepted: Annotated[tuple[Accepted, ...], msgspec.Meta(max_length=MAX_ACCEPTED)]
    # Keepers that this one trusts: who trusts this one may go by their word once it is gone.
    heirs: Annotated[tuple[NodeIdField, ...], msgspec.Meta(max_length=MAX_HEIRS)] = ()

    def __post_init__(self) -> None:
        names = [pair.manifest for pair in self.accepted]
        if any(a >= b for a, b in pairwise(names)):
            raise ValueError("accepted updates are not in strictly rising order of their ids")
        if any(a >= b for a, b in pairwise(self.heirs)):
            raise ValueError("heirs are not in strictly rising order")


def canonical(pairs: Iterable[Accepted]) -> tuple[Accepted, ...]:
    """A set of pairs in the order it is written in; an update named twice has its larger weight."""
    largest = {pair.manifest: pair for pair in sorted(pairs)}
    return tuple(largest[manifest] for manifest in sorted(largest))


def merge(*sets: Iterable[Accepted]) -> tuple[Accepted, ...]:
    """The union of accepted sets, in whatever order and however often they come."""
    return canonical(pair for pairs in sets for pair in pairs)


def without(pairs: Iterable[Accepted], dropped: Iterable[ContentId]) -> tuple[Accepted, ...]:
    """The set with these updates taken out again."""
    gone = set(dropped)
    return canonical(pair for pair in pairs if pair.manifest not in gone)


def latest(heads: Iterable[Head]) -> list[Head]:
    """Of each node's heads of each place the newest; by place and node, in whatever order.

    A node that signs two heads with one `seq` broke a rule; the same one of them counts everywhere.
    """
    newest: dict[tuple[Place, str], Head] = {}
    for head in sorted(heads, key=lambda head: (head.seq, codec.encode(head))):
        newest[head.place, head.by] = head
    return [newest[key] for key in sorted(newest)]


def seal(identity: Identity, head: Head) -> bytes:
    """The signed bytes of a head."""
    return codec.sign(identity, PURPOSE, head)


def open_head(record: bytes) -> Head:
    """A head out of signed bytes; PeerError E0602 or E0603 if it is forged or malformed."""
    return codec.open_signed(record, PURPOSE, Head, MAX_HEAD_BYTES)


class HeadFile:
    """The heads of one node on disk, a file a place, replaced whole and never by an older one."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder

    def read(self, place: Place) -> Head | None:
        """The head of a place, None if it has none; LocalError E0306 if its file is damaged."""
        path = self._path(place)
        try:
            head = open_head(path.read_bytes())
        except FileNotFoundError:
            return None
        except PeerError as bad:
            raise _damaged(path, str(bad)) from bad
        if head.place != place:
            raise _damaged(path, f"it is the head of {head.place}")
        return head

    def stamp(self, place: Place) -> Stamp | None:
        """What tells one file of a place's head from another without reading it; None: no file."""
        try:
            found = self._path(place).stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    def write(self, record: bytes) -> Head:
        """Keep a signed head; on disk when this returns.

        Raises PeerError E0602 or E0603 if it is not one, and E0607 if the file holds one of the
        same node with this `seq` or a later one.
        """
        head = open_head(record)
        kept = self.read(head.place)
        if kept and kept.by == head.by and kept.seq >= head.seq:
            raise PeerError("E0607", f"head {head.seq} of {head.place}, {kept.seq} is here already")
        with full_disk_is_expected(f"the head of {head.place}"):
            replace_file(self._path(head.place), record)
        return head

    def _path(self, place: Place) -> Path:
        # The words of a place hold no '.', so no two places share a file.
        return self._folder / (str(place).replace("/", ".") + ".head")


def _damaged(path: Path, reason: str) -> LocalError:
    return LocalError(
        "E0306",
        f"{path} is damaged",
        why=[reason],
        fix=["restore it from a backup, or remove it: the place then serves its base alone"],
    )
