"""Cut a model for a budget out of a larger one, teach it, carry knowledge both ways, quantise it.

Run: python examples/10_a_smaller_model.py     (a tiny base in a temporary folder; no network)
"""

import json
import random
import tempfile
from pathlib import Path

from p2pllm import blocks, derive
from p2pllm.ids import ContentId
from p2pllm.jobs import ImportJob, Progress, TuneJob
from p2pllm.jobs_blocks import BlockJob, Gathered, GatherJob
from p2pllm.jobs_files import ExportJob, QuantiseJob
from p2pllm.jobs_teach import DistillJob
from p2pllm.learn import convert, seedling
from p2pllm.learn.base_import import import_base
from p2pllm.learn.block_cut import cut_block
from p2pllm.learn.check import hash_base
from p2pllm.learn.gather import gather
from p2pllm.learn.teach import teach
from p2pllm.learn.tune import tune

WORDS = "the nurse gives night drops because fever falls slowly when old hearts beat weakly"


def quiet(_event: Progress) -> None:
    """Nobody watches."""


def sentence(draw: random.Random) -> str:
    """Words in an order that can be learnt: each is one or two on from the last."""
    words, at = WORDS.split(), draw.randrange(9)
    steps = [at := at + draw.choice((1, 2)) for _ in range(25)]
    return " ".join(words[step % len(words)] for step in steps)


def main(folder: Path) -> None:
    """Every figure is measured on text that was held out."""
    draw = random.Random(0)
    lines = [sentence(draw) for _ in range(120)]
    (folder / "text.jsonl").write_text("\n".join(json.dumps({"text": line}) for line in lines))
    grown = seedling.grow(folder / "grown", lines, steps=40)
    parent, block, text = folder / "parent", folder / "block", (str(folder / "text.jsonl"),)
    whole = import_base(ImportJob(source=str(grown), out_dir=str(parent)), quiet)
    model = hash_base(parent)

    plan = derive.plan(blocks.frame_in(parent), whole.params, whole.size_bytes, 400_000)
    small = {"ffn": plan.ffn, "depth": plan.depth, "steps": 10, "eval_tokens": 500}
    cut = cut_block(BlockJob(base_dir=str(parent), data=text, out_dir=str(block), **small), quiet)
    assert cut.params < whole.params
    print(f"derive    {whole.params:,} -> {cut.params:,} parameters for a budget of 400 kB")
    print(f"block     {cut.parent_loss:.3f} whole, {cut.cut_loss:.3f} cut, {cut.loss:.3f} mended")

    asked = {"teacher_dir": str(parent), "teacher": ContentId(model), "base_dir": str(block)}
    taught = teach(DistillJob(**asked, data=text, out_dir=str(folder / "taught"), steps=10), quiet)
    print(f"distil    {taught.base_loss:.3f} -> {taught.loss:.3f}, by its parent's answers")

    learnt, up, down = (str(folder / name) for name in ("learnt", "up", "down"))
    tuned = tune(TuneJob(base_dir=str(block), data=text, out_dir=learnt, steps=10), quiet)
    part = (Gathered(learnt, str(block)),)
    lifted = gather(GatherJob(base_dir=str(parent), parts=part, out_dir=up), quiet)
    back = GatherJob(base_dir=str(parent), parts=(Gathered(up),), into_dir=str(block), out_dir=down)
    assert abs(gather(back, quiet).norm / lifted.norm - 1) < 1e-5
    print(
        f"tuned     {tuned.base_loss:.3f} -> {tuned.loss:.3f}; up to the parent and down: the same"
    )

    fewer = QuantiseJob(base_dir=str(block), out_dir=str(folder / "q8"), bits=8, data=text)
    bits = convert.quantise(fewer, quiet)
    print(f"quantise  {bits.base_size_bytes:,} -> {bits.size_bytes:,} bytes, loss {bits.loss:.3f}")
    out = {"adapter_dir": learnt, "out_dir": str(folder / "gguf"), "format": "gguf"}
    print(f"export    {convert.export(ExportJob(base_dir=str(block), **out), quiet).files[0]}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
