"""How the loss of one example moves under really trained updates of a tiny model: paired noise.

An example is a document, up to four rows of 64 tokens of it; its difference is the loss before less
the loss after an update, nats per token. The figures in `streams.py` came from here:
`python -m tests.bench gate --measure FOLDER` (three minutes of one core, the base included).
"""

import statistics
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.nn import functional

from p2pllm import corpus
from p2pllm.learn import delta, model
from p2pllm.learn.delta import Delta, Factors
from p2pllm.learn.graft import grafted
from tests.bench._adapters import ground
from tests.bench._adapters.training import Recipe, train

DOCUMENTS = 400  # a domain
ROWS = 4  # of a document, at most
QUANTILES = 40
NEW, ANCHOR = "medical", "encyclopedia"
HELD_OUT = {NEW: 0.4, ANCHOR: 0.1}
STEPS = 1600  # of the base
RECIPES = {
    "useful": Recipe(domain=NEW, steps=30, lr=3e-3),
    "useful-again": Recipe(domain=NEW, steps=30, lr=3e-3, seed=1),
    "marginal": Recipe(domain=NEW, steps=3, lr=1e-3),
    "useful-but-forgets": Recipe(domain=NEW, steps=120, lr=1.5e-2),
    "poison": Recipe(domain=NEW, steps=30, lr=3e-3, shuffled=True),
}


def measured(folder: Path) -> dict[str, Any]:
    """Mean, deviation and tails of the differences on new and on old text, by kind of update."""
    base = ground.make_base(folder, STEPS)
    network = model.load_base(base, model.load_config(base), torch.float32)
    tokenizer = model.load_tokenizer(base)
    rows = {domain: _documents(tokenizer, domain) for domain in (NEW, ANCHOR)}
    before = {domain: _losses(network, None, part) for domain, part in rows.items()}
    learnt, _held = corpus.split(ground.documents(NEW), HELD_OUT[NEW])
    stream = ground.tokens(tokenizer, learnt)
    changes = {name: train(network, tokenizer, stream, made) for name, made in RECIPES.items()}
    changes["noise"] = _noise(changes["useful"])
    changes["duplicate"] = delta.stack([(changes["useful"], 2.0)])
    found: dict[str, Any] = {}
    for name, change in changes.items():
        after = {domain: _losses(network, change, part) for domain, part in rows.items()}
        start = before
        if name == "duplicate":  # what the same update gives a parent that has it already
            start = {d: _losses(network, changes["useful"], part) for d, part in rows.items()}
        found[name] = {
            domain: _figures([b - a for b, a in zip(start[domain], after[domain], strict=True)])
            for domain in rows
        }
    return found


def _documents(tokenizer: Tokenizer, domain: str) -> list[torch.Tensor]:
    """Held-out documents as rows, (rows, SEQ) each."""
    _train, held = corpus.split(ground.documents(domain), HELD_OUT[domain])
    made = []
    for text in held[:DOCUMENTS]:
        ids = tokenizer.encode(text).ids[: ROWS * ground.SEQ]
        count = len(ids) // ground.SEQ
        if count:
            made.append(torch.tensor(ids[: count * ground.SEQ]).view(count, ground.SEQ))
    return made


def _losses(
    network: torch.nn.Module, change: Delta | None, documents: list[torch.Tensor]
) -> list[float]:
    """The loss of each document, nats per token."""
    each: list[float] = []
    with torch.inference_mode(), grafted(network, change):
        for part in torch.split(torch.cat(documents), 32):
            logits = network(input_ids=part, use_cache=False).logits[:, :-1].float()
            losses = functional.cross_entropy(logits.transpose(1, 2), part[:, 1:], reduction="none")
            each += losses.mean(dim=1).tolist()
    found = []
    for rows in documents:
        found.append(statistics.fmean(each[: len(rows)]))
        each = each[len(rows) :]
    return found


def _noise(like: Delta) -> Delta:
    """A change of the same norm a module, in directions that nobody learnt."""
    source = torch.Generator().manual_seed(7)
    made = {}
    for name, factors in like.items():
        b = torch.randn(factors.b.shape, generator=source)
        a = torch.randn(factors.a.shape, generator=source)
        scale = delta.norm({name: factors}) / delta.norm({name: Factors(b.double(), a.double())})
        made[name] = Factors(b * scale, a)
    return made


def _figures(differences: list[float]) -> dict[str, Any]:
    mean, deviation = statistics.fmean(differences), statistics.stdev(differences)
    plain = sorted((x - mean) / deviation for x in differences)
    last = len(plain) - 1
    quantiles = [round(plain[round(at * last / QUANTILES)], 2) for at in range(QUANTILES + 1)]
    figures = {
        "mean": mean,
        "deviation": deviation,
        "skew": statistics.fmean([x**3 for x in plain]),
        "kurtosis": statistics.fmean([x**4 for x in plain]),
    }
    rounded = {key: round(value, 4) for key, value in figures.items()}
    return {**rounded, "documents": len(differences), "quantiles": quantiles}
