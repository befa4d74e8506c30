"""Make models out of models: adapters into one, a base into fewer bits, files for other tools."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import trio

from node.job_parts import keep_base, limits, passing_folder, told, variant
from node.jobs import Report
from node.learn_flows import NO_LICENCE, Described, base_for, card_of, find_base, keep_adapter
from node.library import Held
from node.requests import ExportRequest, MergeRequest, QuantiseRequest
from node.services import Services
from p2pllm import durable
from p2pllm.errors import LocalError
from p2pllm.heads import HeadFile
from p2pllm.jobs import checked
from p2pllm.jobs_files import (
    Composed,
    ComposeJob,
    ComposeReport,
    ExportJob,
    ExportReport,
    QuantiseJob,
    QuantiseReport,
)
from p2pllm.manifest import Report as Claim
from p2pllm.names import parse_place, parse_ref

MAX_PARENTS = 63  # that a manifest can name beside the base


class Part(msgspec.Struct, frozen=True):
    """One adapter to merge: of this node, or a folder of the user's."""

    folder: str
    weight: float
    held: Held | None = None


async def merge(services: Services, request: MergeRequest, report: Report) -> dict[str, Any]:
    """One adapter out of several, or out of all that a place serves; kept until it is pushed."""
    parts = _parts(services, request)
    place = parse_place(request.place or request.head)
    parse_ref(f"{place}/{request.name}")
    base = _base(services, parts, request.base)
    with passing_folder(services, "merge", request) as work:
        job = _compose_job(services, parts, base, work, request)
        done = await services.learner.run(job, report)
        assert isinstance(done, ComposeReport)
        described = Described(
            place=place,
            name=request.name,
            licence=request.licence or _licence(services, parts),
            parents=tuple(part.held.manifest for part in parts if part.held),
        )
        held = await keep_adapter(services, work / "made", base, described)
        rest = None
        if done.residual:
            left = msgspec.structs.replace(described, name=request.residual)
            rest = await keep_adapter(services, work / "residual", base, left)
    card = {**card_of(held), "residual_ref": rest.ref if rest else None}
    return {"schema": "p2pllm.merge/1", **told(done), **card}


def _parts(services: Services, request: MergeRequest) -> list[Part]:
    if bool(request.head) == bool(request.what):
        raise LocalError("E0204", "merge takes adapters or the place of a head, one of the two")
    if request.head:
        return _of_head(services, request.head)
    weights = request.weights or [1.0] * len(request.what)
    if len(weights) != len(request.what):
        raise LocalError("E0204", f"{len(weights)} weights for {len(request.what)} adapters")
    made = []
    for what, weight in zip(request.what, weights, strict=True):
        if what.startswith("/"):
            made.append(Part(what, weight))
            continue
        held = services.library.find(parse_ref(what))
        if held.kind != "adapter":
            raise LocalError("E0204", f"{held.ref} is a base, and merged are adapters")
        made.append(Part(held.folder, weight, held))
    if sum(part.held is not None for part in made) > MAX_PARENTS:
        raise LocalError("E0204", f"more than {MAX_PARENTS} adapters", fix=["merge them in steps"])
    return made


def _of_head(services: Services, text: str) -> list[Part]:
    place = parse_place(text)
    head = HeadFile(services.config.home / "heads").read(place)
    if head is None or not head.accepted:
        raise LocalError(
            "E0402", f"nothing was accepted at {place} on this node", fix=["name the adapters"]
        )
    if len(head.accepted) > MAX_PARENTS:
        raise LocalError("E0204", f"the head has more than {MAX_PARENTS} adapters")
    made = []
    for one in head.accepted:
        held = services.library.get(one.manifest)
        if held is None:
            raise LocalError("E0402", f"update {one.manifest} of {place} is not on this node")
        made.append(Part(held.folder, one.weight, held))
    return made


