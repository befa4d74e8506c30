"""How accepted updates reach a head: in batches, with a rest between, on trial, and back again.

The end of the rule in docs/specs/gate.md. Time is a number of windows that the caller counts; what
is measured comes in as a callable or as differences. A state in, a state and an action out.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from p2pllm.bounds import estimate
from p2pllm.gate import Decision
from p2pllm.ids import ContentId

MAX_REMEMBERED = 4096  # decided updates of a place; older ones are decided anew if they come again


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a head may move, in windows."""

    batch: int = 3  # updates that go in together,
    deadline: int = 8  # or as many as there are when the first has waited so long
    cooldown: int = 4  # between two changes of the head
    canary: int = 2  # a change is on trial so long
    damage: float = 0.01  # nats per token on live own text that end the trial
    alpha: float = 0.05  # so often may a change that does no harm be taken back for it
    examples: int = 32  # documents without which a trial does not end well


class Waiting(msgspec.Struct, frozen=True):
    """An accepted update that is not in the head yet."""

    update: ContentId
    lineage: str
    gain: float
    since: int  # window


class Canary(msgspec.Struct, frozen=True):
    """A change on trial."""

    updates: tuple[ContentId, ...]
    since: int


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What the parent remembers of one place."""

    committed: tuple[ContentId, ...] = ()  # by when they came in; with those on trial
    waiting: tuple[Waiting, ...] = ()
    canary: Canary | None = None
    last: int | None = None  # window of the last change of the head
    lineages: frozenset[str] = frozenset()  # taken from before
    decided: tuple[ContentId, ...] = ()  # the latest last
    rolled_back: tuple[ContentId, ...] = ()


class Action(msgspec.Struct, frozen=True):
    """What the caller does to the head now."""

    kind: Literal["none", "commit", "promote", "rollback"]
    updates: tuple[ContentId, ...] = ()
    value: float = 0.0  # that decided: damage measured on trial


def decided(state: State, waiting: Waiting, decision: Decision) -> State:
    """The state after stage three; an update that is held is not decided."""
    if decision.outcome == "hold":
        return state
    known = (*state.decided, waiting.update)[-MAX_REMEMBERED:]
    state = msgspec.structs.replace(state, decided=known)
    if decision.outcome == "reject" or waiting.update in state.committed:
        return state
    # A line's later update holds its earlier one: it takes that one's turn.
    others = tuple(each for each in state.waiting if each.lineage != waiting.lineage)
    earlier = [each.since for each in state.waiting if each.lineage == waiting.lineage]
    turn = msgspec.structs.replace(waiting, since=min([waiting.since, *earlier]))
    return msgspec.structs.replace(state, waiting=(*others, turn))


def is_due(state: State, window: int, pace: Pace) -> bool:
    """Whether a batch should go in now."""
    if state.canary is not None or not state.waiting:
        return False
    if state.last is not None and window - state.last < pace.cooldown:
        return False
    first = min(each.since for each in state.waiting)
    return len(state.waiting) >= pace.batch or window - first >= pace.deadline


def choose(
    waiting: Sequence[Waiting], together: Callable[[tuple[ContentId, ...]], Decision]
) -> tuple[tuple[ContentId, ...], tuple[ContentId, ...]]:
    """The updates that pass together, and those that were left out for it.

    together   stage three on these updates stacked, on the head as it is now: that each was good
               alone, on the head of its day, says little

    The one that gains least is left out until the rest pass; at most one measurement an update.
    """
    kept = sorted(waiting, key=lambda each: (-each.gain, each.update))
    left_out: list[ContentId] = []
    while kept:
        names = tuple(sorted(each.update for each in kept))
        if together(names).outcome == "accept":
            return names, tuple(left_out)
        left_out.append(kept.pop().update)
    return (), tuple(left_out)


def commit(
    state: State, updates: Sequence[ContentId], left_out: Sequence[ContentId], window: int
) -> tuple[State, Action]:
    """Put a batch into the head, on trial; what was left out of it waits no more."""
    taken, gone = set(updates), {*updates, *left_out}
    lines = {each.lineage for each in state.waiting if each.update in taken}
    state = msgspec.structs.replace(
        state,
        committed=(*state.committed, *updates),
        waiting=tuple(each for each in state.waiting if each.update not in gone),
        canary=Canary(tuple(updates), window) if updates else None,
        last=window if updates else state.last,
        lineages=state.lineages | lines,
    )
    return state, Action("commit" if updates else "none", tuple(updates))


def watch(state: State, live: Sequence[float], window: int, pace: Pace) -> tuple[State, Action]:
    """One look at a change on trial.

    live   loss differences of own live documents, before the change less after it
    """
    canary = state.canary
    if canary is None:
        return state, Action("none")
    enough = len(live) >= pace.examples
    found = estimate(live)
    damage = -found.mean
    # Surely worse, not by chance of a few documents. Losses that are no numbers are damage too.
    worse = damage > pace.damage and found.high(pace.alpha) < 0
    if enough and (worse or not math.isfinite(found.error)):
        return _back(state, canary, window), Action("rollback", canary.updates, damage)
    if not enough or window - canary.since < pace.canary:
        return state, Action("none", value=damage)
    done = msgspec.structs.replace(state, canary=None)
    return done, Action("promote", canary.updates, damage)


def _back(state: State, canary: Canary, window: int) -> State:
    gone = set(canary.updates)
    return msgspec.structs.replace(
        state,
        committed=tuple(each for each in state.committed if each not in gone),
        canary=None,
        last=window,
        rolled_back=(*state.rolled_back, *canary.updates)[-MAX_REMEMBERED:],
    )
