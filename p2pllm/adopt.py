"""What of a place's heads a node applies: its own verdicts, and the word of keepers it trusts.

Rules and reasons: docs/specs/heads.md, section 5. What nobody trusted vouches for is not applied,
and what loses its last voucher is taken back. Pure.
"""

from collections.abc import Collection, Iterable, Mapping

import msgspec

from p2pllm.heads import Accepted, Head
from p2pllm.ids import ContentId, NodeId


class Vouched(msgspec.Struct, frozen=True):
    """An update that may be applied, how much of it counts, and on whose word."""

    manifest: ContentId
    weight: float  # the largest that a voucher gives it
    by: tuple[NodeId, ...]


class Applied(msgspec.Struct, frozen=True):
    """An update that was applied once."""

    at: float  # Unix seconds
    weight: float
    by: tuple[NodeId, ...]


class Following(msgspec.Struct, frozen=True, kw_only=True):
    """What a node remembers of a place it follows."""

    auto: bool = False  # accepted updates are applied without asking
    applied: Mapping[ContentId, Applied] = {}
    back: frozenset[ContentId] = frozenset()  # rolled back by a person; not applied again


class Change(msgspec.Struct, frozen=True):
    """What is to be applied now and what is to be taken back."""

    apply: tuple[Vouched, ...]
    drop: tuple[ContentId, ...]


def vouched(
    me: NodeId,
    own: Iterable[Accepted],
    heads: Iterable[Head],
    trusted: Collection[NodeId],
    refused: Collection[ContentId],
) -> tuple[Vouched, ...]:
    """Every update that may be applied, by id.

    own      what this node accepted itself
    trusted  keepers whose word counts here; a stranger's does not
    refused  what this node judged and did not accept: nobody's word brings that in
    """
    found: dict[ContentId, tuple[float, set[NodeId]]] = {}
    said = [(me, own)] + [(h.by, h.accepted) for h in heads if h.by in trusted and h.by != me]
    for who, accepted in said:
        for one in accepted:
            if one.manifest not in refused or who == me:
                weight, by = found.get(one.manifest, (0.0, set()))
                found[one.manifest] = max(weight, one.weight), by | {who}
    return tuple(
        Vouched(manifest, weight, tuple(sorted(by)))
        for manifest, (weight, by) in sorted(found.items())
    )


def heirs(heads: Iterable[Head], trusted: Collection[NodeId]) -> dict[NodeId, set[NodeId]]:
    """Whom the trusted keepers name, each with those who name it."""
    found: dict[NodeId, set[NodeId]] = {}
    for head in heads:
        for heir in head.heirs if head.by in trusted else ():
            found.setdefault(heir, set()).add(head.by)
    return found


def change(
    following: Following, may: Iterable[Vouched], stays: Iterable[Vouched] | None = None
) -> Change:
    """From what is applied to what may be; what a person rolled back stays out.

    stays   what is not taken back if it is applied, where that is more than `may`
    """
    wanted = {one.manifest: one for one in may if one.manifest not in following.back}
    left = wanted.keys() if stays is None else wanted.keys() | {one.manifest for one in stays}
    return Change(
        apply=tuple(wanted[key] for key in sorted(wanted.keys() - following.applied.keys())),
        drop=tuple(sorted(following.applied.keys() - left)),
    )


def applied(following: Following, one: Vouched, now: float) -> Following:
    """The state after an update was applied; the first time counts."""
    if one.manifest in following.applied:
        return following
    more = {one.manifest: Applied(now, one.weight, one.by)}
    return msgspec.structs.replace(following, applied={**following.applied, **more})


def dropped(following: Following, gone: Collection[ContentId], *, back: bool) -> Following:
    """The state after updates were taken back; `back`: by a person, for good."""
    left = {key: one for key, one in following.applied.items() if key not in gone}
    stays = following.back | frozenset(gone) if back else following.back
    return msgspec.structs.replace(following, applied=left, back=stays)
