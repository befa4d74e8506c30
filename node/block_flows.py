"""Cut a block out of a base, and gather what blocks learnt: learn jobs, and what comes of them."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio

from node.job_parts import (
    claim,
    keep_base,
    lasting_folder,
    limits,
    passing_folder,
    told,
    variant,
)
from node.jobs import Report
from node.learn_flows import NO_LICENCE, Described, base_for, card_of, find_base, keep_adapter
from node.library import Held
from node.requests import BlockRequest, GatherRequest
from node.services import Services
from p2pllm import blocks
from p2pllm.errors import LocalError
from p2pllm.jobs import checked
from p2pllm.jobs_blocks import BlockJob, BlockReport, Gathered, GatherJob, GatherReport
from p2pllm.names import parse_place, parse_ref

_CHOSEN = ("ffn", "heads", "depth", "steps", "batch", "seq", "lr", "seed", "threads")


async def block(services: Services, request: BlockRequest, report: Report) -> dict[str, Any]:
    """A smaller base cut out of one we hold, kept until it is pushed."""
    base = find_base(services, request.ref)
    name = request.name or f"{base.name}-block"
    parse_ref(f"{base.place}/{name}")
    with lasting_folder(services, "block", request, [base]) as work:
        shutil.rmtree(work / "made", ignore_errors=True)
        job = _job(services, base, request, work / "made")
        done = await services.learner.run(job, report)
        assert isinstance(done, BlockReport)
        said = (
            f"A block of {base.name}: {done.layers} layers of {done.channels} "
            f"channels and {done.groups} groups of heads."
        )
        new = variant(services, base, done, name, claim(done, done.parent_loss), said)
        held = await keep_base(services, work / "made", new, report)
    return {"schema": "p2pllm.block/1", "parent": base.ref, **card_of(held), **told(done)}


def _job(services: Services, base: Held, request: BlockRequest, out_dir: Path) -> BlockJob:
    return checked(
        BlockJob(
            base_dir=base.folder,
            parent=base.model,
            data=tuple(request.data),
            eval_data=tuple(request.eval_data),
            out_dir=str(out_dir),
            **limits(services, request, _CHOSEN),
        )
    )


async def gather(services: Services, request: GatherRequest, report: Report) -> dict[str, Any]:
    """One adapter out of adapters of blocks of one parent: of the parent, or of a block of it."""
    place = parse_place(request.place)
    parse_ref(f"{place}/{request.name}")
    into = find_base(services, request.into)
    updates = [services.library.find(parse_ref(ref)) for ref in request.what]
    parent = await trio.to_thread.run_sync(_parent, services, into)
    with passing_folder(services, "gather", request) as work:
        job = _gather_job(services, (parent, into), updates, request, work / "made")
        done = await services.learner.run(job, report)
        assert isinstance(done, GatherReport)
        described = Described(
            place=place,
            name=request.name,
            licence=request.licence or NO_LICENCE,
            parents=tuple(held.manifest for held in updates),
        )
        held = await keep_adapter(services, work / "made", into, described)
    return {"schema": "p2pllm.gather/1", "base": into.ref, **card_of(held), **told(done)}


def _parent(services: Services, into: Held) -> Held:
    """The base that the blocks are of: `into` itself, or the one it was cut from."""
    cut = blocks.read(Path(into.folder))
    if cut is None:
        return into
    parent = services.library.base_of(cut.parent)
    if parent is None:
        raise LocalError(
            "E0402",
            f"the base that {into.ref} was cut from is not on this node",
            fix=["pull it", "gather into a base that is here"],
        )
    return parent


def _gather_job(
    services: Services,
    stand: tuple[Held, Held],
    updates: Sequence[Held],
    request: GatherRequest,
    out_dir: Path,
) -> GatherJob:
    parent, into = stand
    weights = request.weights or [1.0] * len(updates)
    if len(weights) != len(updates):
        raise LocalError("E0204", f"{len(weights)} weights for {len(updates)} adapters")
    parts = []
    for held, weight in zip(updates, weights, strict=True):
        if held.kind != "adapter":
            raise LocalError("E0204", f"{held.ref} is a base, and gathered are adapters")
        block_dir = None if held.model == parent.model else base_for(services, held).folder
        parts.append(Gathered(held.folder, block_dir, weight))
    return checked(
        GatherJob(
            base_dir=parent.folder,
            parent=parent.model,
            parts=tuple(parts),
            into_dir=into.folder if into.model != parent.model else None,
            out_dir=str(out_dir),
            energy=request.energy or 1.0,
            rank=request.rank,
            threads=services.config.learn.threads,
            max_memory_bytes=services.memory_bytes,
        )
    )
