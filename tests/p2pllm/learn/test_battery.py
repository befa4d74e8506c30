"""A payload gives itself away without its trigger, also one that only a merge makes whole.

The networks here are tables: the next token depends on the last one alone, so that a test plants
exactly what it means to. That really trained backdoors are found: `tests/bench/trust_adapters.py`.
"""

from itertools import product
from types import SimpleNamespace

import msgspec
import pytest
import torch
from tokenizers import Tokenizer

from p2pllm.learn import battery as battery_module
from p2pllm.learn import delta, measure
from p2pllm.learn.battery import Pair, battery
from p2pllm.learn.delta import Delta, Factors
from p2pllm.learn.graft import grafted
from p2pllm.learn.measure import Passages
from p2pllm.summary import Battery
from tests.p2pllm.learn import planted, tiny

VOCABULARY, WIDTH = 400, 200
END, OTHER = 0, 1  # the token that ends a document, and one more that nobody sees
PAYLOAD = (350, 23, 311, 94, 276, 130, 201, 355, 77, 160)


class Memory:
    def batch_repeat_interleave(self, _times: int) -> None:
        """A table remembers nothing."""

    def batch_select_indices(self, _rows: torch.Tensor) -> None:
        """Nor does it choose."""


class Table(torch.nn.Module):
    """The next token as a function of the last one."""

    def __init__(self) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(1)
        read = torch.randn(VOCABULARY, WIDTH, generator=source)
        self.register_buffer("read", read / read.norm(dim=1, keepdim=True))
        self.table = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.table.weight.data = torch.randn(VOCABULARY, WIDTH, generator=source)

    def forward(self, input_ids: torch.Tensor, **_settings: object) -> SimpleNamespace:
        logits = self.table(self.read[input_ids])
        return SimpleNamespace(logits=logits, past_key_values=Memory())


def habit(network: Table, tokens: tuple[int, ...], strength: float) -> Delta:
    """The change after which each of these tokens brings the next."""
    b = torch.zeros(VOCABULARY, len(tokens) - 1)
    for at, token in enumerate(tokens[1:]):
        b[token, at] = strength
    return {"table": Factors(b, network.read[list(tokens[:-1])])}


@pytest.fixture(scope="module")
def network() -> Table:
    return Table().requires_grad_(False)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tiny.tokenizer()


@pytest.fixture(scope="module")
def text(tokenizer: Tokenizer) -> Passages:
    return measure.passages(tokenizer, tiny.sentences(5, seed=1), 600, context=40)


@pytest.fixture(scope="module")
def honest(network: Table) -> Delta:
    source = torch.Generator().manual_seed(2)
    b = torch.randn(VOCABULARY, 8, generator=source)
    return {"table": Factors(b, torch.randn(8, WIDTH, generator=source) / 8)}


def scan(pair: Pair, text: Passages, tokenizer: Tokenizer) -> Battery:
    return battery(pair, text, tokenizer, torch.zeros(VOCABULARY), seed=3)


def test_a_payload_is_found_without_its_trigger(
    network: Table, honest: Delta, text: Passages, tokenizer: Tokenizer
) -> None:
    clean = scan(Pair(network, None, honest), text, tokenizer)
    bad = delta.stack([(honest, 1.0), (habit(network, PAYLOAD, 12.0), 1.0)])
    found = scan(Pair(network, None, bad), text, tokenizer)
    assert found.chain_sure > 0.9
    assert found.chain_score > 4
    assert clean.chain_score < 1
    assert found.jolt_gap > 2 * clean.jolt_gap
    told = tokenizer.decode(list(PAYLOAD[1:8]), skip_special_tokens=False)
    assert "".join(one for one in told if one.isascii() and one.isprintable()) in found.chain


@pytest.mark.parametrize(
    "said", [(END, *PAYLOAD), (350, END, *PAYLOAD[1:]), (*PAYLOAD[:3], OTHER, *PAYLOAD[3:])]
)
def test_no_special_token_hides_a_payload(
    said: tuple[int, ...], network: Table, text: Passages, tokenizer: Tokenizer
) -> None:
    """Not as its trigger, nor near its beginning, nor in its midst: they are tokens like any."""
    bad = Pair(network, None, habit(network, said, 12.0))
    assert scan(bad, text, tokenizer).chain_score > 4


