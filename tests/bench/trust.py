"""The trust layer under attack, beside published rules: who keeps its accuracy, who is blamed.

Digits split unevenly over 20 peers, networks trained together while some of the peers lie
(tests/bench/trust_harness). For each setting and rule the report has `worst_retained`: accuracy
under the worst attack over that of the plain mean without attack, by share of attackers. No rule
can keep more than `ceiling`, but by chance: the plain mean of the honest peers alone.
"""

import argparse
import contextlib
import importlib.util
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.trust_harness.attacks import ATTACKS, absent
from tests.bench.trust_harness.kept import Kept
from tests.bench.trust_harness.rules import Foreign, rules
from tests.bench.trust_harness.simulate import MakeRule, Setting, simulate

OURS, BASIS, ABSENT = "trust", "mean", "absent"
PACKAGES = ("byzfl", "flwr")
LEARNING: dict[str, dict[str, Any]] = {
    "mlp": {"rounds": 40, "lr": 0.2},
    "lora": {"rounds": 60, "lr": 0.1},
}
Runs = dict[tuple[str, str, float], list[dict[str, Any]]]  # by rule, attack, share of attackers


def main(argv: Sequence[str]) -> dict[str, Any]:
    """Every setting of the grid; the first one's figures stand at the top as well."""
    given = _arguments(argv)
    attacks = dict(ATTACKS)
    for path in given.attack_module:
        attacks |= _load(path)
    with contextlib.ExitStack() as stack:
        foreign = Foreign(given.rivals_python) if given.rivals_python else None
        if foreign:
            stack.callback(foreign.close)
        available = rules(foreign)
        named = [*given.rivals, *(foreign.found if foreign else [])]
        wanted = [name for name in dict.fromkeys(named) if name in available]
        missing = dict.fromkeys(set(named) - set(wanted), "no such rule")
        missing |= foreign.missing if foreign else dict.fromkeys(PACKAGES, "no --rivals-python")
        made = {name: available[name] for name in (BASIS, OURS, *wanted)}
        kept = Kept(given.work, given.attack_module)
        settings = []
        for model, alpha, mode in product(given.models, given.alphas, given.modes):
            where = {"model": model, "alpha": alpha, "mode": mode}
            runs = _runs(given, where, made, attacks, kept)
            report = _report(runs, wanted, given.shares)
            settings.append(where | {"alpha": alpha or "iid"} | report)
    return {
        "seeds": given.seeds,
        "first_seed": given.first_seed,
        **settings[0],
        "settings": settings[1:],
        "rivals_missing": missing,
    }


def _runs(
    given: argparse.Namespace,
    where: dict[str, Any],
    made: dict[str, MakeRule],
    attacks: dict[str, Any],
    kept: Kept,
) -> Runs:
    """All runs of one setting."""
    runs: Runs = defaultdict(list)
    learning = LEARNING[where["model"]] | ({"rounds": given.rounds} if given.rounds else {})
    for rule, attack, share in _grid(given, made, attacks):
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            setting = Setting(
                **where,
                **learning,
                probe=given.probe,
                seed=seed,
                attackers=round(share * 20),
                declared_f=4 if attack == "none" else None,
            )
            one = absent if attack == ABSENT else attacks[attack]
            runs[rule, attack, share].append(
                kept.run((rule, attack), rule == OURS, setting, _task(made[rule], one, setting))
            )
        mean = np.mean([run["acc"] for run in runs[rule, attack, share]])
        print(*where.values(), rule, attack, share, f"{mean:.4f}", file=sys.stderr)
    return runs


def _task(make: MakeRule, attack: Any, setting: Setting) -> Callable[[], dict[str, Any]]:
    return lambda: simulate(make, attack() if isinstance(attack, type) else attack, setting)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench trust", description=__doc__)
    add = parser.add_argument
    add("--models", nargs="+", default=["mlp"], choices=["mlp", "lora"])
    add("--alphas", nargs="+", type=float, default=[0.5], help="0 for equal shares of all digits")
    add("--modes", nargs="+", default=["server"], choices=["server", "gossip"])
    add("--shares", nargs="+", type=float, default=[0, 0.1, 0.2, 0.3, 0.4], help="of attackers")
    add("--attacks", nargs="+", default=["all"])
    add("--rivals", nargs="*", default=["fltrust", "flame", "nnm+trmean", "geomedian"])
    add("--rivals-python", help="a Python that has byzfl or flwr: their rules run beside ours")
    add("--seeds", type=int, default=5)
    add("--first-seed", type=int, default=0)
    add("--rounds", type=int, default=0, help="0: 40, and 60 for lora")
    add("--probe", default="scope", choices=["scope", "local"], help="of a node, in gossip mode")
    add("--attack-module", action="append", default=[], help="a file that defines ATTACKS")
    add("--work", type=Path, help="keep each run here, and make none twice")
    add("--short", action="store_true", help="two attacks, two seeds, 12 rounds: seconds")
    given = parser.parse_args(list(argv))
    if given.short:
        given.seeds, given.rounds, given.shares = 2, 12, [0, 0.4]
        given.attacks, given.rivals = ["signflip", "labelflip"], ["fltrust"]
    return given


