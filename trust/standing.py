"""The state of a peer at one place, what moves it, and what each state allows.

Odd is not guilty: only a stake that grew to GUILTY, a proven breach of the rules or the operator
puts a peer into quarantine. Nothing that others say does.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from trust.direction import GUILTY, WATCHED
from trust.features import best
from trust.reputation import Reputation

State = Literal["probation", "trusted", "suspect", "quarantined", "banned"]
Fault = Literal["", "unsound", "equivocation"]

CLEAN_TO_TRUST = 3  # rounds in a row
LOWER_TO_TRUST = 0.5
MEAN_TO_KEEP = 0.4  # a trusted peer below it is a suspect
CLEAN_TO_RETURN = 4  # rounds in a row in the shadow, doubled with each strike
STRIKES = 3  # quarantines; the last is a ban


class Allowed(msgspec.Struct, frozen=True):
    """What a node does with a peer in some state, at one place."""

    weight: float  # factor of its updates' weight
    relay: Literal["all", "own", "announcements", "none"]  # of what it sends, how much is passed on
    rank: int  # among providers and search results, lower first; 4 is left out
    fetch: Literal["first", "next", "sketch", "audit", "never"]  # audit: by one node in several
    testimony: float  # factor of its reports about others


ALLOWED: Mapping[State, Allowed] = {
    "trusted": Allowed(1.0, "all", 0, "first", 1.0),
    "probation": Allowed(0.3, "own", 1, "next", 0.0),
    "suspect": Allowed(0.3, "announcements", 2, "sketch", 0.5),
    "quarantined": Allowed(0.0, "none", 3, "audit", 0.0),
    "banned": Allowed(0.0, "none", 4, "never", 0.0),
}


class Standing(msgspec.Struct, frozen=True):
    """All that is remembered about one peer at one place."""

    state: State = "probation"
    reputation: Reputation = Reputation()
    stake: float = 0.0  # logarithm, of the bet that it lowers what tells kinds apart
    counter: float = 0.0  # logarithm, of the bet that it goes against this node's training
    damage: float = 0.0  # logarithm, of the bet that it does harm to one kind
    gains: tuple[float, ...] = ()  # running means of what it added to each kind, of the usual best
    agreement: float = 0.0  # running mean
    rounds: Annotated[int, msgspec.Meta(ge=0)] = 0
    clean: Annotated[float, msgspec.Meta(ge=0)] = 0.0  # rounds in a row with nothing against it
    strikes: Annotated[int, msgspec.Meta(ge=0)] = 0

    @property
    def useful(self) -> float:
        """What it added to the kind that it helped most, 0 or more; 1 is the usual best."""
        return best(self.gains)

    @property
    def worst(self) -> float:
        """The largest of the three stakes."""
        return max(self.stake, self.counter, self.damage)

    @property
    def shut(self) -> bool:
        """Nothing of this peer is used."""
        return self.state in ("quarantined", "banned")


def move(standing: Standing, fault: Fault) -> Standing:
    """The standing with its state brought up to date, after a round's evidence was counted.

    fault  what was proved against the peer in this round, "" for nothing
    """
    if standing.state == "banned":
        return standing
    if fault == "equivocation":
        return msgspec.structs.replace(standing, state="banned", clean=0)
    if standing.state == "quarantined":
        back = standing.clean >= CLEAN_TO_RETURN * 2**standing.strikes
        return _restart(standing) if back and not fault else standing
    if fault or standing.worst >= GUILTY:
        return quarantine(standing)
    if standing.worst >= WATCHED or standing.reputation.mean < MEAN_TO_KEEP:
        return msgspec.structs.replace(standing, state="suspect")
    earned = standing.clean >= CLEAN_TO_TRUST and standing.reputation.lower > LOWER_TO_TRUST
    if earned:
        return msgspec.structs.replace(standing, state="trusted")
    if standing.state == "suspect":
        return msgspec.structs.replace(standing, state="probation")
    return standing


def quarantine(standing: Standing) -> Standing:
    """One strike more; out until it was clean in the shadow, for good after the last strike."""
    strikes = standing.strikes + 1
    state: State = "banned" if strikes >= STRIKES else "quarantined"
    return msgspec.structs.replace(standing, state=state, strikes=strikes, clean=0)


def release(standing: Standing) -> Standing:
    """The operator lets a peer back in, on probation; its strikes stay."""
    return _restart(standing) if standing.shut else standing


def _restart(standing: Standing) -> Standing:
    return Standing(rounds=standing.rounds, strikes=standing.strikes)
