"""Chunks are shared out so that each comes, whoever stops, and none is asked of three."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gossip.runs import MOST_DOUBLED, Runs

_STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["take", "done", "drop"]), st.integers(1, 9)),
    max_size=80,
)


@given(st.sets(st.integers(0, 60), max_size=40), _STEPS)
def test_every_chunk_comes_whatever_the_peers_do(missing: set[int], steps: list[tuple]) -> None:
    runs, owed, came = Runs(sorted(missing)), {}, Counter()
    for who, what, count in steps:
        if what == "take" and (run := runs.take(who, count)):
            assert 1 <= len(run) <= count
            assert not set(run) & set(owed.get(who, []))
            owed.setdefault(who, []).extend(run)
            assert max(Counter(c for chunks in owed.values() for c in chunks).values()) <= 2
        elif what == "done" and owed.get(who):
            chunk = owed[who].pop(0)
            came[chunk] += runs.done(who, chunk)
        elif what == "drop":
            owed.pop(who, None)
            runs.drop(who)
        assert runs.left() == len(missing) - len(came)
    for who in "abc":
        runs.drop(who)
    while run := runs.take("last", 7):
        for chunk in run:
            came[chunk] += runs.done("last", chunk)
    assert runs.left() == 0
    assert came == dict.fromkeys(missing, 1)


def test_idle_peer_is_given_the_far_half_of_what_another_owes() -> None:
    runs = Runs(range(6))
    assert runs.take("slow", 6) == range(6)
    assert runs.take("fast", 64) == range(3, 6)
    assert len(range(3, 6)) <= MOST_DOUBLED


def test_runs_get_shorter_towards_the_end_when_several_share() -> None:
    runs = Runs(range(100))
    lengths = []
    while runs.left() - sum(lengths):
        run = runs.take("ab"[len(lengths) % 2], 64)
        assert run
        lengths.append(len(run))
    assert lengths[0] == 64  # the first does not know yet that it will not be alone
    assert lengths[1:] == sorted(lengths[1:], reverse=True)
    assert lengths[-1] == 1


def test_lone_peer_gets_all_in_long_runs() -> None:
    runs = Runs([0, 1, 2, 5, 6])
    assert [runs.take("a", 64), runs.take("a", 64), runs.take("a", 64)] == [
        range(3),
        range(5, 7),
        None,
    ]
