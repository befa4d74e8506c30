"""What a change does to probe text: to its loss, along which direction, and what is told apart.

The loss says whether the change harms here; the direction says it before the harm shows, and adds
up over rounds where single losses are noise; the shift of bucket masses says what the change knows.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
import torch
from torch.nn import functional

from p2pllm.errors import PeerError
from p2pllm.learn import measure
from p2pllm.learn.delta import Delta, norm
from p2pllm.learn.graft import grafted
from p2pllm.learn.measure import IGNORED, Passages
from p2pllm.learn.memory import MICRO_TOKENS
from p2pllm.summary import BUCKETS, Influence

STEP = 0.25  # of a change, along which the shift is measured: a small step, so that it adds up
DIRECTION_TOKENS = 2048  # of a domain's text, for the gradient

Table = tuple[tuple[float, ...], ...]
Gradient = Mapping[str, torch.Tensor]  # of a loss, by module


class Reading(msgspec.Struct, frozen=True):
    """What one model says to one text."""

    nats: tuple[float, ...]  # of each window, summed over its tokens
    counts: tuple[int, ...]  # tokens of each window
    buckets: torch.Tensor  # (BUCKETS, BUCKETS): see `_count`
    usual: torch.Tensor  # (vocabulary,): mean log probability of each token as the next one

    @property
    def loss(self) -> float:
        """Nats per token."""
        return sum(self.nats) / sum(self.counts)


def read(network: torch.nn.Module, text: Passages) -> Reading:
    """Let a model read a text; PeerError E0609 if its answers are no numbers."""
    nats: list[float] = []
    counts: list[int] = []
    sums, seen = torch.zeros(BUCKETS, BUCKETS), torch.zeros(BUCKETS, 1)
    usual = torch.zeros(1)
    with torch.inference_mode():
        for batch in measure.batches(text.windows):
            inputs, targets = measure.tensors(batch)
            logits = network(input_ids=inputs, use_cache=False).logits
            for row, wanted in zip(logits, targets, strict=True):
                counted = wanted != IGNORED
                known = functional.log_softmax(row[counted].float(), dim=-1)
                true = wanted[counted]
                nats.append(-float(known.gather(1, true.unsqueeze(1)).sum()))
                counts.append(len(true))
                _count(known, true, sums, seen)
                usual = usual + known.sum(dim=0)
    if not all(math.isfinite(value) for value in nats):
        raise PeerError("E0609", "with the adapter the base answers NaN or infinite numbers")
    return Reading(tuple(nats), tuple(counts), sums / seen.clamp(min=1), usual / sum(counts))


def influence(domain: str, before: Reading, after: Reading, descent: float | None) -> Influence:
    """The change of one domain's loss, and how sure it is."""
    tokens = sum(before.counts)
    change = after.loss - before.loss
    square = sum(
        (last - first - change * count) ** 2
        for first, last, count in zip(before.nats, after.nats, before.counts, strict=True)
    )
    windows = len(before.counts)
    factor = windows / (windows - 1) if windows > 1 else 1.0
    return Influence(
        domain=domain,
        tokens=tokens,
        before=before.loss,
        after=after.loss,
        error=math.sqrt(factor * square) / tokens,
        descent=descent,
    )


def shift(before: Reading, after: Reading) -> Table:
    """How the bucket scores moved where each bucket was right: [right][scored]."""
    moved = (after.buckets - before.buckets).tolist()
    return tuple(tuple(row) for row in moved)


def gradients(
    network: torch.nn.Module,
    centre: Delta | None,
    modules: Iterable[str],
    texts: Iterable[Passages],
) -> Iterator[Gradient]:
    """For each text the gradient of its loss at the centre, over the weights of some modules.

    One way back through the network for each text, however many changes are asked about. Dense,
    the only dense thing here, and good until the next one is asked for.
    """
    weights: dict[str, Any] = {module: network.get_submodule(module).weight for module in modules}
    for weight in weights.values():
        weight.requires_grad_(True)
    try:
        with grafted(network, centre):
            for text in texts:
                _backward(network, text)
                yield {module: weight.grad for module, weight in weights.items()}
                for weight in weights.values():
                    weight.grad = None
    finally:
        for weight in weights.values():
            weight.requires_grad_(False)
            weight.grad = None


def descent(gradient: Gradient, delta: Delta) -> float:
    """The cosine of a change to the steepest way down, over the modules that it touches."""
    along = square = 0.0
    for module, factors in delta.items():
        steep = gradient[module].float()
        along += float(((steep @ factors.a.float().T) * factors.b.float()).sum())
        square += float(steep.square().sum())
    lengths = norm(delta) * math.sqrt(square)
    return max(-1.0, min(1.0, -along / lengths)) if lengths > 0 else 0.0


def _backward(network: torch.nn.Module, text: Passages) -> None:
    done = 0
    for batch in measure.batches(text.windows):
        if done >= DIRECTION_TOKENS:
            break
        inputs, targets = measure.tensors(batch)
        rows = max(1, MICRO_TOKENS // inputs.shape[1])
        parts = zip(torch.split(inputs, rows), torch.split(targets, rows), strict=True)
        for part, wanted in parts:
            if done >= DIRECTION_TOKENS:
                break
            logits = network(input_ids=part, use_cache=False).logits.float()
            loss = functional.cross_entropy(
                logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum"
            )
            loss.backward()  # type: ignore[no-untyped-call]
            done += int((wanted != IGNORED).sum())


def _count(known: torch.Tensor, true: torch.Tensor, sums: torch.Tensor, seen: torch.Tensor) -> None:
    """Add one window's centred log masses of the buckets, by the bucket of the right token.

    known   (tokens, vocabulary) log probabilities; true  (tokens,)
    """
    owner = bucket_of(torch.arange(known.shape[1]))
    mass = torch.zeros(len(true), BUCKETS).index_add_(1, owner, known.exp())
    score = mass.clamp(min=1e-12).log()
    score -= score.mean(dim=1, keepdim=True)
    kind = bucket_of(true)
    sums.index_add_(0, kind, score)
    seen.index_add_(0, kind, torch.ones(len(true), 1))


def bucket_of(tokens: torch.Tensor) -> torch.Tensor:
    """The bucket of each token id: neighbours fall apart (Knuth's multiplicative hash)."""
    return (tokens * 2654435761 % 2**32) >> (32 - 4)
