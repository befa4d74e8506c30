"""A bundle proves every verdict again, and shows each one that was not what was written down."""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from p2pllm import codec
from p2pllm.ids import content_id
from tests.trust.bundles import OBSERVER, Observer, lived
from tests.trust.test_ledger import events
from tests.trust.values import identity, named, node
from tests.vectors.values import SUMMARY
from trust import bundle
from trust.bundle import Taken, open_bundle
from trust.evidence import open_observation, seal
from trust.features import Measured
from trust.judge import Round
from trust.ledger import Event, Judged, Operator
from trust.reading import Reference, features_of
from trust.verified import Verified, verify

HARM = {"agreement": -0.9}


def resigned(opened: bundle.Bundle, **changes: object) -> Verified:
    return verify(codec.sign(OBSERVER, bundle.PURPOSE, replace(opened, **changes)))


def test_every_verdict_of_an_honest_bundle_is_the_recorded_one() -> None:
    observer = lived(8, p3=HARM)
    found = verify(observer.bundle(node(3)))
    assert found.sound
    assert [one.recorded for one in found.verdicts] == ["equal"] * 8
    assert [one.verdict for one in found.verdicts] == observer.verdicts[3::6]
    assert (found.state, found.strikes, found.rounds) == ("quarantined", 1, 8)
    assert found.score == observer.book.peers[node(3)].reputation.mean


def test_a_verdict_that_the_numbers_do_not_give_is_named() -> None:
    observer = lived(8)
    opened = open_bundle(observer.bundle(node(3)))
    told = open_observation(opened.observations[2])
    framed = seal(OBSERVER, replace(told, verdict="reject"))
    found = resigned(opened, observations=(*opened.observations[:2], framed))
    assert [one.recorded for one in found.verdicts[:4]] == ["equal", "equal", "differs", "absent"]
    assert not found.sound
    assert "recorded reject, recomputed accept" in found.faults[0]


def test_a_number_that_was_changed_or_made_up_is_named() -> None:
    observer = lived(4)
    opened = open_bundle(observer.bundle(node(3)))
    told = open_observation(opened.observations[0])
    first, *rest = told.reasons
    for reasons, word in (
        ((replace(first, value=first.value + 1e-6), *rest), "recomputed"),
        ((replace(first, code="gossip"), *rest), "no number of the judge"),
    ):
        changed = seal(OBSERVER, replace(told, reasons=reasons))
        found = resigned(opened, observations=(changed,))
        assert word in found.faults[0]


def test_an_observation_of_a_round_that_is_not_in_the_ledger_is_named() -> None:
    opened = open_bundle(lived(4).bundle(node(3)))
    found = resigned(opened, ledger=opened.ledger[:3])
    assert found.faults == ("observation 22: the ledger holds no such round",)


def test_two_tales_in_one_bundle_show_the_liar() -> None:
    opened = open_bundle(lived(2).bundle(node(3)))
    told = open_observation(opened.observations[0])
    other = seal(OBSERVER, replace(told, verdict="reject"))
    both = tuple(sorted((opened.observations[0], other)))
    found = resigned(opened, observations=both)
    assert found.liars == (OBSERVER.node,)
    assert not found.sound


def test_what_witnesses_said_is_shown_and_moves_nothing() -> None:
    observer = lived(4)
    opened = open_bundle(observer.bundle(node(3)))
    told = open_observation(opened.observations[0])
    witness = identity(9)
    slander = seal(witness, replace(told, by=witness.node, verdict="reject"))
    records = sorted((*opened.observations, slander), key=lambda r: open_observation(r).by)
    found = resigned(opened, observations=tuple(records))
    assert found.sound
    assert {one.by for one in found.reports} == {OBSERVER.node, witness.node}
    assert found.state == verify(observer.bundle(node(3))).state


def test_what_the_operator_did_is_shown_with_its_reason() -> None:
    observer = lived(4)
    observer.live(Operator("quarantine", node(3), "spam"))
    observer.live(Operator("quarantine", node(4), "other"))
    found = verify(observer.bundle(node(3)))
    assert found.operator == (Operator("quarantine", node(3), "spam"),)
    assert found.state == "quarantined"


def test_features_are_read_again_out_of_the_summary() -> None:
    shift = tuple(tuple(0.9 if c == k else -0.1 for k in range(16)) for c in range(16))
    own = replace(SUMMARY, shift=shift)
    summaries = [codec.encode(SUMMARY), codec.encode(own)]
    names = [content_id(raw) for raw in summaries]
    seen = features_of(SUMMARY, Reference(own=own, last=None))
    update = named("update")
    taken = Taken(update=update, round=1, summary=names[0], own=names[1], last=None)
    for given_, wanted in ((seen, "equal"), (replace(seen, agreement=-1.0), "differs")):
        observer = Observer()
        batch = (Measured(peer=node(3), update=update, features=given_),)
        observer.live(Judged(Round(batch=batch)))
        found = verify(observer.bundle(node(3), summaries=summaries, taken=[taken]))
        assert found.verdicts[0].measured == wanted
        assert found.sound == (wanted == "equal")
        alone = verify(
            observer.bundle(node(3), summaries=summaries, taken=[replace(taken, own=None)])
        )
        assert alone.verdicts[0].measured == "absent"
        assert alone.verdicts[0].probe == found.verdicts[0].probe
        assert found.verdicts[0].probe[0].domain == SUMMARY.merged.influences[0].domain


def test_a_subject_nobody_saw_has_an_empty_record() -> None:
    found = verify(lived(2).bundle(node(99)))
    assert found.sound
    assert (found.verdicts, found.state, found.score) == ((), "probation", 0.5)


@settings(max_examples=60)
@given(events, st.integers(0, 5))
def test_whatever_happened_is_recomputed_to_what_was_recorded(
    happened: list[Event], number: int
) -> None:
    observer = Observer()
    for event in happened:
        observer.live(event)
    found = verify(observer.bundle(node(number)))
    assert found.faults == ()
    assert all(one.recorded == "equal" for one in found.verdicts)
    standing = observer.book.peers.get(node(number))
    assert found.state == (standing.state if standing else "probation")
