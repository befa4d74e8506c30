"""The main job between real daemons: publish, find, pull, use; and all that is refused on the way.

The model is tiny and random; every process, stream and signature is real.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import trio
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from node.hostile import Liar, open_liar
from p2pllm.errors import P2pllmError
from p2pllm.ids import ContentId, NodeId
from tests.node.daemons import Daemon, homes, running, until
from tests.p2pllm.learn import tiny

# PEFT still asks transformers for a name that transformers calls old.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
TERMS = {"kind": "push", "licence": "Apache-2.0", "consent": True}


class Swarm:
    """Three daemons; the first has a base, published."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = tiny.save_base(folder / "base", tiny.llama())
        self.a = Daemon(folder / "a", "--follow", "en/medical").up()
        seed = self.a.address
        self.b = Daemon(folder / "b", "--bootstrap", seed, "--follow", "en/medical").up()
        self.c = Daemon(folder / "c", "--bootstrap", seed).up()
        for daemon in (self.a, self.b, self.c):
            daemon.wait(lambda s: s["swarm"]["dht_peers"] >= 2, "all three in the DHT")
        self.base = self.a.job(kind="import", source=str(self.source), name="tiny", lang="en")
        self.base = self.a.job(**TERMS, ref=self.base["ref"])

    def push(self, name: str, **changes: object) -> dict[str, object]:
        """An adapter of PEFT's own making, published by `a`."""
        adapter = tiny.save_adapter(self.folder / f"foreign-{name}", **changes)
        return self.a.job(**TERMS, path=str(adapter), place="en/medical", name=name)


@pytest.fixture(scope="module")
def swarm() -> Iterator[Swarm]:
    with homes() as folder:
        made = Swarm(folder)
        with running(made.a, made.b, made.c):
            yield made


def _logits(base: Path, adapter: Path) -> torch.Tensor:
    model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(base), str(adapter))
    with torch.no_grad():
        return model(input_ids=torch.arange(20)[None]).logits


def test_a_foreign_adapter_is_pushed_found_pulled_and_gives_the_same_logits(swarm: Swarm) -> None:
    pushed = swarm.push("notes")
    found = swarm.b.client.post("search", {"lang": "en", "domain": "medical", "size": "<50MB"})
    assert [card["manifest"] for card in found["results"]] == [pushed["manifest"]]
    assert found["results"][0]["peers"] == [swarm.a.node]
    pulled = swarm.b.job(kind="pull", ref="en/medical/notes")
    assert {part["kind"] for part in pulled["fetched"]} == {"adapter", "base"}
    assert all(swarm.a.node in part["by_peer"] for part in pulled["fetched"])
    base = next(m for m in swarm.b.client.get("models")["models"] if m["kind"] == "base")
    mine = _logits(Path(base["path"]), Path(pulled["path"]))
    theirs = _logits(swarm.source, swarm.folder / "foreign-notes")
    # The base is kept in bfloat16, the source stands in float32.
    torch.testing.assert_close(mine.float(), theirs, rtol=2e-2, atol=2e-2)
    at_publisher = _logits(Path(str(swarm.base["path"])), Path(str(pushed["path"])))
    assert torch.equal(mine, at_publisher)


def test_who_pulled_hands_out_as_well(swarm: Swarm) -> None:
    pushed = swarm.push("shared", seed=3)
    swarm.b.job(kind="pull", ref="en/medical/shared")
    query = {"text": "shared"}
    holders = until(
        lambda: swarm.c.client.post("search", query)["results"][0]["peers"], "two holders"
    )
    assert holders == sorted([swarm.a.node, swarm.b.node])
    pulled = swarm.c.job(kind="pull", ref=pushed["ref"], **{"from": [swarm.b.node]})
    assert all(list(part["by_peer"]) == [swarm.b.node] for part in pulled["fetched"][:1])


def test_dest_gets_a_copy_that_plain_peft_loads(swarm: Swarm) -> None:
    swarm.push("copied", seed=4)
    dest = swarm.folder / "dest"
    pulled = swarm.b.job(kind="pull", ref="en/medical/copied", dest=str(dest))
    assert pulled["path"] == str(dest)
    assert _logits(swarm.source, dest).shape == (1, 20, 400)


