"""More attacks, for `--attack-module`: from the literature, and made against this judge.

The second part knows how updates are judged: by the mean shift of each kind, less what all kinds
share; up to twice the usual length at full weight; duplicates as one vote; the trusted as those
who say what is usual; a merge refused as a whole.
"""

from typing import Any

import numpy as np

from tests.bench.trust_harness.attacks import Scene
from tests.bench.trust_harness.task import CLASSES, Floats

LENGTH = 1.9  # usual lengths: just below where an update loses weight for being long


# From the literature.


def one_class(scene: Scene) -> Floats:
    """Targeted label flip: one digit is called another (Tolpegin et al. 2020)."""
    return scene.train([(x, np.where(y == 7, 1, y)) for x, y in scene.data])


def fang_trim(scene: Scene) -> Floats:
    """Each coordinate just beyond the honest ones, against their sign (Fang et al. 2020)."""
    low, high, mean = scene.honest.min(0), scene.honest.max(0), scene.honest.mean(0)
    draw = 1 + scene.rng.random((scene.f, scene.model.d))
    below = np.where(low < 0, low * draw, low / draw)
    above = np.where(high > 0, high * draw, high / draw)
    return np.where(mean > 0, below, above)


def fang_krum(scene: Scene) -> Floats:
    """The largest step against the honest signs that Krum would choose (Fang et al. 2020)."""
    against = -np.sign(scene.honest.mean(0))
    near = scene.n - scene.f - 2
    step = 2 * _usual(scene) / np.sqrt(scene.model.d)
    for _ in range(20):
        rows = np.vstack([_jittered(scene, step * against, 0.01), scene.honest])
        squares = (rows**2).sum(1)
        gaps = np.sort(squares[:, None] + squares - 2 * rows @ rows.T, 1)[:, 1 : near + 1]
        if gaps.sum(1).argmin() < scene.f:
            break
        step *= 0.7
    return _jittered(scene, step * against, 0.01)


def mpaf(scene: Scene) -> Floats:
    """Towards one fixed random model, as far as lengths allow (Cao and Gong 2022)."""
    if "goal" not in scene.state:
        scene.state["goal"] = scene.rng.normal(0, scene.base.std() + 0.1, scene.model.d)
    return _jittered(scene, _long(scene, scene.state["goal"] - scene.base, LENGTH), 0.1)


def poisonedfl(scene: Scene) -> Floats:
    """The same random signs in all rounds, sized like what was applied last (Xie et al. 2024)."""
    state = scene.state
    if "signs" not in state:
        state |= {"signs": scene.rng.choice([-1.0, 1.0], scene.model.d), "size": 8.0}
        state["then"] = scene.base.copy()
    if scene.round and scene.round % 8 == 0:
        agree = (np.sign(scene.base - state["then"]) == state["signs"]).mean()
        if agree < 0.5 + 1.65 * 0.5 / np.sqrt(scene.model.d):  # it had no effect: be smaller
            state["size"] = max(0.5, 0.7 * state["size"])
        state["then"] = scene.base.copy()
    sizes = np.abs(scene.prev_agg)
    if not sizes.any():
        sizes = np.ones(scene.model.d)
    step = state["size"] * _long(scene, sizes * state["signs"], 0.5)
    return _jittered(scene, step, 0.1)


def rop(scene: Scene) -> Floats:
    """Around what was applied last, off it at a right angle and away from the honest (ROP 2022)."""
    middle = scene.honest.mean(0)
    last = _unit(scene.prev_agg) if scene.prev_agg.any() else _unit(middle)
    off = -_unit(middle - (middle @ last) * last)
    return _jittered(scene, _usual(scene) * (last + 1.2 * off), 0.1)


def edge_case(scene: Scene) -> Floats:
    """Rare images, fours lying on their side, are taught to be zeros; no longer than usual."""
    data = []
    for x, y in scene.data:
        rare = x[y == 4].reshape(-1, 8, 8).transpose(0, 2, 1).reshape(-1, 64)
        data.append((np.vstack([x, rare]), np.concatenate([y, np.zeros(len(rare), np.int64)])))
    updates = scene.train(data)
    most = _usual(scene) / np.linalg.norm(updates, axis=1, keepdims=True)
    return updates * np.minimum(1, most)


