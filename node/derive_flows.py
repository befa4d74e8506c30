"""Build a model of a place out of one of the place above it: cut, taught by it, published."""

from pathlib import Path
from typing import Any

import trio

from node.block_flows import block
from node.contribute import push
from node.jobs import Report
from node.learn_flows import find_base
from node.requests import BlockRequest, DeriveRequest, PushRequest
from node.services import Services
from p2pllm import blocks
from p2pllm import derive as planning
from p2pllm.names import parse_place, parse_ref
from p2pllm.query import parse_size


async def derive(services: Services, request: DeriveRequest, report: Report) -> dict[str, Any]:
    """The largest block of a base that fits the budget, one place down; published with consent."""
    base, place = find_base(services, request.ref), parse_place(request.place)
    planning.require_below(place, base.place)
    name = request.name or base.name
    parse_ref(f"{place}/{name}")
    manifest = services.models.manifest(base.manifest)
    frame = await trio.to_thread.run_sync(blocks.frame_in, Path(base.folder))
    size = sum(file.size for file in manifest.files if file.path.endswith(".safetensors"))
    plan = planning.plan(frame, manifest.params, size, parse_size(request.budget)[1])
    report("plan", message=f"{plan.params} parameters, {plan.ffn:.2f} x {plan.depth:.2f}")
    cut = BlockRequest(
        ref=base.ref,
        data=request.data,
        eval_data=request.eval_data,
        name=name if name != base.name else f"{name}-{place.sub or place.domain or place.lang}",
        ffn=plan.ffn,
        depth=plan.depth,
        steps=request.steps,
        seed=request.seed,
        threads=request.threads,
    )
    made = await block(services, cut, report)
    if request.consent:
        wanted = PushRequest(
            ref=made["ref"],
            place=str(place),
            name=name,
            licence=request.licence,
            consent=True,
        )
        made |= await push(services, wanted, report)
    return {
        **made,
        "schema": "p2pllm.derive/1",
        "place": str(place),
        "parent": base.ref,
        "published": request.consent,
        "budget_bytes": parse_size(request.budget)[1],
    }
