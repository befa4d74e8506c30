"""What the control API answers about the tree of places, and about following one."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from gossip import index
from node import keeping
from node.jobs import Jobs
from node.judging import hear_again
from node.offers import advert_of
from node.requests import FollowRequest, parse
from node.services import Services
from p2pllm.advert import Advert
from p2pllm.errors import LocalError, Unavailable
from p2pllm.ids import ContentId, NodeId
from p2pllm.names import Place, parse_place
from p2pllm.query import Query as Filters
from p2pllm.tree import MASTER, Spot, assemble, within

Document = dict[str, Any]
Query = dict[str, str]
MOST = 1000  # models asked for


async def tree(services: Services, _jobs: Jobs, _body: bytes, query: Query) -> Document:
    """The tree below a place, out of what the DHT has now and the heads that are here.

    Without a network, out of this node's own models instead, and it says why.
    """
    top = parse_place(query["place"]) if query.get("place") else MASTER
    alone = ""
    try:
        adverts, complete = await _adverts(services, top)
    except Unavailable as away:
        adverts, complete, alone = _own_adverts(services), False, "; ".join(away.why) or str(away)
    places = {*services.network.shelf.places(), *services.trust.followed}
    heads = [head for place in sorted(places) for head in services.network.shelf.of(place)]
    said = [(one.by, one.place) for one in adverts] + [(one.by, one.place) for one in heads]
    made = assemble(
        adverts,
        [head for head in heads if within(head.place, top)],
        _weights(services, said),
        dropped=_taken_back(services, places),
    )
    spots = [_card(spot) for spot in made.spots if within(spot.place, top)]
    state = {"complete": complete, "isolated": alone or None}
    return {"schema": "p2pllm.tree/1", "top": str(top), "places": spots, **state}


async def _adverts(services: Services, top: Place) -> tuple[list[Advert], bool]:
    services.network.need_peers()
    wanted = Filters(
        lang=None if top == MASTER else top.lang,
        domain=top.domain or None,
        sub=top.sub or None,
        limit=MOST,
    )
    found = await index.find(services.network.dht(), wanted, time.time())
    return list(found.adverts), found.complete


def _own_adverts(services: Services) -> list[Advert]:
    """What this node could say of the models it holds, offered or not."""
    me, held = services.identity.node, services.library.models()
    pairs = [(one, services.models.described(one)) for one in held]
    return [advert_of(me, one, said, time.time()) for one, said in pairs if said]


def _weights(services: Services, said: list[tuple[NodeId, Place]]) -> dict[NodeId, float]:
    """What each node's word counts for: its score, and nothing where it is shut out."""
    made: dict[NodeId, float] = {services.identity.node: 1.0}
    for node, place in said:
        if node == services.identity.node:
            continue
        shut = services.trust.opinions.shut(node, place)
        weight = 0.0 if shut else services.trust.opinions.heard(node, place)
        made[node] = min(made.get(node, 1.0), weight)
    return made


def _taken_back(services: Services, places: set[Place]) -> set[ContentId]:
    return {one for place in places for one in keeping.following(services, place).back}


def _card(spot: Spot) -> Document:
    plain: Document = msgspec.to_builtins(spot)
    plain["place"] = str(spot.place)
    plain["parent"] = str(spot.parent) if spot.parent else None
    plain["updated_at"] = spot.updated_at or None
    return plain


async def following(services: Services, _jobs: Jobs, _body: bytes, _query: Query) -> Document:
    """The places this node follows, and what is applied at each."""
    return _follow_card(services)


async def follow(services: Services, _jobs: Jobs, body: bytes, _query: Query) -> Document:
    """Hear, judge and serve the updates of a place from now on, or no more; apply or roll back."""
    request = parse(body, FollowRequest)
    place = parse_place(request.place)
    if request.back:
        keeping.take_back(services, place, [_named(services, place, request.back)], back=True)
        return _follow_card(services)
    services.trust.follow(services.library, place, follow=request.follow)
    if request.auto is not None:
        keeping.set_auto(services, place, auto=request.auto)
    if request.follow:
        await services.network.follow(place)
        hear_again(services, place)
    return _follow_card(services)


def _named(services: Services, place: Place, text: str) -> ContentId:
    applied = keeping.following(services, place).applied
    found = [manifest for manifest in applied if manifest.startswith(text)]
    if len(found) != 1:
        raise LocalError(
            "E0402",
            f"{len(found)} applied updates of {place} go by {text[:80]!r}",
            why=sorted(applied)[:10],
            fix=["give more of the manifest's id", "p2pllm follow"],
        )
    return found[0]


def _follow_card(services: Services) -> Document:
    places = sorted(services.trust.followed)
    cards = [_place_card(services, place) for place in places]
    names = [str(place) for place in places]
    return {"schema": "p2pllm.follow/1", "places": names, "following": cards}


def _place_card(services: Services, place: Place) -> Document:
    state = keeping.following(services, place)
    waiting = keeping.change(services, place, state).apply
    return {
        "place": str(place),
        "auto": state.auto,
        "keepers": [head.by for head in services.network.shelf.of(place)],
        "applied": [
            {"manifest": manifest, **msgspec.to_builtins(one)}
            for manifest, one in sorted(state.applied.items(), key=lambda pair: pair[1].at)
        ],
        "waiting": [msgspec.to_builtins(one) for one in waiting],
        "rolled_back": sorted(state.back),
    }


ROUTES: list[tuple[str, str, Callable[..., Awaitable[Document]]]] = [
    ("GET", "/tree", tree),
    ("GET", "/follow", following),
    ("POST", "/follow", follow),
]