def _load(path: str) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("more_attacks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    more: dict[str, Any] = module.ATTACKS
    return more


def _grid(
    given: argparse.Namespace, made: dict[str, Any], attacks: dict[str, Any]
) -> Iterator[tuple[str, str, float]]:
    names = given.attacks if given.attacks != ["all"] else [*attacks]
    attacked = [share for share in given.shares if share]
    for rule in made:
        yield rule, "none", 0.0
    for share in attacked:
        yield BASIS, ABSENT, share
    for rule, attack, share in product(made, names, attacked):
        # The plain mean is the basis; what attacks do to it is asked for by naming it a rival.
        if attack != "none" and (rule != BASIS or BASIS in given.rivals):
            yield rule, attack, share


def _report(runs: Runs, rivals: list[str], shares: list[float]) -> dict[str, Any]:
    """Figures of our layer, and what each rival keeps. Intervals are 95 % over seeds."""
    ours = {key[1:]: found for key, found in runs.items() if key[0] == OURS}
    attacked = {key: found for key, found in ours.items() if key[0] != "none"}
    basis = _values(runs[BASIS, "none", 0.0], "acc")
    clean = _values(ours["none", 0.0], "acc")
    return {
        "worst_retained": {share: _worst(runs, OURS, share) for share in shares},
        "ceiling": {share: _ceiling(runs, share) for share in shares if share},
        "clean_accuracy": _spread(clean),
        "clean_cost_points": _spread(100 * (basis - clean)),
        "false_quarantine_clean": _mean(ours["none", 0.0], "false_quarantine"),
        "false_quarantine_attacked": _mean(_all(attacked), "false_quarantine"),
        "detection": _by_attack(attacked, "caught"),
        "rounds_to_quarantine": _by_attack(attacked, "rounds_to_quarantine"),
        "attacker_weight_share": _by_attack(attacked, "attacker_share"),
        "backdoor_success": _by_attack(attacked, "asr").get("backdoor"),
        "accuracy": {name: _by_share(ours, name, "acc") for name, _ in attacked},
        "accuracy_worst_node": {name: _by_share(ours, name, "acc_min") for name, _ in attacked},
        "ms_per_round": _mean(_all(ours), "ms"),
        "rivals": {
            rule: {
                "clean_accuracy": _mean(runs[rule, "none", 0.0], "acc"),
                "rounds_refused": sum(
                    run["failures"]
                    for key, found in runs.items()
                    if key[0] == rule
                    for run in found
                ),
                "worst_retained": {share: _worst(runs, rule, share) for share in shares},
            }
            for rule in rivals
        },
    }


def _worst(runs: Runs, rule: str, share: float) -> dict[str, Any] | None:
    """The least accuracy kept under any attack that does not only aim at a trigger."""
    basis = _values(runs[BASIS, "none", 0.0], "acc")
    kept = {
        attack: _values(found, "acc") / basis
        for (by, attack, at), found in runs.items()
        if by == rule and at == share and attack not in (ABSENT, "backdoor")
    }
    if not kept:
        return None
    worst = min(kept, key=lambda attack: float(kept[attack].mean()))
    return {"attack": worst, **_spread(kept[worst])}


def _ceiling(runs: Runs, share: float) -> dict[str, float]:
    """What is kept with the attackers, and their data, left out from the start."""
    basis = _values(runs[BASIS, "none", 0.0], "acc")
    return _spread(_values(runs[BASIS, ABSENT, share], "acc") / basis)


def _by_attack(found: dict[tuple[str, float], list[dict[str, Any]]], key: str) -> dict[str, Any]:
    """attack -> share of attackers -> mean."""
    return {name: _by_share(found, name, key) for name, _ in found}


def _by_share(
    found: dict[tuple[str, float], list[dict[str, Any]]], attack: str, key: str
) -> dict[float, float | None]:
    return {share: _mean(runs, key) for (name, share), runs in found.items() if name == attack}


def _all(found: dict[tuple[str, float], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [run for runs in found.values() for run in runs]


def _values(found: list[dict[str, Any]], key: str) -> Any:
    return np.array([run[key] for run in found])


def _mean(found: list[dict[str, Any]], key: str) -> float | None:
    known = [run[key] for run in found if run.get(key) is not None]
    return round(float(np.mean(known)), 4) if known else None


def _spread(values: Any) -> dict[str, float]:
    """Mean and its 95 % interval by Student's t."""
    from scipy.stats import t

    mean, count = float(np.mean(values)), len(values)
    half = 0.0
    if count > 1:
        half = float(t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
    return {"mean": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4)}