def _base(services: Services, parts: Sequence[Part], given: str) -> Held:
    named = {part.held.model: part.held for part in parts if part.held}
    if len(named) > 1:
        raise LocalError(
            "E0702",
            "the adapters stand on different bases",
            why=[f"{held.ref} on {model[:16]}…" for model, held in named.items()],
        )
    if not named and not given:
        raise LocalError("E0204", "which base do these folders stand on?", fix=["give --base REF"])
    base = find_base(services, given) if given else base_for(services, *named.values())
    if any(model != base.model for model in named):
        raise LocalError("E0702", f"the adapters do not stand on {base.ref}")
    return base


def _compose_job(
    services: Services, parts: Sequence[Part], base: Held, work: Path, request: MergeRequest
) -> ComposeJob:
    return checked(
        ComposeJob(
            base_dir=base.folder,
            parts=tuple(
                Composed(part.folder, part.weight, part.held.manifest if part.held else "")
                for part in parts
            ),
            out_dir=str(work / "made"),
            residual_dir=str(work / "residual") if request.residual else None,
            **limits(services, request, ("method", "energy", "rank", "density", "seed", "threads")),
        )
    )


def _licence(services: Services, parts: Sequence[Part]) -> str:
    """The one licence that all parts have; where they differ, a person has to say."""
    licences = {
        services.models.manifest(part.held.manifest).licence if part.held else NO_LICENCE
        for part in parts
    }
    return licences.pop() if len(licences) == 1 else NO_LICENCE


async def quantise(services: Services, request: QuantiseRequest, report: Report) -> dict[str, Any]:
    """A variant of a base in fewer bits: a base of its own, that base its parent."""
    base = find_base(services, request.ref)
    name = request.name or f"{base.name}-q{request.bits}"
    parse_ref(f"{base.place}/{name}")
    with passing_folder(services, "quantise", request) as work:
        job = QuantiseJob(
            base_dir=base.folder,
            out_dir=str(work / "made"),
            bits=request.bits,
            data=tuple(request.data),
            max_tokens=request.max_tokens,
            threads=request.threads or services.config.learn.threads,
            max_memory_bytes=services.memory_bytes,
        )
        done = await services.learner.run(checked(job), report)
        assert isinstance(done, QuantiseReport)
        said = f"{base.name} in {done.numbers} numbers"
        new = variant(services, base, done, name, _claim(done), said)
        held = await keep_base(services, work / "made", new, report)
    return {"schema": "p2pllm.quantise/1", "base": base.ref, **told(done), **card_of(held)}


def _claim(done: QuantiseReport) -> Claim | None:
    if done.loss is None or done.base_loss is None or done.bits_per_byte is None:
        return None
    return Claim(
        base_loss=done.base_loss,
        loss=done.loss,
        bits_per_byte=done.bits_per_byte,
        tokens=done.tokens,
        steps=0,
        train_tokens=0,
    )


async def export(services: Services, request: ExportRequest, report: Report) -> dict[str, Any]:
    """A model of this node in a folder of the user's, in the format of other tools."""
    held = services.library.find(parse_ref(request.ref)) if "/" in request.ref else None
    held = held or find_base(services, request.ref)
    base = held if held.kind == "base" else base_for(services, held)
    dest = Path(request.dest)
    if not dest.is_absolute():
        raise LocalError("E0204", f"{request.dest!r} is no whole path")
    job = ExportJob(
        base_dir=base.folder,
        adapter_dir=held.folder if held.kind == "adapter" else None,
        out_dir=str(dest),
        format=request.format,
        alone=request.alone,
        bits=request.bits,
        threads=services.config.learn.threads,
        max_memory_bytes=services.memory_bytes,
    )
    making = durable.making_for(dest)
    await trio.to_thread.run_sync(lambda: dest.parent.mkdir(parents=True, exist_ok=True))
    try:
        done = await services.learner.run(checked(job), report)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    assert isinstance(done, ExportReport)
    return {"schema": "p2pllm.export/1", "ref": held.ref, "path": str(dest), **told(done)}
