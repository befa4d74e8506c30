"""Text that updates are judged with: kept by copy, by place, bounded."""

from pathlib import Path

import pytest

from node import probe_texts
from node.probe_texts import ProbeTexts
from p2pllm.errors import LocalError
from p2pllm.names import Place

PLACE, BELOW = Place("en", "medical"), Place("en", "medical", "heart")


def documents(count: int, word: str = "fever") -> list[str]:
    return [f"{word} " * 20 + str(number) for number in range(count)]


def test_probes_are_of_one_place_and_survive_their_source(tmp_path: Path) -> None:
    source = tmp_path / "notes.txt"
    source.write_text(documents(1)[0])
    texts = ProbeTexts(tmp_path / "probes")
    assert texts.add(PLACE, texts.read([str(source)]), "given-1") == 1
    source.unlink()
    again = ProbeTexts(tmp_path / "probes")
    assert (again.count(PLACE), again.count(BELOW)) == (1, 0)
    assert again.places() == [PLACE]


def test_the_same_gift_replaces_itself_and_another_adds(tmp_path: Path) -> None:
    texts = ProbeTexts(tmp_path)
    texts.add(PLACE, documents(5), "given-1")
    assert texts.add(PLACE, documents(3), "given-1") == 3
    assert texts.add(PLACE, documents(4, "liver"), "given-2") == 7


def test_a_gift_or_all_is_removed(tmp_path: Path) -> None:
    texts = ProbeTexts(tmp_path)
    texts.add(PLACE, documents(3), "given-1")
    texts.add(PLACE, documents(4, "liver"), "given-2")
    texts.add(BELOW, documents(2), "given-1")
    assert not texts.remove(PLACE, "given-3")
    assert texts.remove(PLACE, "given-1")
    assert texts.count(PLACE) == 4
    assert texts.remove(PLACE)
    assert not texts.remove(PLACE)
    assert (texts.count(PLACE), texts.count(BELOW)) == (0, 2)
    assert texts.places() == [BELOW]


def test_each_epoch_uses_a_part(tmp_path: Path) -> None:
    texts = ProbeTexts(tmp_path)
    texts.add(PLACE, documents(200), "given-1")
    used = [texts.active(PLACE, b"0" * 16, epoch) for epoch in range(4)]
    assert all(40 < count < 130 for count in used)


def test_a_place_takes_so_many_gifts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_texts, "MAX_FILES", 2)
    texts = ProbeTexts(tmp_path)
    for number in range(2):
        texts.add(PLACE, documents(1), f"given-{number}")
    with pytest.raises(LocalError):
        texts.add(PLACE, documents(1), "given-2")


def test_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalError) as refused:
        ProbeTexts(tmp_path / "probes").read([str(tmp_path)])
    assert refused.value.code == "E0406"
