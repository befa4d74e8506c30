"""Probe text turns a quarter an epoch, by a secret, and part of it is never touched."""

from p2pllm import probes

DOCUMENTS = [f"document number {number} about hearts" for number in range(2000)]
SECRET = b"a secret of a node"


def test_a_quarter_of_the_probe_is_new_in_each_epoch() -> None:
    for epoch in range(9):
        now = set(probes.active(DOCUMENTS, SECRET, epoch))
        later = set(probes.active(DOCUMENTS, SECRET, epoch + 1))
        assert 0.35 < len(now) / len(DOCUMENTS) < 0.45
        assert 0.19 < len(later - now) / len(later) < 0.31


def test_the_reserve_is_never_probed_with() -> None:
    kept = set(probes.reserve(DOCUMENTS, SECRET))
    assert 0.17 < len(kept) / len(DOCUMENTS) < 0.23
    used = {text for epoch in range(8) for text in probes.active(DOCUMENTS, SECRET, epoch)}
    assert kept | used == set(DOCUMENTS)
    assert not kept & used


def test_another_node_probes_with_other_text() -> None:
    ours = set(probes.active(DOCUMENTS, SECRET, 0))
    theirs = set(probes.active(DOCUMENTS, b"another secret of it", 0))
    assert 0.3 < len(ours & theirs) / len(ours) < 0.5


def test_the_order_of_documents_does_not_matter() -> None:
    assert probes.active(DOCUMENTS[::-1], SECRET, 3) == probes.active(DOCUMENTS, SECRET, 3)
