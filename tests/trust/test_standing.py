"""The state machine: what moves a peer, and what each state allows."""

from typing import get_args

from msgspec.structs import replace

from trust.direction import GUILTY, WATCHED
from trust.reputation import Reputation
from trust.standing import (
    ALLOWED,
    CLEAN_TO_RETURN,
    CLEAN_TO_TRUST,
    Standing,
    State,
    move,
    quarantine,
    release,
)

GOOD = Reputation(8.0, 0.0)
TRUSTED = Standing(state="trusted", reputation=GOOD, clean=9, rounds=9)


def test_every_state_says_what_it_allows_and_worse_states_allow_no_more() -> None:
    order: list[State] = ["trusted", "probation", "suspect", "quarantined", "banned"]
    assert set(ALLOWED) == set(get_args(State)) == set(order)
    weights = [ALLOWED[state].weight for state in order]
    assert weights == sorted(weights, reverse=True)
    assert [ALLOWED[state].rank for state in order] == [0, 1, 2, 3, 4]
    assert ALLOWED["quarantined"].testimony == ALLOWED["probation"].testimony == 0


def test_clean_rounds_and_reputation_earn_trust() -> None:
    new = Standing(reputation=GOOD, clean=CLEAN_TO_TRUST)
    assert move(new, "").state == "trusted"
    assert move(replace(new, clean=CLEAN_TO_TRUST - 1), "").state == "probation"
    assert move(replace(new, reputation=Reputation()), "").state == "probation"


def test_odd_is_not_guilty() -> None:
    """The worst reputation alone makes a suspect, never a quarantine."""
    assert move(replace(TRUSTED, reputation=Reputation(0.0, 1e9)), "").state == "suspect"


def test_only_a_stake_or_a_fault_quarantines() -> None:
    assert move(replace(TRUSTED, stake=WATCHED), "").state == "suspect"
    assert move(replace(TRUSTED, stake=GUILTY), "").state == "quarantined"
    assert move(replace(TRUSTED, counter=GUILTY), "").state == "quarantined"
    assert move(TRUSTED, "unsound").state == "quarantined"
    assert move(TRUSTED, "equivocation").state == "banned"


def test_a_quarantined_peer_returns_on_probation_after_clean_rounds_in_the_shadow() -> None:
    out = replace(quarantine(TRUSTED), stake=GUILTY)
    needed = 2 * CLEAN_TO_RETURN
    assert move(replace(out, clean=needed - 1), "").state == "quarantined"
    back = move(replace(out, clean=needed), "")
    assert (back.state, back.strikes, back.worst) == ("probation", 1, 0.0)
    assert back.reputation == Reputation()


def test_the_way_back_doubles_and_the_third_strike_is_for_good() -> None:
    twice = quarantine(quarantine(TRUSTED))
    assert move(replace(twice, clean=4 * CLEAN_TO_RETURN - 1), "").state == "quarantined"
    assert move(replace(twice, clean=4 * CLEAN_TO_RETURN), "").state == "probation"
    banned = quarantine(twice)
    assert banned.state == "banned"
    assert move(replace(banned, clean=10**6), "").state == "banned"
    assert release(banned).state == "probation"
