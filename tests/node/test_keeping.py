"""Heads between real daemons: what a trusted keeper accepted is applied, once, and rolled back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p2pllm import heads, keys
from p2pllm.errors import P2pllmError
from p2pllm.heads import Accepted, Head
from p2pllm.ids import ContentId
from p2pllm.names import parse_place
from tests.node.daemons import Daemon, homes, running, until
from tests.p2pllm.learn import tiny

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
PLACE = "en/medical"
QUICK = {"P2PLLM_NETWORK__HEADS_S": "0.5"}
SLOW_S = 180.0


class Pair:
    """A keeper with a published update in its head, and a follower that has neither."""

    def __init__(self, folder: Path) -> None:
        self.a = Daemon(folder / "a", "--follow", PLACE, **QUICK).up()
        source = tiny.save_base(folder / "base", tiny.llama())
        base = self.a.job(kind="import", source=str(source), name="tiny", lang="en")
        self.alone = self.a.client.get("tree")
        seed = ("--bootstrap", self.a.address)
        self.b = Daemon(folder / "b", *seed, "--follow", PLACE, **QUICK).up()
        for daemon in (self.a, self.b):
            daemon.wait(lambda s: s["swarm"]["dht_peers"] >= 1, "both in the DHT")
        terms = {"kind": "push", "licence": "Apache-2.0", "consent": True}
        self.a.job(**terms, ref=base["ref"])
        adapter = tiny.save_adapter(folder / "notes")
        pushed = self.a.job(**terms, path=str(adapter), place=PLACE, name="notes")
        self.update = ContentId(str(pushed["manifest"]))
        self.accept(1, self.update)

    def accept(self, seq: int, *updates: ContentId) -> None:
        """Write down that the keeper accepts these, as its judging would."""
        identity = keys.load_or_create(self.a.home / "key")
        accepted = tuple(Accepted(one, 0.5) for one in sorted(updates))
        head = Head(by=identity.node, place=parse_place(PLACE), seq=seq, accepted=accepted)
        heads.HeadFile(self.a.home / "heads").write(heads.seal(identity, head))

    def followed(self) -> dict[str, Any]:
        return dict(self.b.client.get("follow")["following"][0])

    def applied(self) -> list[str]:
        return [one["manifest"] for one in self.followed()["applied"]]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with homes() as folder:
        made = Pair(folder)
        with running(made.a, made.b):
            yield made


def test_a_keeper_that_is_not_trusted_applies_nothing(pair: Pair) -> None:
    pair.b.client.post("follow", {"place": PLACE, "auto": True})
    until(lambda: pair.a.node in pair.followed()["keepers"], "the keeper's head is heard", SLOW_S)
    card = pair.followed()
    assert card["auto"]
    assert card["applied"] == card["waiting"] == []


def test_what_a_trusted_keeper_accepted_is_applied_once(pair: Pair) -> None:
    said = {"peer": pair.a.node, "place": PLACE, "state": "trusted", "reason": "we work together"}
    pair.b.client.post("trust", said)
    until(lambda: pair.applied() == [pair.update], "it is applied", SLOW_S)
    models = {one["manifest"]: one for one in pair.b.client.get("models")["models"]}
    assert pair.update in models
    assert Path(models[pair.update]["path"]).is_dir()
    first = pair.followed()["applied"][0]
    pair.accept(2, pair.update)  # the keeper signs again; nothing changes
    until(lambda: _seq(pair) == 2, "the newer head is heard", SLOW_S)
    assert pair.followed()["applied"] == [first]


def _seq(pair: Pair) -> int:
    tree = pair.b.client.get("tree", place=PLACE)
    place = next(one for one in tree["places"] if one["place"] == PLACE)
    return max((int(keeper["seq"]) for keeper in place["keepers"]), default=0)


def test_the_tree_shows_the_place_its_models_and_its_head(pair: Pair) -> None:
    def both() -> Any:
        trees = [one.client.get("tree")["places"] for one in (pair.a, pair.b)]
        spots = [{p["place"]: p for p in tree} for tree in trees]
        here = [spot.get(PLACE) for spot in spots]
        ready = all(one and one["models"] and one["head"] for one in here)
        return spots if ready else None

    a, b = until(both, "both see the place", SLOW_S)
    assert list(a) == ["mul", "en", PLACE]
    assert a[PLACE]["parent"] == "en"
    assert a["en"]["parent"] == "mul"
    assert [one["manifest"] for one in a[PLACE]["head"]] == [pair.update]
    assert a[PLACE]["head"] == b[PLACE]["head"]
    assert a[PLACE]["params"] == b[PLACE]["params"] > 0


def test_a_node_that_is_alone_shows_what_it_has_and_says_so(pair: Pair) -> None:
    assert "no seed" in pair.alone["isolated"]
    assert not pair.alone["complete"]
    spots = {one["place"]: one for one in pair.alone["places"]}
    assert [one["name"] for one in spots["en"]["models"]] == ["tiny"]
    assert pair.a.client.get("tree")["isolated"] is None


def test_what_is_rolled_back_stays_out(pair: Pair) -> None:
    pair.b.client.post("follow", {"place": PLACE, "back": pair.update[:12]})
    assert pair.applied() == []
    pair.accept(3, pair.update)
    until(lambda: pair.update in pair.followed()["rolled_back"], "it is written down")
    until(lambda: _seq(pair) == 3, "the newer head is heard", SLOW_S)
    assert pair.applied() == []


def test_a_model_is_derived_one_level_down_and_stands_smaller_in_the_tree(pair: Pair) -> None:
    text = tiny.write_jsonl(pair.a.home / "text.jsonl", tiny.sentences(60, seed=4))
    base = next(m for m in pair.a.client.get("models")["models"] if m["kind"] == "base")
    budget = f"<={int(base['size_bytes'] * 0.85)}"
    request = {"kind": "derive", "ref": base["ref"], "budget": budget, "data": [str(text)]}
    with pytest.raises(P2pllmError) as refused:
        pair.a.job(**request, place="es/medical")
    assert refused.value.code == "E0204"
    made = pair.a.job(**request, place=PLACE, steps=2, consent=True)
    assert made["published"]
    assert made["params"] < made["parent_params"]

    def derived() -> Any:
        spots = {one["place"]: one for one in pair.b.client.get("tree")["places"]}
        models = spots[PLACE]["models"] if PLACE in spots else []
        return spots if any(one["kind"] == "base" for one in models) else None

    spots = until(derived, "the derived model is advertised", SLOW_S)
    assert not spots["en"]["faults"] or spots["en"]["faults"] == ["parent-has-no-model"]
    assert spots[PLACE]["params"] <= spots["en"]["params"]
    assert spots[PLACE]["faults"] == []
    assert pair.a.client.get("models/show", ref=made["ref"])["parents"] == [base["manifest"]]
