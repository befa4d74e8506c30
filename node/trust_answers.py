"""What the control API answers about trust: peers, verdicts with their numbers, heads."""

import time
from collections.abc import Awaitable, Callable
from math import fsum
from typing import Any

import msgspec
import trio

from node.books import LAST, OWN, PlaceBook, Ruling
from node.gate_log import Decided
from node.jobs import Jobs
from node.round_job import served
from node.services import Services
from p2pllm import codec
from p2pllm.errors import LocalError, PeerError
from p2pllm.ids import ContentId, NodeId, content_id, typed_node_id
from p2pllm.names import Place, parse_place, parse_ref, small_lang
from p2pllm.summary import MAX_SUMMARY_BYTES, UpdateSummary
from trust import bundle
from trust.evidence import FIRST, open_observation
from trust.standing import Standing

Document = dict[str, Any]
Query = dict[str, str]


async def trust(services: Services, _jobs: Jobs, _body: bytes, query: Query) -> Document:
    """Every peer that was judged, and how each place stands."""
    wanted = _places(services, query)
    books = [services.trust.books.place(place) for place in wanted]
    peers = [
        peer_card(services, known, peer, standing)
        for known in books
        for peer, standing in sorted(known.book.peers.items())
    ]
    places = [_place_card(services, known) for known in books]
    return {"schema": "p2pllm.trust/1", "peers": peers, "places": places}


def _places(services: Services, query: Query) -> list[Place]:
    if query.get("place"):
        return [parse_place(query["place"])]
    judged = {known.place for known in services.trust.books.places()}
    return sorted(judged | services.trust.followed | set(services.trust.probes.places()))


def peer_card(services: Services, known: PlaceBook, peer: NodeId, standing: Standing) -> Document:
    decided = {"accept": 0, "hold": 0, "reject": 0}
    weight = fsum(
        pair.weight
        for pair in served(services, known.place)
        if pair.manifest in known.taken and known.taken[pair.manifest].peer == peer
    )
    for found in known.judged.values():
        if found[-1].verdict.peer == peer:
            decided[found[-1].verdict.decision] += 1
    return {
        "peer_id": peer,
        "place": str(known.place),
        "state": standing.state,
        "score": services.trust.opinions.heard(peer, known.place),
        "weight": weight,
        "rounds": standing.rounds,
        "clean": standing.clean,
        "strikes": standing.strikes,
        "useful": standing.useful,
        "stake": standing.stake,
        "counter": standing.counter,
        "damage": standing.damage,
        "updates": {
            "accepted": decided["accept"],
            "held": decided["hold"],
            "rejected": decided["reject"],
        },
        "since": known.since.get(peer),
    }


def _place_card(services: Services, known: PlaceBook) -> Document:
    here, place = services.trust, known.place
    updates = here.db.updates(place)
    blocked = here.blocked.get(place)
    return {
        "place": str(place),
        "followed": place in here.followed,
        "probes": here.probes.count(place),
        "judged": known.book.rounds,
        "served": len(known.taken),
        "pending": sum(one.state in ("waiting", "fetched", "held") for one in updates),
        "updates": [_update_card(one) for one in updates],
        "blocked": f"[{blocked[0]}] {blocked[1]}" if blocked else None,
    }


def _update_card(update: Any) -> Document:
    return {
        "manifest": update.manifest,
        "peer_id": update.peer,
        "place": str(update.place),
        "state": update.state,
        "code": update.code or None,
        "message": update.message or None,
        "reviews": update.reviews,
        "heard_at": update.heard_at,
    }


async def explain(services: Services, _jobs: Jobs, _body: bytes, query: Query) -> Document:
    """Every verdict on a peer or an update, and what the gate decided there or at a place."""
    subject = subject_of(services, query.get("subject", ""))
    verdicts = [
        _verdict_card(services, known, found)
        for known in services.trust.books.places()
        for update, judged in known.judged.items()
        for found in judged
        if subject in (update, found.verdict.peer)
    ]
    reports = [_report_card(services, raw) for raw in services.trust.db.about(subject)]
    others = [card for card in reports if card["by"] != services.identity.node]
    updates = [one for one in services.trust.db.updates() if subject in (one.manifest, one.peer)]
    return {
        "schema": "p2pllm.explanation/1",
        "subject": _subject_card(services, subject),
        "verdicts": sorted(verdicts, key=lambda card: (card["judged_at"], card["manifest"])),
        "served": [
            card for known in services.trust.books.places() for card in _served(known, subject)
        ],
        "gate": [_gate_card(one) for one in services.trust.gate.decisions(subject)],
        "updates": [_update_card(one) for one in updates],
        "reports": others,
        "operator": services.trust.db.notes([subject]),
    }


