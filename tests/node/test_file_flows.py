"""Merging, quantising and exporting what a node holds: manifests, parents, refusals."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch
import trio

from node import file_flows
from node.learn_flows import Described, import_base, keep_adapter
from node.library import Held, Library
from node.models import Models
from node.requests import ExportRequest, ImportRequest, JobRequest, MergeRequest, QuantiseRequest
from node.services import Services
from p2pllm import adapter, durable, heads, jobs, keys
from p2pllm.errors import P2pllmError
from p2pllm.heads import Accepted, Head
from p2pllm.jobs import ImportJob
from p2pllm.learn import adapter_io, convert, delta
from p2pllm.learn.base_import import import_base as run_import
from p2pllm.learn.delta import Delta, Factors
from p2pllm.names import Place
from p2pllm.store import Store
from tests.p2pllm.learn import planted, tiny

MEDICAL = Place("en", "medical", "")


class InThisProcess:
    """Does learn jobs here, each through its line of JSON, as the child gets it."""

    async def run(self, job: jobs.Job, _report: object) -> Any:
        given = jobs.decode_job(jobs.encode_job(job))
        run: Callable[..., Any] = run_import if isinstance(given, ImportJob) else convert.run
        return run(given, lambda _event: None)


@dataclass
class Node:
    """What the flows take of a node's services."""

    config: Any
    identity: keys.Identity
    library: Library
    models: Models
    learner: InThisProcess = field(default_factory=InThisProcess)
    working: set[Path] = field(default_factory=set)
    memory_bytes: int = 0
    work_folder = Services.work_folder


def report(_stage: str, **_fields: object) -> None:
    pass


def do(flow: Callable[..., Any], node: Any, request: msgspec.Struct) -> dict[str, Any]:
    asked = msgspec.json.decode(msgspec.json.encode(request), type=JobRequest)
    found: dict[str, Any] = trio.run(flow, node, asked, report)
    return found


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    home = tmp_path_factory.mktemp("home")
    config = SimpleNamespace(home=home, learn=SimpleNamespace(threads=1))
    store, library = Store(home / "store", 10**8), Library(home / "node.db")
    identity = keys.generate()
    made = Node(config, identity, library, Models(home, store, library, identity))
    source = tiny.save_base(home / "source", tiny.llama())
    do(import_base, made, ImportRequest(source=str(source), name="tiny", licence="MIT"))
    with closing(store), closing(library):
        yield made


@pytest.fixture(scope="module")
def adapters(node: Any) -> list[Held]:
    """Two adapters of this node, of ranks 4 and 2."""
    [base] = node.library.models()
    made = []
    for number, rank in enumerate((4, 2)):
        change = planted.noise(tiny.llama(), number, rank)
        folder = node.config.home / f"adapter{number}"
        adapter_io.write(change, Path(base.folder), folder)
        described = Described(place=MEDICAL, name=f"part{number}", licence="MIT")
        made.append(trio.run(keep_adapter, node, folder, base, described))
    return made


def change_of(folder: str, base: Held) -> Delta:
    return delta.read(Path(folder), adapter.inspect(Path(folder), Path(base.folder)))


def refused(flow: Callable[..., Any], node: Any, request: msgspec.Struct) -> str:
    with pytest.raises(P2pllmError) as error:
        do(flow, node, request)
    return error.value.code


def test_a_merge_is_an_adapter_with_its_parts_as_parents(node: Any, adapters: list[Held]) -> None:
    refs = [held.ref for held in adapters]
    request = MergeRequest(what=refs, weights=[0.5, 2.0], place="en/medical", name="both")
    found = do(file_flows.merge, node, request)
    assert (found["rank"], found["adapters"], found["energy"]) == (6, 2, 1.0)
    [base] = [held for held in node.library.models() if held.kind == "base"][:1]
    manifest = node.models.manifest(found["manifest"])
    assert manifest.parents == (base.manifest, *(held.manifest for held in adapters))
    assert (manifest.licence, manifest.consent, manifest.model) == ("MIT", False, base.model)
    parts = [(change_of(held.folder, base), w) for held, w in zip(adapters, (0.5, 2), strict=True)]
    gap = delta.stack([*parts, (change_of(found["path"], base), -1.0)])
    assert delta.norm(gap) < 1e-6 * found["norm"]
    turned = MergeRequest(what=refs[::-1], weights=[2.0, 0.5], place="en/medical", name="again")
    again = node.models.manifest(do(file_flows.merge, node, turned)["manifest"])
    assert again.file(adapter.WEIGHTS_FILE).blake3 == manifest.file(adapter.WEIGHTS_FILE).blake3


