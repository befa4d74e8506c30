"""The trust layer under attack, beside published rules: who keeps its accuracy, who is blamed.

Digits split unevenly over 20 peers, networks trained together while some of the peers lie
(tests/bench/trust_harness). For each setting and rule the report has `worst_retained`: accuracy
under the worst attack over that of the plain mean without attack, by share of attackers. No rule
can keep more than `ceiling`, but by chance: the plain mean of the honest peers alone.

The whole grid takes hours: `--grid full --work DIR` goes on where it was cut off, and `--kept`
reports on what is there.
"""

import argparse
import contextlib
import runpy
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
Cells = dict[tuple[str, float], list[dict[str, Any]]]  # of one rule, by attack and share


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
        kept = Kept(given.work, given.attack_module, given.kept)
        settings = []
        for mode, alpha, model in product(given.modes, given.alphas, given.models):
            where = {"model": model, "alpha": alpha, "mode": mode}
            runs, missing_cells = _runs(given, where, made, attacks, kept)
            if (BASIS, "none", 0.0) not in runs or (OURS, "none", 0.0) not in runs:
                continue
            report = _report(runs, wanted, given.shares) | {"cells_missing": missing_cells}
            settings.append(where | {"alpha": alpha or "iid"} | report)
    if not settings:
        raise SystemExit("no setting was run without attack by both the mean and our layer")
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
) -> tuple[Runs, int]:
    """All runs of one setting, and how many cells are left out since a run of theirs is missing."""
    runs: Runs = {}
    missing = 0
    learning = LEARNING[where["model"]] | ({"rounds": given.rounds} if given.rounds else {})
    for rule, attack, share in _grid(given, made, attacks):
        found: list[dict[str, Any] | None] = []
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
            found.append(
                kept.run((rule, attack), rule == OURS, setting, _task(made[rule], one, setting))
            )
        whole = [run for run in found if run is not None]
        if len(whole) < len(found):
            missing += 1
            continue
        runs[rule, attack, share] = whole
        mean = np.mean([run["acc"] for run in whole])
        print(*where.values(), rule, attack, share, f"{mean:.4f}", file=sys.stderr)
    return runs, missing


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
    add("--kept", action="store_true", help="make no run: report on what --work kept")
    add("--grid", choices=["full"], help="both models, alphas 0.5, 0.1 and IID, server and gossip")
    add("--short", action="store_true", help="two attacks, two seeds, 12 rounds: seconds")
    given = parser.parse_args(list(argv))
    if given.kept and not given.work:
        parser.error("--kept needs --work")
    if given.grid:
        given.models, given.alphas, given.modes = (
            ["mlp", "lora"],
            [0.5, 0.1, 0],
            ["server", "gossip"],
        )
    if given.short:
        given.seeds, given.rounds, given.shares = 2, 12, [0, 0.4]
        given.attacks, given.rivals = ["signflip", "labelflip"], ["fltrust"]
    return given


def _load(path: str) -> dict[str, Any]:
    try:
        more: dict[str, Any] = runpy.run_path(path)["ATTACKS"]
    except (OSError, KeyError, SyntaxError) as bad:
        raise SystemExit(f"--attack-module {path}: no module that defines ATTACKS: {bad}") from bad
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
    """Figures of our layer, and those that rivals have as well. Intervals are 95 % over seeds."""
    ours = {key[1:]: found for key, found in runs.items() if key[0] == OURS}
    attacked = {key: found for key, found in ours.items() if key[0] != "none"}
    return {
        **_beside(runs, OURS, shares),
        "ceiling": {share: _ceiling(runs, share) for share in shares if share},
        "false_quarantine_clean": _mean(ours["none", 0.0], "false_quarantine"),
        "false_quarantine_attacked": _mean(_all(attacked), "false_quarantine"),
        "detection": _by_attack(attacked, "caught"),
        "rounds_to_quarantine": _rounds(attacked, np.median),
        "rounds_to_quarantine_mean": _rounds(attacked, np.mean),
        "backdoor_success": _by_attack(attacked, "asr").get("backdoor"),
        "accuracy_worst_node": {name: _by_share(ours, name, "acc_min") for name, _ in attacked},
        "ms_per_round": _mean(_all(ours), "ms"),
        "rivals": {
            rule: _beside(runs, rule, shares) for rule in rivals if (rule, "none", 0.0) in runs
        },
    }


def _beside(runs: Runs, rule: str, shares: list[float]) -> dict[str, Any]:
    """What any rule is asked for."""
    its = {key[1:]: found for key, found in runs.items() if key[0] == rule}
    attacked = {key: found for key, found in its.items() if key[0] not in ("none", ABSENT)}
    basis = _values(runs[BASIS, "none", 0.0], "acc")
    clean = _values(its["none", 0.0], "acc")
    kept = {key: _values(found, "acc") / basis for key, found in its.items() if key[0] != ABSENT}
    return {
        "worst_retained": {share: _worst(kept, share) for share in shares},
        "retained": {
            name: {share: _spread(kept[name, share]) for other, share in attacked if other == name}
            for name, _ in attacked
        },
        "clean_accuracy": _spread(clean),
        "clean_cost_points": _spread(100 * (basis - clean)),
        "attacker_weight_share": _by_attack(attacked, "attacker_share"),
        "rounds_refused": sum(run["failures"] for run in _all(its)),
    }


def _worst(kept: dict[tuple[str, float], Any], share: float) -> dict[str, Any] | None:
    """The least accuracy kept under any attack that does not only aim at a trigger."""
    means = {
        attack: float(values.mean())
        for (attack, at), values in kept.items()
        if at == share and attack != "backdoor"
    }
    if not means:
        return None
    worst = min(means, key=lambda attack: means[attack])
    return {"attack": worst, "attacks": len(means), **_spread(kept[worst, share])}


def _rounds(found: Cells, middle: Callable[[list[float]], Any]) -> dict[str, Any]:
    """attack -> share -> in which of their rounds attackers are quarantined: middle over seeds.

    Of a seed the median over those that are; null where a seed without any decides.
    """
    rounds: dict[str, Any] = defaultdict(dict)
    for (name, share), seeds in found.items():
        at = [run.get("rounds_to_quarantine") for run in seeds]
        value = float(middle([np.inf if now is None else now + 1 for now in at]))
        rounds[name][share] = round(value, 2) if np.isfinite(value) else None
    return dict(rounds)


def _ceiling(runs: Runs, share: float) -> dict[str, float] | None:
    """What is kept with the attackers, and their data, left out from the start."""
    if (BASIS, ABSENT, share) not in runs:
        return None
    basis = _values(runs[BASIS, "none", 0.0], "acc")
    return _spread(_values(runs[BASIS, ABSENT, share], "acc") / basis)


def _by_attack(found: Cells, key: str) -> dict[str, Any]:
    """attack -> share of attackers -> mean."""
    return {name: _by_share(found, name, key) for name, _ in found}


def _by_share(found: Cells, attack: str, key: str) -> dict[float, float | None]:
    return {share: _mean(runs, key) for (name, share), runs in found.items() if name == attack}


def _all(found: Cells) -> list[dict[str, Any]]:
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
