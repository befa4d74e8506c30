"""Candidates out of adverts: whom their claims are believed of, and what is guessed of them."""

from types import SimpleNamespace
from typing import Any

import pytest
from nacl.signing import SigningKey

from node import advice
from p2pllm.advert import Advert
from p2pllm.ids import content_id
from p2pllm.keys import Identity
from p2pllm.names import Place

PLACE = Place("en", "medical")
KNOWN, STRANGER, SHUT = (Identity(SigningKey(bytes([n]) * 32)).node for n in (1, 2, 3))
ME = Identity(SigningKey(bytes([9]) * 32)).node


def services() -> Any:
    states = {KNOWN: "trusted", STRANGER: "probation", SHUT: "quarantined"}
    opinions = SimpleNamespace(
        shut=lambda peer, place: peer == SHUT,
        heard=lambda peer, place: 0.9,
        state=lambda peer, place: states[peer],
    )
    return SimpleNamespace(
        identity=SimpleNamespace(node=ME),
        trust=SimpleNamespace(opinions=opinions),
        library=SimpleNamespace(base_of=lambda model: None),
    )


def advert(by: str, gain: float | None = 0.5) -> Advert:
    return Advert(
        by=by,
        manifest=content_id(b"m"),
        kind="adapter",
        place=PLACE,
        name="notes",
        model=content_id(b"base"),
        size=280_000_000,
        download=4_000_000,
        params=135_000_000,
        licence="MIT",
        gain=gain,
        created_at=1.0,
        issued_at=1.0,
        expires_at=2.0,
    )


@pytest.mark.parametrize(("peer", "trust"), [(KNOWN, 0.9), (STRANGER, 0.5), (SHUT, 0.0), (ME, 1.0)])
def test_a_signer_is_believed_by_its_standing(peer: str, trust: float) -> None:
    assert advice._trust(services(), PLACE, peer) == trust


def test_of_many_holders_the_most_trusted_stands_for_the_claim_once() -> None:
    one = advice._advertised(services(), [advert(SHUT), advert(STRANGER), advert(KNOWN)])
    assert [score.by for score in one.scores] == [KNOWN]
    assert one.dimensions.guessed
    assert one.download == 280_000_000  # with the base, which is not here


def test_no_claim_is_no_score() -> None:
    assert advice._advertised(services(), [advert(KNOWN, None)]).scores == ()


def test_one_field_has_one_word_whatever_its_place_is_called() -> None:
    for called in ("health", "medicine", "healthcare", "medical"):
        assert advice.one_place(Place("en", called)) == PLACE
    odd = Place("en", "numismatics", "coins")
    assert advice.one_place(odd) == odd
    assert advice.one_place(Place("en", "legal", "contract-law")) == Place("en", "law", "contracts")
