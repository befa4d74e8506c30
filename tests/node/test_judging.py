"""Updates judged between real daemons: what is good is served, what is bad goes no further.

The model is tiny; every process, stream, job and signature is real.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from p2pllm.errors import P2pllmError
from p2pllm.jobs import TuneJob
from p2pllm.learn.tune import tune
from tests.node.daemons import Daemon, homes, running, until
from tests.p2pllm.learn import tiny

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
PLACE = "en/medical"
SLOW_S = 240.0  # a round is two processes that load torch, on a machine that may be busy
WEIGHTS = "adapter_model.safetensors"
QUICK = {
    "P2PLLM_TRUST__SETTLE_S": "1",
    "P2PLLM_TRUST__REVIEW_S": "3600",
    "P2PLLM_TRUST__WITNESS_S": "3",  # an answerer allows one question every two seconds
    "P2PLLM_TRUST__PROBE_TOKENS": "600",
    "P2PLLM_TRUST__OWN_STEPS": "20",
}


def taught() -> LlamaForCausalLM:
    """A tiny Llama that has read other text, so that a reversed adapter does harm.

    On random weights an adapter acts by products of its own parts, and its sign goes lost.
    """
    torch.set_num_threads(1)
    model, source = tiny.llama(), random.Random(0)
    words = [word[::-1] for word in tiny.WORDS]
    text = " ".join(source.choice(words) for _ in range(4000))
    ids = torch.tensor(tiny.tokenizer().encode(text).ids)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    torch.manual_seed(0)
    for _ in range(80):
        starts = torch.randint(0, len(ids) - 33, (8,)).tolist()
        rows = torch.stack([ids[at : at + 33] for at in starts])
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


class Swarm:
    """Two nodes that judge a place, and one that only publishes there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = tiny.save_base(folder / "base", taught())
        self.probe = tiny.write_jsonl(folder / "probe.jsonl", tiny.sentences(80, seed=11))
        follow = ("--follow", PLACE)
        self.a = Daemon(folder / "a", *follow, **QUICK).up()
        seed = ("--bootstrap", self.a.address)
        self.b = Daemon(folder / "b", *seed, **QUICK)
        self.c = Daemon(folder / "c", *seed, *follow, **QUICK)
        for daemon in (self.a, self.b, self.c):
            daemon.wait(lambda s: s["swarm"]["dht_peers"] >= 2, "all three in the DHT")
        terms = {"kind": "push", "licence": "Apache-2.0", "consent": True}
        base = self.a.job(kind="import", source=str(self.source), name="tiny", lang="en")
        base = self.a.job(**terms, ref=base["ref"])
        for daemon in (self.b, self.c):
            daemon.job(kind="pull", ref=base["ref"])
        self.base = Path(base["path"])
        self.honest = self.trained("honest", seed=1)

    def trained(self, name: str, seed: int) -> Path:
        """An adapter trained on text of the place."""
        text = tiny.write_jsonl(self.folder / f"{name}.jsonl", tiny.sentences(60, seed=seed))
        folder = self.folder / name
        job = TuneJob(
            base_dir=str(self.base),
            data=(str(text),),
            out_dir=str(folder),
            steps=25,
            batch=4,
            seq=32,
            lr=0.01,
            seed=seed,
        )
        tune(job, lambda _event: None)
        return folder

    def flipped(self, name: str, source: Path) -> Path:
        """The same change with its sign turned round."""
        folder = self.folder / name
        folder.mkdir()
        tensors = load_file(source / WEIGHTS)
        turned = {key: -part if "lora_B" in key else part for key, part in tensors.items()}
        save_file(turned, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / "adapter_config.json").write_bytes((source / "adapter_config.json").read_bytes())
        return folder

    def push(self, daemon: Daemon, folder: Path) -> str:
        """Publish a folder at the place; its manifest."""
        terms = {"kind": "push", "licence": "Apache-2.0", "consent": True}
        pushed = daemon.job(**terms, path=str(folder), place=PLACE, name=folder.name, base="tiny")
        return str(pushed["manifest"])


@pytest.fixture(scope="module")
def swarm() -> Iterator[Swarm]:
    with homes() as folder:
        made = Swarm(folder)
        try:
            yield made
        finally:
            with running(made.a, made.b, made.c):  # one of them may be another one by now
                pass


def _served(daemon: Daemon) -> set[str]:
    heads = daemon.client.get("heads", place=PLACE)["heads"]
    return {pair["manifest"] for head in heads for pair in head["accepted"]}


def _place(daemon: Daemon) -> dict[str, Any]:
    return dict(daemon.client.get("trust", place=PLACE)["places"][0])


