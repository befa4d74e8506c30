"""What to do next about the updates of one place: fetch, judge, or wait. Pure, on any clock.

A round is what came within a window, judged together. An update that is held is judged again in a
later round, on probes that have turned: more evidence about the same bytes, a few times at most.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from node.trust_db import Update
from p2pllm.jobs_round import MAX_CANDIDATES

State = Literal["waiting", "fetched", "held", "judged", "refused"]
MAX_REVIEWS = 8  # rounds that judge one update; harm shows in five
TOGETHER = 3  # tries beside others, of an update that a job may have died of
MAX_TRIES = 16  # in waits that double: an hour and a half of fetches, half a day of jobs
MAX_WAITING = 64  # updates of one publisher at one place that wait at once
MAX_OF_PLACE = 1024


class Fetch(msgspec.Struct, frozen=True):
    """Bring this update here."""

    update: Update


class Measure(msgspec.Struct, frozen=True):
    """Judge these together."""

    batch: tuple[Update, ...]


class Wait(msgspec.Struct, frozen=True):
    """Nothing to do before then (Unix seconds); None: before something is heard."""

    until: float | None


def next_step(
    updates: Sequence[Update], now: float, rank: Callable[[Update], int] = lambda _update: 0
) -> Fetch | Measure | Wait:
    """The next thing to do at a place; whose rank is lowest is fetched first.

    A fetch comes before a round that is due, so that those who were announced together are judged
    together; a round does not wait for a fetch that is not due.
    """
    waiting = [one for one in updates if one.state == "waiting"]
    ready = [one for one in updates if one.state in ("fetched", "held")]
    due = [one for one in waiting if one.due_at <= now]
    if due:
        return Fetch(min(due, key=lambda one: (rank(one), one.due_at, one.heard_at, one.manifest)))
    batch = _batch(ready, now)
    if batch:
        return Measure(batch)
    times = [one.due_at for one in (*waiting, *ready)]
    return Wait(min(times, default=None))


def _batch(ready: Sequence[Update], now: float) -> tuple[Update, ...]:
    due = [one for one in ready if one.due_at <= now]
    if not due:
        return ()
    next_ = min(due, key=lambda one: (one.due_at, one.manifest))
    if _alone(next_):
        return (next_,)
    # All that is new goes along with what is due: its window closes with the round.
    goes = [one for one in ready if (one.state == "fetched" or one in due) and not _alone(one)]
    fits = [one for one in goes if one.model == next_.model]
    first = sorted(fits, key=lambda one: (one.state != "fetched", one.due_at, one.manifest))
    return tuple(first[:MAX_CANDIDATES])


def _alone(update: Update) -> bool:
    """Whether rounds with it failed so often that it may be what they fail of."""
    return update.tries >= TOGETHER and _may_be_its(update.code)


def _may_be_its(code: str) -> bool:
    """Whether a job that failed so may have died of what it measured, or for lack of memory."""
    return code in ("E0101", "E0708") or code.startswith("E10")


def _is_ours(code: str) -> bool:
    """Whether a fault is one of this machine, whatever was looked at."""
    return code.startswith(("E03", "E08"))


def may_wait(same: int, every: int) -> bool:
    """Whether another announced update is taken note of: nobody fills the list alone.

    same, every  how many of its publisher, and of all, wait at the place already
    """
    return same < MAX_WAITING and every < MAX_OF_PLACE


def fetched(update: Update, due_at: float, *, ours: bool) -> Update:
    """An update whose bytes are here; `ours`: for judging alone. Its window closes at `due_at`."""
    return msgspec.structs.replace(
        update, state="fetched", due_at=due_at, tries=0, code="", message="", ours=ours
    )


def after_round(update: Update, decision: str, again_at: float) -> Update:
    """An update after it was judged: done, or held for another look at `again_at`."""
    reviews = update.reviews + 1
    held = decision == "hold" and reviews < MAX_REVIEWS
    return msgspec.structs.replace(
        update,
        state="held" if held else "judged",
        reviews=reviews,
        tries=0,
        due_at=again_at if held else 0.0,
        code="",
        message="",
    )


def after_failure(update: Update, code: str, message: str, again_at: float) -> Update:
    """An update that could not be fetched or measured, for no fault of its own that is known.

    What was not judged is never a pass. A fault that can only be ours, such as a full disk, is
    waited out; what nobody hands out, or what jobs die of, is refused with the code in the end.
    """
    tries = update.tries + 1
    ours = _is_ours(code) or update.state != "waiting"
    over = tries >= MAX_TRIES and (_may_be_its(code) or not ours)
    return msgspec.structs.replace(
        update,
        state="refused" if over else update.state,
        tries=0 if over else tries,
        due_at=again_at,
        code=code,
        message=message[:500],
    )


def open_again(update: Update) -> Update | None:
    """A refused update that a fault of ours kept from being judged, to be judged; None: another."""
    may = _may_be_its(update.code) or _is_ours(update.code)
    if update.state != "refused" or not may:
        return None
    return msgspec.structs.replace(update, state="fetched", tries=TOGETHER, due_at=0.0)


def refused(update: Update, code: str, message: str) -> Update:
    """An update that will not be looked at again."""
    return msgspec.structs.replace(update, state="refused", code=code, message=message[:500])
