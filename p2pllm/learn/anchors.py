"""The meter of what is forgotten: held-out text of every step, measured anew after each."""

from collections.abc import Callable, Mapping, Sequence

import msgspec
from peft import PeftModel

from p2pllm import corpus
from p2pllm.jobs import Progress
from p2pllm.jobs_learn import MAX_GROUPS, Meter
from p2pllm.learn import measure
from p2pllm.learn.measure import Passages
from p2pllm.learner import Group

Groups = tuple[Group, ...]


def with_new(groups: Groups, step: int, held: Sequence[str]) -> Groups:
    """The groups with the held-out documents of a step; the two oldest are one where need be.

    The best of two groups that become one is the mean of theirs, by the number of documents.
    """
    made = list(groups)
    if held:
        ids = tuple(sorted(corpus.document_id(text) for text in held))
        made.append(Group(since=step, ids=ids, best=float("inf")))
    while len(made) > MAX_GROUPS:
        one, other = made[0], made[1]
        share = len(one.ids) / (len(one.ids) + len(other.ids))
        best = share * one.best + (1 - share) * other.best
        made = [Group(since=other.since, ids=one.ids + other.ids, best=best), *made[2:]]
    return tuple(made)


def measure_all(
    tuned: PeftModel,
    groups: Groups,
    known: Mapping[str, str],
    passages: Callable[[Sequence[str]], Passages],
    say: Callable[[Progress], None],
) -> tuple[tuple[Meter, ...], Groups]:
    """Measure each group whose documents are still there, with the adapter and without.

    known      held-out documents by id
    passages   documents as tokens to score
    """
    meters, kept = [], []
    for group in groups:
        texts = [known[name] for name in group.ids if name in known]
        if not texts:
            continue  # its files are gone
        text = passages(texts)
        score = measure.score(tuned, text, "measure-anchor", say)
        with tuned.disable_adapter():
            base = measure.score(tuned, text, "measure-anchor", say).nats_per_token
        best = min(group.best, score.nats_per_token)
        kept.append(msgspec.structs.replace(group, best=best))
        meters.append(
            Meter(
                since=group.since,
                documents=len(texts),
                tokens=text.tokens,
                base=base,
                best=best,
                now=score.nats_per_token,
                bits_per_byte=score.bits_per_byte,
            )
        )
    return tuple(meters), tuple(kept)
