"""Knowledge up to a parent and down to its children, each way as a change laid on what is there.

Up, a child hands over rows that it made up and what it answers to them; the parent sifts them and
learns them beside rows of its own with its own earlier answers. Down, a change of the parent is
restricted to the child's block, exactly, and the child learns the parent's answers beside its own.
Either result is only a proposal: `judged` holds it against the rule of `p2pllm.gate`.

Weights alone do not carry a new domain up: merging failed where this worked (LAMOL, arXiv
1909.03329, is generator and learner in one model; here they are two).
"""

import math
from collections.abc import Mapping, Sequence

import msgspec
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from p2pllm import gate
from p2pllm.errors import LocalError
from p2pllm.gate import Decision, Facts, Rule, Shadow
from p2pllm.ids import NodeId
from p2pllm.learn import algebra, delta, model
from p2pllm.learn.algebra import Parts
from p2pllm.learn.delta import Delta
from p2pllm.learn.distill import Recipe, Say, distill
from p2pllm.learn.divergence import Sparse
from p2pllm.learn.graft import grafted
from p2pllm.learn.logits import LogitCache

AT_ONCE = 1024  # tokens scored at once

Documents = Sequence[torch.Tensor]
"""Token ids of documents, each (tokens,)."""


class Fresh(msgspec.Struct, frozen=True, kw_only=True):
    """The adapter that is learnt."""

    rank: int = 16
    targets: tuple[str, ...] = ("down_proj", "o_proj", "q_proj", "up_proj", "v_proj")


class Sieve(msgspec.Struct, frozen=True, kw_only=True):
    """Which of a peer's rows are learnt from."""

    quota: int = 512  # rows of one peer
    low: float = 0.25  # of the usual loss: under it a row says one thing again and again
    high: float = 2.5  # nats per token over the usual loss: above it a row is no text to us
    most_common: float = 0.25  # of a row's tokens may be one token


class Sifted(msgspec.Struct, frozen=True):
    """The rows kept, by place, and how many were not, by reason."""

    kept: tuple[int, ...]
    refused: dict[str, int]


class Source(msgspec.Struct, frozen=True):
    """Rows, and who answers them."""

    cache: LogitCache
    kept: tuple[int, ...] | None = None  # None: all rows
    share: float = 1.0  # of what is learnt from, beside other sources' shares


