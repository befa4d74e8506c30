"""What may stand where in the DHT."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.validator import (
    MAX_DEPTH,
    Validator,
    children,
    is_alive,
    key_id,
    shard_key,
    shard_path,
)
from p2pllm import keys
from p2pllm.advert import (
    CLOCK_SLACK_S,
    MAX_TTL_S,
    index_key,
    index_keys,
    keys_of,
    presence_key,
    provider_key,
    seal,
    subkey_of,
)
from p2pllm.errors import PeerError
from tests.gossip.records import MODEL, advert, presence, provider

NOW = 1_800_000_000.0
ALICE, BOB = keys.generate(), keys.generate()
ADVERT = advert(ALICE, now=NOW)
RAW = seal(ALICE, ADVERT)


def refusal(value: bytes, key: str) -> str:
    with pytest.raises(PeerError) as caught:
        Validator().prove(value, key_id(key))
    return caught.value.code


@pytest.mark.parametrize("key", index_keys(ADVERT))
def test_an_advert_may_stand_under_each_of_its_eight_keys(key: str) -> None:
    proof = Validator().prove(RAW, key_id(key))
    assert (proof.subkey, proof.expires_at) == (subkey_of(ADVERT), ADVERT.expires_at)


@pytest.mark.parametrize("depth", range(1, MAX_DEPTH + 1))
def test_a_record_may_stand_in_the_shard_of_its_own_hash_and_in_no_other(depth: int) -> None:
    key, path = index_keys(ADVERT)[0], shard_path(subkey_of(ADVERT))
    assert Validator().prove(RAW, key_id(shard_key(key, path[:depth])))
    for other in children(path[: depth - 1]):
        if other != path[:depth]:
            assert refusal(RAW, shard_key(key, other)) == "E0611"


def test_a_record_below_the_deepest_level_is_refused() -> None:
    deep = shard_path(subkey_of(ADVERT)) + "0"
    assert len(deep) == MAX_DEPTH + 1
    assert refusal(RAW, shard_key(index_keys(ADVERT)[0], deep)) == "E0611"


@pytest.mark.parametrize(
    "key",
    [
        index_key("de", "medical", "-", "s5", "adapter"),
        index_key("en", "law", "-", "s5", "adapter"),
        index_key("en", "medical", "x", "s5", "adapter"),
        index_key("en", "medical", "-", "s4", "adapter"),
        index_key("en", "medical", "-", "s5", "base"),
        index_key("*", "*", "*", "*", "adapter"),
        provider_key(ADVERT.manifest),
        pytest.param(presence_key(ALICE.node), id="presence"),
        "",
    ],
)
def test_an_advert_under_a_key_that_is_not_its_own_is_refused(key: str) -> None:
    assert refusal(RAW, key) == "E0611"


def test_a_presence_may_stand_under_its_own_node_only() -> None:
    raw = seal(ALICE, presence(ALICE, NOW))
    assert Validator().prove(raw, key_id(presence_key(ALICE.node))).subkey == ALICE.node
    assert refusal(raw, presence_key(BOB.node)) == "E0611"


def test_a_provider_may_stand_under_what_it_names_only() -> None:
    raw = seal(ALICE, provider(ALICE, now=NOW))
    assert Validator().prove(raw, key_id(provider_key(MODEL)))
    assert refusal(raw, provider_key(ADVERT.manifest)) == "E0611"


def test_a_record_that_names_another_signer_is_refused() -> None:
    body = seal(BOB, advert(BOB, now=NOW))[64:]
    assert refusal(RAW[:64] + body, index_keys(ADVERT)[0]) == "E0602"


@given(at=st.integers(0, len(RAW) - 1), bit=st.integers(0, 7))
def test_a_record_with_one_bit_changed_is_refused(at: int, bit: int) -> None:
    changed = bytearray(RAW)
    changed[at] ^= 1 << bit
    assert refusal(bytes(changed), index_keys(ADVERT)[0]) in ("E0602", "E0603", "E0611")


@given(st.binary(max_size=1100))
def test_bytes_that_are_no_record_are_refused(raw: bytes) -> None:
    assert refusal(raw, index_keys(ADVERT)[0]) in ("E0602", "E0603")


@pytest.mark.parametrize(
    ("ends_in", "alive"),
    [
        (-1.0, False),
        (0.0, False),
        (1.0, True),
        (MAX_TTL_S, True),
        (MAX_TTL_S + CLOCK_SLACK_S, True),  # of a node whose clock runs two minutes ahead
        (MAX_TTL_S + CLOCK_SLACK_S + 1, False),
    ],
)
def test_a_record_lives_until_it_ends_and_no_longer_than_allowed(
    ends_in: float, alive: bool
) -> None:
    raw = seal(ALICE, advert(ALICE, now=NOW, expires_at=NOW + ends_in))
    assert is_alive(Validator().prove(raw, key_id(index_keys(ADVERT)[0])), NOW) is alive


def test_a_place_is_a_whole_id_and_not_a_piece_of_two() -> None:
    proof = Validator().prove(RAW, key_id(index_keys(ADVERT)[0]))
    assert not proof.belongs(proof.places[7:27])
    assert not proof.belongs(b"")
    assert not proof.belongs(proof.places[:40])
    assert proof.belongs(proof.places[-20:])


def test_what_was_proved_once_is_not_taken_for_something_else() -> None:
    validator, other = Validator(), seal(BOB, advert(BOB, now=NOW))
    first = validator.prove(RAW, key_id(keys_of(ADVERT)[0]))
    assert validator.prove(RAW, key_id(keys_of(ADVERT)[1])) == first
    assert validator.prove(other, key_id(keys_of(ADVERT)[0])).subkey != first.subkey
    with pytest.raises(PeerError):
        validator.prove(RAW, key_id("elsewhere"))
