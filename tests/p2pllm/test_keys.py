"""The node's key: kept safely, and its signatures bound to a purpose."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pllm.errors import LocalError, PeerError
from p2pllm.keys import generate, load, load_or_create, verify
from tests.vectors.values import IDENTITY

ALICE = generate()


def test_a_key_is_made_once_and_found_again(tmp_path: Path) -> None:
    made = load_or_create(tmp_path / "key")
    assert load_or_create(tmp_path / "key").node == made.node == load(tmp_path / "key").node
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_the_key_file_is_what_p2pd_reads(tmp_path: Path) -> None:
    """A libp2p PrivateKey: type Ed25519, 64 bytes: seed, public key."""
    load_or_create(tmp_path / "key")
    raw = (tmp_path / "key").read_bytes()
    assert len(raw) == 68
    assert raw[:4].hex() == "08011240"
    assert IDENTITY.key_file_bytes()[4:36] == bytes(range(32)) == IDENTITY.seed()


@pytest.mark.parametrize("cut", [0, 4, 36, 67])
def test_a_file_that_is_no_key_is_refused_and_left(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "key"
    path.write_bytes(ALICE.key_file_bytes()[:cut])
    with pytest.raises(LocalError) as refused:
        load_or_create(path)
    assert refused.value.code == "E0301"
    assert path.read_bytes() == ALICE.key_file_bytes()[:cut]


def test_a_key_file_whose_halves_differ_is_refused(tmp_path: Path) -> None:
    raw = ALICE.key_file_bytes()
    (tmp_path / "key").write_bytes(raw[:36] + IDENTITY.key_file_bytes()[36:])
    with pytest.raises(LocalError):
        load(tmp_path / "key")


def test_the_secret_is_not_printed() -> None:
    shown = repr(ALICE) + str(ALICE)
    assert ALICE.node in shown
    assert ALICE.seed().hex() not in shown
    assert str(ALICE.seed()) not in shown


@given(st.binary(), st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20))
def test_a_signature_verifies_for_its_key_purpose_and_body_only(body: bytes, purpose: str) -> None:
    signature = ALICE.sign(purpose, body)
    verify(ALICE.node, purpose, body, signature)
    for node, other, changed in [
        (IDENTITY.node, purpose, body),
        (ALICE.node, purpose + "x", body),
        (ALICE.node, purpose, body + b"x"),
    ]:
        with pytest.raises(PeerError) as refused:
            verify(node, other, changed, signature)
        assert refused.value.code == "E0602"


def test_a_signature_of_the_wrong_length_is_refused() -> None:
    for signature in (b"", b"x" * 63, b"x" * 65):
        with pytest.raises(PeerError):
            verify(ALICE.node, "p", b"", signature)


def test_purpose_and_body_cannot_be_read_as_another_pair() -> None:
    signature = ALICE.sign("ab", b"c")
    with pytest.raises(PeerError):
        verify(ALICE.node, "a", b"bc", signature)
