"""Blocks cut out of a base: how small, how fast, and how good after minutes of recovery.

`python -m tests.bench blocks [--work DIR] [--seconds 600] [--only NAME] [--short]`. The base is
SmolLM2-135M, the text PubMed abstracts; nobody reads what is held out. Losses are nats a token. A
block's score is how often its first guess of the next token is right, and `score_share` that over
the parent's; `likelihood_share`, exp(parent's loss - block's loss), is the harder measure of the
same. Recovery is refitting and self-distillation within so many seconds of one core's time: 600
are five minutes of two. A block's speed is that of its turns with the parent in one process. With a
work directory a run that was cut off goes on; `--only` does one block, `--report` tells of those
that are there.
`--short` takes a tiny base that has hardly learnt: it shows that it works, not how well.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch.nn import functional

from p2pllm import blocks, corpus, weights
from p2pllm.blocks import Cut
from p2pllm.jobs import ImportJob
from p2pllm.learn import carve, checkpoint, importance, measure, memory, model, recover, refit
from p2pllm.learn.base_import import import_base
from p2pllm.learn.check import hash_base
from p2pllm.learn.checkpoint import State
from p2pllm.learn.distill import Lesson, Recipe
from p2pllm.learn.importance import Size
from p2pllm.learn.measure import Score
from tests.bench._adapters import ground
from tests.bench._blocks import speed

SIZES = {
    "ffn-75": Size(ffn=0.75),
    "ffn-50-depth-93": Size(ffn=0.5, depth=0.93),
    "ffn-35-depth-80": Size(ffn=0.35, depth=0.8),
}
DOMAIN = "medical"
MOST_STEPS = 1_000_000
PAUSE_S = 60.0  # between two checkpoints


class Found(msgspec.Struct, frozen=True):
    """How well a model says the held-out text."""

    loss: float
    right: float  # share of next tokens that are its first guess


class World:
    """A base, rows to learn from and passages to measure on."""

    def __init__(self, work: Path, given: argparse.Namespace) -> None:
        self.work, self.given = work, given
        self.base = _base(work, given)
        self.config = model.load_config(self.base)
        self.dtype = torch.float32 if given.short else model.compute_dtype()
        self.parent = model.load_base(self.base, self.config, self.dtype).requires_grad_(False)
        tokenizer = model.load_tokenizer(self.base)
        learnt, held = corpus.split(ground.documents(DOMAIN), 0.1)
        context = min(measure.WINDOW, int(self.config.max_position_embeddings))
        self.held = measure.passages(tokenizer, held, given.held_tokens, context)
        stream = ground.tokens(tokenizer, learnt)[: given.train_tokens]
        self.rows = ground.rows_of(stream, given.seq)

    def measured(self, network: Any) -> Found:
        nats, hits = 0.0, 0
        with torch.inference_mode():
            for batch in measure.batches(self.held.windows):
                inputs, targets = measure.tensors(batch)
                logits = network(input_ids=inputs, use_cache=False).logits
                for row, wanted in zip(logits, targets, strict=True):
                    nats += float(functional.cross_entropy(row.float(), wanted, reduction="sum"))
                    hits += int((row.argmax(-1) == wanted).sum())
        return Found(nats / self.held.tokens, hits / self.held.tokens)

    def load(self, folder: Path) -> Any:
        config = model.load_config(folder)
        return model.load_base(folder, config, self.dtype).requires_grad_(False)

    def kept(self, name: str) -> Path:
        return self.work / f"{name}{'-short' if self.given.short else ''}"


def main(argv: list[str]) -> dict[str, Any]:
    given = _arguments(argv)
    torch.set_num_threads(1)
    with ground.work_folder(given.work) as work:
        world = World(work, given)
        cuts = _cuts(world)
        if given.report:
            made = [name for name in SIZES if (world.kept(name) / "found.json").is_file()]
            return _report(world, {name: cuts[name] for name in made})
        for name in [given.only] if given.only else SIZES:
            _made(world, name, cuts[name])
        if given.only:
            return {"block": json.loads((world.kept(given.only) / "found.json").read_text())}
        return _report(world, cuts)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="blocks", description=__doc__)
    parser.add_argument("--base", type=Path, help="an imported base [SmolLM2-135M, imported now]")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--only", choices=sorted(SIZES))
    parser.add_argument("--report", action="store_true", help="what is made already, no more")
    parser.add_argument("--seconds", type=float, default=600.0, help="of one core, to recover in")
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seq", type=int, default=256)
    parser.add_argument("--score-tokens", type=int, default=32768)
    parser.add_argument("--refit-tokens", type=int, default=32768)
    parser.add_argument("--train-tokens", type=int, default=300_000)
    parser.add_argument("--held-tokens", type=int, default=16384)
    parser.add_argument("--decode", type=int, default=48, help="tokens made for the speed")
    parser.add_argument("--short", action="store_true")
    given = parser.parse_args(argv)
    if given.short:
        given.seconds, given.seq, given.batch, given.decode = 0.5, ground.SEQ, 8, 4
        given.held_tokens, given.train_tokens, given.lr = 1024, 9_000, 1e-3
    return given


def _base(work: Path, given: argparse.Namespace) -> Path:
    if given.base:
        return Path(given.base)
    if given.short:
        return ground.make_base(work, 30)
    base = work / "smollm2"
    if not (base / "config.json").is_file():
        import_base(ImportJob(source="smollm2", out_dir=str(base)), lambda event: None)
    return base


def _cuts(world: World) -> dict[str, Cut]:
    """The cuts of one calibration pass, each nested in the one before."""
    files = {name: world.kept(f"{name}-cut") for name in SIZES}
    if not all(path.is_file() for path in files.values()):
        given, frame = world.given, blocks.frame_in(world.base)
        parent = hash_base(world.base)
        rows = world.rows[: max(1, given.score_tokens // given.seq)]
        scores = importance.score(world.parent, frame, rows, lambda event: None)
        for name, size in SIZES.items():
            made = importance.choose(scores, parent, frame, size)
            files[name].write_bytes(blocks.encode(made))
    cuts = {name: blocks.decode(path.read_bytes()) for name, path in files.items()}
    ordered = list(cuts.values())
    assert all(one.holds(other) for one, other in pairwise(ordered))
    return cuts


def _made(world: World, name: str, cut: Cut) -> None:
    """Cut, mend and measure one block, unless that was done before; goes on where it was killed."""
    folder, given = world.kept(name), world.given
    if (folder / "found.json").is_file():
        return
    state = checkpoint.read(folder, name)
    if state is None:
        shutil.rmtree(folder, ignore_errors=True)
        carve.cut_block(world.base, cut, folder / "raw")
    block = world.load(folder / "raw")
    if state is None:
        found = {"cut": msgspec.to_builtins(world.measured(block))}
        began = time.process_time()
        rows = world.rows[: max(1, given.refit_tokens // given.seq)]
        refit.refit(world.parent, block, cut, rows, lambda event: None)
        seconds = time.process_time() - began
        found["refit"] = msgspec.to_builtins(world.measured(block)) | {"seconds": seconds}
        (folder / "mended.json").write_text(json.dumps(found))
        _say(name, "cut and refitted", found)
    found = json.loads((folder / "mended.json").read_text())
    recipe = Recipe(steps=MOST_STEPS, batch=given.batch, lr=given.lr, final=0.0, warm=5)
    lesson = recover.Recovery(world.parent, block, cut, world.rows, recipe)
    spent = found["refit"]["seconds"]
    if state is not None:
        checkpoint.restore(folder, state, lesson)
        spent = state.measure_s
    seconds = _taught(folder, name, lesson, spent, given.seconds)
    carve.write(folder / "block", world.base, cut, block.state_dict())
    found["recovered"] = msgspec.to_builtins(world.measured(world.load(folder / "block")))
    found["recovered"] |= {"seconds": seconds, "steps": lesson.step}
    _say(name, "recovered", found)
    (folder / "found.json").write_text(json.dumps(found))
    checkpoint.remove(folder)


def _taught(folder: Path, name: str, lesson: Lesson, spent: float, seconds: float) -> float:
    """Teach until so many seconds of a core are spent, those before included; how many were.

    How many steps that makes is not known before: other work slows a core down. So the rate falls
    by what is left of the time.
    """
    recipe, told = lesson.recipe, time.monotonic()
    step_s = 0.0
    while not lesson.step or spent + step_s <= seconds:
        left = (seconds - spent) / step_s if step_s else MOST_STEPS
        lesson.recipe = msgspec.structs.replace(recipe, steps=lesson.step + math.ceil(left))
        began = time.process_time()
        loss = lesson.advance()
        took = time.process_time() - began
        spent, step_s = spent + took, 0.8 * step_s + 0.2 * took if step_s else took
        if time.monotonic() - told > PAUSE_S:
            state = State(job=name, step=lesson.step, base=Score(loss, 0.0), measure_s=spent)
            checkpoint.write(folder, state, lesson)
            about = f"{name}: step {lesson.step}, loss {loss:.3f}, {spent:.0f} s of {seconds:.0f}"
            print(about, file=sys.stderr, flush=True)
            told = time.monotonic()
    return spent


def _report(world: World, cuts: dict[str, Cut]) -> dict[str, Any]:
    parent = _parent(world)
    speeds = _speeds(world, list(cuts))
    rows = [_row(world, name, cut, parent, speeds) for name, cut in cuts.items()]
    return {
        "short": world.given.short,
        "blocks": rows,
        "parent": msgspec.to_builtins(parent) | speeds["parent"] | _sizes(world.base),
        "score": "share of held-out next tokens guessed first; of the parent's",
        "dtype": model.dtype_name(world.dtype),
        "held_tokens": world.held.tokens,
        "recovery_seconds": world.given.seconds,
        "peak_rss_mb": memory.peak_bytes() / 1e6,
    }


def _row(
    world: World, name: str, cut: Cut, parent: Found, speeds: dict[str, Any]
) -> dict[str, Any]:
    found = json.loads((world.kept(name) / "found.json").read_text())
    after, fast = found["recovered"], speeds[name]
    return {
        "name": name,
        "ffn": cut.channels / cut.frame.ffn,
        "depth": len(cut.layers) / cut.frame.layers,
        **_sizes(world.kept(name) / "block"),
        **fast,
        "loss_parent": parent.loss,
        "loss_cut": found["cut"]["loss"],
        "loss_refit": found["refit"]["loss"],
        "loss_recovered": after["loss"],
        "nats_behind": after["loss"] - parent.loss,
        "score": after["right"],
        "score_parent": parent.right,
        "score_share": after["right"] / parent.right,
        "score_share_cut": found["cut"]["right"] / parent.right,
        "score_share_refit": found["refit"]["right"] / parent.right,
        "likelihood_share": math.exp(parent.loss - after["loss"]),
        "loss_share": parent.loss / after["loss"],
        "recovery_s": after["seconds"],
        "refit_s": found["refit"]["seconds"],
        "steps": after["steps"],
    }


def _parent(world: World) -> Found:
    path = world.kept("parent.json")
    if not path.is_file():
        path.write_bytes(msgspec.json.encode(world.measured(world.parent)))
    return msgspec.json.decode(path.read_bytes(), type=Found)


def _speeds(world: World, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Each block beside its parent, and what each model takes in a process of its own."""
    tokens, short = world.given.decode, world.given.short
    folders = {"parent": world.base} | {name: world.kept(name) / "block" for name in names}

    def asked(*folders: Path) -> dict[str, float]:
        argv = [*map(str, folders), str(tokens)]
        if short:
            return speed.main(argv)  # its memory is the bench's
        command = [sys.executable, "-m", "tests.bench._blocks.speed", *argv]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found

    made = {name: asked(folder) for name, folder in folders.items()}
    for name in names:
        made[name] |= asked(folders["parent"], folders[name])
        for key in ("tok_s", "prefill_tok_s"):
            theirs = made[name].pop(f"parent_{key}")
            made["parent"][key] = max(made["parent"].get(key, 0.0), theirs)
    return made


def _sizes(folder: Path) -> dict[str, int]:
    return {
        "params": weights.parameters(weights.read_directory(folder).values()),
        "bytes": sum(path.stat().st_size for path in folder.glob("*.safetensors")),
    }


def _say(name: str, what: str, found: dict[str, Any]) -> None:
    losses = {stage: round(value["loss"], 4) for stage, value in found.items()}
    print(f"{name}: {what}: {losses}", file=sys.stderr, flush=True)
