"""Go on learning from a folder that grows, remember what came before, and go back a step.

Run: python examples/11_keep_learning.py     (a tiny base in a temporary folder; no network)
"""

import json
import random
import tempfile
from pathlib import Path

from p2pllm import learner
from p2pllm.jobs import ImportJob, Progress
from p2pllm.jobs_learn import ContinualJob
from p2pllm.learn import seedling, stream
from p2pllm.learn.base_import import import_base

NURSE = "the nurse gives night drops because fever falls slowly when old hearts beat"
COURT = "a judge reads each clause before any party signs or breaks some binding contract"


def quiet(_event: Progress) -> None:
    """Nobody watches."""


def text(field: str, seed: int, turn: int = 1) -> list[str]:
    """Sentences of one field, their words in an order that can be learnt."""
    draw, words = random.Random(seed), field.split()[::turn]
    return [" ".join(words[draw.randrange(4) :] + words[: draw.randrange(9)]) for _ in range(60)]


def main(folder: Path) -> None:
    """Two fields one after the other; the second is unlearnt by going back."""
    grown = seedling.grow(folder / "grown", text(NURSE, 8, -1) + text(COURT, 9, -1), steps=40)
    import_base(ImportJob(source=str(grown), out_dir=str(folder / "base")), quiet)
    inbox, state = folder / "inbox", folder / "state"
    inbox.mkdir()
    job = ContinualJob(
        base_dir=str(folder / "base"),
        state_dir=str(state),
        data=(str(inbox),),
        lr=5e-3,
        steps=30,
        seq=32,
        pool=32,
        min_tokens=200,
        eval_tokens=300,
    )
    for number, field in enumerate((NURSE, COURT), 1):
        lines = (json.dumps({"text": one}) for one in text(field, number))
        (inbox / f"{number}.jsonl").write_text("\n".join(lines))
        done = stream.step(job, quiet)
        assert done.step == number
        print(f"step {done.step}    new text {done.before:.3f} -> {done.after:.3f} nats/token")
    older = done.meters[0]
    print(f"older     {older.base:.3f} before all, {older.best:.3f} at best, {older.now:.3f} now")
    assert stream.step(job, quiet).step == 0
    print("again     nothing new, nothing done")

    first = learner.adapter_folder(state, 1) / "adapter_model.safetensors"
    kept = first.read_bytes()
    back = learner.go_back(state, 1, again=False)
    assert (back.head, first.read_bytes()) == (1, kept)
    print("rollback  step 1 serves again, byte for byte; what step 2 read is not read again")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
