"""Cutting a block of what a node holds: a base with its parent named; the verb that asks for it."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import trio

from node import block_flows, learn_flows
from node.learn_flows import Described, keep_adapter
from node.proof import prove_base
from node.requests import BlockRequest, GatherRequest, TuneRequest
from p2pllm import blocks, jobs
from p2pllm.errors import LocalError, P2pllmError, PeerError
from p2pllm.jobs_blocks import BlockJob, GatherJob
from p2pllm.learn import adapter_io, model
from p2pllm.learn.block_cut import cut_block
from p2pllm.learn.gather import gather as learn_gather
from p2pllm.learn.tune import tune
from p2pllm.names import Place, parse_ref
from tests.node.double import Double
from tests.node.test_cli_verbs import BASE, Ask, ask, daemon, home
from tests.node.test_file_flows import do, node
from tests.p2pllm.learn import planted, tiny

__all__ = ["ask", "daemon", "home", "node"]  # fixtures


class InThisProcess:
    """Does block jobs here, each through its line of JSON, as the child gets it."""

    async def run(self, job: jobs.Job, _report: object) -> Any:
        given: Any = jobs.decode_job(jobs.encode_job(job))
        run: Any = {GatherJob: learn_gather, BlockJob: cut_block, jobs.TuneJob: tune}[type(given)]
        return run(given, lambda _event: None)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_a_block_is_a_base_that_names_its_parent(node: Any, tmp_path: Path) -> None:
    text = tiny.write_jsonl(tmp_path / "t.jsonl", tiny.sentences(40, seed=3))
    node.learner = InThisProcess()
    base = node.library.models()[0]
    asked = BlockRequest(ref="tiny", data=[str(text)], ffn=0.5, depth=0.5, steps=2, seq=32)
    found = do(block_flows.block, node, asked)
    manifest = node.models.manifest(found["manifest"])
    assert (manifest.kind, manifest.name, found["parent"]) == ("base", "tiny-block", base.ref)
    assert manifest.parents == (base.manifest,)
    assert manifest.params == found["params"] < found["parent_params"]
    assert manifest.report is not None
    assert manifest.report.loss == found["loss"]
    cut = blocks.read(Path(found["path"]))
    assert cut is not None
    assert cut.parent == base.model
    assert (cut.channels, len(cut.layers)) == (found["channels"], found["layers"])
    assert not list((node.config.home / "work").iterdir())
    with pytest.raises(LocalError, match="E0204"):
        do(block_flows.block, node, BlockRequest(ref="tiny", data=[str(text)], ffn=2.0))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_what_blocks_learnt_goes_up_and_down(node: Any, tmp_path: Path) -> None:
    """A round over a node: cut, adapt each block, gather into the parent, take down to a block."""
    text = tiny.write_jsonl(tmp_path / "t.jsonl", tiny.sentences(40, seed=3))
    node.learner = InThisProcess()
    refs = []
    for number, share in enumerate((0.75, 0.5)):
        asked = BlockRequest(
            ref="tiny", data=[str(text)], name=f"small{number}", ffn=share, steps=0
        )
        found = do(block_flows.block, node, asked)
        block = node.library.get(found["manifest"])
        folder = Path(block.folder)
        network = model.load_base(folder, model.load_config(folder), torch.float32)
        adapter_io.write(planted.noise(network, number, 2), folder, tmp_path / str(number))
        described = Described(place=Place("en", "medical"), name=f"own{number}", licence="MIT")
        refs.append(trio.run(keep_adapter, node, tmp_path / str(number), block, described).ref)
    up = GatherRequest(what=refs, into="tiny", place="en/medical", name="mean", weights=[1, 3])
    mean = do(block_flows.gather, node, up)
    manifest = node.models.manifest(mean["manifest"])
    assert mean["adapters"] == 2
    assert manifest.model == node.library.find(parse_ref("en/tiny")).model
    assert len(manifest.parents) == 3
    down = GatherRequest(what=[mean["ref"]], into="small1", place="en/medical", name="down")
    taken = do(block_flows.gather, node, down)
    assert node.models.manifest(taken["manifest"]).model == block.model
    _goes_on(node, block.ref, taken, text)
    bad = GatherRequest(what=["en/tiny"], into="tiny", place="en/medical", name="x")
    with pytest.raises(LocalError, match="E0204"):
        do(block_flows.gather, node, bad)


def _goes_on(node: Any, block: str, taken: dict[str, Any], text: Path) -> None:
    """The next tuning of the block starts where the round has left it."""
    node.trust = SimpleNamespace(wake=lambda: None, probes=SimpleNamespace(add=lambda *_: None))
    on = {"base": block, "data": [str(text)], "place": "en/medical", "name": "next"}
    found = do(learn_flows.tune, node, TuneRequest(**on, start=taken["ref"], steps=1, seq=32))
    manifest = node.models.manifest(found["manifest"])
    assert taken["manifest"] in manifest.parents
    assert manifest.lora.rank == taken["rank"]
    for wrong, code in (
        ({"start": taken["ref"], "rank": 4}, "E0204"),
        ({"start": block}, "E0204"),
        ({"start": taken["ref"], "base": "en/tiny"}, "E0702"),
    ):
        with pytest.raises(P2pllmError, match=code):
            do(learn_flows.tune, node, TuneRequest(**on | wrong))


def test_a_base_with_another_models_cut_is_refused(node: Any, tmp_path: Path) -> None:
    base = Path(node.library.models()[0].folder)
    shutil.copytree(base, tmp_path / "copy")
    trio.run(prove_base, tmp_path / "copy")
    frame = blocks.frame_in(base)
    lie = blocks.make("ab" * 32, frame, {0: (range(8), [0])})
    (tmp_path / "copy" / blocks.CUT_FILE).write_bytes(blocks.encode(lie))
    with pytest.raises(PeerError, match="E0711"):
        trio.run(prove_base, tmp_path / "copy")


def test_the_verb_sends_what_was_said(
    daemon: Double, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    argv = ["block", "cut", BASE, "--data", "a.txt", "--ffn", "0.5", "--depth", "0.8"]
    assert ask(*argv, "--steps", "0")[0] == 0
    wanted = {"kind": "block", "ref": BASE, "data": [str(tmp_path / "a.txt")], "ffn": 0.5}
    assert daemon.bodies("POST", "jobs") == [wanted | {"depth": 0.8, "steps": 0}]
    assert ask("block", "cut", BASE, "--data", "a.txt", "--ffn", "1.5")[0] != 0
    argv = ["block", "gather", "en/law/a", "en/law/b", "--into", BASE, "--name", "mean"]
    assert ask(*argv, "--place", "en/law", "--weight", "1", "--weight", "2")[0] == 0
    wanted = {"kind": "gather", "what": ["en/law/a", "en/law/b"], "into": BASE, "name": "mean"}
    assert daemon.bodies("POST", "jobs")[-1] == wanted | {"place": "en/law", "weights": [1, 2]}
