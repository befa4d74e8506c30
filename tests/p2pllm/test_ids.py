"""Content ids and node ids: made by parsers only, equal to what other tools print."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pllm.errors import PeerError
from p2pllm.ids import (
    content_id,
    node_id_bytes,
    node_id_of,
    parse_content_id,
    parse_node_id,
    public_key_of,
)


def test_a_content_id_is_what_b3sum_prints() -> None:
    # The official test vector of BLAKE3 for the empty input.
    empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert content_id(b"") == empty
    assert parse_content_id(empty) == empty


@pytest.mark.parametrize(
    "text", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n", " " + "a" * 63, "é" * 64]
)
def test_what_is_no_content_id_is_refused(text: str) -> None:
    with pytest.raises(PeerError) as refused:
        parse_content_id(text)
    assert refused.value.code == "E0601"


@given(st.binary(min_size=32, max_size=32))
def test_a_node_id_carries_its_key(key: bytes) -> None:
    node = node_id_of(key)
    assert parse_node_id(node) == node
    assert public_key_of(node) == key
    assert node.startswith("12D3KooW")
    assert len(node) == 52
    assert len(node_id_bytes(node)) == 38


def test_a_node_id_is_the_one_of_the_libp2p_specification() -> None:
    """libp2p specs, peer-ids, test vectors: an Ed25519 public key and its id."""
    key = bytes.fromhex("1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e")
    assert node_id_of(key) == "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"


@given(st.text(max_size=80))
def test_any_text_is_a_node_id_or_a_peer_error(text: str) -> None:
    try:
        code, length = "", len(public_key_of(parse_node_id(text)))
    except PeerError as error:
        code, length = error.code, 0
    assert (code, length) in {("", 32), ("E0602", 0)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",  # RSA
        "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeS",  # cut off
        "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB1",
        "0OIl" * 13,
        "1" * 10_000,
    ],
)
def test_what_is_no_ed25519_peer_is_refused(text: str) -> None:
    with pytest.raises(PeerError) as refused:
        parse_node_id(text)
    assert refused.value.code == "E0602"