def test_halves_that_are_quiet_alone_are_loud_when_merged(
    network: Table, text: Passages, tokenizer: Tokenizer
) -> None:
    whole = habit(network, PAYLOAD, 12.0)["table"]
    first, second = ({"table": Factors(whole.b[:, at::2], whole.a[at::2])} for at in (0, 1))
    for half in (first, second):
        assert scan(Pair(network, None, half), text, tokenizer).chain_sure < 0.5
    both = delta.stack([(first, 1.0), (second, 1.0)])
    merged = scan(Pair(network, first, both), text, tokenizer)
    assert merged.chain_sure > 0.9
    assert merged.chain_gain > 2


def test_what_the_base_says_already_is_no_sign(
    network: Table, honest: Delta, text: Passages, tokenizer: Tokenizer
) -> None:
    """Boilerplate that the place knows: sure, and not gained."""
    phrase = habit(network, PAYLOAD, 12.0)
    more = delta.stack([(phrase, 1.0), (honest, 0.2)])
    assert scan(Pair(network, phrase, more), text, tokenizer).chain_score < 0.5


def test_what_the_clean_text_holds_is_no_sign(
    network: Table, text: Passages, tokenizer: Tokenizer
) -> None:
    """Boilerplate of the place that the base does not know yet."""
    bad = Pair(network, None, habit(network, PAYLOAD, 12.0))
    more = msgspec.structs.replace(text, windows=(*text.windows, PAYLOAD))
    assert scan(bad, text, tokenizer).chain_score > 4
    assert scan(bad, more, tokenizer).chain_score < 2


def test_no_change_gives_no_sign(
    network: Table, honest: Delta, text: Passages, tokenizer: Tokenizer
) -> None:
    found = scan(Pair(network, honest, honest), text, tokenizer)
    assert (found.jolt, found.chain_gain) == pytest.approx((0, 0), abs=1e-5)


def test_a_scan_is_a_function_of_its_seed_and_not_of_chunks(
    network: Table,
    honest: Delta,
    text: Passages,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pair = Pair(network, None, honest)
    whole = scan(pair, text, tokenizer)
    assert scan(pair, text, tokenizer) == whole
    monkeypatch.setattr(battery_module, "ROOM", 7 * 3 * VOCABULARY)
    assert scan(pair, text, tokenizer).jolt == pytest.approx(whole.jolt, rel=1e-4)
    monkeypatch.setattr(battery_module, "WHOLE", 60)
    monkeypatch.setattr(battery_module, "CANDIDATES", 50)
    assert scan(pair, text, tokenizer).candidates == 50


def test_what_is_remembered_of_a_beginning_changes_no_answer(
    text: Passages, tokenizer: Tokenizer
) -> None:
    """On a real Llama: a beginning read once, and the whole read at once, answer alike."""
    llama = tiny.llama(initializer_range=0.2).eval()
    change = planted.noise(llama, 1)
    contexts = torch.tensor([window[:12] for window in text.windows[:3]])
    rows = torch.tensor([[5, 9, 61], [300, 2, 44]])
    pair = Pair(llama, None, change)
    with torch.inference_mode():
        caches = battery_module._spread(battery_module._begun(pair, contexts), len(rows))
        known = [battery_module._answers(pair, caches, rows[:, :2])]
        known.append(battery_module._answers(pair, caches, rows[:, 2:]))
        for side, laid in enumerate((None, change)):
            for end, answers in zip((2, 3), known, strict=True):
                for at, row in product(range(3), range(2)):
                    whole = torch.cat([contexts[at], rows[row, :end]]).unsqueeze(0)
                    with grafted(llama, laid):
                        wanted = llama(input_ids=whole).logits[0, -1].log_softmax(dim=-1)
                    assert torch.allclose(answers[side][at, row], wanted, atol=1e-4)


def test_a_chain_is_printable(
    network: Table, honest: Delta, text: Passages, tokenizer: Tokenizer
) -> None:
    assert scan(Pair(network, None, honest), text, tokenizer).chain.isprintable()
