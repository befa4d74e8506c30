"""What each path of the control API answers."""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio

from gossip import index
from node import __version__
from node.block_flows import block, gather
from node.contribute import push
from node.derive_flows import derive
from node.file_flows import export, merge, quantise
from node.find import search
from node.jobs import Jobs
from node.learn_flows import evaluate, import_base, tune
from node.library import Held
from node.obtain import pull
from node.requests import (
    BlockRequest,
    CollectRequest,
    DeriveRequest,
    DistillRequest,
    EvalRequest,
    ExportRequest,
    GatherRequest,
    ImportRequest,
    JobRequest,
    MergeRequest,
    PeerRequest,
    PinRequest,
    PullRequest,
    PushRequest,
    QuantiseRequest,
    SearchRequest,
    TransferRequest,
    TuneRequest,
    parse,
)
from node.services import Services
from node.teach_flows import distill
from node.tidy import look_over
from node.transfer_flows import transfer
from p2pllm.errors import LocalError, Unavailable
from p2pllm.ids import public_key_of
from p2pllm.names import parse_ref

Document = dict[str, Any]
Query = dict[str, str]
_FLOWS: dict[type, tuple[str, Callable[..., Awaitable[Document]]]] = {
    ImportRequest: ("import", import_base),
    TuneRequest: ("tune", tune),
    DistillRequest: ("distill", distill),
    MergeRequest: ("merge", merge),
    QuantiseRequest: ("quantise", quantise),
    ExportRequest: ("export", export),
    BlockRequest: ("block", block),
    DeriveRequest: ("derive", derive),
    GatherRequest: ("gather", gather),
    TransferRequest: ("transfer", transfer),
    EvalRequest: ("eval", evaluate),
    PushRequest: ("push", push),
    PullRequest: ("pull", pull),
}


async def status(services: Services, jobs: Jobs, _body: bytes, _query: Query) -> Document:
    """How this node is."""
    models = services.library.models()
    usage = await trio.to_thread.run_sync(services.store.usage)
    return {
        "schema": "p2pllm.status/1",
        "version": __version__,
        "peer_id": services.identity.node,
        "pid": services.pid,
        "home": str(services.config.home),
        "uptime_seconds": round(time.time() - services.started_at, 1),
        **await services.network.describe(),
        "store": msgspec.structs.asdict(usage),
        "models": {
            "bases": sum(held.kind == "base" for held in models),
            "adapters": sum(held.kind == "adapter" for held in models),
        },
        "jobs": {"running": jobs.running()},
        "refused": dict(services.events.refusals),
    }


async def identity(services: Services, _jobs: Jobs, _body: bytes, _query: Query) -> Document:
    """Who this node is."""
    node = services.identity.node
    return {
        "schema": "p2pllm.identity/1",
        "peer_id": node,
        "public_key": public_key_of(node).hex(),
        "key_file": str(services.config.home / "key"),
        "addresses": services.network.addresses,
    }


async def peers(services: Services, _jobs: Jobs, _body: bytes, _query: Query) -> Document:
    """Whom it is connected to."""
    endpoint, swarm = services.network.endpoint(), services.network.swarm()
    connected = await endpoint.peers()
    topics = {topic: set(swarm.peers(topic)) for topic in swarm.topics()}
    cards = [
        {
            "peer_id": peer.node,
            "addresses": list(peer.addresses),
            "topics": [topic for topic, who in topics.items() if peer.node in who],
        }
        for peer in connected
    ]
    return {"schema": "p2pllm.peers/1", "peers": cards}


async def connect(services: Services, _jobs: Jobs, body: bytes, _query: Query) -> Document:
    """Connect to a node now."""
    request = parse(body, PeerRequest)
    peer = await services.network.endpoint().connect(request.address)
    return {"schema": "p2pllm.peer/1", "peer_id": peer, "address": request.address}


def _card(services: Services, held: Held) -> Document:
    manifest = services.models.described(held)
    report = manifest.report if manifest else None
    state = "pulled" if held.origin == "pulled" else "offered" if held.offered else "local"
    return {
        "ref": held.ref,
        "place": str(held.place),
        "name": held.name,
        "tag": held.tag,
        "manifest": held.manifest,
        "kind": held.kind,
        "model": held.model,
        "size_bytes": manifest.size if manifest else None,
        "params": manifest.params if manifest else None,
        "licence": manifest.licence if manifest else None,
        "by": manifest.by if manifest else None,
        "state": state if manifest else "damaged",
        "created_at": held.created_at,
        "gain": report.base_loss - report.loss if report else None,
        "path": held.folder,
    }


async def models(services: Services, _jobs: Jobs, _body: bytes, _query: Query) -> Document:
    """The models of this node."""
    cards = [_card(services, held) for held in services.library.models()]
    return {"schema": "p2pllm.models/1", "models": cards}


async def show(services: Services, _jobs: Jobs, _body: bytes, query: Query) -> Document:
    """One model of this node, whole."""
    held = services.library.find(parse_ref(query.get("ref", "")))
    manifest = services.models.manifest(held.manifest)
    whole = {
        "files": [msgspec.to_builtins(file) for file in manifest.files],
        "lora": msgspec.to_builtins(manifest.lora),
        "report": msgspec.to_builtins(manifest.report),
        "parents": list(manifest.parents),
        "description": manifest.description,
    }
    return {"schema": "p2pllm.model/1", **_card(services, held), **whole}


