"""One run: peers train, attackers lie, a rule aggregates, and what came of it is counted.

A rule is `aggregate(updates, weights, root_probe) -> vector`, made by `make(n=, f=, d=, seed=)`.
Optional attributes are read after each call: `last_weights` (n,), `flagged` and `quarantined`
(sets of rows).
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.bench.trust_harness.attacks import Attack, Scene
from tests.bench.trust_harness.task import Floats, Part, RootProbe, Task, make_task, trigger

Rule = Callable[[Floats, Floats, RootProbe], Floats]
MakeRule = Callable[..., Rule]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything a run depends on, apart from the rule and the attack."""

    peers: int = 20
    attackers: int = 0
    alpha: float = 0.5  # Dirichlet; 0: the same share of each digit for all
    model: str = "mlp"
    mode: str = "server"  # or gossip: each honest node aggregates what its neighbours send
    degree: int = 10  # neighbours of a node in gossip mode
    probe: str = "scope"  # in gossip mode: a sample of the task, or `local`, of a node's own images
    probe_size: int = 60
    rounds: int = 40
    steps: int = 5
    batch: int = 16
    lr: float = 0.2
    declared_f: int | None = None  # told to every rule; None: the truth
    lie: float = 1.0  # attackers declare this multiple of the median number of examples
    seed: int = 0


@dataclass
class _View:
    """One aggregating node: what it sees, its rule and its memory."""

    node: int | None  # None: the server, which sees all and owns no row
    rows: np.ndarray[Any, np.dtype[np.int64]]
    rule: Rule
    probe: Part
    memory: dict[str, Any] = field(default_factory=dict)
    attacker_memory: dict[str, Any] = field(default_factory=dict)
    shares: list[float] = field(default_factory=list)
    caught: dict[int, int] = field(default_factory=dict)  # attacker -> round
    slandered: set[int] = field(default_factory=set)  # honest peers ever quarantined
    flags: list[tuple[float, float]] = field(default_factory=list)  # of attackers, of honest peers
    seconds: float = 0.0
    failures: int = 0


def simulate(make: MakeRule, attack: Attack, setting: Setting) -> dict[str, Any]:
    """Run once; the figures are described in `_figures`."""
    rng = np.random.default_rng(1000 + setting.seed)
    task = make_task(setting.model, setting.peers, setting.alpha, setting.seed)
    bad = np.zeros(setting.peers, bool)
    bad[rng.choice(setting.peers, setting.attackers, replace=False)] = True
    views = _views(make, setting, task, bad, rng)
    weights = np.array([len(labels) for _, labels in task.parts], float)
    weights[bad] = np.median(weights[~bad]) * setting.lie
    points = np.repeat(task.net.init[None], 1 if setting.mode == "server" else setting.peers, 0)
    applied, curve = np.zeros(task.net.d), []
    for now in range(setting.rounds):
        base = points if setting.mode == "gossip" else points[0]
        updates = task.net.train(base, task.parts, rng=rng, **_training(setting))
        after = points.copy()
        for view in views:
            at = view.node or 0
            start = points[at]
            seen = updates[view.rows]
            if view.node is not None:
                seen = points[view.rows] + seen - start
            mask = bad[view.rows]
            if mask.any():
                scene = _scene(setting, task, view, seen, mask, start, now, rng, applied)
                with np.errstate(all="ignore"):
                    seen[mask] = _numbers(attack(scene), scene)
            step = _aggregate(view, seen, weights[view.rows], setting, task, start, now)
            _note(view, mask, now, setting.rounds)
            after[at] = start + step
            if view.node is None:
                applied = step
        if setting.mode == "gossip":
            # Attackers hear what honest nodes do, so that what they call honest looks so.
            after[bad] = after[~bad].mean(0)
        points = after
        if now >= setting.rounds - 5:
            curve.append(task.net.accs(points[[view.node or 0 for view in views]], *task.test))
    return _figures(views, curve, task, points, bad, setting)


def _training(setting: Setting) -> dict[str, Any]:
    return {"steps": setting.steps, "bs": setting.batch, "lr": setting.lr}


