"""Publish a model: describe it with licence and consent, offer it, advertise it, announce it."""

import secrets
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
import trio

from node.jobs import Report
from node.learn_flows import NO_LICENCE, Described, base_for, card_of, find_base, keep_adapter
from node.library import Held
from node.proof import prove
from node.requests import PushRequest
from node.services import Services
from node.sketches import sketch_ahead
from p2pllm import adapter, weights
from p2pllm.adapter_config import CONFIG_FILE, MAX_CONFIG_BYTES, canonical_config
from p2pllm.errors import LocalError, P2pllmError, PeerError
from p2pllm.manifest import Manifest
from p2pllm.names import Place, parse_place, parse_ref


async def push(services: Services, request: PushRequest, report: Report) -> dict[str, Any]:
    """Publish what the request names; E0701 without consent, E0707 without a licence."""
    if not request.consent:
        raise LocalError(
            "E0701",
            "nothing is published without consent",
            why=["a push makes the files, their description and this node's id public"],
            fix=["read what will be public, then give --yes"],
        )
    if bool(request.ref) == bool(request.path):
        raise LocalError("E0204", "push takes a model reference or a folder, one of the two")
    if request.path:
        held = await _from_folder(services, request, report)
    else:
        held = await _from_library(services, request)
    return await offer(services, held, report)


async def _from_library(services: Services, request: PushRequest) -> Held:
    old = services.library.find(parse_ref(request.ref))
    manifest = services.models.manifest(old.manifest)
    licence = _licence(request.licence or manifest.licence)
    if old.origin == "pulled":
        raise LocalError(
            "E0204",
            f"{old.ref} was published by {manifest.by}",
            why=["a pulled model is offered to peers already, under its publisher's name"],
        )
    place, name = _named(request, manifest.place, manifest.name)
    public = msgspec.structs.replace(
        manifest,
        place=place,
        name=name,
        licence=licence,
        consent=True,
        created_at=time.time(),
        description=request.description or manifest.description,
    )
    same = msgspec.structs.replace(public, created_at=manifest.created_at) == manifest
    tag = request.tag or old.tag
    if same and tag == old.tag and manifest.by == services.identity.node:
        return old  # pushed before: advertised and announced again
    with services.work_folder(f"push-{old.manifest}"):  # or two at once make two versions of it
        held = await services.models.seal(public, "local", tag=tag)
        await services.models.drop(old)
    return held


async def _from_folder(services: Services, request: PushRequest, report: Report) -> Held:
    base = find_base(services, request.base) if request.base else _only_base(services)
    folder = Path(request.path)
    place, name = _named(request, None, folder.name.lower())
    described = Described(
        place=place,
        name=name,
        licence=_licence(request.licence),
        description=request.description,
        consent=True,
        tag=request.tag,
    )
    with services.work_folder(f"push-{secrets.token_hex(8)}") as clean:
        try:
            await trio.to_thread.run_sync(_clean_copy, folder, clean)
            proved = await prove(services, clean, base, report, sketch=True)
            held = await keep_adapter(services, clean, base, described)
            await sketch_ahead(services, held, proved.sketch, report)
            return held
        finally:
            shutil.rmtree(clean, ignore_errors=True)


def _clean_copy(folder: Path, clean: Path) -> None:
    """The two files of an adapter, its config rewritten from the keys we know."""
    clean.mkdir()
    for name in (CONFIG_FILE, adapter.WEIGHTS_FILE):
        if not (folder / name).is_file():
            weights.weight_files(folder)  # E0606 if there is a pickle instead
            raise LocalError(
                "E0402", f"no {name} in {folder}", fix=["push a folder that PEFT's save made"]
            )
    with (folder / CONFIG_FILE).open("rb") as file:
        config, _ = canonical_config(file.read(MAX_CONFIG_BYTES + 1))
    (clean / CONFIG_FILE).write_bytes(config)
    shutil.copyfile(folder / adapter.WEIGHTS_FILE, clean / adapter.WEIGHTS_FILE)


def _only_base(services: Services) -> Held:
    bases = [held for held in services.library.models() if held.kind == "base"]
    if len({held.model for held in bases}) == 1:
        return bases[-1]
    raise LocalError(
        "E0204",
        "which base does this adapter stand on?",
        why=[held.ref for held in bases] or ["this node has no base"],
        fix=["give --base REF", "p2pllm base import smollm2"],
    )


def _named(request: PushRequest, place: Place | None, name: str) -> tuple[Place, str]:
    if request.place:
        place = parse_place(request.place)
    if place is None:
        raise LocalError("E0204", "which place is it for?", fix=["give --lang, --domain, --sub"])
    ref = parse_ref(f"{place}/{request.name or name}")
    return place, ref.name


def _licence(licence: str) -> str:
    if licence in ("", NO_LICENCE):
        raise LocalError(
            "E0707",
            "nothing is published without a licence",
            why=["people cannot use a model whose licence nobody stated"],
            fix=["give --licence with an SPDX name, such as Apache-2.0"],
        )
    return licence


async def offer(services: Services, held: Held, report: Report) -> dict[str, Any]:
    """Tell the network. Without one nothing is lost: it is told as soon as there is one."""
    network = services.network
    manifest: Manifest = services.models.manifest(held.manifest)
    await network.follow(held.place)
    # Before anyone hears of it, or they would not ask.
    await sketch_ahead(services, held, None, report)
    network.offers.announce(held)
    services.trust.wake()
    told, advertised, later = 0, False, ""
    try:
        network.need_peers()
        report("advertise", message=str(held.place))
        await network.offers.advertise(network.dht(), held)
        advertised = True
        told = await network.offers.send(network.swarm())
    except P2pllmError as away:
        if isinstance(away, PeerError):
            raise
        later = away.message
    public = {"licence": manifest.licence, "by": manifest.by, "size_bytes": manifest.size}
    state = {"advertised": advertised, "announced_to": told, "later": later or None}
    base = None if held.kind == "base" else base_for(services, held)
    hint = [] if base is None or base.offered else [f"p2pllm push {base.ref}"]
    return {"schema": "p2pllm.push/1", **card_of(held), **public, **state, "hint": hint}
