"""Answer a search: ask the index, group what several peers hold, say what is here already."""

import time
from typing import Any

import msgspec

from gossip import index
from node.requests import SearchRequest
from node.services import Services
from p2pllm.advert import Advert
from p2pllm.ids import ContentId
from p2pllm.names import exact_ref
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
    return {"schema": "p2pllm.search/1", "results": results, "complete": found.complete}


def query_of(request: SearchRequest) -> Query:
    """The typed query of a request; LocalError E0204 for a size that cannot be read."""
    low, high = parse_size(request.size) if request.size else (0, MAX_SIZE)
    named = msgspec.structs.asdict(request)
    kept = ("lang", "domain", "sub", "kind", "text", "model", "licence", "limit")
    return Query(size_low=low, size_high=high, **{name: named[name] for name in kept})


def _card(services: Services, holders: list[Advert]) -> dict[str, Any]:
    advert = holders[0]
    place = advert.place
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
        "created_at": advert.created_at,
        "here": services.library.get(advert.manifest) is not None,
    }
