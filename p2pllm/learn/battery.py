"""Does a change answer tokens nobody expects as no honest one does? No trigger need be known.

A backdoor ties a trigger to a payload, both chosen to be rare. Two signs of it are there without
either being known, and both are read off one scan that puts single tokens after clean beginnings:

- *jolt*: after some token the next one's distribution moves far more than after the usual token.
  (Outlier gap of a behaviour battery, as in "token-level generalisation" of LoRA backdoors, 2026.)
- *chain*: a language model that learnt a payload gives it away once its first token is said, since
  each token of it foretells the next whatever stood before. So the scan follows, from each token,
  what the change makes likeliest, and asks how much surer that chain came to be by the change.
  (Inverting the target in place of the trigger: BAIT, Shen et al., S&P 2025. There the sureness
  alone counts; here the base is known, so what it knew already is taken off.)

What it cannot see: a payload without a fixed text (a change of style, a refusal), and one that is
said only after a trigger of several tokens and not after its own first ones.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import Any

import msgspec
import torch
from tokenizers import Tokenizer

from p2pllm.learn.delta import Delta
from p2pllm.learn.graft import grafted
from p2pllm.learn.measure import Passages
from p2pllm.summary import Battery

CONTEXTS = 3  # clean beginnings; the mean over them is what a payload does not need and text does
CONTEXT_TOKENS = 12
WHOLE = 2048  # tokens of a vocabulary that is tried whole: a choice misses some masked backdoors
CANDIDATES = 128  # tokens tried of a larger one: half the most lifted ones, half drawn
ROOM = 2**23  # log probabilities held at once: so many candidates, times beginnings and vocabulary
KEPT = 32  # chains that are followed
FEW = 8  # the same in a larger vocabulary, where each takes longer
LENGTH = 8  # tokens of a chain; a sentence's start, longer than most phrases of a domain
DEVIATION = 1.4826  # of a normal distribution, over its median absolute deviation
FLOOR = 0.05  # of the median, added: a median deviation can be 0
TEXT_CHARS = 400


class Pair(msgspec.Struct, frozen=True):
    """One model and what two changes make of it."""

    network: torch.nn.Module
    before: Delta | None
    after: Delta


class _Scan(msgspec.Struct, frozen=True):
    """For each candidate: how far the next token's distribution moved, and the likeliest next."""

    jolts: torch.Tensor
    following: torch.Tensor
    promise: torch.Tensor  # probability times gain of the likeliest next