def subject_of(services: Services, text: str) -> str:
    """A node id, a place that is known here, or the manifest that an id or a reference names."""
    if text.startswith("12D3"):
        return typed_node_id(text)
    known = {one.place for one in services.trust.books.places()} | services.trust.followed
    if small_lang(text) in {str(place) for place in known}:
        return small_lang(text)
    if "/" in text:
        return services.library.find(parse_ref(text)).manifest
    named = {one.manifest for one in services.trust.db.updates()}
    named |= {one.manifest for one in services.library.models()}
    matches = {one for one in named if text and one.startswith(text)}
    if len(matches) != 1:
        raise LocalError(
            "E0402",
            f"nothing known goes by {text[:80]!r}",
            why=sorted(matches)[:10],
            fix=["give a peer id, a reference, a manifest id or a place", "p2pllm trust ls"],
        )
    return matches.pop()


def _subject_card(services: Services, subject: str) -> Document:
    if subject.startswith("12D3"):
        standings = services.trust.books.standings(NodeId(subject)).items()
        states = {str(place): standing.state for place, standing in standings}
        return {"kind": "peer", "peer_id": subject, "states": states}
    if len(subject) != len(FIRST):
        return {"kind": "place", "place": subject}
    held = services.library.get(ContentId(subject))
    return {"kind": "update", "manifest": subject, "ref": held.ref if held else None}


def _verdict_card(services: Services, known: PlaceBook, found: Ruling) -> Document:
    verdict, features = found.verdict, found.measured.features
    raw = services.trust.db.summaries(known.place, verdict.update).get(found.number)
    probe = None
    if raw is not None:
        summary = codec.decode(raw, UpdateSummary, MAX_SUMMARY_BYTES)
        here = (summary.merged or summary.alone).influences[0]
        probe = {"before": here.before, "after": here.after, "tokens": here.tokens}
    return {
        "manifest": verdict.update,
        "peer_id": verdict.peer,
        "place": str(known.place),
        "round": found.number,
        "judged_at": found.at,
        "decision": verdict.decision,
        "weight": verdict.weight,
        "scale": verdict.scale,
        "state": verdict.state,
        "reasons": [msgspec.to_builtins(one) for one in verdict.reasons],
        "features": msgspec.to_builtins(features),
        "probe": probe,
        "by": services.identity.node,
        "signature_ok": _signed(services, found),
    }


def _gate_card(one: Decided) -> Document:
    """One decision of the gate, with its numbers."""
    card = {"place": str(one.place), "manifest": one.manifest, "peer_id": one.peer}
    told = {"stage": one.stage, "outcome": one.outcome, "decided_at": one.at}
    return {**card, **told, **msgspec.json.decode(one.raw)}


def _signed(services: Services, found: Ruling) -> bool | None:
    """Whether our own signed observation says the same; our own updates have none."""
    if found.verdict.peer == services.identity.node:
        return None
    for raw in services.trust.db.about(found.verdict.update):
        try:
            one = open_observation(raw)
        except PeerError:
            continue
        same = (one.by, one.epoch) == (services.identity.node, found.number)
        if same and one.verdict == found.verdict.decision:
            return True
    return False


def _served(known: PlaceBook, subject: str) -> list[Document]:
    """What probing the candidate came to, where it was about this subject."""
    cards = []
    for at, event in known.merges:
        named = [*event.taken, *event.dropped, *(one.update for one in event.unfit)]
        peers = [one.verdict.peer for name in named for one in known.judged.get(name, [])[-1:]]
        if subject in (*named, *peers):
            cards.append({"place": str(known.place), "at": at, **msgspec.to_builtins(event)})
    return cards


def _report_card(services: Services, raw: bytes) -> Document:
    try:
        one, ok = open_observation(raw), True
    except PeerError:
        return {
            "by": "",
            "subject": "",
            "what": "",
            "value": 0.0,
            "weight": 0.0,
            "signature_ok": False,
        }
    weights = services.trust.opinions.witnesses(one.place)
    return {
        "by": one.by,
        "subject": one.subject,
        "update": one.update,
        "place": str(one.place),
        "what": one.verdict,
        "value": {"accept": 1.0, "hold": 0.5, "reject": 0.0}[one.verdict],
        "weight": weights.get(one.by, 0.0),
        "observed_at": one.observed_at,
        "signature_ok": ok,
    }


