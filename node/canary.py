"""A change of a head on trial: scored on text that did not decide it, and taken back if it harms.

Live text is what came to this node since the change, and while that is little, the reserve that
nothing else uses. docs/specs/gate.md, section 5
"""

import time
from collections.abc import Mapping, Sequence

import msgspec

from node import gating
from node.round_job import Sides, served, shadow
from node.services import Services
from p2pllm import arm, rollout
from p2pllm.bounds import estimate
from p2pllm.gate import Check, Decision
from p2pllm.heads import Accepted
from p2pllm.ids import ContentId, NodeId
from p2pllm.jobs_shadow import Text
from p2pllm.names import Place
from trust.ledger import Merged


def commit(
    services: Services,
    place: Place,
    taken: Mapping[ContentId, NodeId],
    left_out: Sequence[ContentId],
) -> None:
    """Remember that these updates enter the head now, on trial; `taken` is by publisher."""
    now = gating.state(services, place)
    after, _action = rollout.commit(now.rollout, tuple(sorted(taken)), left_out, int(time.time()))
    after = msgspec.structs.replace(
        after, lineages=now.rollout.lineages | {str(by) for by in taken.values()}
    )
    lines = {by: arm.adopted(one) if by in taken.values() else one for by, one in now.arms.items()}
    before = served(services, place)
    gating.keep(
        services,
        place,
        msgspec.structs.replace(now, rollout=after, arms=lines, before=before),
    )


async def watch(services: Services, place: Place) -> None:
    """Look at a change that is on trial, where it is time to; the head itself is moved elsewhere.

    Raises what a job raises: what could not be looked at stays on trial.
    """
    now, speed = gating.state(services, place), gating.pace(services)
    trial, window = now.rollout.canary, int(time.time())
    if trial is None or window - trial.since < speed.canary:
        return
    after = tuple(one for one in served(services, place) if _here(services, one))
    before = tuple(one for one in now.before if _here(services, one))
    live = await _live(services, place, trial.since, (before, after))
    if len(live) < speed.examples:
        # So little text says nothing for or against: what decided stands.
        state = msgspec.structs.replace(now.rollout, canary=None)
        kind, updates, damage = "promote", trial.updates, 0.0
    else:
        state, action = rollout.watch(now.rollout, live, window, speed)
        kind, updates, damage = action.kind, action.updates, action.value
    decision = Decision(
        outcome="reject" if kind == "rollback" else "accept",
        checks=(
            Check("live", len(live), speed.examples, len(live) >= speed.examples),
            Check("damage", damage, speed.damage, kind != "rollback"),
        ),
        gain=estimate(live).mean,
        damage=damage,
    )
    known = services.trust.books.place(place)
    owners = {name: known.taken[name].peer for name in updates if name in known.taken}
    with services.trust.db.together():
        gating.keep(services, place, msgspec.structs.replace(now, rollout=state))
        if kind == "rollback" and owners:
            services.trust.books.record(place, Merged(dropped=tuple(sorted(owners))))
        for name, by in owners.items():
            gating.write(services, place, (name, by), "trial", decision)
    if kind == "rollback":
        services.events.emit("rollback", place=str(place), manifests=list(updates), damage=damage)


def _here(services: Services, one: Accepted) -> bool:
    return services.library.get(one.manifest) is not None


async def _live(
    services: Services,
    place: Place,
    since: float,
    sides: tuple[tuple[Accepted, ...], tuple[Accepted, ...]],
) -> list[float]:
    """What documents gained that did not decide the change."""
    files = services.trust.probes.files(place)
    fresh = tuple(str(path) for path in files if path.stat().st_mtime > since)
    old = tuple(str(path) for path in files if str(path) not in fresh)
    texts = [Text(str(place), fresh, "all")] if fresh else []
    texts += [Text(str(place), old, "live")] if old else []
    if not any(sides) or not texts:
        return []
    found = await shadow(services, place, Sides(*sides, tuple(texts)))
    came = [gain for one in found if one.part == "all" for gain in one.gains]
    kept = [gain for one in found if one.part == "live" for gain in one.gains]
    return came if len(came) >= gating.RULE.examples else [*came, *kept]
