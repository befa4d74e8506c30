"""Knowledge up and down on one real daemon: lineage is signed, refusals are recorded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node.transfer_flows import judged
from p2pllm.errors import P2pllmError
from p2pllm.ids import ContentId, NodeId
from p2pllm.jobs_transfer import TransferReport
from tests.node.daemons import Daemon, homes, running
from tests.p2pllm.learn import test_handover as texts
from tests.p2pllm.learn import tiny

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
PARENT, CHILD = "en/medical", "en/medical/heart"
SETTINGS = {"seq": 32, "rows": 48, "lr": 0.01}


class One:
    """A daemon with a base, an adapter of a child place that learnt, and text of both places."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemon = Daemon(folder / "a").up()
        base = tiny.save_base(folder / "base", texts.met())
        self.daemon.job(kind="import", source=str(base), name="tiny", lang="en")
        self.new = str(tiny.write_jsonl(folder / "new.jsonl", texts.plain(120, seed=1)))
        self.old = str(tiny.write_jsonl(folder / "old.jsonl", texts.numbered(120, seed=2)))
        settings = {"steps": 80, "batch": 8, "seq": 32, "lr": 0.01, "rank": 16}
        ask = {"kind": "tune", "base": "en/tiny", "data": [self.new], "place": CHILD}
        self.knows = self.daemon.job(**ask, **settings, name="knows")

    def published(self, name: str, folder: Path, place: str) -> dict[str, Any]:
        terms = {"kind": "push", "licence": "Apache-2.0", "consent": True, "base": "en/tiny"}
        return self.daemon.job(**terms, path=str(folder), place=place, name=name)

    def transfer(self, direction: str, ref: str, name: str, **more: Any) -> dict[str, Any]:
        ask = {"kind": "transfer", "direction": direction, "ref": ref, "name": name}
        return self.daemon.job(**ask, **SETTINGS, **more)

    def decided(self, manifest: str) -> list[tuple[str, str]]:
        found = self.daemon.client.get("trust/explain", subject=manifest)["gate"]
        return [(one["stage"], one["outcome"]) for one in found]


@pytest.fixture(scope="module")
def one() -> Iterator[One]:
    with homes() as folder:
        made = One(folder)
        with running(made.daemon):
            yield made


def test_what_a_child_knows_goes_up_with_its_lineage(one: One) -> None:
    one.daemon.client.post("trust/probes", {"place": PARENT, "paths": [one.old]})
    made = one.transfer("up", one.knows["ref"], "taught", data=[one.new], steps=40)
    assert made["place"] == PARENT
    assert made["loss"] < made["base_loss"]
    assert made["made_up"] > 0
    assert made["gains"] > 0.03
    shown = one.daemon.client.get("models/show", ref=made["ref"])
    assert one.knows["manifest"] in shown["parents"]
    assert one.decided(one.knows["manifest"])[-1] == ("up", "accept")


def test_what_the_gate_does_not_take_is_refused_with_numbers(one: One) -> None:
    noise = one.published("noise", tiny.save_adapter(one.folder / "noise"), CHILD)
    with pytest.raises(P2pllmError) as refused:
        one.transfer("up", noise["ref"], "nothing", data=[one.new], keep=[one.old])
    assert refused.value.code == "E0717"
    assert any("arm" in line for line in refused.value.why)
    assert one.decided(noise["manifest"]) == [("up", "reject")]
    names = [model["name"] for model in one.daemon.client.get("models")["models"]]
    assert "nothing" not in names


def test_a_result_belongs_one_place_up_or_down(one: One) -> None:
    ask = {"data": [one.new], "keep": [one.old], "to": "en/tiny"}
    for direction, place in (("up", CHILD), ("up", "en"), ("down", PARENT)):
        with pytest.raises(P2pllmError) as refused:
            one.transfer(direction, one.knows["ref"], "odd", place=place, **ask)
        assert refused.value.code == "E0204"


def test_what_a_parent_knows_goes_down_to_a_child(one: One) -> None:
    parent = one.published("upper", Path(one.knows["path"]), PARENT)
    ask = {"data": [one.new], "keep": [one.old], "to": "en/tiny", "place": CHILD}
    made = one.transfer("down", parent["ref"], "handed-down", **ask, steps=40)
    assert (made["place"], made["made_up"]) == (CHILD, 0)
    assert made["scale"] > 0
    assert made["loss"] < made["base_loss"]
    assert one.decided(parent["manifest"])[-1] == ("down", "accept")


def test_the_gates_word_follows_from_the_numbers() -> None:
    done = TransferReport(
        learnt=True,
        source_loss=3.0,
        base_loss=4.0,
        loss=3.5,
        gains=tuple(0.5 + 0.01 * (n % 5) for n in range(20)),
        spared=tuple(-0.1 + 0.01 * (n % 5) for n in range(20)),
        made_up=0,
        refused={},
        scale=1.0,
        steps=1,
        seconds=0.0,
        memory_estimate=0,
        peak_rss=0,
    )
    decision = judged(done, NodeId("me"), ContentId("a" * 64))
    assert decision.outcome == "reject"
    assert decision.failed == ("damage",)
