"""What an update from above does to text of this node, before it is applied on others' word.

A node that follows a place takes what trusted keepers accept there, but not against its own text of
that place or of the places below it. docs/specs/gate.md, section 9
"""

from node import gating
from node.round_job import OTHERS, Sides, shadow
from node.services import Services
from p2pllm.adopt import Following, Vouched
from p2pllm.bounds import estimate
from p2pllm.gate import Check, Decision
from p2pllm.heads import Accepted
from p2pllm.jobs_shadow import Found, Text
from p2pllm.names import Place
from p2pllm.tree import within


async def spares(services: Services, place: Place, known: Following, one: Vouched) -> bool:
    """Whether own text bears an update that is here; a refusal is written down with its numbers.

    Where this node has no such text, or took the update by its own gate, there is nothing to ask.
    Raises what a job raises.
    """
    own = services.trust.heads.read(place)
    if own is not None and any(one.manifest == pair.manifest for pair in own.accepted):
        return True
    probes = services.trust.probes
    below = [where for where in probes.places() if within(where, place)][:OTHERS]
    if not below:
        return True
    model = services.models.manifest(one.manifest)
    held = [services.library.get(manifest) for manifest in known.applied]
    before = tuple(
        Accepted(each.manifest, known.applied[each.manifest].weight)
        for each in held
        if each is not None and each.model == model.model
    )
    texts = tuple(Text(str(at), tuple(map(str, probes.files(at)))) for at in below)
    after = (*before, Accepted(one.manifest, one.weight))
    sides = Sides(_whole(before), _whole(after), texts)
    decision = _decision(await shadow(services, place, sides))
    gating.write(services, place, (one.manifest, model.by), "child", decision)
    return decision.outcome == "accept"


def _whole(pairs: tuple[Accepted, ...]) -> tuple[Accepted, ...]:
    """The set with shares that sum to one at most, as a keeper serves it.

    Each share was that in its keeper's head when it was applied; together they are more than all.
    """
    total = max(1.0, sum(one.weight for one in pairs))
    return tuple(Accepted(one.manifest, one.weight / total) for one in pairs)


def _decision(scored: Found) -> Decision:
    """The upper bound of the damage to each text, the chance to be wrong shared among them."""
    rule = gating.RULE
    found = [one for one in scored if len(one.gains) >= rule.examples]
    limit = rule.descendants * rule.damage
    lost = [estimate([-gain for gain in one.gains]) for one in found]
    bounds = [one.high(rule.alpha / len(found)) for one in lost]
    checks = tuple(Check("descendant", bound, limit, bound < limit) for bound in bounds)
    worst = max((one.mean for one in lost), default=0.0)
    passed = all(check.passed for check in checks)
    return Decision(
        outcome="accept" if passed else "reject", checks=checks, gain=-worst, damage=worst
    )