class Joined:
    """Several sources as one teacher; rows are drawn by the sources' shares."""

    def __init__(self, sources: Sequence[Source], count: int, seed: int = 0) -> None:
        if len({source.cache.rows.shape[1] for source in sources}) != 1:
            raise LocalError("E0204", "the sources' rows are not equally long")
        if len({source.cache.about.tokenizer for source in sources}) != 1:
            raise LocalError("E0713", "the sources cut text into different tokens")
        total = sum(source.share for source in sources)
        generator = torch.Generator().manual_seed(seed)
        self._places: list[tuple[int, int]] = []
        for number, source in enumerate(sources):
            kept = source.kept if source.kept is not None else range(len(source.cache.rows))
            wanted = round(count * source.share / total)
            if not kept and wanted:
                raise LocalError("E0406", "no row of a source is left to learn from")
            rounds = -(-wanted // max(1, len(kept)))
            order = torch.cat([torch.randperm(len(kept), generator=generator)] * rounds)
            self._places += [(number, kept[at]) for at in order[:wanted].tolist()]
        self._caches = [source.cache for source in sources]
        self.rows = torch.stack([self._caches[n].rows[at] for n, at in self._places])

    def answers(self, picked: torch.Tensor) -> Sparse:
        """What each row's own teacher said to it; narrower answers are filled up with nothing."""
        found = []
        for at in picked.tolist():
            number, row = self._places[at]
            found.append(self._caches[number].answers(torch.tensor([row])))
        width = max(one.index.shape[-1] for one in found)
        index = torch.cat([functional.pad(o.index, (0, width - o.index.shape[-1])) for o in found])
        value = torch.cat(
            [
                functional.pad(o.value, (0, width - o.value.shape[-1]), value=-math.inf)
                for o in found
            ]
        )
        return Sparse(index, value, tail=False)


def sift(network: torch.nn.Module, rows: torch.Tensor, own: torch.Tensor, sieve: Sieve) -> Sifted:
    """Which rows of a stranger are worth learning from, by what this model thinks of them.

    own   rows of the model's own; their mean loss is the usual one
    """
    usual = math.fsum(losses(network, None, list(own))) / len(own)
    kept: list[int] = []
    refused = dict.fromkeys(("odd", "empty", "repeated", "duplicate", "quota"), 0)
    seen: set[tuple[int, ...]] = set()
    for at, loss in enumerate(losses(network, None, list(rows))):
        row = tuple(rows[at].tolist())
        common = max(row.count(token) for token in set(row)) / len(row)
        why = ""
        if row in seen:
            why = "duplicate"
        elif common > sieve.most_common:
            why = "repeated"
        elif not loss <= usual + sieve.high:  # also what is no number
            why = "odd"
        elif loss < sieve.low * usual:
            why = "empty"
        elif len(kept) >= sieve.quota:
            why = "quota"
        seen.add(row)
        if why:
            refused[why] += 1
        else:
            kept.append(at)
    return Sifted(tuple(kept), refused)


def learnt(
    network: PreTrainedModel,
    under: Delta | None,
    sources: Sequence[Source],
    recipe: Recipe,
    fresh: Fresh,
    say: Say = lambda event: None,
) -> Delta:
    """The change that learning from these sources makes, to be laid on `under`.

    network   is as it was when this returns
    under     what is laid on the network already, and stays as it is
    """
    teacher = Joined(sources, recipe.steps * recipe.batch, recipe.seed)
    torch.manual_seed(recipe.seed)
    with grafted(network, under):
        tuned = model.new_adapter(network, fresh.rank, float(fresh.rank), list(fresh.targets))
        try:
            distill(tuned, teacher.rows, teacher, recipe, say)
            made = delta.from_tensors(
                {name: one.detach().clone() for name, one in model.adapter_tensors(tuned).items()},
                1.0,
            )
        finally:
            tuned.unload()
    return made


def restricted(
    change: Delta, parts: Parts, network: torch.nn.Module, own: Delta | None, text: Documents
) -> tuple[Delta, float]:
    """A parent's change on a child's block, at the scale that suits the child's new text best.

    text   documents of what the parent learnt; the scale is one of 0, a quarter, a half, one
    """
    plain = algebra.restrict(change, parts)
    best, least = {}, math.inf
    chosen = 0.0
    for scale in (0.0, 0.25, 0.5, 1.0):
        scaled = delta.stack([(plain, scale)]) if scale else {}
        loss = math.fsum(losses(network, joined(own, scaled), text))
        if loss < least:
            best, least, chosen = dict(scaled), loss, scale
    return best, chosen


def joined(*changes: Delta | None) -> Delta:
    """Changes laid one on the other, as one."""
    return delta.stack([(change, 1.0) for change in changes if change])


def losses(network: torch.nn.Module, change: Delta | None, text: Documents) -> list[float]:
    """The loss of each document under a change, nats per token."""
    found = [0.0] * len(text)
    order = sorted(range(len(text)), key=lambda at: len(text[at]))
    with torch.inference_mode(), grafted(network, change):
        while order:
            width = len(text[order[0]])
            here = [at for at in order if len(text[at]) == width][: max(1, AT_ONCE // width)]
            order = [at for at in order if at not in here]
            rows = torch.stack([text[at] for at in here])
            logits = network(input_ids=rows, use_cache=False).logits[:, :-1].float()
            each = functional.cross_entropy(
                logits.transpose(1, 2), rows[:, 1:], reduction="none"
            ).mean(dim=1)
            for at, loss in zip(here, each.tolist(), strict=True):
                found[at] = loss
    return found


def gains(before: Sequence[float], after: Sequence[float]) -> list[float]:
    """What a change gives each document, nats per token."""
    return [old - new for old, new in zip(before, after, strict=True)]


def judged(
    facts: Facts, target: Mapping[NodeId, Sequence[float]], anchors: Sequence[float], rule: Rule
) -> Decision:
    """The gate's word on a proposed change, from what it gives each document.

    target    gains on the text that was to be learnt, by the peer whose text it is
    anchors   gains on the text that was not to suffer
    """
    first = gate.cheap(facts, rule)
    if first.outcome != "accept":
        return first
    return gate.judge(facts, Shadow(probes=target, anchors=anchors), rule, armed=False)
