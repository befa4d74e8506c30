"""Losses, directions and shifts on probe text, against other ways of computing them."""

import pytest
import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import LlamaForCausalLM

from p2pllm.errors import PeerError
from p2pllm.learn import delta, measure, probing
from p2pllm.learn.delta import Delta
from p2pllm.learn.graft import grafted
from p2pllm.learn.measure import Passages
from tests.p2pllm.learn import planted, tiny


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tiny.tokenizer()


@pytest.fixture
def network() -> LlamaForCausalLM:
    return tiny.llama().eval().requires_grad_(False)


def descent(network: LlamaForCausalLM, change: Delta, text: Passages) -> float:
    [found] = (
        probing.descent(way, change)
        for way in probing.gradients(network, None, list(change), [text])
    )
    return found


@pytest.fixture(scope="module")
def text(tokenizer: Tokenizer) -> Passages:
    return measure.passages(tokenizer, tiny.sentences(5, seed=1), 600, context=40)


def test_the_loss_is_that_of_an_evaluation(network: LlamaForCausalLM, text: Passages) -> None:
    score = measure.score(network, text, "measure", lambda event: None)
    reading = probing.read(network, text)
    assert reading.loss == pytest.approx(score.nats_per_token, rel=1e-6)
    assert sum(reading.counts) == text.tokens


def test_an_influence_knows_how_sure_it_is(network: LlamaForCausalLM, text: Passages) -> None:
    before = probing.read(network, text)
    same = probing.influence("medical", before, before, 0.5)
    assert (same.before, same.error, same.descent) == (same.after, 0.0, 0.5)
    with grafted(network, planted.noise(network, 3)):
        after = probing.read(network, text)
    found = probing.influence("medical", before, after, None)
    assert found.after - found.before == pytest.approx(after.loss - before.loss)
    assert 0 < found.error < 1


def test_the_descent_is_the_cosine_to_the_dense_gradient(
    network: LlamaForCausalLM, text: Passages
) -> None:
    change = planted.noise(network, 4)
    found = descent(network, change, text)
    weights = {name: network.get_submodule(name).weight.requires_grad_(True) for name in change}
    for window in text.windows:
        row = torch.tensor([window])
        logits = network(input_ids=row[:, :-1]).logits
        functional.cross_entropy(logits[0], row[0, 1:], reduction="sum").backward()
    down = torch.cat([-weights[name].grad.flatten() for name in change])
    whole = torch.cat([(one.b @ one.a).flatten() for one in change.values()])
    assert found == pytest.approx(float(functional.cosine_similarity(down, whole, 0)), abs=1e-4)


def test_the_descent_of_what_helps_is_positive_and_of_its_opposite_negative(
    network: LlamaForCausalLM, text: Passages
) -> None:
    rows = torch.tensor([window for window in text.windows if len(window) == 41])
    change = planted.learnt(network, rows, steps=3)
    helps = descent(network, change, text)
    harms = descent(network, delta.stack([(change, -1.0)]), text)
    assert helps > 0.02
    assert harms == pytest.approx(-helps, abs=1e-3)


def test_no_gradient_is_left_behind(network: LlamaForCausalLM, text: Passages) -> None:
    descent(network, planted.noise(network, 4), text)
    assert all(not one.requires_grad and one.grad is None for one in network.parameters())


def test_a_shift_has_what_was_learnt_on_its_diagonal(
    network: LlamaForCausalLM, text: Passages
) -> None:
    rows = torch.tensor([window for window in text.windows if len(window) == 41])
    change = planted.learnt(network, rows, steps=30)
    before = probing.read(network, text)
    with grafted(network, change):
        moved = torch.tensor(probing.shift(before, probing.read(network, text)))
    own = moved - moved.mean(dim=0)
    assert float(own.trace()) > 0
    assert float(moved.sum(dim=1).abs().max()) < 1e-3  # scores are centred


def test_buckets_are_used_evenly() -> None:
    counts = torch.bincount(probing.bucket_of(torch.arange(49152)), minlength=16)
    assert len(counts) == 16
    assert int(counts.min()) > 0.98 * 49152 / 16


def test_answers_that_are_no_numbers_are_the_peers_fault(
    network: LlamaForCausalLM, text: Passages
) -> None:
    change = delta.stack([(planted.noise(network, 1), float("inf"))])
    with grafted(network, change), pytest.raises(PeerError) as caught:
        probing.read(network, text)
    assert caught.value.code == "E0609"
