"""The gate between three real daemons: others' text has a say, and what harms live text leaves.

The model is tiny; every process, stream, signature and job is real.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p2pllm.jobs import TuneJob
from p2pllm.learn.tune import tune
from tests.node.daemons import Daemon, homes, running, until
from tests.node.test_judging import PLACE, QUICK, SLOW_S, taught
from tests.p2pllm.learn import tiny

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
SETTINGS = {
    **QUICK,
    "P2PLLM_TRUST__SETTLE_S": "6",
    "P2PLLM_TRUST__PROBE_TOKENS": "200",
    "P2PLLM_TRUST__OWN_STEPS": "5",
}


def turned(count: int, seed: int) -> list[str]:
    """What the base has read: the words of other documents, each from its end."""
    return [
        " ".join(word[::-1] for word in text.replace(".", "").split())
        for text in tiny.sentences(count, seed)
    ]


class Keepers:
    """Three that keep a place, one on text of another kind; the first publishes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.a = Daemon(folder / "a", "--follow", PLACE, **SETTINGS).up()
        seed = ("--bootstrap", self.a.address, "--follow", PLACE)
        self.b, self.c = (Daemon(folder / name, *seed, **SETTINGS) for name in "bc")
        self.all = (self.a, self.b, self.c)
        for daemon in self.all:
            daemon.wait(lambda s: s["swarm"]["dht_peers"] >= 2, "all three in the DHT")
        terms = {"kind": "push", "licence": "Apache-2.0", "consent": True}
        source = tiny.save_base(folder / "base", taught())
        base = self.a.job(kind="import", source=str(source), name="tiny", lang="en")
        base = self.a.job(**terms, ref=base["ref"])
        for daemon in (self.b, self.c):
            daemon.job(kind="pull", ref=base["ref"])
        self.base = Path(base["path"])
        self.probes(self.a, "forward", tiny.sentences(60, seed=11))
        for daemon, number in ((self.b, 12), (self.c, 13)):
            self.probes(daemon, f"turned-{number}", turned(60, seed=number))
        both = [*tiny.sentences(40, seed=1), *turned(40, seed=2)]
        self.useful = self.published("useful", both, 60)
        self.harmful = self.published("harmful", tiny.sentences(60, seed=1), 40)

    def probes(self, daemon: Daemon, name: str, documents: list[str]) -> None:
        """Give a node text of the place."""
        path = tiny.write_jsonl(self.folder / f"{name}.jsonl", documents)
        daemon.client.post("trust/probes", {"place": PLACE, "paths": [str(path)]})

    def published(self, name: str, documents: list[str], steps: int) -> str:
        """An adapter trained on these documents, published by the first; its manifest."""
        data = tiny.write_jsonl(self.folder / f"{name}-text.jsonl", documents)
        job = TuneJob(
            base_dir=str(self.base),
            data=(str(data),),
            out_dir=str(self.folder / name),
            steps=steps,
            batch=8,
            seq=32,
            lr=0.01,
        )
        tune(job, lambda _event: None)
        terms = {"kind": "push", "licence": "Apache-2.0", "consent": True, "base": "tiny"}
        path = str(self.folder / name)
        pushed = self.a.job(**terms, path=path, place=PLACE, name=name)
        return str(pushed["manifest"])


@pytest.fixture(scope="module")
def keepers() -> Iterator[Keepers]:
    with homes() as folder:
        made = Keepers(folder)
        with running(*made.all):
            yield made


def _served(daemon: Daemon) -> set[str]:
    heads = daemon.client.get("heads", place=PLACE)["heads"]
    return {pair["manifest"] for head in heads for pair in head["accepted"]}


def _decided(daemon: Daemon, update: str, stage: str) -> dict[str, Any] | None:
    """The last decision of a stage that is not to wait."""
    found = daemon.client.get("trust/explain", subject=update)["gate"]
    last = [one for one in found if one["stage"] == stage and one["outcome"] != "hold"]
    return last[-1] if last else None


def test_a_useful_update_is_taken_after_two_others_told_their_gains(keepers: Keepers) -> None:
    a = keepers.a
    until(lambda: keepers.useful in _served(a), a.log()[-2000:], SLOW_S)
    # Told in time to harm live text as soon as the update is served.
    keepers.probes(a, "live", [f"{n} {n + 7} {n * 3} qx zv {n}{n} kw" * 4 for n in range(30)])
    found = _decided(a, keepers.useful, "shadow")
    assert found is not None
    told = {one["by"]: one for one in found["told"]}
    assert told.keys() == {one.node for one in keepers.all}
    assert all(one["mean"] > 0 for one in told.values())
    assert told[a.node]["word"] == 1.0
    assert told[keepers.b.node]["word"] == 0.5
    assert (found["others"], found["alone"]) == (2, False)


def test_what_harms_the_text_of_the_others_is_refused_with_numbers(keepers: Keepers) -> None:
    a = keepers.a
    found = until(lambda: _decided(a, keepers.harmful, "shadow"), a.log()[-2000:], SLOW_S)
    told = {one["by"]: one["mean"] for one in found["told"]}
    assert found["outcome"] == "reject"
    assert told[a.node] > 0 > max(told[keepers.b.node], told[keepers.c.node])
    failed = {one["code"]: one for one in found["checks"] if not one["passed"]}
    assert failed["gain"]["value"] < failed["gain"]["limit"]
    assert keepers.harmful not in _served(a)


def test_a_change_that_harms_live_text_is_rolled_back_by_itself(keepers: Keepers) -> None:
    a = keepers.a
    found = until(lambda: _decided(a, keepers.useful, "trial"), "the end of the trial", SLOW_S)
    assert found["outcome"] == "reject"
    assert found["damage"] > 0.01
    until(lambda: keepers.useful not in _served(a), "the head is back")
    shown = a.client.get("trust/explain", subject=PLACE)
    assert shown["subject"] == {"kind": "place", "place": PLACE}
    assert {one["manifest"] for one in shown["gate"]} == {keepers.useful, keepers.harmful}
    assert keepers.useful not in _served(a)
