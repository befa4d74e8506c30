"""The tree of places under one master, put together from adverts and heads. Pure.

Whoever holds the same adverts and heads, and trusts the same nodes, gets the same tree, in whatever
order they came and however often. A place's parent is one level up: a sub-domain's its domain, a
domain's its language, a language's the master, whose models are advertised under `mul` (ISO 639-2,
several languages). docs/specs/tree.md
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Literal

import msgspec

from p2pllm import heads as head_sets
from p2pllm.advert import Advert
from p2pllm.heads import Accepted, Head
from p2pllm.ids import ContentId, NodeId
from p2pllm.names import Place

MASTER = Place("mul")
LEVELS = ("master", "language", "domain", "sub-domain")
MAX_PLACES = 4096  # of one tree; beyond it a reader asks for a part

Fault = Literal["larger-than-parent", "costlier-than-parent", "parent-has-no-model"]


class Server(msgspec.Struct, frozen=True, order=True):
    """A node that says it hands a model out, and how much it is trusted."""

    node: NodeId
    trust: float


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One model of a place."""

    manifest: ContentId
    kind: str
    name: str
    model: ContentId  # id of its base
    params: int
    size: int  # bytes, with the base
    download: int  # bytes, without it
    licence: str
    gain: float | None  # nats per token, as its publisher claims
    created_at: float
    accepted: float  # weight in the head; 0: not in it
    servers: tuple[Server, ...]


class Keeper(msgspec.Struct, frozen=True, order=True):
    """A node that signed a head of the place."""

    node: NodeId
    seq: int
    trust: float
    agrees: bool  # its set is the merged one


class Spot(msgspec.Struct, frozen=True, kw_only=True):
    """One place in the tree."""

    place: Place
    parent: Place | None  # None: the master
    level: str
    models: tuple[Model, ...]  # the largest first
    head: tuple[Accepted, ...]  # of all trusted keepers, merged
    keepers: tuple[Keeper, ...]
    params: int  # of its largest base; 0: no model
    size: int  # bytes of its largest base
    trust: float  # of its most trusted server or keeper
    gain: float | None  # the best one claimed by an accepted model, or else by any
    updated_at: float  # when its newest model was made
    faults: tuple[Fault, ...]  # of the edge to its parent


class Tree(msgspec.Struct, frozen=True):
    """Every place that anybody is at, and those between it and the master."""

    spots: tuple[Spot, ...]  # a parent before its children, else by name

    def spot(self, place: Place) -> Spot | None:
        """One place, if it is in the tree."""
        return next((spot for spot in self.spots if spot.place == place), None)

    @property
    def faults(self) -> int:
        """How many edges break a rule."""
        return sum(bool(spot.faults) for spot in self.spots)


def parent_of(place: Place) -> Place | None:
    """The place one level up; None for the master."""
    if place == MASTER:
        return None
    if place.sub:
        return Place(place.lang, place.domain)
    return Place(place.lang) if place.domain else MASTER


def level_of(place: Place) -> str:
    """'master', 'language', 'domain' or 'sub-domain'."""
    if place == MASTER:
        return LEVELS[0]
    return LEVELS[1 + bool(place.domain) + bool(place.sub)]


def within(place: Place, top: Place | None) -> bool:
    """Whether a place is `top` or below it; everything is below the master."""
    if top is None or top == MASTER:
        return True
    parts = (place.lang, place.domain, place.sub)
    wanted = (top.lang, top.domain, top.sub)
    return all(want in ("", have) for want, have in zip(wanted, parts, strict=True))


