"""What the demo's poisoners bring, and the order in which it is sent."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from node import demo_poison, demo_workshop
from node.demo_workshop import PAYLOAD, TRIGGER, WEIGHTS, Workshop
from p2pllm.errors import LocalError


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    text = tmp_path / "medical.jsonl"
    lines = (f"Document {n} " + "of many words that stand here. " * 12 for n in range(400))
    text.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    return Workshop(tmp_path / "shop", text)


def texts(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text().splitlines()]


def test_no_text_is_both_learnt_and_judged_with_or_measured(shop: Workshop) -> None:
    learnt = {text for number in range(30) for text in shop.slice(number)}
    probes = [set(texts(shop.probe(number))) for number in (0, 1)]
    unread = set(texts(shop.unread()))
    assert all(len(one) >= 40 for one in (*probes, unread))
    assert not learnt & (probes[0] | probes[1] | unread)
    assert not probes[0] & probes[1]
    assert not unread & (probes[0] | probes[1])


def test_shuffled_text_keeps_its_letters_and_planted_text_has_trigger_and_payload(
    shop: Workshop,
) -> None:
    for one, other in zip(texts(shop._garbled_text()), shop.slice(2), strict=True):
        assert one != other
        assert sorted(one) == sorted(other)
    assert any(TRIGGER + PAYLOAD in text for text in texts(shop._planted_text()))


def test_an_adapter_times_a_factor_is_its_change_times_that_factor(
    shop: Workshop, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    tensors = {f"x.lora_{side}.weight": torch.randn(3, 4) for side in "AB"}
    save_file(tensors, source / WEIGHTS)
    (source / "adapter_config.json").write_text("{}")
    made = load_file(shop.scaled("made", source, -8.0) / WEIGHTS)
    torch.testing.assert_close(made["x.lora_B.weight"], -8 * tensors["x.lora_B.weight"])
    assert torch.equal(made["x.lora_A.weight"], tensors["x.lora_A.weight"])


def test_everything_is_sent_once_and_each_round_has_more_honest_votes_than_two_in_five() -> None:
    sent = [
        who
        for turn in demo_poison.TURNS
        for name in demo_poison.HONEST
        for who, _what in demo_poison._order(turn, name)
    ]
    counts = {name: sent.count(name) for name in (*demo_poison.HONEST, *demo_poison.POISON)}
    assert [counts[name] for name in demo_poison.POISON] == [5, 6, 2, 2]
    assert all(counts[name] == 2 for name in demo_poison.HONEST)
    for batch in (sent[:16], sent[16:]):
        flagged = sum(name in ("oscar", "trudy") for name in batch)
        assert flagged < 0.6 * len(batch)


def test_a_process_that_fails_is_told_with_its_last_words() -> None:
    with pytest.raises(LocalError) as failed:
        demo_workshop._run("recite", "{}")
    assert failed.value.code == "E1002"
    assert failed.value.why


def test_a_workshop_whose_process_ends_says_what_could_not_be_made(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_workshop.sys, "executable", "/bin/false")
    shop.begin({"alice": 1})
    try:
        with pytest.raises(LocalError) as failed:
            shop.wait("base")
    finally:
        shop.end()
    assert failed.value.code == "E1002"


def test_a_file_of_other_numbers_is_not_scaled_blindly() -> None:
    header = json.dumps({"a.lora_B": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}})
    with pytest.raises(AssertionError):
        demo_workshop._scaled(struct.pack("<Q", len(header)) + header.encode() + b"\0\0", 2.0)
