"""Pull a model: find who has it, fetch and verify every chunk, prove that it fits, lay it out."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio

from gossip import index
from gossip.fetch import fetch_bytes, fetch_model
from gossip.ledger import FetchEvent, FetchReport
from node.jobs import Report
from node.learn_flows import card_of
from node.library import Held
from node.proof import prove, prove_base
from node.requests import PullRequest
from node.services import Services
from p2pllm.advert import Advert
from p2pllm.errors import LocalError, P2pllmError, PeerError, Unavailable
from p2pllm.ids import ContentId, NodeId, parse_content_id, typed_node_id
from p2pllm.manifest import MAX_MANIFEST_BYTES, Manifest, open_manifest
from p2pllm.names import Ref, parse_ref
from p2pllm.query import Query


async def pull(services: Services, request: PullRequest, report: Report) -> dict[str, Any]:
    """Fetch what the request names, and the base it stands on, from peers."""
    ref = parse_ref(request.ref)
    report("find", message=str(ref))
    manifest_id, peers = await _locate(services, ref, request.from_)
    if request.dry_run:
        return await _preview(services, manifest_id, peers, ref)
    if services.transfers.locked():
        report("waiting", message="another pull is running")
    async with services.transfers:
        held = services.library.get(manifest_id)
        fetched: list[dict[str, Any]] = []
        if held is None or services.models.whole(manifest_id) is None:
            judge = partial(_may_have, services, (ref, manifest_id), request)
            held, fetched = await _fetch(services, manifest_id, peers, judge, report)
        else:
            judge_again = services.models.manifest(manifest_id)
            _may_have(services, (ref, manifest_id), request, judge_again)
        _keep_for_good(services, held)
    await _offer_too(services, held)
    card = card_of(held) | {"schema": "p2pllm.pull/1", "fetched": fetched}
    if request.dest:
        manifest = services.models.manifest(held.manifest)
        dest = Path(request.dest)
        card["path"] = str(await trio.to_thread.run_sync(services.models.export, manifest, dest))
    return card


def _keep_for_good(services: Services, held: Held) -> None:
    """What somebody asked for stays, also where it came here to be judged and is not taken."""
    known = services.trust.db.update(held.place, held.manifest)
    if known is not None and known.ours:
        services.trust.db.put(msgspec.structs.replace(known, ours=False))


async def _locate(services: Services, ref: Ref, only: list[str]) -> tuple[ContentId, list[NodeId]]:
    """Which manifest a reference means, and the peers that say they hold it."""
    services.network.need_peers()
    chosen, now = [typed_node_id(text) for text in only], time.time()
    if chosen and len(ref.id) == 64:
        return parse_content_id(ref.id), chosen
    dht = services.network.dht()
    if len(ref.id) == 64:
        manifest = parse_content_id(ref.id)
    else:
        manifest = _choose(ref, await index.search(dht, _query(ref), now))
    listed = [p.by for p in await index.providers(dht, manifest, now) if p.manifest == manifest]
    peers = chosen or services.trust.opinions.ranked(listed, ref.place)
    if not peers and services.library.get(manifest) is None:
        raise Unavailable("E0906", f"nobody online hands out {ref}", fix=["try again later"])
    return manifest, peers


def _query(ref: Ref) -> Query:
    place = ref.place
    return Query(lang=place.lang, domain=place.domain or None, sub=place.sub or None)


def _choose(ref: Ref, adverts: list[Advert]) -> ContentId:
    fits = [
        advert
        for advert in adverts
        if (advert.place, advert.name) == (ref.place, ref.name)
        and advert.manifest.startswith(ref.id)
    ]
    manifests = dict.fromkeys(advert.manifest for advert in fits)
    if not manifests:
        raise Unavailable(
            "E0403",
            f"nobody in the swarm advertises {ref}",
            fix=[f"p2pllm search --lang {ref.place.lang}"],
        )
    if len(manifests) > 1:
        raise LocalError(
            "E0203",
            f"{ref} names {len(manifests)} models in the swarm",
            why=[f"{ref.place}/{ref.name}@{m}" for m in manifests],
            fix=["add @ID"],
        )
    return next(iter(manifests))


async def _preview(
    services: Services, manifest_id: ContentId, peers: list[NodeId], ref: Ref
) -> dict[str, Any]:
    manifest = await _described(services, manifest_id, peers, ref)
    here = services.library.get(manifest_id) is not None
    base_here = manifest.kind == "base" or services.library.base_of(manifest.model) is not None
    size = {"download_bytes": manifest.size, "base_bytes": 0 if base_here else manifest.base_size}
    known = {"manifest": manifest_id, "kind": manifest.kind, "licence": manifest.licence}
    state = {"peers": peers, "here": here, "base_here": base_here}
    return {"schema": "p2pllm.pull/1", "dry_run": True, **known, **size, **state}


async def _described(
    services: Services, manifest_id: ContentId, peers: list[NodeId], ref: Ref
) -> Manifest:
    """The manifest alone, judged before any of the bytes it names are fetched."""
    if services.store.has(manifest_id):
        manifest = services.models.manifest(manifest_id)
    else:
        endpoint = services.network.endpoint()
        record = await fetch_bytes(endpoint, manifest_id, MAX_MANIFEST_BYTES, peers)
        manifest = open_manifest(record)
    _require(ref, manifest)
    return manifest


async def _fetch(
    services: Services,
    manifest_id: ContentId,
    peers: list[NodeId],
    judge: Callable[[Manifest], None],
    report: Report,
) -> tuple[Held, list[dict[str, Any]]]:
    async with services.models.coming_in():
        manifest, tally = await transfer(services, manifest_id, peers, judge, report)
        fetched = [_tally_card(manifest, tally)]
        base = None
        if manifest.kind == "adapter":
            base, tally_of_base = await _base(services, manifest, peers, report)
            fetched += tally_of_base
        return await _accept(services, manifest_id, manifest, base, report), fetched


def _may_have(
    services: Services, asked: tuple[Ref, ContentId], request: PullRequest, manifest: Manifest
) -> None:
    """What is described must be what was asked for, and neither it nor its maker shut out here."""
    ref, manifest_id = asked
    _require(ref, manifest)
    known = services.trust.db.update(manifest.place, manifest_id)
    state = services.trust.opinions.state(manifest.by, manifest.place)
    taken_back = known is not None and (known.state, known.code) == ("refused", "E0714")
    if not taken_back and not services.trust.opinions.shut(manifest.by, manifest.place):
        return
    if not request.even_quarantined:
        raise LocalError(
            "E0714",
            f"{ref} is shut out here; its publisher is {state}",
            why=[f"published by {manifest.by}"],
            fix=[
                f"p2pllm trust explain {manifest.by}",
                "give --even-quarantined to have it all the same",
            ],
        )
    said = f"pulled {ref} although its publisher is {state}"
    services.trust.db.note(time.time(), str(manifest.place), manifest.by, "pull", said)
    services.events.emit("override", code="E0714", ref=str(ref), by=manifest.by)


def _require(ref: Ref, manifest: Manifest) -> None:
    """An advert says where a model sits; the manifest must say the same."""
    if (manifest.place, manifest.name) != (ref.place, ref.name):
        raise PeerError(
            "E0610",
            f"asked for {ref}, and the manifest says {manifest.place}/{manifest.name}",
            why=["an advert named a manifest that is something else"],
        )
    if not manifest.consent:
        raise PeerError("E0701", f"the publisher of {ref} did not consent to publication")


async def transfer(
    services: Services,
    manifest_id: ContentId,
    peers: list[NodeId],
    judge: Callable[[Manifest], None],
    report: Report,
) -> tuple[Manifest, FetchReport]:
    """A model's bytes from these peers, verified, in the store; `judge` sees its manifest first."""

    def on_event(event: FetchEvent) -> None:
        if event.refused is not None:
            # Only bytes that break a rule are the peer's fault; being away or busy is nobody's.
            kind = PeerError if event.refused.code.startswith("E06") else Unavailable
            fault = kind(event.refused.code, event.refused.reason)
            services.events.refuse(fault, peer=event.refused.peer, manifest=manifest_id)
        report("fetch", done=event.done, total=event.total, unit="bytes")

    endpoint, store = services.network.endpoint(), services.store
    try:
        return await fetch_model(endpoint, store, manifest_id, peers, on_event, judge)
    except PeerError as broken:
        services.events.refuse(broken, manifest=manifest_id)
        raise


