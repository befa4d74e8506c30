"""What the flows of learn jobs share: what a job is asked, how its report is told and claimed."""

import hashlib
import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from node.jobs import Report
from node.library import Held
from node.services import Services
from p2pllm.jobs import TuneReport
from p2pllm.jobs_blocks import BlockReport
from p2pllm.jobs_files import QuantiseReport
from p2pllm.jobs_teach import DistillReport
from p2pllm.manifest import Manifest, model_id
from p2pllm.manifest import Report as Claim


def limits(services: Services, request: msgspec.Struct, names: Iterable[str]) -> dict[str, Any]:
    """A job's memory, threads and whichever of these fields the request names."""
    given = {name: value for name in names if (value := getattr(request, name)) is not None}
    room = {"max_memory_bytes": services.memory_bytes, "threads": services.config.learn.threads}
    return {**room, **given}


def told(report: msgspec.Struct) -> dict[str, Any]:
    """A report as an answer tells it."""
    plain: dict[str, Any] = msgspec.to_builtins(report)
    del plain["job"]
    plain["peak_rss_bytes"] = plain.pop("peak_rss")
    return plain


def claim(done: TuneReport | DistillReport | BlockReport, base_loss: float) -> Claim:
    """What a manifest says of a training; `base_loss` is that of a base or a parent."""
    return Claim(
        base_loss=base_loss,
        loss=done.loss,
        bits_per_byte=done.bits_per_byte,
        tokens=done.tokens,
        steps=done.steps,
        train_tokens=done.train_tokens,
    )


def passing_name(kind: str, request: msgspec.Struct) -> str:
    """A work folder for one run: asked again, the same gets another."""
    asked = hashlib.sha256(msgspec.json.encode(request)).hexdigest()[:16]
    return f"{kind}-{asked}-{secrets.token_hex(4)}"


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a base that was made out of another."""

    name: str
    report: Claim | None
    description: str


async def keep_variant(
    services: Services,
    made: Path,
    base: Held,
    variant: Variant,
    done: BlockReport | QuantiseReport,
    report: Report,
) -> Held:
    """A base made out of `base`, kept beside it: its place and licence, and it is its parent."""
    models, licence = services.models, services.models.manifest(base.manifest).licence
    async with models.coming_in():
        files = await models.take_in(
            made, lambda count: report("store", done=count, total=done.size_bytes, unit="bytes")
        )
        manifest = Manifest(
            kind="base",
            place=base.place,
            name=variant.name,
            by=services.identity.node,
            created_at=time.time(),
            licence=licence,
            consent=False,
            model=model_id(files),
            params=done.params,
            base_size=0,
            parents=(base.manifest,),
            files=files,
            report=variant.report,
            description=variant.description,
        )
        return await models.seal(manifest, "local")
