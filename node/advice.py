"""Recommending: candidates out of the swarm and of what is here, and this device's profile."""

import time
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import trio

from gossip import index
from node.jobs import Report
from node.library import Held
from node.requests import Request, Text
from node.services import Services
from p2pllm import base_files, device, fit
from p2pllm.advert import Advert
from p2pllm.assistant.reading import KNOWN, normal
from p2pllm.device import Device
from p2pllm.errors import P2pllmError, Unavailable
from p2pllm.fit import CAUTIOUS, Dimensions
from p2pllm.ids import ContentId, ContentIdField, NodeId
from p2pllm.jobs_device import CalibrateJob, CalibrateReport
from p2pllm.manifest import Manifest
from p2pllm.names import Place, WordField, exact_ref, parse_lang
from p2pllm.query import Query
from p2pllm.recommend import ANY_LANG, Advice, Candidate, Pick, Wants, recommend, rerank
from p2pllm.worth import Score, gain_worth

CANDIDATES = 1000  # of each language that is asked for
UNJUDGED = 0.5  # a peer that is not trusted yet is believed no further
Names = Annotated[list[Text], msgspec.Meta(max_length=32)]


class RecommendRequest(Request, frozen=True, kw_only=True):
    """What somebody needs; 0 and empty stand for: no matter, memory for what this device has."""

    lang: Text
    domain: WordField = ""
    sub: WordField = ""
    task: Annotated[str, msgspec.Meta(max_length=100)] = ""
    max_memory_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**50)] = 0
    min_speed: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0  # tokens a second
    max_wait: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0  # seconds to the first word
    licences: Names = msgspec.field(default_factory=list)
    context: Annotated[int, msgspec.Meta(ge=16, le=2**20)] = 512
    measured: dict[ContentIdField, float] = msgspec.field(default_factory=dict)
    # bits a byte on the asker's own examples


async def advise(services: Services, request: RecommendRequest) -> dict[str, Any]:
    """The recommender's answer over every model that is here or advertised."""
    profile = await trio.to_thread.run_sync(_profile, services.config.home)
    wants = Wants(
        lang=parse_lang(request.lang),
        domain=one_word("domain", request.domain),
        sub=one_word("sub", request.sub),
        task=request.task,
        max_memory=request.max_memory_bytes or profile.free_bytes,
        min_speed=request.min_speed,
        max_wait=request.max_wait,
        licences=tuple(request.licences),
        context=request.context,
    )
    candidates, complete = await _candidates(services, wants)
    trust = partial(_trust, services, Place(wants.lang, wants.domain))
    calibration = profile.calibration or CAUTIOUS
    advice = await trio.to_thread.run_sync(recommend, candidates, wants, calibration, trust)
    if request.measured:
        advice = rerank(advice, request.measured)
    return {**_document(advice), "considered": len(candidates), "complete": complete}


async def profile_card(services: Services) -> dict[str, Any]:
    """This device as it is now, with the calibration that was kept."""
    found = await trio.to_thread.run_sync(_profile, services.config.home)
    return {"schema": "p2pllm.profile/1", **msgspec.to_builtins(found)}


async def calibrate(services: Services, report: Report) -> dict[str, Any]:
    """Measure this device for some ten seconds, and keep what came of it."""
    job = CalibrateJob(
        threads=services.config.learn.threads, max_memory_bytes=services.memory_bytes
    )
    done = await services.learner.run(job, report)
    assert isinstance(done, CalibrateReport)
    found = msgspec.structs.replace(device.look(time.time()), calibration=done.calibration)
    await trio.to_thread.run_sync(device.save, found, services.config.home)
    return {"schema": "p2pllm.profile/1", **msgspec.to_builtins(found)}


def one_place(place: Place) -> Place:
    """A place in the assistant's words: people call one field 'health', 'medicine', 'medical'."""
    return Place(place.lang, one_word("domain", place.domain), one_word("sub", place.sub))


@cache
def one_word(slot: Literal["domain", "sub"], word: str) -> str:
    """A domain or sub-domain as the assistant calls it; a word that it does not know, unchanged."""
    known = str(normal(slot, word.replace("-", " "))) if word else ""
    return known if known in KNOWN[slot] else word


def _profile(home: Path) -> Device:
    kept = device.load(home)
    now = device.look(time.time())
    return msgspec.structs.replace(now, calibration=kept.calibration) if kept else now


