"""How good the recommender's choices are in made-up worlds, beside the best there is."""

import random
import statistics
from typing import Any

import msgspec

from p2pllm import fit
from p2pllm.fit import Calibration, Use
from p2pllm.recommend import Candidate, Wants, recommend
from tests.bench._recommend.table import World, make_device, make_wants, make_world


def choices(draws: int, seed: int, per_world: int = 250) -> dict[str, Any]:
    """Infeasible picks, regret and monotonicity over so many devices and wants."""
    rng = random.Random(seed)
    regret: dict[str, list[float]] = {"ours": [], "largest": [], "size": [], "random": []}
    infeasible = none = worse = hits = 0
    for number in range(draws):
        if number % per_world == 0:
            world = make_world(rng)
        device, wants = make_device(rng), make_wants(rng)
        advice = recommend(world.candidates, wants, device, world.trust)
        infeasible += sum(
            not _feasible(world, pick.candidate, wants, device) for pick in advice.picks
        )
        worse += _worse_with_twice(
            world, wants, device, advice.picks[0].worth.value if advice.picks else -1
        )
        may = [one for one in world.candidates if _allowed(one, wants, device)]
        if not may:
            none += 1
            infeasible += bool(advice.picks)
            continue
        best = max(world.true(one, wants) for one in may)
        rivals = {
            "ours": advice.picks[0].candidate if advice.picks else None,
            "largest": max(may, key=lambda one: one.dimensions.params),
            "size": max(may, key=lambda one: (bool(one.place.domain), one.dimensions.params)),
            "random": rng.choice(may),
        }
        for name, one in rivals.items():
            regret[name].append((best - world.true(one, wants)) / best if one else 1.0)
        hits += regret["ours"][-1] == 0
    ours = sorted(regret["ours"])
    return {
        "infeasible": infeasible,
        "draws": draws,
        "none_fits": none,
        "regret_mean": round(statistics.fmean(ours), 5),
        "regret_p95": round(ours[int(len(ours) * 0.95)], 5),
        "top1": round(hits / len(ours), 4),
        "regret_largest_that_fits": round(statistics.fmean(regret["largest"]), 5),
        "regret_domain_then_largest": round(statistics.fmean(regret["size"]), 5),
        "regret_random_feasible": round(statistics.fmean(regret["random"]), 5),
        "monotone": worse == 0,
    }


def _worse_with_twice(world: World, wants: Wants, device: Calibration, value: float) -> bool:
    doubled = msgspec.structs.replace(wants, max_memory=2 * wants.max_memory)
    picks = recommend(world.candidates, doubled, device, world.trust).picks
    return (picks[0].worth.value if picks else -1) < value


def _allowed(one: Candidate, wants: Wants, device: Calibration) -> bool:
    """The limits, written again without the recommender's code: what it may choose from."""
    use = Use(context=wants.context, item=device.item, adapter=one.adapter)
    place = one.place
    return (
        place.lang in (wants.lang, "mul")
        and place.domain in ("", wants.domain)
        and place.sub in ("", wants.sub)
        and (not wants.licences or one.licence in wants.licences)
        and fit.memory(one.dimensions, use, device).high <= wants.max_memory
        and fit.speed(one.dimensions, use, device).low >= wants.min_speed
    )


def _feasible(world: World, one: Candidate, wants: Wants, device: Calibration) -> bool:
    """Whether it would really run within the limits, its real peak being off as real ones are."""
    use = Use(context=wants.context, item=device.item, adapter=one.adapter)
    peak = fit.memory(one.dimensions, use, device).total * (1 + world.off[one.manifest])
    return _allowed(one, wants, device) and peak <= wants.max_memory