def test_removed_models_are_found_no_more(swarm: Swarm) -> None:
    pushed = swarm.push("gone", seed=5)
    query = {"text": "gone"}
    assert len(swarm.b.client.post("search", query)["results"]) == 1
    removed = swarm.a.client.delete("models", ref=pushed["ref"])
    assert removed["withdrawn"]
    assert swarm.b.client.post("search", query)["results"] == []
    with pytest.raises(P2pllmError) as refused:
        swarm.b.job(kind="pull", ref="en/medical/gone")
    assert refused.value.code == "E0403"
    assert not Path(str(pushed["path"])).exists()


def test_a_base_that_adapters_need_is_not_removed(swarm: Swarm) -> None:
    swarm.push("needs", seed=6)
    with pytest.raises(P2pllmError) as refused:
        swarm.a.client.delete("models", ref=swarm.base["ref"])
    assert refused.value.code == "E0204"


def test_nothing_is_published_without_consent_or_licence(swarm: Swarm) -> None:
    adapter = str(tiny.save_adapter(swarm.folder / "shy"))
    request = {"kind": "push", "path": adapter, "place": "en/medical", "name": "shy"}
    for missing, code in (({"licence": "MIT"}, "E0701"), ({"consent": True}, "E0707")):
        with pytest.raises(P2pllmError) as refused:
            swarm.a.job(**request, **missing)
        assert refused.value.code == code
    assert swarm.b.client.post("search", {"text": "shy"})["results"] == []


def test_an_adapter_that_was_not_published_cannot_be_fetched(swarm: Swarm) -> None:
    text = tiny.write_jsonl(swarm.folder / "private.jsonl", tiny.sentences(40, seed=1))
    request = {"base": "tiny", "data": [str(text)], "place": "en/medical", "name": "private"}
    tuned = swarm.a.job(kind="tune", **request, steps=2, batch=2, seq=16)
    assert tuned["loss"] > 0
    asked = f"en/medical/private@{tuned['manifest']}"
    with pytest.raises(P2pllmError) as refused:
        swarm.c.job(kind="pull", ref=asked, **{"from": [swarm.a.node]})
    assert refused.value.code == "E0906"
    assert "E0710" in str(refused.value.why)


def test_publisher_and_puller_measure_the_same_loss(swarm: Swarm) -> None:
    text = tiny.write_jsonl(swarm.folder / "text.jsonl", tiny.sentences(60, seed=2))
    request = {"base": "tiny", "data": [str(text)], "place": "en/medical", "name": "tuned"}
    tuned = swarm.a.job(kind="tune", **request, steps=30, batch=4, seq=32, lr=0.01)
    assert tuned["loss"] < tuned["base_loss"]
    swarm.a.job(**TERMS, ref=tuned["ref"])
    pulled = swarm.c.job(kind="pull", ref="en/medical/tuned")
    here = swarm.c.job(kind="eval", ref=pulled["ref"], data=[str(text)])
    assert here["text"] == tuned["text"]
    assert here["loss"] == pytest.approx(tuned["loss"], rel=1e-6)
    assert here["base_loss"] == pytest.approx(tuned["base_loss"], rel=1e-6)


def test_a_node_that_was_away_hears_what_it_missed(swarm: Swarm) -> None:
    folder = swarm.folder
    flags = ("--bootstrap", swarm.a.address, "--follow", "en/medical")
    away = Daemon(folder / "away", *flags).up()
    with running(away):
        away.wait(lambda s: s["swarm"]["topics"][0]["peers"] >= 1, "on the topic")
        away.wait(lambda s: s["heard"] >= 1, "the first news")
    pushed = swarm.push("missed", seed=7)
    back = Daemon(folder / "away", *flags)
    with running(back):
        until(lambda: pushed["manifest"] in _heard(back), "the announcement it missed")


def _heard(daemon: Daemon) -> set[str]:
    from gossip.announce import open_announce
    from gossip.heard import HeardLog

    with HeardLog(daemon.home / "heard.db") as log:
        return {open_announce(raw).manifest for raw in log.alive(0.0)}


