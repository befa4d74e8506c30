"""Answer a search: ask the index, group what several peers hold, say what is here already."""

import time
from typing import Any

import msgspec

from gossip import index
from node.effects import LEFT_OUT
from node.requests import SearchRequest
from node.services import Services
from p2pllm.advert import Advert
from p2pllm.ids import ContentId
from p2pllm.names import exact_ref, parse_lang
from p2pllm.query import MAX_SIZE, Query, parse_size


async def search(services: Services, request: SearchRequest) -> dict[str, Any]:
    """Every model the swarm advertises that passes the filters, newest first."""
    query = query_of(request)
    services.network.need_peers()
    found = await index.find(services.network.dht(), query, time.time())
    by_manifest: dict[ContentId, list[Advert]] = {}
    for advert in found.adverts:
        by_manifest.setdefault(advert.manifest, []).append(advert)
    results = [_card(services, holders) for holders in by_manifest.values()]
    results = [card for card in results if card["rank"] < LEFT_OUT]
    results.sort(key=lambda card: int(card["rank"]))  # the newest first among equals
    return {"schema": "p2pllm.search/1", "results": results, "complete": found.complete}


def query_of(request: SearchRequest) -> Query:
    """The typed query of a request; LocalError E0201 for a bad language, E0204 for a bad size."""
    low, high = parse_size(request.size) if request.size else (0, MAX_SIZE)
    named = msgspec.structs.asdict(request)
    named["lang"] = parse_lang(request.lang) if request.lang else None
    named |= {word: named[word].lower() for word in ("domain", "sub") if named[word]}
    kept = ("lang", "domain", "sub", "kind", "text", "model", "licence", "limit")
    return Query(size_low=low, size_high=high, **{name: named[name] for name in kept})


def _card(services: Services, holders: list[Advert]) -> dict[str, Any]:
    advert = holders[0]
    place, opinions = advert.place, services.trust.opinions
    peers = opinions.ranked([holder.by for holder in holders], place)
    judged = services.trust.db.update(place, advert.manifest)
    publisher = [judged.peer] if judged else []
    mine = services.identity.node
    ranks = [opinions.order(peer, place)[0] for peer in peers]
    rank = min([*ranks, *(0 for holder in holders if holder.by == mine)], default=LEFT_OUT)
    # Where the publisher is known it is what counts: bytes of others may be honestly held by many.
    rank = max([rank, *(opinions.order(peer, place)[0] for peer in publisher)])
    return {
        "ref": exact_ref(place, advert.name, advert.manifest),
        "manifest": advert.manifest,
        "kind": advert.kind,
        "lang": place.lang,
        "domain": place.domain,
        "sub": place.sub,
        "name": advert.name,
        "model": advert.model,
        "size_bytes": advert.size,
        "download_bytes": advert.download,
        "params": advert.params,
        "licence": advert.licence,
        "gain": advert.gain,
        "peers": sorted(holder.by for holder in holders),
        "rank": rank,
        "state": opinions.state(publisher[0], place) if publisher else None,
        "created_at": advert.created_at,
        "here": services.library.get(advert.manifest) is not None,
    }
