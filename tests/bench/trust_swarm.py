"""Real daemons with poisoners among them, and what slander, new keys and a new domain can do.

`python -m tests.bench trust-swarm [--judges 6] [--poisoners 2] [--work DIR]`. Eight daemons judge
real adapters of a tiny model, each on text of its own: two of them send poison (an honest adapter
turned round; one tuned on text with its letters shuffled) until every honest node has them out;
then one turns honest. Slander, whitewashing and the benign shift run on the pure trust package with
the features of really trained adapters: daemons would add nothing. With --work a cut-off run goes
on.
`--short` runs the pure parts alone, on made-up features. No GPU.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch

from tests.bench._swarm import daemons, pool, pure

TURNS = 2  # of one update an honest node and two a poisoner
WAVES, EACH = 3, 5  # of the poisoner that turns honest
FAMILIES = ("flipped", "garbled")


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="trust-swarm", description=__doc__)
    parser.add_argument("--judges", type=int, default=6)
    parser.add_argument("--poisoners", type=int, default=2)
    parser.add_argument("--adapters", type=int, default=8, help="of a hostile family, measured")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--work", type=Path)
    parser.add_argument(
        "--run", type=Path, help="--work of a trust-adapters run, whose adapters are taken instead"
    )
    parser.add_argument("--alone", action="store_true", help="only what needs no daemons")
    parser.add_argument("--short", action="store_true")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    if given.short:
        return {"values": "made up", **without_daemons(pool.made_up_pool(1), 1, rounds=100)}
    with tempfile.TemporaryDirectory(prefix="swarm") as temporary:
        work = given.work or Path(temporary)
        found = {} if given.alone else _kept(work / "daemons.json", lambda: _daemons(given, work))
        measured, rise = pool.pool_of_run(given.run) if given.run else _pool(work, given.adapters)
    rises = {family: round(value, 3) for family, value in rise.items()}
    return {
        "nodes": given.judges + given.poisoners,
        "poisoners": given.poisoners,
        **found,
        "values": f"of {sum(map(len, measured.values()))} trained adapters",
        "loss_rise": rises,
        **without_daemons(measured, given.seeds),
    }


def without_daemons(values: pure.Pool, seeds: int, rounds: int = 300) -> dict[str, Any]:
    """What needs no daemon; the worst of all seeds."""
    slandered = [pure.slander(values, seed) for seed in range(seeds)]
    runs = {f: [pure.whitewash(values, f, s, rounds) for s in range(seeds)] for f in FAMILIES}
    white = {family: min(cost for cost, _ in row) for family, row in runs.items()}
    alone = {family: min(cost for _, cost in row) for family, row in runs.items()}
    return {
        "slander_drop": round(max(float(one["drop"]) for one in slandered), 4),
        "slander_drop_strangers": round(max(float(one["drop_strangers"]) for one in slandered), 4),
        "slander_quarantined": any(one["quarantined"] for one in slandered),
        "whitewash_cost": round(min(white.values()), 1),
        "whitewash_cost_by_family": {family: round(cost, 1) for family, cost in white.items()},
        "whitewash_cost_verdicts_alone": {family: round(cost, 1) for family, cost in alone.items()},
        "benign_shift_quarantined": max(pure.benign_shift(values, seed) for seed in range(seeds)),
        "rounds_to_quarantine": {
            family: [pure.rounds_to_quarantine(values, family, seed) for seed in range(seeds)]
            for family in values
            if family not in ("honest", "moved")
        },
    }


def _daemons(given: argparse.Namespace, work: Path) -> dict[str, Any]:
    began = time.monotonic()
    made = pool.Ground(work)
    daemons.say("the base is there")
    with daemons.open_swarm(made, given.judges, given.poisoners) as swarm:
        daemons.say("all daemons are up")
        caught = daemons.poison(swarm, TURNS)
        out = [state in daemons.OUT for row in caught["states"] for state in row]
        total, same = swarm.recomputed()
        found = {
            "quarantined_by_all": all(out),
            "quarantined_share": round(sum(out) / len(out), 3),
            "verdicts_to_quarantine": caught["verdicts_to_quarantine"],
            "poison_applied_share": swarm.applied(),
            "max_hops": swarm.hops(),
            "verdicts": total,
            "verdicts_recomputed_equal": same,
        }
        found |= daemons.rehabilitation(swarm, WAVES, EACH)
        swarm.look()
        found |= {"honest_touched": swarm.touched(), "poison_applied_share": swarm.applied()}
        return {**found, "daemon_seconds": round(time.monotonic() - began)}


def _pool(work: Path, each: int) -> tuple[pure.Pool, Mapping[str, float]]:
    path = work / "pool.msgpack"
    kind = tuple[dict[str, list[pure.Seen]], dict[str, float]]
    if not path.is_file():
        path.write_bytes(msgspec.msgpack.encode(pool.measured_pool(work, each)))
    return msgspec.msgpack.decode(path.read_bytes(), type=kind)


def _kept(path: Path, make: Any) -> dict[str, Any]:
    if not path.is_file():
        path.write_text(json.dumps(make()))
    found: dict[str, Any] = json.loads(path.read_text())
    return found