def _verdicts(daemon: Daemon, subject: str) -> list[dict[str, Any]]:
    return list(daemon.client.get("trust/explain", subject=subject)["verdicts"])


def _holders(daemon: Daemon, manifest: str) -> list[str]:
    results = daemon.client.post("search", {"lang": "en"})["results"]
    return [peer for card in results if card["manifest"] == manifest for peer in card["peers"]]


def test_without_probes_an_update_waits_with_a_reason_and_is_not_fetched(swarm: Swarm) -> None:
    good = swarm.push(swarm.a, swarm.honest)
    blocked = until(lambda: _place(swarm.c)["blocked"], "a reason")
    assert "E0407" in blocked
    assert "trust probes" in blocked
    [update] = _place(swarm.c)["updates"]
    assert (update["manifest"], update["state"]) == (good, "waiting")
    assert good not in {m["manifest"] for m in swarm.c.client.get("models")["models"]}
    assert _served(swarm.c) == set()


def test_an_honest_update_is_served_and_a_flipped_one_by_nobody(swarm: Swarm) -> None:
    bad = swarm.push(swarm.b, swarm.flipped("flipped", swarm.honest))
    for daemon in (swarm.a, swarm.c):
        given = {"place": PLACE, "paths": [str(swarm.probe)]}
        assert daemon.client.post("trust/probes", given)["documents"] == 80
    [good] = [u["manifest"] for u in _place(swarm.a)["updates"] if u["peer_id"] == swarm.a.node]
    for daemon in (swarm.a, swarm.c):
        until(lambda d=daemon: _served(d) == {good}, daemon.log(), SLOW_S)
        until(lambda d=daemon: _verdicts(d, bad), "a verdict on the flipped one", SLOW_S)
        found = _verdicts(daemon, bad)[0]
        assert found["signature_ok"]
        assert found["probe"]["after"] > found["probe"]["before"]
        assert bad not in _served(daemon)
    until(lambda: swarm.c.node in _holders(swarm.b, good), "who accepted offers as well", SLOW_S)
    assert _holders(swarm.a, bad) == [swarm.b.node]
    word = until(lambda: _words(swarm.c, bad), "what the other judge observed", SLOW_S)
    assert {(one["by"], one["signature_ok"]) for one in word} == {(swarm.a.node, True)}


def _words(daemon: Daemon, subject: str) -> list[dict[str, Any]]:
    return list(daemon.client.get("trust/explain", subject=subject)["reports"])


def _remembered(daemon: Daemon) -> dict[str, Any]:
    """All that follows from the ledger of a place."""
    trust = daemon.client.get("trust", place=PLACE)
    heads = daemon.client.get("heads", place=PLACE)["heads"]
    return {"peers": trust["peers"], "updates": trust["places"][0]["updates"], "heads": heads}


def test_a_daemon_killed_with_kill_9_has_the_same_book_and_head_again(swarm: Swarm) -> None:
    before = _remembered(swarm.c)
    assert before["heads"]
    swarm.c.kill()
    swarm.c = Daemon(swarm.c.home, "--bootstrap", swarm.a.address, "--follow", PLACE, **QUICK)
    swarm.c.wait(lambda s: s["swarm"]["dht_peers"] >= 2, "back in the DHT")
    assert _remembered(swarm.c) == before


def test_what_the_operator_shuts_out_is_taken_back_and_pulled_only_on_demand(swarm: Swarm) -> None:
    publisher = swarm.a.node
    [good] = _served(swarm.c)
    act = {"subject": publisher, "reason": "a test"}
    [card] = swarm.c.client.post("quarantine", act)["peers"]
    assert (card["state"], card["strikes"]) == ("quarantined", 1)
    assert _served(swarm.c) == set()
    assert [p["peer_id"] for p in swarm.c.client.get("quarantine")["peers"]] == [publisher]
    until(lambda: _holders(swarm.b, good) == [publisher], "who dropped it offers it no more")
    asked = {"kind": "pull", "ref": f"{PLACE}/honest"}
    with pytest.raises(P2pllmError) as refused:
        swarm.c.job(**asked)
    assert refused.value.code == "E0714"
    assert swarm.c.job(**asked, even_quarantined=True)["manifest"] == good
    acts = swarm.c.client.get("trust/explain", subject=publisher)["operator"]
    assert [one["act"] for one in acts] == ["quarantine", "pull"]
    [card] = swarm.c.client.delete("quarantine", act)["peers"]
    assert (card["state"], card["strikes"]) == ("probation", 1)
    assert swarm.a.client.get("trust", place=PLACE)["peers"]
