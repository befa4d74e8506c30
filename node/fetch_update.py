"""Bring an announced update here so that it can be judged; it is offered to nobody before that."""

import time

import msgspec

from gossip import index
from node import effects, round_plan
from node.backoff import pause
from node.obtain import transfer
from node.services import Services
from node.sketches import ask_ahead, known_sketches, objection
from node.trust_db import Update
from p2pllm.durable import file_faults_told
from p2pllm.errors import LocalError, P2pllmError, PeerError, Unavailable
from p2pllm.ids import NodeId
from p2pllm.manifest import Manifest
from p2pllm.summary import open_sketch
from trust.standing import ALLOWED

FIRST_S, LONGEST_S = 2.0, 600.0  # waits after a fetch that failed
MIB = 1024 * 1024
WAITING = 8  # times the largest update allowed: what may lie here to be judged


async def bring(services: Services, update: Update) -> None:
    """Have the update's bytes here, or write down why not; nothing is raised for its faults."""
    trust, place = services.trust, update.place
    standing = trust.books.standing(update.peer, place)
    if not effects.fetches(standing, trust.me, update.manifest, services.config.trust.audit):
        _refuse(services, update, "E0714", f"its publisher is {standing.state} here")
    elif update.size > services.config.trust.max_update_mib * MIB:
        _refuse(services, update, "E0715", f"{update.size} bytes")
    elif services.library.get(update.manifest) is None and not _has_room(services, update):
        _later(services, update, LocalError("E0801", "too much waits to be judged here"))
    elif services.library.get(update.manifest) is not None:
        _here(services, update, ours=False)
    elif services.library.base_of(update.model) is None:
        _later(services, update, LocalError("E0402", f"its base {update.model} is not here"))
    else:
        await _fetch(services, update)


def _has_room(services: Services, update: Update) -> bool:
    """Whether this fits beside what else was fetched to be judged: nobody fills the disk."""
    waits = [one.size for one in services.trust.db.for_judging() if one.state != "judged"]
    return sum(waits) + update.size <= WAITING * services.config.trust.max_update_mib * MIB


async def _fetch(services: Services, update: Update) -> None:
    try:
        record = await ask_ahead(services, update)
        refused = _by_sketch(services, update, record)
        if refused:
            _refuse(services, update, "E0716", refused)
            return
        update = msgspec.structs.replace(update, sketch=record)
        providers = await _providers(services, update)
        async with services.transfers, services.models.coming_in():
            manifest, _ = await transfer(
                services,
                update.manifest,
                providers,
                lambda found: _require(update, found),
                lambda _stage, **_fields: None,
            )
            with file_faults_told():
                await services.models.accept(update.manifest, manifest, offered=False)
        _here(services, update, ours=True)
    except PeerError as bad:
        _refuse(services, update, bad.code, bad.message)
    except P2pllmError as away:
        _later(services, update, away)


def _by_sketch(services: Services, update: Update, record: bytes) -> str:
    """Why the bytes are not fetched, "" if they are."""
    standing = services.trust.books.standing(update.peer, update.place)
    wary = ALLOWED[standing.state].fetch in ("sketch", "audit")
    if not record:
        return "its publisher is a suspect and sends no sketch ahead" if wary else ""
    known = known_sketches(services, update)
    return objection(update, open_sketch(record), known, wary=wary)


async def _providers(services: Services, update: Update) -> list[NodeId]:
    """Who may have it: its publisher, and whoever says so, the best standing first."""
    listed = [update.peer]
    try:
        found = await index.providers(services.network.dht(), update.manifest, time.time())
        listed += [one.by for one in found if one.manifest == update.manifest]
    except Unavailable:
        pass  # the publisher alone, then
    return services.trust.opinions.ranked(listed, update.place)


def _require(update: Update, manifest: Manifest) -> None:
    """The manifest must say what its publisher announced."""
    said = (manifest.by, manifest.place, manifest.kind, manifest.model)
    if said != (update.peer, update.place, "adapter", update.model):
        raise PeerError("E0610", f"{update.manifest} is not what {update.peer} announced")
    if not manifest.consent:
        raise PeerError("E0701", f"{update.peer} did not consent to publication")


def _here(services: Services, update: Update, *, ours: bool) -> None:
    now = time.time()
    fetched = round_plan.fetched(update, now + services.config.trust.settle_s, ours=ours)
    services.trust.db.put(fetched)
    card = {"place": str(update.place), "manifest": update.manifest, "by": update.peer}
    services.events.emit("judging", state="fetched", **card)


def _later(services: Services, update: Update, fault: P2pllmError) -> None:
    again_at = time.time() + pause(update.tries + 1, FIRST_S, LONGEST_S)
    after = round_plan.after_failure(update, fault.code, fault.message, again_at)
    services.trust.db.put(after)
    card = {"place": str(update.place), "manifest": update.manifest, "by": update.peer}
    services.events.emit("judging", state="waits", code=fault.code, **card)


def _refuse(services: Services, update: Update, code: str, message: str) -> None:
    services.trust.db.put(round_plan.refused(update, code, message))
    card = {"place": str(update.place), "manifest": update.manifest, "by": update.peer}
    services.events.emit("judging", state="refused", code=code, **card)
