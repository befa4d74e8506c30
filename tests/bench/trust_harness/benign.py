"""What looks like an attack and is none: for `--attack-module`, where every catch is a mistake."""

from typing import Any

import numpy as np

from tests.bench.trust_harness.attacks import Scene
from tests.bench.trust_harness.task import Floats


def shift(scene: Scene) -> Floats:
    """Honest peers who all change to each other's data half way through."""
    if scene.round < scene.rounds // 2:
        return scene.own
    return scene.train([*scene.data[1:], scene.data[0]])


def small(scene: Scene) -> Floats:
    """Honest peers with eight images each."""
    return scene.train([(images[:8], labels[:8]) for images, labels in scene.data])


def slow(scene: Scene) -> Floats:
    """Honest peers who train a fifth as far."""
    return 0.2 * scene.own


def noisy(scene: Scene) -> Floats:
    """Honest peers who label one image in ten wrongly."""
    data = []
    for images, labels in scene.data:
        wrong = np.arange(len(labels)) % 10 == 0
        data.append((images, np.where(wrong, (labels + 1) % 10, labels)))
    return scene.train(data)


ATTACKS: dict[str, Any] = {"shift": shift, "small": small, "slow": slow, "noisy": noisy}