def _views(
    make: MakeRule, setting: Setting, task: Task, bad: Any, rng: np.random.Generator
) -> list[_View]:
    f = int(bad.sum()) if setting.declared_f is None else setting.declared_f
    everyone, d = np.arange(setting.peers), task.net.d
    if setting.mode == "server":
        images, labels = task.pool
        probe = images[: setting.probe_size], labels[: setting.probe_size]
        rule = make(n=setting.peers, f=f, d=d, seed=setting.seed)
        return [_View(None, everyone, rule, probe)]
    views = []
    for node in np.flatnonzero(~bad):
        others = np.setdiff1d(everyone, [node])
        near = rng.choice(others, min(setting.degree, len(others)), replace=False)
        rows = np.concatenate([[node], near])
        rule = make(n=len(rows), f=min(f, setting.degree // 2), d=d, seed=setting.seed + int(node))
        views.append(_View(int(node), rows, rule, _node_probe(setting, task, int(node))))
    return views


def _node_probe(setting: Setting, task: Task, node: int) -> Part:
    images, labels = task.pool if setting.probe == "scope" else task.parts[node]
    size = setting.probe_size
    if setting.probe == "local":
        size = max(6, min(size, len(labels) // 3))
    rng = np.random.default_rng([9000, setting.seed, node])
    pick = rng.permutation(len(labels))[:size]
    return images[pick], labels[pick]


def _scene(
    setting: Setting,
    task: Task,
    view: _View,
    seen: Floats,
    mask: Any,
    base: Floats,
    now: int,
    rng: np.random.Generator,
    applied: Floats,
) -> Scene:
    return Scene(
        honest=seen[~mask],
        own=seen[mask],
        f=int(mask.sum()),
        n=len(view.rows),
        base=base.copy(),  # what an attack writes into changes nothing of the run
        round=now,
        rounds=setting.rounds,
        model=task.net,
        data=[task.parts[row] for row in view.rows[mask]],
        train=lambda parts: task.net.train(base, parts, rng=rng, **_training(setting)),
        rng=rng,
        state=view.attacker_memory,
        prev_agg=applied.copy(),
    )


def _numbers(sent: Any, scene: Scene) -> Floats:
    """What an attack sends, a row for each attacker; one row may stand for all."""
    shape = (scene.f, scene.model.d)
    try:
        return np.broadcast_to(np.asarray(sent, float), shape)
    except (TypeError, ValueError) as bad:
        raise SystemExit(f"the attack gave no numbers of shape {shape}: {bad}") from bad


def _aggregate(
    view: _View,
    seen: Floats,
    weights: Floats,
    setting: Setting,
    task: Task,
    base: Floats,
    now: int,
) -> Floats:
    probe = RootProbe(
        model=task.net,
        X=view.probe[0],
        y=view.probe[1],
        base=base,
        peer_ids=[f"peer{row:02d}" for row in view.rows],
        round=now,
        rounds=setting.rounds,
        f_bound=setting.attackers if setting.declared_f is None else setting.declared_f,
        own_index=None if view.node is None else 0,
        train_kw=_training(setting),
        rng=np.random.default_rng([77, setting.seed, now]),
        state=view.memory,
    )
    began = time.perf_counter()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            step = np.asarray(view.rule(seen.copy(), weights.copy(), probe), float).reshape(-1)
    except (ValueError, ArithmeticError, np.linalg.LinAlgError):  # a rule that refuses
        view.failures += 1
        step = np.zeros(task.net.d)
    view.seconds += time.perf_counter() - began
    if not np.isfinite(step).all():
        view.failures += 1
        step = np.nan_to_num(step, nan=0.0, posinf=1e3, neginf=-1e3)
    return step


def _note(view: _View, mask: Any, now: int, rounds: int) -> None:
    weights = getattr(view.rule, "last_weights", None)
    if weights is not None and mask.any() and now >= rounds // 2:
        total = np.abs(weights).sum()
        view.shares.append(float(np.abs(weights)[mask].sum() / total) if total else 0.0)
    flagged = getattr(view.rule, "flagged", None)
    if flagged is not None:
        hit = np.isin(np.arange(len(mask)), list(flagged))
        view.flags.append(
            (float(hit[mask].mean()) if mask.any() else 0.0, float(hit[~mask].mean()))
        )
    for row in getattr(view.rule, "quarantined", ()):
        if mask[row]:
            view.caught.setdefault(int(view.rows[row]), now)
        else:
            view.slandered.add(int(view.rows[row]))


def _figures(
    views: list[_View], curve: list[Floats], task: Task, points: Floats, bad: Any, setting: Setting
) -> dict[str, Any]:
    """acc and acc_min over the last rounds; asr: triggered images called zero; attacker_share of
    the weight in the second half; caught, rounds_to_quarantine of attackers; false_quarantine of
    honest (peer, observer) pairs."""
    images, labels = task.test
    final = points[[view.node or 0 for view in views]]
    asked = trigger(images[labels != 0])
    links = sum(int(bad[view.rows].sum()) for view in views)
    honest = sum(int((~bad[view.rows]).sum()) for view in views)
    keeps = hasattr(views[0].rule, "quarantined")
    when = [now for view in views for now in view.caught.values()]
    shares = [share for view in views for share in view.shares]
    found: dict[str, Any] = {
        "acc": float(np.mean(curve)),
        "acc_min": float(np.mean([one.min() for one in curve])),
        "asr": float((task.net.logits(final, asked).argmax(-1) == 0).mean()),
        "ms": 1e3 * sum(view.seconds for view in views) / (setting.rounds * len(views)),
        "failures": sum(view.failures for view in views),
        "attacker_share": float(np.mean(shares)) if shares else None,
        "flag_honest": float(np.mean([f[1] for v in views for f in v.flags] or [0.0])),
    }
    if keeps:
        found["caught"] = len(when) / links if links else None
        found["rounds_to_quarantine"] = float(np.median(when)) if when else None
        found["false_quarantine"] = sum(len(view.slandered) for view in views) / honest
    return found
