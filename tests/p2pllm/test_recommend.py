"""Hard limits first, then worth; reasons; what would help; never worse with more."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pllm import fit
from p2pllm.fit import CAUTIOUS
from p2pllm.ids import content_id
from p2pllm.names import Place
from p2pllm.recommend import Candidate, Wants, recommend, rerank
from p2pllm.worth import Score
from tests.bench._recommend.table import make_device, make_wants, make_world


def candidate(name: str, params: int = 10**8, **other: object) -> Candidate:
    plain = {
        "ref": f"en/medical/{name}",
        "manifest": content_id(name.encode()),
        "place": Place("en", "medical"),
        "kind": "base",
        "licence": "Apache-2.0",
        "dimensions": fit.guess(params),
    }
    return Candidate(**(plain | other))  # type: ignore[arg-type]


SMALL, LARGE = candidate("small", 10**7), candidate("large", 10**10)
WANTS = Wants(lang="en", domain="medical", task="summarise", max_memory=2 * 10**9)


def advise(*candidates: Candidate, **wants: object):  # type: ignore[no-untyped-def]
    asked = msgspec.structs.replace(WANTS, **wants)
    return recommend(candidates, asked, CAUTIOUS, lambda by: 1.0)


def test_what_does_not_fit_is_never_picked_and_is_told_as_the_binding_limit() -> None:
    advice = advise(SMALL, LARGE)
    assert [pick.candidate for pick in advice.picks] == [SMALL]
    assert advice.binding == "memory"
    assert advice.helps[0].ref == LARGE.ref
    assert "MiB of memory" in advice.helps[0].needs


def test_none_fits_and_what_would_help_is_said() -> None:
    advice = advise(LARGE, max_memory=10**9)
    assert advice.picks == ()
    assert advice.refused == {"memory": 1}
    assert advice.helps[0].limit == "memory"
    assert advise().helps == ()


def test_a_model_that_fails_in_two_points_is_told_with_both() -> None:
    advice = advise(LARGE, max_memory=10**9, licences=("MIT",))
    assert {miss.limit for miss in advice.helps} == {"memory", "licence"}


@pytest.mark.parametrize(
    ("place", "right"),
    [
        (Place("en", "medical"), True),
        (Place("en"), True),
        (Place("mul"), True),
        (Place("de", "medical"), False),
        (Place("en", "law"), False),
        (Place("en", "medical", "cardiology"), False),
    ],
)
def test_the_place_asked_for_or_one_above_it_serves(place: Place, right: bool) -> None:
    assert bool(advise(candidate("x", place=place)).picks) is right


def test_licence_and_speed_are_limits() -> None:
    assert advise(SMALL, licences=("mit", "apache-2.0")).picks
    assert advise(SMALL, licences=("MIT",)).binding == "licence"
    assert advise(SMALL, min_speed=1e6).binding == "speed"


def test_at_most_three_best_first_and_each_with_reasons() -> None:
    many = [candidate(f"m{n}", 10**7 * (n + 1)) for n in range(5)]
    picks = advise(*many).picks
    assert [pick.candidate.ref for pick in picks] == [f"en/medical/m{n}" for n in (4, 3, 2)]
    assert all(len(pick.reasons) >= 4 for pick in picks)


def test_a_trusted_score_beats_a_larger_model() -> None:
    said = Score(value=0.95, by="friend", place=Place("en", "medical"), task="summarise")
    best = advise(candidate("good", 10**7, scores=(said,)), candidate("big", 3 * 10**8)).picks[0]
    assert best.candidate.ref == "en/medical/good"
    assert "1 trusted signer" in best.reasons[1]


def test_own_examples_decide_among_the_picks() -> None:
    advice = advise(SMALL, candidate("other", 10**8), candidate("third", 2 * 10**8))
    told = rerank(advice, {SMALL.manifest: 0.9, advice.picks[0].candidate.manifest: 1.1})
    assert told.picks[0].candidate == SMALL
    assert "0.9000 bits a byte on your own examples" in told.picks[0].reasons[0]
    assert len(told.picks) == 3


worlds = st.integers(0, 2**32).map(lambda seed: make_world(random.Random(seed), 20, 6))
draws = st.integers(0, 2**32).map(random.Random)


@settings(deadline=None)
@given(worlds, draws, st.floats(1, 64))
def test_a_loosened_limit_never_gives_a_worse_pick(world, rng, times):  # type: ignore[no-untyped-def]
    device, wants = make_device(rng), make_wants(rng)
    loosened = [
        msgspec.structs.replace(wants, max_memory=int(wants.max_memory * times)),
        msgspec.structs.replace(wants, min_speed=wants.min_speed / times),
        msgspec.structs.replace(wants, licences=()),
    ]
    best = recommend(world.candidates, wants, device, world.trust).picks
    for more in loosened:
        after = recommend(world.candidates, more, device, world.trust).picks
        assert len(after) >= len(best)
        assert not best or after[0].worth.value >= best[0].worth.value


@settings(deadline=None)
@given(worlds, draws)
def test_the_order_of_candidates_does_not_matter(world, rng):  # type: ignore[no-untyped-def]
    device, wants = make_device(rng), make_wants(rng)
    shuffled = rng.sample(world.candidates, len(world.candidates))
    one = recommend(world.candidates, wants, device, world.trust)
    other = recommend(shuffled, wants, device, world.trust)
    assert [p.candidate.ref for p in one.picks] == [p.candidate.ref for p in other.picks]


def test_where_nothing_fits_the_least_demanding_is_told() -> None:
    advice = advise(LARGE, candidate("middle", 10**9), max_memory=10**9)
    assert advice.picks == ()
    assert advice.helps[0].ref == "en/medical/middle"
