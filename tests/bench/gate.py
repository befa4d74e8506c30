"""When a parent takes updates: streams of good and bad proposals, beside simpler rules.

Simulated streams with the loss noise of really trained updates (tests/bench/_gate/measured.py;
`--measure FOLDER` measures it again). A false accept is counted by kind, and the worst kind is what
is reported. `gain_share` and `commit_share` are against always-update on a stream without harm in
it, where that rule is at its best. `flaps_per_100` is the worst over steady levels of gain: turns
of a child's arm after the one that finds the level.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p2pllm import arm
from tests.bench._gate.streams import (
    BAD,
    HARSH,
    MEASURED,
    WINDOW_DOCUMENTS,
    Gate,
    Noise,
    Plain,
    World,
    play,
    world,
)

MIXED = ("useful", *BAD)
KIND = ("useful", "noise", "duplicate", "marginal")  # nothing in it does harm on purpose
RIVALS = ("always", "never", "fixed interval", "surprise only")
LEVELS = [round(0.0025 * at, 4) for at in range(21)]  # nats per token


def main(argv: Sequence[str]) -> dict[str, Any]:
    """The figures under measured noise; under harsher noise beside them."""
    given = _arguments(argv)
    if given.measure:
        from tests.bench._gate.noise import measured

        return {"measured": measured(Path(given.measure))}
    seeds, windows = (1, 80) if given.short else (given.seeds, given.windows)
    return {
        **_figures(MEASURED, seeds, windows),
        "harsh": _figures(HARSH, seeds, windows),
        "targets": {
            "false_accept": 0.01,
            "useful_accept": 0.95,
            "flaps_per_100": 1,
            "gain_share": 0.9,
            "commit_share": 0.25,
        },
        "seeds": seeds,
        "windows": windows,
        "noise": {
            name: _noise(noise) for name, noise in (("measured", MEASURED), ("harsh", HARSH))
        },
    }


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench gate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--windows", type=int, default=300)
    parser.add_argument("--short", action="store_true", help="one seed, 80 windows")
    parser.add_argument("--measure", metavar="FOLDER", help="measure the noise anew")
    return parser.parse_args(list(argv))


def _figures(noise: Noise, seeds: int, windows: int) -> dict[str, Any]:
    mixed = [_gate(MIXED, noise, seed, windows) for seed in range(seeds)]
    kind = [_gate(KIND, noise, 1000 + seed, windows) for seed in range(seeds)]
    hidden = [_gate(("hidden",), noise, 2000 + seed, windows) for seed in range(seeds)]
    always = [_plain("always", KIND, noise, 1000 + seed, windows) for seed in range(seeds)]
    by_kind = _by_kind([made for made, _gate, _tally in mixed])
    back = [each for _world, policy, _tally in hidden for each in policy.rollbacks]
    kept = sum(policy.promoted["hidden"] for _world, policy, _tally in hidden)
    flaps = {level: _flaps(level, noise, windows, seeds, arm.ArmRule()) for level in LEVELS}
    print(f"{noise}: {by_kind}", file=sys.stderr)
    return {
        "false_accept": max(by_kind[name]["accepted"] for name in BAD),
        "useful_accept": by_kind["useful"]["accepted"],
        "flaps_per_100": max(flaps.values()),
        "gain_share": _share([tally for *_, tally in kind], always, "gain"),
        "commit_share": _share([tally for *_, tally in kind], always, "commits"),
        "baselines": _baselines(noise, seeds, windows, flaps),
        "by_kind": by_kind,
        "gain_share_over_time": _share([tally for *_, tally in kind], always, "area"),
        "damage": round(float(np.mean([tally["damage"] for *_, tally in mixed])), 4),
        "shadow_applications": int(np.mean([made.looks for made, *_ in mixed])),
        "hidden_damage": {
            "rolled_back": len(back),
            "promoted": kept,
            "windows_to_rollback": max(back, default=None),
        },
    }


def _gate(
    kinds: Sequence[str], noise: Noise, seed: int, windows: int
) -> tuple[World, Gate, dict[str, Any]]:
    made = world(kinds, noise, seed)
    policy = Gate(made)
    return made, policy, play(made, policy, windows)


def _plain(name: str, kinds: Sequence[str], noise: Noise, seed: int, windows: int) -> Any:
    made = world(kinds, noise, seed)
    return play(made, Plain(made, name), windows)


def _by_kind(worlds: Sequence[World]) -> dict[str, dict[str, Any]]:
    found = {}
    for name in (*MIXED, "useful-small"):
        decided = sum(made.decided[name] for made in worlds)
        accepted = sum(made.accepted[name] for made in worlds)
        found[name] = {"accepted": round(accepted / max(1, decided), 4), "decided": decided}
    return found


def _share(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]], key: str) -> float:
    return round(sum(each[key] for each in ours) / sum(each[key] for each in theirs), 4)


def _baselines(noise: Noise, seeds: int, windows: int, flaps: dict[float, float]) -> dict[str, Any]:
    best = [_plain("always", KIND, noise, 1000 + seed, windows) for seed in range(seeds)]
    found: dict[str, Any] = {}
    for name in RIVALS:
        mixed = [_plain(name, MIXED, noise, seed, windows) for seed in range(seeds)]
        kind = [_plain(name, KIND, noise, 1000 + seed, windows) for seed in range(seeds)]
        decided = sum(each["bad_decided"] for each in mixed)
        found[name] = {
            "false_accept": round(sum(each["bad"] for each in mixed) / decided, 4),
            "gain_share": _share(kind, best, "gain"),
            "commit_share": _share(kind, best, "commits"),
            "damage": round(float(np.mean([each["damage"] for each in mixed])), 2),
        }
    plain = arm.ArmRule(on=0.02, off=0.02, windows=1, smooth=1.0)
    without = {level: _flaps(level, noise, windows, seeds, plain) for level in LEVELS}
    found["one threshold, no smoothing"] = {"flaps_per_100": max(without.values())}
    found["flaps_by_level"] = {str(level): value for level, value in flaps.items() if value}
    return found


def _flaps(level: float, noise: Noise, windows: int, seeds: int, rule: arm.ArmRule) -> float:
    """Turns in 100 windows at one true level of gain, after the one that finds the level."""
    turns = 0
    for seed in range(3 * seeds):
        made = world((), noise, 7000 + seed)
        seen = [float(np.mean(made.gains(level, WINDOW_DOCUMENTS))) for _ in range(windows)]
        turns += max(0, _turns(seen, rule) - max(1, _turns([level] * windows, rule)))
    return round(100 * turns / (3 * seeds * windows), 3)


def _turns(gains: Sequence[float], rule: arm.ArmRule) -> int:
    state, turns = arm.Arm(), 0
    for gain in gains:
        after = arm.observe(state, gain, 1000, rule)
        turns += after.armed != state.armed
        state = after
    return turns


def _noise(noise: Noise) -> dict[str, float]:
    return {"new_floor": noise.new_floor, "new_share": noise.new_share, "anchor": noise.anchor}