async def quarantine(services: Services, _jobs: Jobs, _body: bytes, _query: Query) -> Document:
    """Peers and updates of which nothing is used."""
    peers = [
        peer_card(services, known, peer, standing)
        for known in services.trust.books.places()
        for peer, standing in sorted(known.book.peers.items())
        if standing.shut
    ]
    shut = {(card["peer_id"], card["place"]) for card in peers}
    for card in peers:
        acts = services.trust.db.notes([card["peer_id"]])
        acts = [act for act in acts if act["place"] == card["place"]]
        if acts and acts[-1]["act"] == "quarantine":
            card["message"] = f"by the operator: {acts[-1]['reason']}"
    updates = []
    for update in services.trust.db.updates():
        judged = services.trust.books.place(update.place).judged.get(update.manifest, [])
        rejected = bool(judged) and judged[-1].verdict.decision == "reject"
        if update.state == "refused" or rejected or (update.peer, str(update.place)) in shut:
            updates.append(_update_card(update))
    return {"schema": "p2pllm.quarantine/1", "peers": peers, "updates": updates}


def places_of(services: Services, peer: NodeId, place: str) -> list[Place]:
    if place:
        return [parse_place(place)]
    known = sorted(services.trust.books.standings(peer))
    places = known or sorted(services.trust.followed)
    if not places:
        raise LocalError("E0204", "at which place?", fix=["name a place, such as en/medical"])
    return places


async def heads(services: Services, _jobs: Jobs, _body: bytes, query: Query) -> Document:
    """What each place serves."""
    cards = []
    for place in _places(services, query):
        head = services.trust.heads.read(place)
        if head is None:
            continue
        known = services.trust.books.place(place)
        last = [(at, one) for at, one in known.merges if one.taken or one.dropped]
        accepted = [
            {
                "manifest": pair.manifest,
                "weight": pair.weight,
                "peer_id": known.taken[pair.manifest].peer
                if pair.manifest in known.taken
                else None,
            }
            for pair in head.accepted
        ]
        cards.append(
            {
                "place": str(place),
                "model": _model(services, known),
                "by": head.by,
                "seq": head.seq,
                "accepted": accepted,
                "loss": last[-1][1].after or None if last else None,
                "updated_at": last[-1][0] if last else None,
            }
        )
    return {"schema": "p2pllm.heads/1", "heads": cards}


def _model(services: Services, known: PlaceBook) -> str | None:
    for update in known.taken:
        found = services.trust.db.update(known.place, update)
        if found is not None:
            return found.model
    return None


async def evidence(services: Services, _jobs: Jobs, _body: bytes, query: Query) -> bytes:
    """All evidence about a peer at a place, in a file that anyone can check."""
    subject = subject_of(services, query.get("subject", ""))
    if not subject.startswith("12D3"):
        owners = [one.peer for one in services.trust.db.updates() if one.manifest == subject]
        if not owners:
            raise LocalError("E0402", f"no verdict is about {subject}", fix=["name a peer"])
        subject = owners[0]
    peer = NodeId(subject)
    place = places_of(services, peer, query.get("place", ""))[0]
    return await trio.to_thread.run_sync(_bundle, services, peer, place)


def _bundle(services: Services, peer: NodeId, place: Place) -> bytes:
    db, known = services.trust.db, services.trust.books.place(place)
    own, last = db.summaries(place, OWN), db.summaries(place, LAST)
    packed: list[bytes] = []
    taken: list[bundle.Taken] = []
    for update, judged in known.judged.items():
        found = db.summaries(place, update)
        for one in judged:
            if one.verdict.peer == peer and one.number in found:
                there = [found[one.number], own.get(one.number), last.get(one.number)]
                packed += [raw for raw in there if raw is not None]
                names = [content_id(raw) if raw is not None else None for raw in there]
                assert names[0] is not None
                taken.append(
                    bundle.Taken(
                        update=update,
                        round=one.number,
                        summary=names[0],
                        own=names[1],
                        last=names[2],
                    )
                )
    asked = bundle.Asked(peer, place, time.time())
    lines = [line.raw for line in db.ledger(place)]
    return bundle.make(services.identity, asked, lines, db.about(peer), packed, taken)


ROUTES: list[tuple[str, str, Callable[..., Awaitable[Document | bytes]]]] = [
    ("GET", "/trust", trust),
    ("GET", "/trust/explain", explain),
    ("GET", "/trust/evidence", evidence),
    ("GET", "/quarantine", quarantine),
    ("GET", "/heads", heads),
]
