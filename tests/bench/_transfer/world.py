"""A parent, a block of it, and text by domain; what was made once is kept in the work directory."""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file, save_file

from p2pllm import blocks, corpus
from p2pllm.blocks import Cut
from p2pllm.ids import content_id
from p2pllm.jobs import ImportJob, Progress
from p2pllm.learn import carve, delta, distill, importance, model, transfer
from p2pllm.learn.algebra import Parts
from p2pllm.learn.base_import import import_base
from p2pllm.learn.delta import Delta, Factors
from p2pllm.learn.distill import Asked, Recipe
from p2pllm.learn.graft import grafted
from p2pllm.learn.importance import Size
from p2pllm.learn.logits import LogitCache, cache_logits
from p2pllm.logit_cache import Caching
from p2pllm.manifest import model_id_of
from tests.bench._adapters import ground

GENERAL = ("encyclopedia", "news")  # what no place may forget
HELD_OUT = 0.3


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How much of everything."""

    seq: int
    documents: int  # scored, a domain
    ffn: float  # of the parent's channels that the block keeps
    child_steps: int
    other_steps: int  # of the child that is to learn from its parent
    child_batch: int
    child_lr: float
    rows: int  # made up by a child
    replay: int  # rows of the parent's own
    steps: int
    batch: int
    lr: float
    rank: int
    opening: int = 8


TINY = Scale(
    seq=64, documents=120, ffn=0.75, child_steps=100, other_steps=60, child_batch=8, child_lr=5e-3,
    rows=256, replay=256, steps=100, batch=16, lr=4e-3, rank=16,
)  # fmt: skip
LARGE = Scale(
    seq=96, documents=32, ffn=0.9, child_steps=40, other_steps=25, child_batch=6, child_lr=1e-3,
    rows=80, replay=96, steps=24, batch=6, lr=1e-3, rank=16,
)  # fmt: skip
SHORT = Scale(
    seq=48, documents=20, ffn=0.75, child_steps=15, other_steps=8, child_batch=8, child_lr=5e-3,
    rows=32, replay=32, steps=10, batch=8, lr=4e-3, rank=4,
)  # fmt: skip


class World:
    """The parent and a block of it, in memory."""

    def __init__(self, work: Path, base: Path, scale: Scale) -> None:
        self.work, self.scale = work, scale
        work.mkdir(parents=True, exist_ok=True)
        self.began = time.process_time()
        self.tokenizer = model.load_tokenizer(base)
        config = model.load_config(base)
        large = model.shape_of(base, config).params > 20_000_000
        self.dtype = model.compute_dtype() if large else torch.float32
        self.parent = model.load_base(base, config, self.dtype).requires_grad_(False)
        self.tokenizer_id = distill.tokenizer_id(base)
        self.learnt: dict[str, list[str]] = {}
        self.held: dict[str, list[torch.Tensor]] = {}
        self.cut = self._cut(base)
        folder = work / "block"
        if not folder.exists():
            carve.cut_block(base, self.cut, folder)
        self.block = model.load_base(folder, model.load_config(folder), self.dtype)
        self.block.requires_grad_(False)
        self.parts: Parts = carve.parts(self.cut)

    def note(self, text: str) -> None:
        """Say how far it is."""
        print(f"{time.process_time() - self.began:7.1f} s  {text}", file=sys.stderr, flush=True)

    def _cut(self, base: Path) -> Cut:
        path = self.work / "cut"
        if path.is_file():
            return blocks.decode(path.read_bytes())
        frame = blocks.frame_in(base)
        text = torch.cat([self.rows(name, 24) for name in (*GENERAL, "medical", "law")])
        parent = model_id_of({p.name: content_id(p.read_bytes()) for p in base.iterdir()})
        scores = importance.score(self.parent, frame, text, lambda event: None)
        cut = importance.choose(scores, parent, frame, Size(ffn=self.scale.ffn))
        path.write_bytes(blocks.encode(cut))
        return cut

    def text(self, domain: str) -> None:
        """Split a domain's documents, once."""
        if domain not in self.learnt:
            learnt, held = corpus.split(ground.documents(domain), HELD_OUT)
            self.learnt[domain] = learnt
            ids = [self.tokenizer.encode(text).ids[: self.scale.seq] for text in held[:2000]]
            whole = [torch.tensor(each) for each in ids if len(each) == self.scale.seq]
            self.held[domain] = whole[: self.scale.documents]

    def rows(self, domain: str, count: int) -> torch.Tensor:
        """Rows of a domain's text to learn from."""
        self.text(domain)
        stream: list[int] = []
        for text in self.learnt[domain]:
            stream += self.tokenizer.encode(text).ids
            if len(stream) >= count * self.scale.seq:
                break
        have = min(count, len(stream) // self.scale.seq)
        return torch.tensor(stream[: have * self.scale.seq]).view(have, self.scale.seq)

    def losses(self, name: str, change: Delta | None, domain: str) -> list[float]:
        """The loss of each held-out document of a domain, nats per token; measured once.

        name   of the model and the change on it; one that begins with `child` is on the block
        """
        network = self.block if name.startswith("child") else self.parent

        def make() -> dict[str, Any]:
            self.text(domain)
            each = transfer.losses(network, change, self.held[domain])
            return {"mean": statistics.fmean(each), "losses": each}

        found: list[float] = self.figures(f"loss-{name}-{domain}", make)["losses"]
        return found

    def specialist(self, domain: str, steps: int) -> Delta:
        """What a child on the block learnt of its own domain's text in so many steps."""

        def make() -> Delta:
            scale = self.scale
            rows = self.rows(domain, steps * scale.child_batch)
            recipe = Recipe(steps=steps, batch=scale.child_batch, lr=scale.child_lr)
            torch.manual_seed(0)
            tuned = model.new_adapter(
                self.block, scale.rank, float(scale.rank), list(transfer.Fresh().targets)
            )
            distill.distill(tuned, rows, None, recipe)
            made = delta.from_tensors(
                {n: t.detach().clone() for n, t in model.adapter_tensors(tuned).items()}, 1.0
            )
            tuned.unload()
            return made

        found = self.change(f"child-{domain}", make)
        self.losses("parent", None, domain)
        self.losses(f"child-{domain}", found, domain)
        return found

    def answers(
        self,
        name: str,
        network: torch.nn.Module,
        change: Delta | None,
        rows: Callable[[], torch.Tensor],
    ) -> LogitCache:
        """What a model answers to rows, kept."""
        path = self.work / f"{name}.logits"
        if path.is_file():
            return LogitCache(path)
        asked = Asked(content_id(name.encode()), self.tokenizer_id, Caching(keep=24))
        self.note(f"{name}: asking")
        made = rows()
        with grafted(network, change):
            return cache_logits(network, made, path, asked, _silent)

    def change(self, name: str, make: Callable[[], Delta]) -> Delta:
        """A change, made once."""
        path = self.work / f"{name}.safetensors"
        if not path.is_file():
            self.note(f"{name}: learning")
            tensors = {}
            for module, factors in make().items():
                tensors[f"{module}:b"] = factors.b.float().contiguous()
                tensors[f"{module}:a"] = factors.a.float().contiguous()
            save_file(tensors, path)
            self.note(f"{name}: learnt")
        found = load_file(path)
        names = sorted({key.rpartition(":")[0] for key in found})
        return {n: Factors(found[f"{n}:b"].double(), found[f"{n}:a"].double()) for n in names}

    def figures(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Figures, made once."""
        path = self.work / f"{name}.json"
        if not path.is_file():
            found = make()
            path.write_text(json.dumps(found))
            self.note(f"{name}: { {k: v for k, v in found.items() if not isinstance(v, list)} }")
        read: dict[str, Any] = json.loads(path.read_text())
        return read


def base_of(work: Path, large: bool, given: str | None, steps: int) -> Path:
    """The parent: what was given, the packaged 135M model, or a tiny one trained here."""
    if given:
        return Path(given)
    if not large:
        return ground.make_base(work, steps)
    base = work / "base"
    if not base.is_dir():
        import_base(ImportJob(source="smollm2", out_dir=str(base)), _silent)
    return base


def _silent(event: Progress) -> None:
    pass
