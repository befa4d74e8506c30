"""What attackers send. `ATTACKS` names each: a function of a Scene, or a class that makes one.

A module with an `ATTACKS` of the same kind runs through `--attack-module FILE`. Attackers see
everything: all honest updates of the round, the model, and what was applied last.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.bench.trust_harness.task import Floats, Net, Part, trigger


@dataclass
class Scene:
    """What the attackers know in one round."""

    honest: Floats  # (n - f, d) updates of the honest peers in view
    own: Floats  # (f, d) what the attackers would send if they were honest
    f: int
    n: int
    base: Floats
    round: int
    rounds: int
    model: Net
    data: list[Part]  # the attackers' images
    train: Callable[[list[Part]], Floats]
    rng: np.random.Generator
    state: dict[str, Any]  # lives as long as the run
    prev_agg: Floats  # the last applied update


Attack = Callable[[Scene], Floats]


def none(scene: Scene) -> Floats:
    return scene.own


def absent(scene: Scene) -> Floats:
    """The honest mean, so that the plain mean is that of the honest peers. No attack of ATTACKS."""
    return _all(scene.honest.mean(0), scene)


def signflip(scene: Scene) -> Floats:
    """Minus the honest mean, all alike."""
    return _all(-scene.honest.mean(0), scene)


def ipm_small(scene: Scene) -> Floats:
    """Inner product manipulation inside the honest spread (Xie et al. 2019, epsilon 0.5)."""
    return _all(-0.5 * scene.honest.mean(0), scene)


def ipm_big(scene: Scene) -> Floats:
    return _all(-5.0 * scene.honest.mean(0), scene)


def alie(scene: Scene) -> Floats:
    """A little is enough (Baruch et al. 2019): 1.5 deviations off the mean."""
    return _all(scene.honest.mean(0) + 1.5 * scene.honest.std(0), scene)


def minmax(scene: Scene) -> Floats:
    """As far off as any two honest updates are apart (Shejwalkar and Houmansadr 2021)."""
    gaps = _squared_gaps(scene.honest)
    return _furthest(scene, lambda to_honest: bool(to_honest.max() <= gaps.max()))


def minsum(scene: Scene) -> Floats:
    """As far off in sum as the most distant honest update."""
    gaps = _squared_gaps(scene.honest)
    return _furthest(scene, lambda to_honest: bool(to_honest.sum() <= gaps.sum(1).max()))


class Mimic:
    """All copy the one honest peer that is furthest from the mean at the start."""

    def __init__(self) -> None:
        self.copied: int | None = None

    def __call__(self, scene: Scene) -> Floats:
        if self.copied is None or self.copied >= len(scene.honest):
            off = scene.honest - scene.honest.mean(0)
            self.copied = int(np.argmax((off**2).sum(1)))
        return _all(scene.honest[self.copied], scene)


def gauss(scene: Scene) -> Floats:
    """Noise, five times as wide as the honest updates."""
    return scene.rng.normal(0, 5 * scene.honest.std(), (scene.f, scene.model.d))


def nan(scene: Scene) -> Floats:
    """Not numbers at all."""
    return np.full((scene.f, scene.model.d), np.nan)


def labelflip(scene: Scene) -> Floats:
    """Trained on wrong labels: each digit is called its complement to nine."""
    return scene.train([(images, 9 - labels) for images, labels in scene.data])


def boost(scene: Scene) -> Floats:
    """Label flip, scaled so that it would replace the mean."""
    return labelflip(scene) * (scene.n / max(1, scene.f))


def backdoor(scene: Scene) -> Floats:
    """Own clean images and as many with a trigger that means zero; 1.5 of the median norm."""
    data = []
    for images, labels in scene.data:
        at = scene.rng.integers(0, len(labels), max(1, len(labels) // 2))
        poisoned = np.concatenate([images, trigger(images[at])])
        data.append((poisoned, np.concatenate([labels, np.zeros(len(at), np.int64)])))
    updates = scene.train(data)
    median = np.median(np.linalg.norm(scene.honest, axis=1))
    return updates * (1.5 * median / np.linalg.norm(updates, axis=1, keepdims=True))


def freerider(scene: Scene) -> Floats:
    """The last applied update again, with a little noise."""
    spread = scene.honest.std() * 0.3
    return scene.prev_agg[None] + scene.rng.normal(0, spread, (scene.f, scene.model.d))


def onoff(scene: Scene) -> Floats:
    """Honest for half of the run, then three times against everyone."""
    if scene.round < scene.rounds // 2:
        return scene.own
    return _all(-3.0 * scene.honest.mean(0), scene)


def slowdrip(scene: Scene) -> Floats:
    """Half honest, with a steady drift towards wrong labels."""
    return 0.5 * scene.own + 0.7 * labelflip(scene)


def _all(vector: Floats, scene: Scene) -> Floats:
    return np.repeat(vector[None], scene.f, 0)


def _squared_gaps(rows: Floats) -> Floats:
    squares = (rows**2).sum(1)
    gaps: Floats = np.maximum(squares[:, None] + squares[None] - 2 * rows @ rows.T, 0)
    return gaps


def _furthest(scene: Scene, hidden: Callable[[Floats], bool]) -> Floats:
    """The furthest point against the honest deviation that still counts as hidden."""
    mean, step = scene.honest.mean(0), -scene.honest.std(0)
    best, factor, width = 0.0, 10.0, 5.0
    for _ in range(16):
        point = mean + factor * step
        if hidden(((point - scene.honest) ** 2).sum(1)):
            best, factor = factor, factor + width
        else:
            factor -= width
        width /= 2
    return _all(mean + best * step, scene)


ATTACKS: dict[str, Any] = {
    "none": none,
    "signflip": signflip,
    "ipm0.5": ipm_small,
    "ipm_big": ipm_big,
    "alie": alie,
    "minmax": minmax,
    "minsum": minsum,
    "mimic": Mimic,
    "gauss": gauss,
    "nan": nan,
    "labelflip": labelflip,
    "boost": boost,
    "backdoor": backdoor,
    "freerider": freerider,
    "onoff": onoff,
    "slowdrip": slowdrip,
}