def pulse(scene: Scene) -> Floats:
    """Honest, but for every fourth round, and more each time."""
    if scene.round % 4 != 3:
        return scene.own
    against = -(1 + scene.round / 8) * scene.honest.mean(0)
    return _jittered(scene, against, 0.3)


def rotate(scene: Scene) -> Floats:
    """A third of the attackers are bad, by turns."""
    bad = np.arange(scene.f) % 3 == scene.round % 3
    against = _jittered(scene, _long(scene, -scene.honest.mean(0), LENGTH), 0.3)
    return np.where(bad[:, None], against, scene.own)


def last_strike(scene: Scene) -> Floats:
    """Honest until the last four rounds, so that no judge has time."""
    if scene.round < scene.rounds - 4:
        return scene.own
    return _jittered(scene, _long(scene, -scene.honest.mean(0), LENGTH), 0.3)


def one_layer(scene: Scene) -> Floats:
    """Honest, but against the honest in the last layer, three times as far."""
    _, at, _ = next(one for one in scene.model.layers if one[0] in ("W2", "B2"))
    sent = scene.own.copy()
    sent[:, at] = -3 * scene.honest.mean(0)[at]
    return sent


def imbalance(scene: Scene) -> Floats:
    """Only the two digits that a peer has most of, and twice as far."""
    data = []
    for x, y in scene.data:
        most = np.argsort(np.bincount(y, minlength=CLASSES))[-2:]
        kept = np.isin(y, most)
        data.append((x[kept], y[kept]))
    return 2 * scene.train(data)


def old_echo(scene: Scene) -> Floats:
    """Free-riders who mix what was applied in earlier rounds, each in a way of its own."""
    past = scene.state.setdefault("past", [])
    past.append(scene.prev_agg.copy())
    old = np.array(past[:-1][-8:]) if len(past) > 1 else np.zeros((1, scene.model.d))
    mixed = scene.rng.exponential(1.0, (scene.f, len(old))) @ old
    spread = 0.3 * _usual(scene) / np.sqrt(scene.model.d)
    return _each_long(scene, mixed + scene.rng.normal(0, spread, mixed.shape), 1.0)


# Made against this judge.


def common_bias(scene: Scene) -> Floats:
    """Honest, and beside it what raises one digit for all kinds alike, which is taken off."""
    return _hidden_beside_own(scene, _scores(scene)[:, 3].mean(0))


def blind_spot(scene: Scene) -> Floats:
    """Honest, and beside it the steepest harm that leaves the means of all kinds as they are."""
    return _hidden_beside_own(scene, _uphill(scene))


def raise_the_bar(scene: Scene) -> Floats:
    """Adds to one digit more than honest peers can, so that they look idle, and harms unseen."""
    scores = _scores(scene)
    kinds = np.arange(scene.f) % CLASSES
    gains = _unit_rows((scores - scores.mean(0))[kinds, kinds])
    harm = _hide(scene, _uphill(scene))
    mixed = gains + _each_long(scene, scene.own, 0.5) / _usual(scene) + 1.2 * _unit(harm)
    return _each_long(scene, mixed, LENGTH)


class Shadow:
    """Half copy honest peers by turns, so that nobody but the other half is ever trusted.

    Who is copied in one of three rounds never has three clean ones in a row. From `turn` on the
    other half, by then the only ones who say what is usual, goes against the honest.
    """

    turn = 12

    def __call__(self, scene: Scene) -> Floats:
        copying = scene.f // 2
        sent = scene.own.copy()
        copied = (scene.round * copying + np.arange(copying)) % min(len(scene.honest), 3 * copying)
        sent[:copying] = scene.honest[copied]
        if scene.round >= self.turn:
            against = _long(scene, -scene.honest.mean(0), 1.0)
            sent[copying:] = _jittered(scene, against, 0.5)[copying:]
        return sent


class CrowdOut(Shadow):
    """The same, but the other half stays honest: what weight do they get?"""

    turn = 10**6


def copies(scene: Scene) -> Floats:
    """Each copies another honest peer, always the same one, which so is never trusted."""
    return scene.honest[np.arange(scene.f) % len(scene.honest)]


