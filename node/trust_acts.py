"""What the operator does about trust over the control API: states, quarantine, probes, places."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import trio

from node import serving_set
from node.jobs import Jobs
from node.requests import (
    ProbesRemoval,
    ProbesRequest,
    QuarantineRequest,
    StandingRequest,
    parse,
)
from node.services import Services
from node.trust_answers import peer_card, places_of, subject_of
from p2pllm.errors import LocalError
from p2pllm.ids import ContentId, NodeId, content_id, typed_node_id
from p2pllm.names import Place, parse_place
from trust.ledger import Merged, Operator
from trust.lineage import descendants

Document = dict[str, Any]
Query = dict[str, str]


async def set_standing(services: Services, _jobs: Jobs, body: bytes, _query: Query) -> Document:
    """The operator puts a peer on probation or trusts it."""
    request = parse(body, StandingRequest)
    peer = typed_node_id(request.peer)
    act = "trust" if request.state == "trusted" else "probation"
    places = places_of(services, peer, request.place)
    return await _act(services, peer, places, (act, request.reason))


async def put_out(services: Services, _jobs: Jobs, body: bytes, _query: Query) -> Document:
    """The operator quarantines a peer, or takes an update back with all that grew on it."""
    request = parse(body, QuarantineRequest)
    subject = subject_of(services, request.subject)
    if subject.startswith("12D3"):
        peer = NodeId(subject)
        places = places_of(services, peer, request.place)
        return await _act(services, peer, places, ("quarantine", request.reason))
    return await _revoke(services, ContentId(subject), request.reason)


async def let_back(services: Services, _jobs: Jobs, body: bytes, _query: Query) -> Document:
    """The operator lets a peer back in on probation, or has an update judged again."""
    request = parse(body, QuarantineRequest)
    subject = subject_of(services, request.subject)
    if subject.startswith("12D3"):
        peer = NodeId(subject)
        places = places_of(services, peer, request.place)
        return await _act(services, peer, places, ("release", request.reason))
    for update in services.trust.db.updates():
        if update.manifest == subject:
            again = msgspec.structs.replace(update, state="waiting", code="", message="", reviews=0)
            services.trust.db.put(again)
            now, place = time.time(), str(update.place)
            services.trust.db.note(now, place, subject, "release", request.reason)
    services.trust.wake()
    return {"schema": "p2pllm.quarantine/1", "peers": [], "updates": [subject]}


async def _act(
    services: Services, peer: NodeId, places: list[Place], what: tuple[str, str]
) -> Document:
    act, reason = what
    if not reason:
        raise LocalError("E0204", "say why: the reason stands in the ledger", fix=["--reason TEXT"])
    for place in places:
        services.trust.books.record(place, msgspec.convert(_operator(act, peer, reason), Operator))
        services.trust.db.note(time.time(), str(place), peer, act, reason)
        state = services.trust.opinions.state(peer, place)
        services.events.emit("standing", place=str(place), peer=peer, state=state, operator=act)
        serving_set.drop(services, place)
        await serving_set.bring_in_line(services, place)
    known = [services.trust.books.place(place) for place in places]
    cards = [peer_card(services, one, peer, one.book.peers[peer]) for one in known]
    return {"schema": "p2pllm.trust/1", "peers": cards, "places": []}


def _operator(act: str, peer: str, reason: str) -> Document:
    return {"type": "operator.1", "act": act, "peer": peer, "reason": reason}


async def _revoke(services: Services, update: ContentId, reason: str) -> Document:
    here, gone = services.trust, []
    for known in here.books.places():
        parents = serving_set.parents_of(services, known)
        out = sorted(descendants([update], parents) & known.taken.keys())
        if out:
            here.books.record(known.place, Merged(dropped=tuple(out)))
            services.events.emit("revoked", place=str(known.place), manifests=out)
        gone += out
    for one in here.db.updates():
        if one.manifest in (update, *gone):
            said = msgspec.structs.replace(
                one, state="refused", code="E0714", message=f"by the operator: {reason}"[:500]
            )
            here.db.put(said)
            here.db.note(time.time(), str(one.place), one.manifest, "quarantine", reason)
            await serving_set.bring_in_line(services, one.place)
            await serving_set.clear_away(services, one.place)
    return {"schema": "p2pllm.quarantine/1", "peers": [], "updates": sorted({update, *gone})}


async def probes(services: Services, _jobs: Jobs, body: bytes, _query: Query) -> Document:
    """Text that updates of a place are judged with; it stays here."""
    request = parse(body, ProbesRequest)
    place, texts = parse_place(request.place), services.trust.probes
    documents = await trio.to_thread.run_sync(texts.read, request.paths)
    count = await trio.to_thread.run_sync(texts.add, place, documents, _gift(request.paths))
    services.trust.wake()
    return {"schema": "p2pllm.probes/1", "place": str(place), "documents": count}


async def remove_probes(services: Services, _jobs: Jobs, body: bytes, _query: Query) -> Document:
    """Forget our copy of text that a place was judged with."""
    request = parse(body, ProbesRemoval)
    place, texts = parse_place(request.place), services.trust.probes
    gift = _gift(request.paths) if request.paths else None
    if not await trio.to_thread.run_sync(texts.remove, place, gift):
        raise LocalError(
            "E0407",
            f"no text judges {place} that was given so" if gift else f"no text judges {place}",
            fix=[
                "name the files as they were given, all of one add together",
                f"p2pllm trust probes rm {place} removes all",
            ]
            if gift
            else ["p2pllm trust probes ls"],
        )
    services.trust.wake()
    count = await trio.to_thread.run_sync(texts.count, place)
    return {"schema": "p2pllm.probes/1", "place": str(place), "documents": count}


def _gift(paths: list[str]) -> str:
    return "given-" + content_id("\0".join(sorted(paths)).encode())[:16]


ROUTES: list[tuple[str, str, Callable[..., Awaitable[Document]]]] = [
    ("POST", "/trust", set_standing),
    ("POST", "/trust/probes", probes),
    ("DELETE", "/trust/probes", remove_probes),
    ("POST", "/quarantine", put_out),
    ("DELETE", "/quarantine", let_back),
]
