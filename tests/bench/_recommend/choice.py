"""How good the recommender's choices are in made-up worlds, beside the best there is."""

import random
import statistics
import sys
from pathlib import Path
from typing import Any

import msgspec

from p2pllm import fit
from p2pllm.fit import Calibration, Use
from p2pllm.recommend import Candidate, Wants, recommend
from tests.bench._recommend.table import World, make_device, make_wants, make_world


class Seen(msgspec.Struct):
    """What came of the draws in one world."""

    infeasible: int = 0
    none: int = 0  # nothing fits
    worse: int = 0  # with twice the memory
    hits: int = 0  # the best was picked
    regret: dict[str, list[float]] = msgspec.field(default_factory=dict)


def choices(draws: int, seed: int, per_world: int, work: Path | None = None) -> dict[str, Any]:
    """Infeasible picks, regret and monotonicity over so many devices and wants."""
    worlds = [_world(seed, number, per_world, work) for number in range(draws // per_world)]
    regret = {
        name: [value for one in worlds for value in one.regret[name]] for name in worlds[0].regret
    }
    ours = sorted(regret["ours"])
    return {
        "infeasible": sum(one.infeasible for one in worlds),
        "draws": len(worlds) * per_world,
        "worlds": len(worlds),
        "none_fits": sum(one.none for one in worlds),
        "regret_mean": round(statistics.fmean(ours), 5),
        "regret_p95": round(ours[int(len(ours) * 0.95)], 5),
        "top1": round(sum(one.hits for one in worlds) / len(ours), 4),
        "regret_largest_that_fits": round(statistics.fmean(regret["largest"]), 5),
        "regret_domain_then_largest": round(statistics.fmean(regret["size"]), 5),
        "regret_random_feasible": round(statistics.fmean(regret["random"]), 5),
        "monotone": not any(one.worse for one in worlds),
    }


def _world(seed: int, number: int, draws: int, work: Path | None) -> Seen:
    kept = work / f"world-{seed}-{number}-{draws}.json" if work else None
    if kept and kept.is_file():
        return msgspec.json.decode(kept.read_bytes(), type=Seen)
    rng = random.Random(f"{seed} {number}")
    world, seen = make_world(rng), Seen()
    for _ in range(draws):
        _draw(world, rng, seen)
    if kept:
        kept.write_bytes(msgspec.json.encode(seen))
    print(f"world {number}", file=sys.stderr)
    return seen


def _draw(world: World, rng: random.Random, seen: Seen) -> None:
    device, wants = make_device(rng), make_wants(rng)
    picks = recommend(world.candidates, wants, device, world.trust).picks
    seen.infeasible += sum(not _feasible(world, one.candidate, wants, device) for one in picks)
    seen.worse += _worse_with_twice(world, wants, device, picks[0].worth.value if picks else -1)
    may = [one for one in world.candidates if _allowed(one, wants, device)]
    if not may:
        seen.none += 1
        seen.infeasible += bool(picks)
        return
    best = max(world.true(one, wants) for one in may)
    rivals = {
        "ours": picks[0].candidate if picks else None,
        "largest": max(may, key=lambda one: one.dimensions.params),
        "size": max(may, key=lambda one: (bool(one.place.domain), one.dimensions.params)),
        "random": rng.choice(may),
    }
    for name, one in rivals.items():
        lost = (best - world.true(one, wants)) / best if one else 1.0
        seen.regret.setdefault(name, []).append(lost)
    seen.hits += seen.regret["ours"][-1] == 0


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
