"""Oddity: duplicates, distances, and p-values that mean what they say."""

import random

from hypothesis import given
from hypothesis import strategies as st

from tests.trust.values import features
from trust.anomaly import CLIP, ENOUGH, clusters, oddities, p_value
from trust.features import SKETCH


def sketch(rng: random.Random) -> list[float]:
    return [rng.gauss(0, 1) for _ in range(SKETCH)]


def test_copies_are_one_cluster_and_independent_updates_are_not() -> None:
    rng = random.Random(1)
    copied = sketch(rng)
    jittered = [value + rng.gauss(0, 0.05) for value in copied]
    rows = [sketch(rng), copied, sketch(rng), jittered, copied]
    assert clusters(rows) == [0, 1, 2, 1, 1]


def test_peers_who_learn_the_same_thing_are_not_copies() -> None:
    rng = random.Random(2)
    common = [3 * value for value in sketch(rng)]
    rows = [[c + v for c, v in zip(common, sketch(rng), strict=True)] for _ in range(12)]
    assert clusters(rows) == list(range(12))


def test_an_update_a_hundred_times_as_long_is_the_oddest() -> None:
    rng = random.Random(3)
    batch = [features(rng) for _ in range(12)] + [features(rng, norm=100.0)]
    scores = oddities(batch, range(12))
    assert max(scores) == scores[12]
    assert all(0 <= score <= CLIP for score in scores)


def test_honest_updates_fall_below_one_percent_about_one_time_in_a_hundred() -> None:
    rng = random.Random(4)
    null = sorted(rng.lognormvariate(0, 1) for _ in range(400))
    found = [p_value(rng.lognormvariate(0, 1), null) for _ in range(20_000)]
    assert 0.004 < sum(p < 0.01 for p in found) / len(found) < 0.02


@given(st.lists(st.floats(0, 8), min_size=ENOUGH, max_size=60), st.floats(0, 8), st.floats(0, 8))
def test_the_odder_the_lower_the_p_value(null: list[float], one: float, other: float) -> None:
    low, high = sorted((one, other))
    null.sort()
    assert 0 < p_value(high, null) <= p_value(low, null) <= 1


def test_too_few_scores_accuse_nobody() -> None:
    assert p_value(8.0, [0.0] * (ENOUGH - 1)) == 1.0
