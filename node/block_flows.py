"""Cut a block out of a base: a learn job, and a base of its own that names its parent."""

import hashlib
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec

from node.jobs import Report
from node.learn_flows import card_of, find_base
from node.library import Held
from node.requests import BlockRequest
from node.services import Services
from p2pllm.jobs import checked
from p2pllm.jobs_blocks import BlockJob, BlockReport
from p2pllm.manifest import Manifest, model_id
from p2pllm.manifest import Report as Claim
from p2pllm.names import parse_ref

_CHOSEN = ("ffn", "heads", "depth", "steps", "batch", "seq", "lr", "seed", "threads")


async def block(services: Services, request: BlockRequest, report: Report) -> dict[str, Any]:
    """A smaller base cut out of one we hold, kept until it is pushed."""
    base = find_base(services, request.ref)
    name = request.name or f"{base.name}-block"
    parse_ref(f"{base.place}/{name}")
    with services.work_folder(_name(request)) as work:
        try:
            job = _job(services, base, request, work / "made")
            done = await services.learner.run(job, report)
            assert isinstance(done, BlockReport)
            held = await _keep(services, work / "made", (base, name), done, report)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    plain: dict[str, Any] = msgspec.to_builtins(done)
    del plain["job"]
    plain["peak_rss_bytes"] = plain.pop("peak_rss")
    return {"schema": "p2pllm.block/1", "parent": base.ref, **card_of(held), **plain}


def _job(services: Services, base: Held, request: BlockRequest, out_dir: Path) -> BlockJob:
    chosen = {
        name: value for name in _CHOSEN if (value := getattr(request, name, None)) is not None
    }
    return checked(
        BlockJob(
            base_dir=base.folder,
            parent=base.model,
            data=tuple(request.data),
            eval_data=tuple(request.eval_data),
            out_dir=str(out_dir),
            max_memory_bytes=services.memory_bytes,
            **{"threads": services.config.learn.threads, **chosen},
        )
    )


async def _keep(
    services: Services, made: Path, of: tuple[Held, str], done: BlockReport, report: Report
) -> Held:
    models, (base, name) = services.models, of
    parent = models.manifest(base.manifest)
    async with models.coming_in():
        files = await models.take_in(
            made, lambda count: report("store", done=count, total=done.size_bytes, unit="bytes")
        )
        manifest = Manifest(
            kind="base",
            place=base.place,
            name=name,
            by=services.identity.node,
            created_at=time.time(),
            licence=parent.licence,
            consent=False,
            model=model_id(files),
            params=done.params,
            base_size=0,
            parents=(base.manifest,),
            files=files,
            report=_claim(done),
            description=f"A block of {parent.name}: {done.layers} layers of {done.channels} "
            f"channels and {done.groups} groups of heads.",
        )
        return await models.seal(manifest, "local")


def _claim(done: BlockReport) -> Claim:
    """The parent's loss stands where an adapter's manifest has that of its base."""
    return Claim(
        base_loss=done.parent_loss,
        loss=done.loss,
        bits_per_byte=done.bits_per_byte,
        tokens=done.tokens,
        steps=done.steps,
        train_tokens=done.train_tokens,
    )


def _name(request: BlockRequest) -> str:
    asked = hashlib.sha256(msgspec.json.encode(request)).hexdigest()[:16]
    return f"block-{asked}-{secrets.token_hex(4)}"
