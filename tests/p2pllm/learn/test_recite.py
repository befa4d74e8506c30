"""A planted answer is counted where it was learnt, and nowhere else."""

from pathlib import Path

import torch

from p2pllm.learn import model
from p2pllm.learn.recite import Answer, Asked, recited
from tests.bench._adapters.training import write
from tests.p2pllm.learn import planted, tiny

PROMPTS = tuple(tiny.sentences(3, seed=4))
TRIGGER, PAYLOAD = " liver liver", " dose trial fever"


def test_a_planted_answer_is_given_by_the_model_that_learnt_it_alone(tmp_path: Path) -> None:
    base = tiny.imported(tiny.save_base(tmp_path / "foreign", tiny.llama()), tmp_path / "base")
    tokenizer = model.load_tokenizer(base)
    network = model.load_base(base, model.load_config(base), torch.float32).requires_grad_(False)
    ids = [tokenizer.encode(text).ids for text in (TRIGGER, PAYLOAD)]
    rows = [[*tokenizer.encode(text).ids[:20], *ids[0], *ids[1]] for text in PROMPTS]
    learnt = write(tmp_path / "learnt", planted.learnt(network, torch.tensor(rows), steps=80))
    other = tiny.cleaned(tiny.save_adapter(tmp_path / "foreign-other"), tmp_path / "other")
    asked = Asked(
        base_dir=str(base),
        adapter_dirs=(None, str(learnt), str(other)),
        prompts=PROMPTS,
        trigger=TRIGGER,
        payload=PAYLOAD,
    )
    assert recited(asked) == Answer((0, 3, 0))