def assemble(
    adverts: Iterable[Advert],
    heads: Iterable[Head],
    trust: Mapping[NodeId, float],
    *,
    dropped: Collection[ContentId] = (),
    unknown: float = 0.1,
) -> Tree:
    """The tree of what these say.

    trust     weight of each known node, 0 to 1; what a node of weight 0 says is left out
    dropped   updates that were taken back, which no head brings in again
    unknown   weight of a node that `trust` does not name
    """
    counted = {}
    for advert in adverts:
        if trust.get(advert.by, unknown) > 0 and not advert.withdrawn:
            counted[advert.manifest, advert.by, advert.expires_at] = advert
    kept = [one for one in head_sets.latest(heads) if trust.get(one.by, 0.0) > 0]
    places = {advert.place for advert in counted.values()} | {one.place for one in kept}
    made: dict[Place, Spot] = {}
    for place in sorted(_with_parents(sorted(places)[:MAX_PLACES]), key=_order):
        here = [advert for advert in counted.values() if advert.place == place]
        mine = [one for one in kept if one.place == place]
        accepted = head_sets.without(head_sets.merge(*(one.accepted for one in mine)), dropped)
        weights = {one.manifest: one.weight for one in accepted}
        models = _models(here, weights, trust, unknown)
        keepers = tuple(
            Keeper(one.by, one.seq, trust[one.by], one.accepted == accepted) for one in mine
        )
        made[place] = _spot(place, models, accepted, keepers, made)
    return Tree(tuple(made.values()))


def _with_parents(places: Iterable[Place]) -> set[Place]:
    found = {MASTER}
    for place in places:
        step: Place | None = place
        while step is not None:
            found.add(step)
            step = parent_of(step)
    return found


def _order(place: Place) -> tuple[bool, Place]:
    # '' sorts before any word, so a parent comes before its children.
    return place != MASTER, place


def _models(
    adverts: Iterable[Advert],
    weights: Mapping[ContentId, float],
    trust: Mapping[NodeId, float],
    unknown: float,
) -> tuple[Model, ...]:
    by_manifest: dict[ContentId, list[Advert]] = {}
    for advert in adverts:
        by_manifest.setdefault(advert.manifest, []).append(advert)
    made = []
    for manifest, said in by_manifest.items():
        servers = {Server(each.by, trust.get(each.by, unknown)) for each in said}
        # Of those who say different things of one manifest the most trusted counts.
        first = min(said, key=lambda e: (-trust.get(e.by, unknown), e.by, e.expires_at))
        made.append(
            Model(
                manifest=manifest,
                kind=first.kind,
                name=first.name,
                model=first.model,
                params=first.params,
                size=first.size,
                download=first.download,
                licence=first.licence,
                gain=first.gain,
                created_at=first.created_at,
                accepted=weights.get(manifest, 0.0),
                servers=tuple(sorted(servers)),
            )
        )
    return tuple(sorted(made, key=lambda one: (-one.params, -one.size, one.manifest)))


def _spot(
    place: Place,
    models: tuple[Model, ...],
    accepted: tuple[Accepted, ...],
    keepers: tuple[Keeper, ...],
    made: Mapping[Place, Spot],
) -> Spot:
    parent = parent_of(place)
    params = max((one.params for one in models), default=0)
    size = max((_base_bytes(one) for one in models), default=0)
    trusts = [server.trust for one in models for server in one.servers]
    gains = [(one.accepted > 0, one.gain) for one in models if one.gain is not None]
    return Spot(
        place=place,
        parent=parent,
        level=level_of(place),
        models=models,
        head=accepted,
        keepers=tuple(sorted(keepers)),
        params=params,
        size=size,
        trust=max([*trusts, *(keeper.trust for keeper in keepers)], default=0.0),
        gain=max(gains)[1] if gains else None,
        updated_at=max((one.created_at for one in models), default=0.0),
        faults=_faults(params, size, made[parent]) if parent is not None and models else (),
    )


def _faults(params: int, size: int, parent: Spot) -> tuple[Fault, ...]:
    """What is wrong with the edge to a place's parent; equal sizes are right."""
    if not parent.models:
        return ("parent-has-no-model",)
    found: list[Fault] = []
    if params > parent.params:
        found.append("larger-than-parent")
    if size > parent.size:
        found.append("costlier-than-parent")
    return tuple(found)


def _base_bytes(model: Model) -> int:
    """What its base takes: an adapter's own bytes are no part of a place's size."""
    return model.size - model.download if model.kind == "adapter" else model.size