async def remove(services: Services, _jobs: Jobs, _body: bytes, query: Query) -> Document:
    """Withdraw a model, forget it, and free what only it needed."""
    held = services.library.find(parse_ref(query.get("ref", "")))
    if held.manifest in services.store.pinned():
        raise LocalError("E0712", f"{held.ref} is pinned", fix=[f"p2pllm store unpin {held.ref}"])
    _refuse_needed(services, held)
    withdrawn = False
    if held.offered:
        try:
            await services.network.offers.withdraw(services.network.dht(), held)
            withdrawn = True
        except Unavailable:
            withdrawn = False  # its adverts expire by themselves
    freed = await services.models.drop(held)
    card = {"removed": [held.ref], "withdrawn": withdrawn, "freed_bytes": freed}
    return {"schema": "p2pllm.removed/1", **card}


def _refuse_needed(services: Services, held: Held) -> None:
    if held.kind != "base":
        return
    others = services.library.models()
    same = [o for o in others if o.kind == "base" and o.model == held.model]
    needing = [o.ref for o in others if o.kind == "adapter" and o.model == held.model]
    if needing and len(same) == 1:
        raise LocalError(
            "E0204",
            f"{held.ref} is the base of {len(needing)} adapters on this node",
            why=needing[:10],
            fix=["remove the adapters first"],
        )


async def find(services: Services, _jobs: Jobs, body: bytes, _query: Query) -> Document:
    """What the swarm has."""
    return await search(services, parse(body, SearchRequest))


async def providers(services: Services, _jobs: Jobs, _body: bytes, query: Query) -> Document:
    """Who hands out a model of ours."""
    held = services.library.find(parse_ref(query.get("ref", "")))
    found = await index.providers(services.network.dht(), held.manifest, time.time())
    return {"schema": "p2pllm.providers/1", "ref": held.ref, "peers": [p.by for p in found]}


async def store(services: Services, _jobs: Jobs, _body: bytes, _query: Query) -> Document:
    """How full the store is."""
    usage = await trio.to_thread.run_sync(services.store.usage)
    return {"schema": "p2pllm.store/1", **msgspec.structs.asdict(usage)}


async def collect(services: Services, _jobs: Jobs, body: bytes, _query: Query) -> Document:
    """Remove what no model needs."""
    request = parse(body, CollectRequest)
    gone = await services.models.collect(dry_run=request.dry_run)
    blobs = [{"blob": blob, "size_bytes": size} for blob, size in gone]
    freed = sum(size for _, size in gone)
    known = {"dry_run": request.dry_run, "freed_bytes": freed, "removed": blobs}
    return {"schema": "p2pllm.gc/1", **known}


async def verify(services: Services, _jobs: Jobs, _body: bytes, _query: Query) -> Document:
    """Read every blob again and set aside what is damaged; mend the folders of models."""
    bad = await trio.to_thread.run_sync(services.store.verify)
    lacking = await trio.to_thread.run_sync(look_over, services.models)
    ok = not bad and not lacking
    return {"schema": "p2pllm.verify/1", "damaged": bad, "models": lacking, "ok": ok}


async def pin(services: Services, _jobs: Jobs, body: bytes, _query: Query) -> Document:
    """Keep a model whatever happens, or no longer."""
    request = parse(body, PinRequest)
    held = services.library.find(parse_ref(request.ref))
    change = services.store.pin if request.pin else services.store.unpin
    with services.models.reserve.lent():
        await trio.to_thread.run_sync(change, held.manifest)
    return {"schema": "p2pllm.pin/1", "ref": held.ref, "pinned": request.pin}


async def start_job(services: Services, jobs: Jobs, body: bytes, _query: Query) -> Document:
    """Begin long work."""
    request = parse(body, JobRequest)
    kind, flow = _FLOWS[type(request)]
    _absolute(request)
    return {"schema": "p2pllm.job/1", "job": jobs.start(kind, partial(flow, services, request))}


def _absolute(request: Any) -> None:
    """Paths are the caller's; ours would be read from another folder."""
    for name in ("path", "dest"):
        text = getattr(request, name, "")
        if text and not Path(text).is_absolute():
            raise LocalError("E0204", f"{name} must be an absolute path, not {text!r}")


async def list_jobs(_services: Services, jobs: Jobs, _body: bytes, _query: Query) -> Document:
    """The latest jobs."""
    return {"schema": "p2pllm.jobs/1", "jobs": jobs.cards()}


async def show_job(_services: Services, jobs: Jobs, _body: bytes, query: Query) -> Document:
    """Where a job stands."""
    return {"schema": "p2pllm.job/1", **jobs.show(query["job"])}


async def cancel_job(_services: Services, jobs: Jobs, _body: bytes, query: Query) -> Document:
    """Stop a job."""
    return {"schema": "p2pllm.job/1", **jobs.cancel(query["job"])}


ROUTES: list[tuple[str, str, Callable[..., Awaitable[Document]]]] = [
    ("GET", "/status", status),
    ("GET", "/identity", identity),
    ("GET", "/peers", peers),
    ("POST", "/peers", connect),
    ("GET", "/models", models),
    ("GET", "/models/show", show),
    ("GET", "/models/providers", providers),
    ("DELETE", "/models", remove),
    ("POST", "/search", find),
    ("GET", "/store", store),
    ("POST", "/store/gc", collect),
    ("POST", "/store/verify", verify),
    ("POST", "/store/pin", pin),
    ("POST", "/jobs", start_job),
    ("GET", "/jobs", list_jobs),
    ("GET", "/jobs/{job}", show_job),
    ("DELETE", "/jobs/{job}", cancel_job),
]
