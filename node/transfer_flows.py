"""Carry what a model knows one place up or down: a learn job, held against the gate, then kept."""

from pathlib import Path
from typing import Any

import msgspec

from node import gating
from node.job_parts import limits, passing_folder, told
from node.jobs import Report
from node.learn_flows import NO_LICENCE, Described, base_for, card_of, find_base, keep_adapter
from node.library import Held
from node.requests import TransferRequest
from node.round_job import laid, served
from node.services import Services
from p2pllm import blocks, gate
from p2pllm.bounds import estimate
from p2pllm.derive import require_below
from p2pllm.errors import LocalError
from p2pllm.gate import Check, Decision, Facts, Rule, Shadow
from p2pllm.heads import Accepted
from p2pllm.ids import ContentId, NodeId
from p2pllm.job_fields import Laid
from p2pllm.jobs import checked
from p2pllm.jobs_transfer import Side, TransferJob, TransferReport
from p2pllm.names import Place, parse_place, parse_ref
from p2pllm.tree import parent_of

# Asked of own text alone, as this is a proposal: other keepers judge it on theirs when it is
# published. Damage: docs/specs/transfer.md, section 3.
RULE = Rule(gain=0.02, damage=0.02, examples=5)
MOST_PARENTS = 64  # of a manifest
_CHOSEN = ("steps", "batch", "seq", "lr", "rank", "rows", "seed", "threads")


class Way(msgspec.Struct, frozen=True):
    """Which model teaches which, and what is laid on it."""

    source: Held
    base: Held  # of the target
    place: Place  # that the result belongs to
    laid: tuple[Held, ...]  # on the target, besides what the place serves


async def transfer(services: Services, request: TransferRequest, report: Report) -> dict[str, Any]:
    """An adapter for the place above or below that knows more, if the gate takes it."""
    way = _way(services, request)
    parse_ref(f"{way.place}/{request.name}")
    with passing_folder(services, "transfer", request) as work:
        job = _job(services, way, request, work / "made")
        done = await services.learner.run(job, report)
        assert isinstance(done, TransferReport)
        decision = judged(done, services.identity.node, way.source.manifest)
        if decision.outcome != "accept":
            _write(services, way, request, decision)
            raise _refused(way, decision, done)
        described = Described(
            place=way.place,
            name=request.name,
            licence=request.licence or NO_LICENCE,
            parents=_parents(services, way)[: MOST_PARENTS - 1],
        )
        held = await keep_adapter(services, work / "made", way.base, described)
        _write(services, way, request, decision, made=held.manifest)
    numbers = told(done)
    for name in ("gains", "spared"):
        numbers[name] = estimate(numbers[name]).mean
    checks = [msgspec.to_builtins(check) for check in decision.checks]
    card = {"direction": request.direction, "from": way.source.ref, "base": way.base.ref}
    return {"schema": "p2pllm.transfer/1", **card, **card_of(held), **numbers, "checks": checks}


def judged(done: TransferReport, me: NodeId, source: ContentId) -> Decision:
    """The gate's word on what was learnt: gain on the new text, damage to what was to stay."""
    lacks = done.base_loss - done.source_loss
    arm = Check("arm", lacks, RULE.gain, done.learnt)
    if not done.learnt:
        return Decision(outcome="reject", checks=(arm,), gain=0.0, damage=0.0)
    facts = Facts(
        update=source,
        by=me,
        lineage=str(me),
        signed=True,
        base_known=True,
        size=0,
        trust=1.0,
        norm=0.0,
        spectrum=0.0,
        novelty=1.0,
    )
    shadow = Shadow(probes={me: estimate(done.gains)}, own=me, anchors=done.spared)
    found = gate.judge(facts, shadow, gate.among(RULE, 0), armed=False)
    return msgspec.structs.replace(found, checks=(arm, *found.checks))