def _rename(adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    renamed = {name.replace("q_proj", "query"): tensor for name, tensor in tensors.items()}
    save_file(renamed, adapter / "adapter_model.safetensors")


def _empty(adapter: Path) -> None:
    save_file({}, adapter / "adapter_model.safetensors")


def _zero(adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    zeros = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    save_file(zeros, adapter / "adapter_model.safetensors")


def _not_finite(adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, adapter / "adapter_model.safetensors")


def _pickle(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").write_bytes(b"\x80\x04\x95\x1a" + b"\0" * 40)


def _lie(adapter: Path) -> None:
    header = {"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 1 << 40]}}
    raw = json.dumps(header).encode()
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"\0" * 16)


def _dora(adapter: Path) -> None:
    tiny.edit_config(adapter, use_dora=True)


def _code(adapter: Path) -> None:
    tiny.edit_config(adapter, auto_map={"AutoModel": "evil.Model"})


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (_rename, "E0703"),
        (_empty, "E0705"),
        (_zero, "E0705"),
        (_not_finite, "E0609"),
        (_pickle, "E0606"),
        (_lie, "E0608"),
        (_dora, "E0706"),
        (_code, "E0709"),
    ],
)
def test_a_spoilt_adapter_is_refused_with_its_own_code(swarm: Swarm, spoil, code: str) -> None:
    name = spoil.__name__.strip("_").replace("_", "-")
    adapter = tiny.save_adapter(swarm.folder / f"spoilt-{name}")
    spoil(adapter)
    with pytest.raises(P2pllmError) as refused:
        swarm.a.job(**TERMS, path=str(adapter), place="en/medical", name=name)
    assert refused.value.code == code
    assert swarm.b.client.post("search", {"text": name})["results"] == []


def test_an_adapter_for_another_base_is_refused(swarm: Swarm) -> None:
    other = tiny.save_base(swarm.folder / "wide", tiny.llama(hidden_size=64))
    wide = swarm.a.job(kind="import", source=str(other), name="wide", lang="en")
    adapter = str(tiny.save_adapter(swarm.folder / "narrow"))
    request = {"path": adapter, "place": "en/medical", "name": "narrow"}
    with pytest.raises(P2pllmError) as refused:
        swarm.a.job(**TERMS, **request, base=wide["ref"])
    assert refused.value.code == "E0704"
    swarm.a.client.delete("models", ref=wide["ref"])


def test_a_liar_is_refused_and_the_transfer_goes_on_without_it(swarm: Swarm) -> None:
    pushed = swarm.push("wanted", seed=8)
    manifest = ContentId(str(pushed["manifest"]))
    before = swarm.c.client.get("status")["refused"].get("E0604", 0)

    async def lie() -> None:
        async with open_liar(swarm.folder / "liar", swarm.a.address) as liar:
            await _spread(swarm, liar, manifest)
            request = {"kind": "pull", "ref": pushed["ref"]}
            alone = {**request, "from": [liar.identity.node]}
            with pytest.raises(P2pllmError) as refused:
                await trio.to_thread.run_sync(lambda: swarm.c.job(**alone))
            assert refused.value.code == "E0906"
            assert "E0604" in str(refused.value.why)
            await trio.to_thread.run_sync(lambda: swarm.c.job(**request))

    trio.run(lie)
    assert swarm.c.client.get("status")["refused"]["E0604"] > before
    card = swarm.c.client.get("models/show", ref="en/medical/wanted")
    assert card["manifest"] == manifest


async def _spread(swarm: Swarm, liar: Liar, manifest: ContentId) -> None:
    """The liar mirrors the model, and forges an advert that no node keeps."""
    import time

    from gossip import index
    from p2pllm.query import Query

    await liar.mirror(manifest, NodeId(swarm.a.node))
    adverts = await index.search(liar.dht, Query(text="wanted"), time.time())
    assert not any(await liar.forge(adverts[0]))
    cards = swarm.b.client.post("search", {"text": "wanted"})["results"]
    assert [card["licence"] for card in cards] == ["Apache-2.0"]
