"""Observations: signed, chained, and proof against whoever signs two."""

import pytest
from msgspec.structs import replace

from p2pllm.errors import PeerError
from p2pllm.ids import ContentId, content_id
from p2pllm.names import Place
from tests.trust.values import identity, named, node
from trust.evidence import (
    FIRST,
    MAX_OBSERVATION_BYTES,
    MAX_REASONS,
    Observation,
    Shown,
    check_chain,
    equivocates,
    latest,
    open_observation,
    seal,
)

ME = identity(7)


def observation(seq: int, before: ContentId, **given: object) -> Observation:
    one = Observation(
        by=ME.node,
        seq=seq,
        before=before,
        subject=node(3),
        update=named(f"update {seq}"),
        place=Place("en", "medical"),
        epoch=seq,
        verdict="accept",
        features=named("features"),
        probe=named("probe"),
        observed_at=1.0e9,
    )
    return replace(one, **given)


def chain(length: int) -> list[bytes]:
    records: list[bytes] = []
    before = FIRST
    for seq in range(1, length + 1):
        records.append(seal(ME, observation(seq, before)))
        before = content_id(records[-1])
    return records


def test_a_chain_is_read_in_order_and_a_gap_or_a_swap_is_found() -> None:
    records = chain(4)
    assert [one.seq for one in check_chain(records)] == [1, 2, 3, 4]
    assert [one.seq for one in check_chain(records[2:], content_id(records[1]))] == [3, 4]
    for broken in (records[1:], records[:1] + records[2:], records[::-1]):
        with pytest.raises(PeerError):
            check_chain(broken)


def test_no_report_without_its_signature_counts() -> None:
    record = chain(1)[0]
    for at in range(0, len(record), 7):
        forged = bytearray(record)
        forged[at] ^= 1
        with pytest.raises(PeerError):
            open_observation(bytes(forged))


def test_two_tales_with_one_number_prove_a_liar() -> None:
    first = chain(1)[0]
    other = seal(ME, observation(1, FIRST, verdict="reject"))
    assert equivocates(first, other) == ME.node
    assert equivocates(first, first) is None


def test_two_verdicts_on_one_update_prove_a_liar_and_two_updates_do_not() -> None:
    one, two = chain(2)
    again = seal(
        ME,
        observation(2, content_id(one), update=named("update 1"), epoch=1, verdict="reject"),
    )
    assert equivocates(one, again) == ME.node
    assert equivocates(one, two) is None


def test_nobody_is_framed_with_a_forged_record() -> None:
    first, other = chain(1)[0], seal(ME, observation(1, FIRST, verdict="reject"))
    forged = bytes(64) + other[64:]
    with pytest.raises(PeerError):
        equivocates(first, forged)


def test_only_the_first_of_a_chain_follows_nothing() -> None:
    with pytest.raises(ValueError, match="chain"):
        observation(2, FIRST)
    with pytest.raises(ValueError, match="chain"):
        observation(1, named("something"))


def test_the_largest_observation_fits_its_limit() -> None:
    full = observation(
        2**53,
        named("before"),
        place=Place("abc-12345678", "d" * 32, "s" * 32),
        epoch=2**53,
        reasons=tuple(Shown("a" * 24, 1e12, -1e12) for _ in range(MAX_REASONS)),
    )
    assert len(seal(ME, full)) <= MAX_OBSERVATION_BYTES


def test_the_latest_word_on_an_update_counts() -> None:
    old = observation(1, FIRST)
    new = replace(old, seq=2, before=named("x"), verdict="reject")
    assert latest([new, old]) == latest([old, new]) == [new]
