"""Bring a base in, tune an adapter on it, measure it: learn jobs, and what comes of their files."""

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import trio

from node.job_parts import (
    NewBase,
    claim,
    keep_base,
    lasting_folder,
    limits,
    passing_folder,
    told,
)
from node.jobs import Report
from node.library import Held
from node.probe_texts import MIN_DOCUMENTS
from node.requests import DistillRequest, EvalRequest, ImportRequest, TuneRequest
from node.services import Services
from p2pllm import adapter, corpus
from p2pllm.errors import LocalError, P2pllmError
from p2pllm.ids import ContentId
from p2pllm.job_fields import Trained
from p2pllm.jobs import EvalJob, EvalReport, ImportJob, ImportReport, TuneJob, checked
from p2pllm.jobs_teach import DistillJob
from p2pllm.manifest import Manifest
from p2pllm.manifest import Report as Claim
from p2pllm.names import Place, parse_place, parse_ref

log = logging.getLogger(__name__)
NO_LICENCE = "NOASSERTION"  # SPDX for "nobody said"
_CHOSEN = ("rank", "alpha", "steps", "lr", "batch", "seq", "seed", "threads")
EMBEDDED = {"smollm2": ("smollm2-135m", "Apache-2.0")}  # source -> name, licence of its weights


async def import_base(services: Services, request: ImportRequest, report: Report) -> dict[str, Any]:
    """A base out of the embedded package, a folder or a file, kept by its content."""
    known_name, known_licence = EMBEDDED.get(request.source, ("", ""))
    name = request.name or known_name or Path(request.source).stem.lower()
    ref = parse_ref(f"{request.lang}/{name}")
    with passing_folder(services, "import", request) as work:
        job = ImportJob(
            source=request.source,
            out_dir=str(work / "made"),
            threads=services.config.learn.threads,
            max_memory_bytes=services.memory_bytes,
        )
        done = await services.learner.run(job, report)
        assert isinstance(done, ImportReport)
        new = NewBase(
            place=ref.place,
            name=ref.name,
            licence=request.licence or known_licence or NO_LICENCE,
            params=done.params,
            size_bytes=done.size_bytes,
        )
        held = await keep_base(services, work / "made", new, report)
    return {"schema": "p2pllm.import/1", **card_of(held), **told(done)}


async def tune(services: Services, request: TuneRequest, report: Report) -> dict[str, Any]:
    """An adapter trained on the caller's text, kept on this node until it is pushed."""
    base = find_base(services, request.base)
    start = _start(services, base, request) if request.start else None

    def job(work: Path) -> TuneJob:
        return TuneJob(
            base_dir=base.folder,
            start_dir=start.folder if start else None,
            data=tuple(request.data),
            eval_data=tuple(request.eval_data),
            out_dir=str(work),
            **limits(services, request, _CHOSEN),
        )

    held, done = await train(services, request, [base, *([start] if start else [])], job, report)
    await trio.to_thread.run_sync(_keep_probes, services, request, held.place, done.held_out)
    services.trust.wake()
    return {"schema": "p2pllm.tune/1", **card_of(held), **told(done)}


async def train(
    services: Services,
    request: TuneRequest | DistillRequest,
    stands_on: Sequence[Held],
    job: Callable[[Path], TuneJob | DistillJob],
    report: Report,
) -> tuple[Held, Trained]:
    """Run a training in a folder where a killed one finds its checkpoint; keep its adapter.

    stands_on  the base it is of, and what else the adapter comes from
    """
    place, name = parse_place(request.place), request.name
    parse_ref(f"{place}/{name}")
    kind = str(request.__struct_config__.tag)
    with lasting_folder(services, kind, request, stands_on) as work:
        done = await services.learner.run(checked(job(work)), report)
        assert isinstance(done, Trained)
        described = Described(
            place=place,
            name=name,
            licence=request.licence or NO_LICENCE,
            report=claim(done, done.base_loss),
            parents=tuple(held.manifest for held in stands_on[1:]),
        )
        held = await keep_adapter(services, work, stands_on[0], described)
    return held, done


