"""What the flows of learn jobs share: what a job is asked, how its report is told and claimed."""

import hashlib
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from node.jobs import Report
from node.library import Held
from node.services import Services
from p2pllm.ids import ContentId
from p2pllm.job_fields import Trained
from p2pllm.jobs_blocks import BlockReport
from p2pllm.jobs_files import QuantiseReport
from p2pllm.manifest import Manifest, model_id
from p2pllm.manifest import Report as Claim
from p2pllm.names import Place


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


def claim(done: Trained | BlockReport, base_loss: float) -> Claim:
    """What a manifest says of a training; `base_loss` is that of a base or a parent."""
    return Claim(
        base_loss=base_loss,
        loss=done.loss,
        bits_per_byte=done.bits_per_byte,
        tokens=done.tokens,
        steps=done.steps,
        train_tokens=done.train_tokens,
    )


@contextmanager
def passing_folder(services: Services, kind: str, request: msgspec.Struct) -> Iterator[Path]:
    """A work folder for one run, gone when the block ends; asked again, the same gets another."""
    with services.work_folder(f"{kind}-{_digest(request)}-{secrets.token_hex(4)}") as work:
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def lasting_folder(
    services: Services, kind: str, request: msgspec.Struct, stands_on: Sequence[Held]
) -> Iterator[Path]:
    """A work folder where the same request finds what a killed job left; gone if all goes well."""
    asked = _digest([request, [held.manifest for held in stands_on]])
    with services.work_folder(f"{kind}-{asked}") as work:
        yield work
        shutil.rmtree(work, ignore_errors=True)


def _digest(asked: object) -> str:
    return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()[:16]


class NewBase(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a base that was brought in, or made out of another."""

    place: Place
    name: str
    licence: str
    params: int
    size_bytes: int
    parents: tuple[ContentId, ...] = ()
    report: Claim | None = None
    description: str = ""


async def keep_base(services: Services, made: Path, base: NewBase, report: Report) -> Held:
    """A folder's base, described, signed and kept; the one that is here if it was brought in."""
    models, total = services.models, base.size_bytes
    async with models.coming_in():
        files = await models.take_in(
            made, lambda count: report("store", done=count, total=total, unit="bytes")
        )
        manifest = Manifest(
            kind="base",
            place=base.place,
            name=base.name,
            by=services.identity.node,
            created_at=time.time(),
            licence=base.licence,
            consent=False,
            model=model_id(files),
            params=base.params,
            base_size=0,
            parents=base.parents,
            files=files,
            report=base.report,
            description=base.description,
        )
        here = None if base.parents else _same_base(services, manifest)
        return here or await models.seal(manifest, "local")


def _same_base(services: Services, manifest: Manifest) -> Held | None:
    for held in services.library.models():
        if (held.model, held.name, held.kind) == (manifest.model, manifest.name, "base"):
            return held
    return None


def variant(
    services: Services,
    base: Held,
    done: BlockReport | QuantiseReport,
    name: str,
    report: Claim | None,
    description: str,
) -> NewBase:
    """A base made out of `base`, beside it: its place and licence, and it is its parent."""
    return NewBase(
        place=base.place,
        name=name,
        licence=services.models.manifest(base.manifest).licence,
        params=done.params,
        size_bytes=done.size_bytes,
        parents=(base.manifest,),
        report=report,
        description=description,
    )
