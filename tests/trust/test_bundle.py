"""The evidence bundle: what it holds, and what is refused before anything is recomputed."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from p2pllm import codec
from p2pllm.errors import LocalError, PeerError
from p2pllm.ids import content_id
from p2pllm.names import Place
from tests.trust.bundles import NOW, OBSERVER, PLACE, lived
from tests.trust.values import features, identity, named, node
from tests.vectors.values import SUMMARY
from trust import bundle
from trust.bundle import Asked, Bundle, Taken, open_bundle
from trust.evidence import FIRST
from trust.features import Measured
from trust.judge import Round
from trust.ledger import Judged, append
from trust.verified import verify

LIVED = lived(3)
RAW = LIVED.bundle(node(3))


def sealed(opened: Bundle, **changes: object) -> bytes:
    return codec.sign(OBSERVER, bundle.PURPOSE, replace(opened, **changes))


def refused(raw: bytes) -> PeerError:
    with pytest.raises(PeerError) as caught:
        verify(raw)
    return caught.value


def test_a_bundle_holds_the_whole_ledger_and_what_was_signed_of_its_subject_alone() -> None:
    opened = open_bundle(RAW)
    assert opened.ledger == tuple(LIVED.ledger)
    assert len(opened.observations) == 3
    assert (opened.by, opened.subject, opened.place) == (OBSERVER.node, node(3), PLACE)
    elsewhere = bundle.make(
        OBSERVER, Asked(node(3), Place("en"), NOW), LIVED.ledger, LIVED.observations
    )
    assert open_bundle(elsewhere).observations == ()


@given(st.integers(0, len(RAW) - 1), st.integers(1, 255))
def test_a_flipped_bit_anywhere_is_refused(at: int, flip: int) -> None:
    changed = bytearray(RAW)
    changed[at] ^= flip
    assert refused(bytes(changed)).code in ("E0602", "E0603")


@given(st.one_of(st.binary(max_size=300), st.integers(0, len(RAW) - 1).map(lambda n: RAW[:n])))
def test_any_other_bytes_and_every_truncation_are_refused(raw: bytes) -> None:
    refused(raw)


def test_nobody_shows_evidence_in_another_name() -> None:
    body = codec.encode(open_bundle(RAW))
    assert refused(identity(8).sign(bundle.PURPOSE, body) + body).code == "E0602"


@pytest.mark.parametrize("changed", ["lost", "moved", "first"])
def test_a_ledger_with_an_entry_lost_or_moved_is_refused(changed: str) -> None:
    opened = open_bundle(RAW)
    one, two, three = opened.ledger
    ledger = {"lost": (one, three), "moved": (two, one, three), "first": (two, three)}[changed]
    error = refused(sealed(opened, ledger=ledger))
    assert error.code == "E0603"
    assert "damaged" in error.message


def test_observations_that_are_forged_or_of_others_are_refused() -> None:
    opened = open_bundle(RAW)
    forged = bytearray(opened.observations[0])
    forged[3] ^= 1
    assert refused(sealed(opened, observations=(bytes(forged),))).code == "E0602"
    assert "something else" in refused(sealed(opened, subject=node(4))).message
    turned = opened.observations[::-1]
    assert "order" in refused(sealed(opened, observations=turned)).message


def test_a_link_that_does_not_hold_is_refused() -> None:
    alone = lived(3, peers=1)
    opened = open_bundle(alone.bundle(node(0)))
    again = alone.observation(alone.verdicts[1], named("other features"))
    other = codec.sign(alone.identity, "observation.1", replace(again, seq=2, before=named("x")))
    changed = (opened.observations[0], other)
    assert "breaks its chain" in refused(sealed(opened, observations=changed)).message


def test_a_round_that_would_take_too_long_or_cannot_be_compared_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened, rng = open_bundle(RAW), random.Random(1)

    def with_round(*batch: Measured) -> bytes:
        _, raw = append(FIRST, Judged(Round(batch=batch)))
        return sealed(opened, ledger=(raw,), observations=())

    one = Measured(peer=node(1), update=named("a"), features=features(rng))
    short = replace(one, peer=node(2), features=features(rng, sketch=(0.5,)))
    assert "different lengths" in refused(with_round(one, short)).message
    assert "one twice" in refused(with_round(one, one)).message
    monkeypatch.setattr(bundle, "MAX_PAIRS", 3)
    assert "pairs" in refused(with_round(one, replace(one, peer=node(2)))).message


def test_a_measurement_that_is_not_in_the_bundle_is_refused() -> None:
    [update, *_] = [one.update for one in LIVED.verdicts if one.peer == node(3)]
    taken = Taken(update=update, round=1, summary=named("s"), own=named("o"), last=None)
    assert "not in the bundle" in refused(LIVED.bundle(node(3), taken=[taken])).message


def test_a_summary_that_is_none_is_refused() -> None:
    name = content_id(b"no summary")
    taken = Taken(update=named("u"), round=1, summary=name, own=name, last=None)
    raw = LIVED.bundle(node(3), summaries=[b"no summary"], taken=[taken])
    assert refused(raw).code == "E0603"


@settings(max_examples=30)
@given(st.floats(0, 1e12), st.floats(-1e6, 1e6), st.floats(0, 1e12))
def test_no_summary_makes_reading_it_fail(norm: float, move: float, module: float) -> None:
    odd = replace(
        SUMMARY,
        geometry=replace(SUMMARY.geometry, norm=norm, modules=(module,)),
        shift=tuple(tuple(move * (c == k) for k in range(16)) for c in range(16)),
    )
    name = content_id(codec.encode(odd))
    taken = Taken(update=LIVED.verdicts[3].update, round=1, summary=name, own=name, last=name)
    found = verify(LIVED.bundle(node(3), summaries=[codec.encode(odd)], taken=[taken]))
    assert found.verdicts[0].measured == "differs"


def test_of_more_measurements_than_fit_the_latest_are_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bundle, "MAX_SUMMARIES", 5)
    raws = [codec.encode(replace(SUMMARY, probe=named(str(n)))) for n in range(9)]
    names = [content_id(raw) for raw in raws]
    update = LIVED.verdicts[3].update
    taken = [
        Taken(update=update, round=n, summary=names[n], own=names[0], last=names[n - 1])
        for n in range(1, 9)
    ]
    opened = open_bundle(LIVED.bundle(node(3), summaries=raws, taken=taken))
    assert {one.round for one in opened.taken} == {6, 7, 8}
    assert len(opened.summaries) == 5


def test_evidence_that_is_too_long_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_BUNDLE_BYTES", 1000)
    with pytest.raises(LocalError) as caught:
        LIVED.bundle(node(3))
    assert caught.value.code == "E0801"