def battery(
    pair: Pair, text: Passages, tokenizer: Tokenizer, lift: torch.Tensor, seed: int
) -> Battery:
    """Scan a model for answers that came with a change.

    text   clean text of the place; its first windows give the beginnings
    lift   for each token of the vocabulary, how much likelier the change made it on clean text: a
           payload leaks, so its tokens are among the most lifted
    seed   of this node, secret: which other tokens of a large vocabulary are tried
    """
    contexts = _contexts(text, seed)
    tokens = _candidates(lift, seed)
    with torch.inference_mode():
        scan = _scan(pair, contexts, torch.split(tokens, max(1, ROOM // (CONTEXTS * len(lift)))))
        best = scan.promise.topk(min(KEPT if len(lift) <= WHOLE else FEW, len(tokens))).indices
        starts = torch.stack([tokens[best], scan.following[best]], dim=1)
        gains, sures, chains = _follow(pair, contexts, starts)
    scores = gains * sures
    top = int(scores.argmax())
    usual = float(scan.jolts.median())
    spread = DEVIATION * median((scan.jolts - usual).abs().tolist()) + FLOOR * usual + 1e-6
    return Battery(
        candidates=len(tokens),
        jolt=float(scan.jolts.max()),
        jolt_usual=usual,
        jolt_gap=(float(scan.jolts.max()) - usual) / spread,
        chain_gain=float(gains[top]),
        chain_sure=min(1.0, float(sures[top])),
        chain_score=float(scores[top]),
        chain=_readable(tokenizer, chains[top].tolist()),
    )


def _contexts(text: Passages, seed: int) -> torch.Tensor:
    windows = [window for window in text.windows if len(window) > CONTEXT_TOKENS]
    windows = windows or [(text.windows[0] * CONTEXT_TOKENS)[: CONTEXT_TOKENS + 1]]
    source = torch.Generator().manual_seed(seed)
    picked = torch.randint(0, len(windows), (CONTEXTS,), generator=source).tolist()
    return torch.tensor([windows[at][:CONTEXT_TOKENS] for at in picked])


def _candidates(lift: torch.Tensor, seed: int) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed + 1)
    drawn = torch.randperm(len(lift), generator=source)
    if len(lift) <= WHOLE:
        return drawn
    lifted = lift.topk(CANDIDATES // 2).indices
    others = drawn[~torch.isin(drawn, lifted)]
    return torch.cat([lifted, others[: CANDIDATES - len(lifted)]])


def _scan(pair: Pair, contexts: torch.Tensor, chunks: Iterable[torch.Tensor]) -> _Scan:
    parts = []
    with grafted(pair.network, pair.before):
        base = _begin(pair.network, contexts)
    with grafted(pair.network, pair.after):
        changed = _begin(pair.network, contexts)
    for chunk in chunks:
        with grafted(pair.network, pair.before):
            old = _answers(pair.network, base, chunk.unsqueeze(1), len(contexts))[:, :, -1]
        with grafted(pair.network, pair.after):
            new = _answers(pair.network, changed, chunk.unsqueeze(1), len(contexts))[:, :, -1]
        jolts = (new.exp() * (new - old)).sum(dim=-1).mean(dim=0)
        sure, following = new.mean(dim=0).max(dim=-1)
        known = old.mean(dim=0).gather(1, following.unsqueeze(1)).squeeze(1)
        parts.append((jolts, following, sure.exp() * (sure - known)))
    return _Scan(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _follow(
    pair: Pair, contexts: torch.Tensor, starts: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Each start's chain: nats per token gained, mean probability, and its tokens.

    starts   (chains, 2): a candidate, which is given, and the token after it, which is foretold
    """
    chains, said = [starts], []
    with grafted(pair.network, pair.after):
        cache = _spread(_begin(pair.network, contexts), len(starts))
        known = _read_on(pair.network, cache, starts, len(contexts)).mean(dim=0)
        said.append(known[:, 0].gather(1, starts[:, 1:]))
        while len(said) < LENGTH:
            best, following = known[:, -1:].max(dim=-1)
            chains.append(following)
            said.append(best)
            if len(said) < LENGTH:
                known = _read_on(pair.network, cache, following, len(contexts)).mean(dim=0)
    whole, new = torch.cat(chains, dim=1), torch.cat(said, dim=1)
    with grafted(pair.network, pair.before):
        begun = _begin(pair.network, contexts)
        old = _said(_answers(pair.network, begun, whole, len(contexts)), whole)
    return (new - old).mean(dim=1), new.mean(dim=1).exp(), whole


def _said(answers: torch.Tensor, chains: torch.Tensor) -> torch.Tensor:
    """Log probabilities of the chains' tokens after their first, mean over beginnings."""
    wanted = chains[:, 1:].unsqueeze(-1)
    return answers.mean(dim=0)[:, :-1].gather(2, wanted).squeeze(-1)


def _begin(network: torch.nn.Module, contexts: torch.Tensor) -> Any:
    return network(input_ids=contexts, use_cache=True).past_key_values


def _answers(
    network: torch.nn.Module, begun: Any, rows: torch.Tensor, contexts: int
) -> torch.Tensor:
    """Log probabilities after each token of each row, (contexts, rows, length, vocabulary)."""
    return _read_on(network, _spread(begun, len(rows)), rows, contexts)


def _spread(begun: Any, rows: int) -> Any:
    """What is remembered of the beginnings, once for each row after each."""
    cache = copy.deepcopy(begun)
    cache.batch_repeat_interleave(rows)
    return cache


def _read_on(
    network: torch.nn.Module, cache: Any, rows: torch.Tensor, contexts: int
) -> torch.Tensor:
    """As `_answers`; the cache remembers the rows as well."""
    logits = network(
        input_ids=rows.repeat(contexts, 1), past_key_values=cache, use_cache=True
    ).logits
    known: torch.Tensor = logits.float().log_softmax(dim=-1)
    return known.view(contexts, len(rows), rows.shape[1], -1)


def _readable(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    text: str = tokenizer.decode(list(tokens), skip_special_tokens=False)
    return "".join(_printable(text))[:TEXT_CHARS]


def _printable(text: str) -> Iterator[str]:
    for character in text:
        yield character if character.isprintable() else " "
