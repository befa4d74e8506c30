"""Attacks that need gossip mode: `--modes gossip --attack-module FILE`.

There the harness tells an attack no last step, since every node took another one. Who remembers
what each node stood at knows it all the same.
"""

from typing import Any

from tests.bench.trust_harness.attacks import Scene
from tests.bench.trust_harness.task import Floats


def repeat_step(scene: Scene) -> Floats:
    """A free-rider: the last step of the node it sends to, again, with a little noise."""
    last = scene.base - scene.state.get("base", scene.base)
    scene.state["base"] = scene.base
    spread = scene.honest.std() * 0.3
    noise: Floats = scene.rng.normal(0, spread, (scene.f, scene.model.d))
    return last[None] + noise


ATTACKS: dict[str, Any] = {"repeat_step": repeat_step}