def overflow(scene: Scene) -> Floats:
    """One honest update at a length that no limit can bring down; the others are honest."""
    sent = scene.own.copy()
    sent[0] *= 1e100
    return sent


def _hidden_beside_own(scene: Scene, aim: Floats) -> Floats:
    """Half own update, and the rest of the length towards the part of `aim` that is not seen."""
    own = _each_long(scene, scene.own, 1.0)
    hidden = _long(scene, _hide(scene, aim), np.sqrt(LENGTH**2 - 1))
    return _each_long(scene, own + hidden, LENGTH)


def _hide(scene: Scene, aim: Floats) -> Floats:
    """The part of `aim` that moves no kind's mean scores apart from others', by own images."""
    scores = _scores(scene)
    told = (scores - scores.mean(0)).reshape(CLASSES**2, -1)
    _, sizes, axes = np.linalg.svd(told, full_matrices=False)
    axes = axes[sizes > 1e-6 * (sizes[0] + 1e-12)]
    return np.asarray(aim - axes.T @ (axes @ aim))


def _uphill(scene: Scene) -> Floats:
    """Gradient (d,) of the loss on all images of the attackers."""
    x, y = (np.concatenate(column) for column in zip(*scene.data, strict=True))
    return scene.model.grad(scene.base[None], x[None], y[None])[0]


def _scores(scene: Scene) -> Floats:
    """Gradients (kinds, outcomes, d) of the mean centred scores, by the attackers' images.

    The loss with label k is one number less score k, so that differences of its gradients are
    those of scores.
    """
    x, y = (np.concatenate(column) for column in zip(*scene.data, strict=True))
    own = [np.flatnonzero(y == kind) for kind in range(CLASSES)]
    images = np.stack([x[scene.rng.choice(at if len(at) else len(y), 24)] for at in own])
    points = np.repeat(scene.base[None], CLASSES, 0)
    labels = [np.full(images.shape[:2], outcome) for outcome in range(CLASSES)]
    grads = np.stack([scene.model.grad(points, images, one) for one in labels], 1)
    return np.asarray(grads.mean(1, keepdims=True) - grads)


def dilute(scene: Scene) -> Floats:
    """Honest updates under much noise: the usual gain sinks, so that harm counts for more."""
    noise = scene.rng.normal(0, 1, scene.own.shape)
    long = 2.5 * np.linalg.norm(scene.own, axis=1, keepdims=True)
    return _each_long(scene, scene.own + long * _unit_rows(noise), 1.0)


def _usual(scene: Scene) -> float:
    return float(np.median(np.linalg.norm(scene.honest, axis=1)))


def _unit(vector: Floats) -> Floats:
    return np.asarray(vector / (np.linalg.norm(vector) + 1e-12))


def _unit_rows(rows: Floats) -> Floats:
    return np.asarray(rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-12))


def _long(scene: Scene, vector: Floats, lengths: float) -> Floats:
    return _unit(vector) * lengths * _usual(scene)


def _each_long(scene: Scene, rows: Floats, lengths: float) -> Floats:
    return _unit_rows(rows) * lengths * _usual(scene)


def _jittered(scene: Scene, vector: Floats, part: float) -> Floats:
    """The vector for each attacker, with noise of a part of its length: no two are duplicates."""
    spread = part * np.linalg.norm(vector) / np.sqrt(scene.model.d)
    return np.asarray(vector + scene.rng.normal(0, spread, (scene.f, scene.model.d)))


ATTACKS: dict[str, Any] = {
    "one_class": one_class,
    "fang_trim": fang_trim,
    "fang_krum": fang_krum,
    "mpaf": mpaf,
    "poisonedfl": poisonedfl,
    "rop": rop,
    "edge_case": edge_case,
    "pulse": pulse,
    "rotate": rotate,
    "last_strike": last_strike,
    "one_layer": one_layer,
    "imbalance": imbalance,
    "old_echo": old_echo,
    "common_bias": common_bias,
    "blind_spot": blind_spot,
    "raise_the_bar": raise_the_bar,
    "shadow": Shadow,
    "crowd_out": CrowdOut,
    "copies": copies,
    "overflow": overflow,
    "dilute": dilute,
}