def _way(services: Services, request: TransferRequest) -> Way:
    source = services.library.find(parse_ref(request.ref))
    up = request.direction == "up"
    to = _target(services, request.to) if request.to else None
    if source.kind != "adapter":
        raise LocalError("E0204", f"{source.ref} is a base", fix=["name an adapter that learnt"])
    base = (to if to and to.kind == "base" else base_for(services, to)) if to else None
    if up:
        place = parse_place(request.place) if request.place else parent_of(source.place)
        if place is None:
            raise LocalError("E0204", f"there is no place above {source.place}")
        require_below(source.place, place)
        return Way(source, base or _above(services, source), place, ())
    if to is None or base is None:
        raise LocalError("E0204", "into which model?", fix=["--to REF, a base or an adapter on it"])
    place = parse_place(request.place) if request.place else to.place
    require_below(place, source.place)
    return Way(source, base, place, (to,) if to.kind == "adapter" else ())


def _target(services: Services, text: str) -> Held:
    return services.library.find(parse_ref(text)) if "/" in text else find_base(services, text)


def _above(services: Services, source: Held) -> Held:
    """The base that the source's own is a block of, or that base itself."""
    own = base_for(services, source)
    cut = blocks.read(Path(own.folder))
    if cut is None:
        return own
    parent = services.library.base_of(ContentId(cut.parent))
    if parent is None:
        raise LocalError(
            "E0402",
            f"the base that {own.ref} was cut from is not on this node",
            fix=["p2pllm pull it", "--to REF of another base"],
        )
    return parent


def _job(services: Services, way: Way, request: TransferRequest, out_dir: Path) -> TransferJob:
    teacher = base_for(services, way.source)
    probes, up = services.trust.probes, request.direction == "up"
    new = request.data or [str(path) for path in probes.files(way.source.place)]
    kept = request.keep or [str(path) for path in probes.files(way.place)]
    for texts, option, place in ((new, "--data", way.source.place), (kept, "--keep", way.place)):
        if not texts:
            raise LocalError(
                "E0406",
                f"no text of {place} on this node",
                fix=[f"give some with {option}", f"p2pllm trust probes add {place} FILE"],
            )
    own = [pair for pair in served(services, way.place) if _stands_on(services, pair, way.base)]
    on_target = [*laid(services, own if up or not way.laid else ())]
    on_target += [_whole(one) for one in way.laid]
    return checked(
        TransferJob(
            direction=request.direction,
            source=Side(teacher.folder, teacher.model, (_whole(way.source),)),
            target=Side(way.base.folder, way.base.model, tuple(on_target)),
            new=tuple(new),
            kept=tuple(kept),
            out_dir=str(out_dir),
            least=RULE.gain,
            **limits(services, request, _CHOSEN),
        )
    )


def _whole(held: Held) -> Laid:
    return Laid(held.folder, 1.0)


def _stands_on(services: Services, pair: Accepted, base: Held) -> bool:
    held = services.library.get(pair.manifest)
    return held is not None and held.model == base.model


def _parents(services: Services, way: Way) -> tuple[ContentId, ...]:
    """Whose knowledge is in the result, and what it was learnt on top of, beside its base."""
    on = [pair.manifest for pair in served(services, way.place)] if not way.laid else []
    return (way.source.manifest, *(one.manifest for one in way.laid), *on)


def _write(
    services: Services, way: Way, request: TransferRequest, decision: Decision, **more: object
) -> None:
    about = (way.source.manifest, services.models.manifest(way.source.manifest).by)
    gating.write(services, way.place, about, request.direction, decision, **more)


def _refused(way: Way, decision: Decision, done: TransferReport) -> LocalError:
    lines = [
        f"{one.code} {one.value:.4g}, limit {one.limit:.4g}"
        for one in decision.checks
        if not one.passed
    ]
    knows = f"{way.source.ref} has {done.source_loss:.4f} nats a token where the target has"
    return LocalError(
        "E0717",
        f"the gate does not take what {way.place} would learn of {way.source.ref}",
        why=[*lines, f"{knows} {done.base_loss:.4f}, and {done.loss:.4f} after"],
        fix=[f"p2pllm trust explain {way.source.ref}", "give more text, or more --steps"],
        details={"checks": [msgspec.to_builtins(check) for check in decision.checks]},
    )