def _trust(services: Services, place: Place, by: str) -> float:
    """How far a signer of scores is believed at a place, 0 to 1; this node itself wholly."""
    peer, opinions = NodeId(by), services.trust.opinions
    if peer == services.identity.node:
        return 1.0
    if opinions.shut(peer, place):
        return 0.0
    heard = opinions.heard(peer, place)
    return heard if opinions.state(peer, place) == "trusted" else min(heard, UNJUDGED)


async def _candidates(services: Services, wants: Wants) -> tuple[list[Candidate], bool]:
    """What is here, and what peers advertise in the language or for several."""
    here = [one for held in services.library.models() if (one := _held(services, held))]
    known, complete = {one.manifest for one in here}, True
    adverts: dict[ContentId, list[Advert]] = {}
    for lang in (wants.lang, ANY_LANG):
        try:
            query = Query(lang=lang, limit=CANDIDATES)
            found = await index.find(services.network.dht(), query, time.time())
        except Unavailable:
            complete = False  # alone, only what is here can be recommended
            continue
        complete = complete and found.complete
        for advert in found.adverts:
            adverts.setdefault(advert.manifest, []).append(advert)
    offered = [_advertised(services, held) for name, held in adverts.items() if name not in known]
    return [*here, *offered], complete


def _held(services: Services, held: Held) -> Candidate | None:
    manifest = services.models.described(held)
    if manifest is None:
        return None
    sizes = _dimensions(services, manifest.model, manifest.params)
    claimed = manifest.report
    gain = claimed.base_loss - claimed.loss if claimed else None
    return Candidate(
        ref=held.ref,
        manifest=held.manifest,
        place=one_place(held.place),
        kind=manifest.kind,
        licence=manifest.licence,
        dimensions=sizes,
        adapter=_adapter_params(manifest),
        scores=_scores(manifest.params, one_place(held.place), gain, manifest.by),
        here=True,
    )


def _advertised(services: Services, adverts: list[Advert]) -> Candidate:
    """A model that peers hold; who measured its gain no advert says: the best holder stands in."""
    advert = adverts[0]
    trust = partial(_trust, services, advert.place)
    holder = max((one.by for one in adverts), key=lambda by: (trust(by), by))
    return Candidate(
        ref=exact_ref(advert.place, advert.name, advert.manifest),
        manifest=advert.manifest,
        place=one_place(advert.place),
        kind=advert.kind,
        licence=advert.licence,
        dimensions=_dimensions(services, advert.model, advert.params),
        adapter=advert.download // 2 if advert.kind == "adapter" else 0,
        scores=_scores(advert.params, one_place(advert.place), advert.gain, holder),
        download=advert.size if services.library.base_of(advert.model) is None else advert.download,
    )


def _scores(params: int, place: Place, gain: float | None, by: str) -> tuple[Score, ...]:
    if gain is None:
        return ()
    return (Score(value=gain_worth(params, gain), by=by, place=place),)


def _dimensions(services: Services, model: ContentId, params: int) -> Dimensions:
    """Out of the base's config where the base is here, else guessed from its parameters."""
    base = services.library.base_of(model)
    if base is None:
        return fit.guess(params)
    try:
        return fit.dimensions_of(base_files.read_config(Path(base.folder)), params)
    except P2pllmError:
        return fit.guess(params)


def _adapter_params(manifest: Manifest) -> int:
    return manifest.size // 2 if manifest.kind == "adapter" else 0  # at least 2 bytes each


def _document(advice: Advice) -> dict[str, Any]:
    return {
        "schema": "p2pllm.recommend/1",
        "picks": [_pick(pick) for pick in advice.picks],
        "binding": advice.binding,
        "refused": dict(advice.refused),
        "helps": [msgspec.to_builtins(miss) for miss in advice.helps],
    }


def _pick(pick: Pick) -> dict[str, Any]:
    one = pick.candidate
    return {
        "ref": one.ref,
        "manifest": one.manifest,
        "place": str(one.place),
        "kind": one.kind,
        "licence": one.licence,
        "params": one.dimensions.params,
        "here": one.here,
        "download_bytes": one.download,
        "worth": round(pick.worth.value, 4),
        "signers": pick.worth.signers,
        "memory_bytes": pick.memory.total,
        "memory_high_bytes": pick.memory.high,
        "tokens_s": round(pick.speed.tokens_s, 3),
        "tokens_s_low": round(pick.speed.low, 3),
        "first_s": round(pick.speed.first_s, 3),
        "guessed": one.dimensions.guessed,
        "reasons": list(pick.reasons),
    }