async def _base(
    services: Services, manifest: Manifest, peers: list[NodeId], report: Report
) -> tuple[Held, list[dict[str, Any]]]:
    """The base an adapter stands on: the one we hold, or fetched from who hands it out.

    peers   who gave the adapter: they hold its base too, whether or not the DHT knows
    """
    held = services.library.base_of(manifest.model)
    if held is not None:
        return held, []
    try:
        offers = await index.providers(services.network.dht(), manifest.model, time.time())
    except Unavailable:
        offers = []
    if not offers and not manifest.parents:
        raise Unavailable(
            "E0906",
            "nobody online hands out the base this adapter needs",
            why=[f"model id {manifest.model}"],
            fix=["p2pllm base import SOURCE", "try again later"],
        )
    base_id = _most_common([offer.manifest for offer in offers] or [manifest.parents[0]])
    holders = [offer.by for offer in offers if offer.manifest == base_id]
    holders = list(dict.fromkeys([*holders, *peers]))

    def judge(base: Manifest) -> None:
        if base.kind != "base" or base.model != manifest.model or not base.consent:
            raise PeerError("E0702", f"{base_id} is not the base with model id {manifest.model}")

    base, tally = await transfer(services, base_id, holders, judge, report)
    held = await _accept(services, base_id, base, None, report)
    await _offer_too(services, held)
    return held, [_tally_card(base, tally)]


def _most_common(ids: list[ContentId]) -> ContentId:
    return max(sorted(set(ids)), key=ids.count)


async def _accept(
    services: Services,
    manifest_id: ContentId,
    manifest: Manifest,
    base: Held | None,
    report: Report,
) -> Held:
    """What proves to be what it says is ours; what does not leaves no folder behind."""
    models = services.models
    folder = await trio.to_thread.run_sync(models.lay_out, manifest_id, manifest)
    try:
        if base is None:
            await prove_base(folder)
        else:
            await prove(services, folder, base, report)
    except P2pllmError as unfit:
        await trio.to_thread.run_sync(models.take_down, folder)
        if isinstance(unfit, PeerError):
            services.events.refuse(unfit, manifest=manifest_id, by=manifest.by)
        raise
    # Where this node judges, what it has not accepted is for itself alone.
    judged = manifest.kind == "adapter" and services.trust.judges(manifest.place)
    taken = manifest_id in services.trust.books.place(manifest.place).taken
    return await models.accept(manifest_id, manifest, offered=taken or not judged)


async def _offer_too(services: Services, held: Held) -> None:
    """What we hold and have proved, we hand out as well, unless it is still to be judged here."""
    await services.network.follow(held.place)
    if not held.offered:
        services.trust.wake()
        return
    try:
        await services.network.offers.advertise(services.network.dht(), held)
    except Unavailable:
        services.network.offers.refresh_now()


def _tally_card(manifest: Manifest, tally: FetchReport) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(tally)
    return {"name": manifest.name, "kind": manifest.kind, **plain}