def test_the_head_of_a_place_becomes_one_adapter(node: Any, adapters: list[Held]) -> None:
    pairs = heads.canonical(Accepted(held.manifest, 0.5) for held in adapters)
    head = Head(by=node.identity.node, place=MEDICAL, seq=1, accepted=pairs)
    heads.HeadFile(node.config.home / "heads").write(heads.seal(node.identity, head))
    request = MergeRequest(head="en/medical", name="served", rank=2, residual="rest")
    found = do(file_flows.merge, node, request)
    assert found["place"] == "en/medical"
    assert found["rank"] == 2
    assert found["residual_ref"].startswith("en/medical/rest@")
    assert refused(file_flows.merge, node, MergeRequest(head="en/law", name="x")) == "E0402"


def test_a_foreign_folder_becomes_plain_lora(node: Any, tmp_path: Path) -> None:
    base = node.library.models()[0]
    change = {"model.layers.0.self_attn.q_proj": Factors(torch.ones(32, 4), torch.ones(4, 32))}
    adapter_io.write(change, Path(base.folder), tmp_path / "foreign")
    tiny.edit_config(tmp_path / "foreign", use_rslora=True)
    request = MergeRequest(
        what=[str(tmp_path / "foreign")], base="tiny", place="en/medical", name="plain"
    )
    found = do(file_flows.merge, node, request)
    assert "use_rslora" in found["converted"][0]
    factors = change_of(found["path"], base)["model.layers.0.self_attn.q_proj"]
    assert torch.allclose(factors.b @ factors.a, torch.full((32, 32), 8.0).double())  # 4/√4 · 4
    assert node.models.manifest(found["manifest"]).licence == "NOASSERTION"


def test_what_cannot_be_merged_is_refused(node: Any, adapters: list[Held]) -> None:
    one = adapters[0].ref
    asked = {"place": "en/medical", "name": "x"}
    assert refused(file_flows.merge, node, MergeRequest(**asked)) == "E0204"
    both = MergeRequest(what=[one], head="en/medical", **asked)
    assert refused(file_flows.merge, node, both) == "E0204"
    assert refused(file_flows.merge, node, MergeRequest(what=["en/tiny"], **asked)) == "E0204"
    uneven = MergeRequest(what=[one], weights=[1.0, 2.0], **asked)
    assert refused(file_flows.merge, node, uneven) == "E0204"
    assert refused(file_flows.merge, node, MergeRequest(what=["/none"], **asked)) == "E0204"
    gone = MergeRequest(what=["/none"], base="tiny", **asked)
    assert refused(file_flows.merge, node, gone) == "E0402"
    assert not list((node.config.home / "work").iterdir())


def test_a_variant_is_a_base_with_its_original_as_parent(node: Any, tmp_path: Path) -> None:
    text = tiny.write_jsonl(tmp_path / "t.jsonl", tiny.sentences(10, seed=3))
    found = do(file_flows.quantise, node, QuantiseRequest(ref="tiny", bits=8, data=[str(text)]))
    base = node.library.models()[0]
    manifest = node.models.manifest(found["manifest"])
    assert (manifest.kind, manifest.name) == ("base", "tiny-q8")
    assert manifest.parents == (base.manifest,)
    assert (found["kind"], found["numbers"]) == ("base", "Q8_0")
    assert manifest.model != base.model
    assert manifest.report is not None
    assert manifest.report.loss == pytest.approx(manifest.report.base_loss, abs=0.01)
    assert (Path(found["path"]) / "model.gguf").is_file()
    unmeasured = do(file_flows.quantise, node, QuantiseRequest(ref="tiny", bits=4, name="small"))
    assert unmeasured["loss"] is None
    assert node.models.manifest(unmeasured["manifest"]).report is None


def test_an_export_stands_where_it_was_asked_for(
    node: Any, adapters: list[Held], tmp_path: Path
) -> None:
    dest = str(tmp_path / "deep" / "out")
    request = ExportRequest(ref=adapters[0].ref, format="gguf", dest=dest, bits=8)
    found = do(file_flows.export, node, request)
    assert list(found["files"]) == ["model.gguf"]
    assert found["rounding"] > 0
    assert Path(found["path"], "model.gguf").is_file()
    assert refused(file_flows.export, node, request) == "E0204"  # no longer empty
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o750)
    same = mine.stat().st_ino, mine.stat().st_mode
    durable.making_for(mine).mkdir()  # as a killed one leaves it
    do(file_flows.export, node, ExportRequest(ref=adapters[0].ref, format="gguf", dest=str(mine)))
    assert [path.name for path in mine.iterdir()] == ["model.gguf"]
    assert (mine.stat().st_ino, mine.stat().st_mode) == same
    relative = ExportRequest(ref=adapters[0].ref, format="gguf", dest="out")
    assert refused(file_flows.export, node, relative) == "E0204"