def _start(services: Services, base: Held, request: TuneRequest) -> Held:
    """The adapter that a tuning goes on with; it must stand on the base."""
    held = services.library.find(parse_ref(request.start))
    if held.kind != "adapter":
        raise LocalError("E0204", f"{held.ref} is a base; a tuning goes on with an adapter")
    if request.rank is not None or request.alpha is not None:
        raise LocalError(
            "E0204",
            "an adapter that is gone on with keeps its rank and alpha",
            fix=["leave out --rank and --alpha, or --start"],
        )
    adapter.require_base(held.model, base.model)
    return held


def _keep_probes(services: Services, request: TuneRequest, place: Place, share: float) -> None:
    """What the adapter was not trained on judges the updates of its place from now on."""
    paths = [Path(path) for path in (request.eval_data or request.data)]
    documents = corpus.read_docs(paths)
    if not request.eval_data:
        documents = [one for one in documents if corpus.is_held_out(one, share)]
    name = hashlib.sha256("\0".join(sorted(map(str, paths))).encode()).hexdigest()[:16]
    if len(documents) < MIN_DOCUMENTS:
        return
    try:
        services.trust.probes.add(place, documents, f"tuned-{name}")
    except P2pllmError as full:  # the adapter is kept; its text judges nothing
        log.warning("the held-out text of %s is not kept as probes: %s", place, full)


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """What a person says of an adapter."""

    place: Place
    name: str
    licence: str
    description: str = ""
    consent: bool = False
    tag: str = ""
    report: Claim | None = None
    parents: tuple[ContentId, ...] = ()  # beside the base


async def keep_adapter(services: Services, folder: Path, base: Held, described: Described) -> Held:
    """A PEFT folder that fits its base, described, signed and kept."""
    models = services.models
    base_manifest = models.manifest(base.manifest)
    lora = adapter.inspect(folder, Path(base.folder))
    async with models.coming_in():
        files = await models.take_in(folder, lambda _count: None)
        manifest = Manifest(
            kind="adapter",
            place=described.place,
            name=described.name,
            by=services.identity.node,
            created_at=time.time(),
            licence=described.licence,
            consent=described.consent,
            model=base.model,
            params=base_manifest.params,
            base_size=base_manifest.size,
            parents=(base.manifest, *described.parents),
            files=files,
            lora=lora,
            report=described.report,
            description=described.description,
        )
        return await models.seal(manifest, "local", tag=described.tag)


async def evaluate(services: Services, request: EvalRequest, report: Report) -> dict[str, Any]:
    """Held-out loss of a model, and of its base, on the caller's text."""
    held = services.library.find(parse_ref(request.ref))
    base = held if held.kind == "base" else base_for(services, held)
    job = EvalJob(
        base_dir=base.folder,
        adapter_dir=held.folder if held.kind == "adapter" else None,
        data=tuple(request.data),
        split=request.split,
        max_tokens=request.max_tokens,
        threads=request.threads or services.config.learn.threads,
        max_memory_bytes=services.memory_bytes,
    )
    done = await services.learner.run(checked(job), report)
    assert isinstance(done, EvalReport)
    return {"schema": "p2pllm.eval/1", "ref": held.ref, **told(done)}


def find_base(services: Services, text: str) -> Held:
    """A base we hold, by reference or by its bare name."""
    if "/" in text:
        held = services.library.find(parse_ref(text))
        if held.kind == "base":
            return held
        raise LocalError("E0402", f"{text} is an adapter, not a base", fix=["p2pllm base ls"])
    named = [h for h in services.library.models() if h.kind == "base" and h.name == text]
    if not named:
        raise LocalError(
            "E0402",
            f"no base {text!r} on this node",
            fix=["p2pllm base ls", "p2pllm base import smollm2"],
        )
    return named[-1]


def base_for(services: Services, held: Held) -> Held:
    """The base an adapter stands on; E0402 if it is not here."""
    base = services.library.base_of(held.model)
    if base is None:
        raise LocalError(
            "E0402",
            f"the base of {held.ref} is not on this node",
            why=[f"it needs the base with model id {held.model}"],
            fix=[f"p2pllm pull {held.ref}", "p2pllm base import SOURCE"],
        )
    return base


def card_of(held: Held) -> dict[str, Any]:
    """What every answer says of a model of ours."""
    card = {"ref": held.ref, "manifest": held.manifest, "kind": held.kind, "model": held.model}
    return {**card, "place": str(held.place), "name": held.name, "path": held.folder}
