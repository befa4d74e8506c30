"""Knowledge up and down: strangers' rows sifted, sources mixed, the network left as it was."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from p2pllm.errors import LocalError
from p2pllm.gate import Rule
from p2pllm.ids import NodeId, content_id
from p2pllm.learn import algebra, delta, transfer
from p2pllm.learn.algebra import Part
from p2pllm.learn.delta import Delta, Factors
from p2pllm.learn.distill import Recipe
from p2pllm.learn.logits import Asked, LogitCache, cache_logits
from p2pllm.learn.transfer import Fresh, Joined, Sieve, Source
from tests.bench.transfer_knowledge import _FACTS as FACTS
from tests.p2pllm.learn import tiny

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
SEQ = 12
TOKENIZER = content_id(b"tokenizer")
MODULE = "model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def network() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return tiny.llama().eval().requires_grad_(False)


def rows(count: int, seed: int) -> torch.Tensor:
    return torch.randint(1, 300, (count, SEQ), generator=torch.Generator().manual_seed(seed))


def asked(path: Path, model: torch.nn.Module, text: torch.Tensor, cut: str = "") -> LogitCache:
    about = Asked(content_id(b"model"), content_id(cut.encode()) if cut else TOKENIZER)
    return cache_logits(model, text, path, about, lambda event: None)


def test_a_strangers_rows_are_sifted_for_reasons(network: LlamaForCausalLM) -> None:
    good = rows(6, 1)
    same = torch.full((1, SEQ), 7)
    told = torch.cat([good[:2], good[:1], same, good[2:]])
    found = transfer.sift(network, told, rows(8, 2), Sieve(quota=4))
    assert found.kept == (0, 1, 4, 5)
    assert found.refused == {"odd": 0, "empty": 0, "repeated": 1, "duplicate": 1, "quota": 2}
    strict = transfer.sift(network, good, rows(8, 2), Sieve(high=-5.0))
    assert strict.refused["odd"] == 6
    dull = transfer.sift(network, good, rows(8, 2), Sieve(low=2.0))
    assert dull.refused["empty"] == 6


def test_sources_are_mixed_by_their_shares_and_answer_for_themselves(
    network: LlamaForCausalLM, tmp_path: Path
) -> None:
    one = asked(tmp_path / "one", network, rows(10, 3))
    other = asked(tmp_path / "other", network, rows(4, 4))
    mixed = Joined([Source(one, (0, 2, 4), 0.25), Source(other, None, 0.75)], 16)
    assert len(mixed.rows) == 16
    mine = [row.tolist() for row in one.rows[[0, 2, 4]]]
    theirs = [row.tolist() for row in other.rows]
    assert sum(row.tolist() in mine for row in mixed.rows) == 4
    assert sum(row.tolist() in theirs for row in mixed.rows) == 12
    for at in (0, 15):
        cache, pool = (one, mine) if mixed.rows[at].tolist() in mine else (other, theirs)
        del pool
        place = [row.tolist() for row in cache.rows].index(mixed.rows[at].tolist())
        said, kept = mixed.answers(torch.tensor([at])), cache.answers(torch.tensor([place]))
        assert torch.equal(said.index, kept.index)
        assert torch.equal(said.value, kept.value)


def test_sources_that_do_not_go_together_are_refused(
    network: LlamaForCausalLM, tmp_path: Path
) -> None:
    one = asked(tmp_path / "one", network, rows(4, 3))
    other = asked(tmp_path / "other", network, rows(4, 4), cut="other")
    with pytest.raises(LocalError) as unlike:
        Joined([Source(one), Source(other)], 8)
    assert unlike.value.code == "E0713"
    with pytest.raises(LocalError) as none:
        Joined([Source(one, (), 1.0)], 8)
    assert none.value.code == "E0406"


def test_learning_moves_answers_to_the_teachers_and_leaves_the_network(
    network: LlamaForCausalLM, tmp_path: Path
) -> None:
    teacher = tiny.llama(seed=5).eval()
    with torch.no_grad():
        teacher.lm_head.weight.mul_(40)  # a random model is sure of nothing
    text = rows(16, 6)
    cache = asked(tmp_path / "cache", teacher, text)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    under = _change(network, 0.01)
    recipe = Recipe(steps=30, batch=8, lr=2e-2, skew=0.0)
    made = transfer.learnt(network, under, [Source(cache)], recipe, Fresh(rank=4))
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(network.state_dict()[name], one) for name, one in before.items())
    gap = [_gap(network, teacher, text, one) for one in (under, transfer.joined(under, made))]
    assert gap[1] < gap[0] - 0.02
    again = transfer.learnt(network, under, [Source(cache)], recipe, Fresh(rank=4))
    assert all(torch.equal(made[name].b, again[name].b) for name in made), "seeded"


def test_a_restriction_takes_the_scale_that_helps(network: LlamaForCausalLM) -> None:
    rows_, columns = network.get_submodule(MODULE).weight.shape
    parts = {MODULE: Part(MODULE, (rows_, columns))}
    text = list(rows(6, 9))
    harm = {MODULE: Factors(torch.randn(rows_, 2).double() * 50, torch.randn(2, columns).double())}
    kept, scale = transfer.restricted(harm, parts, network, None, text)
    assert (kept == {}) == (scale == 0.0)
    best = min(
        sum(transfer.losses(network, delta.stack([(harm, share)]) if share else None, text))
        for share in (0.0, 0.25, 0.5, 1.0)
    )
    assert sum(transfer.losses(network, kept, text)) == pytest.approx(best, rel=1e-6)
    assert algebra.restrict(harm, parts).keys() == harm.keys()


def test_losses_do_not_depend_on_the_order_or_on_lengths(network: LlamaForCausalLM) -> None:
    text = [one[:length] for one, length in zip(rows(5, 8), (5, 12, 7, 12, 5), strict=True)]
    forth = transfer.losses(network, None, text)
    back = transfer.losses(network, None, text[::-1])
    assert forth == pytest.approx(back[::-1], rel=1e-5)


def test_the_gate_has_the_last_word() -> None:
    rule = Rule(gain=0.02, damage=0.02, examples=10)
    better, same, worse = ([value + 0.001 * (n % 5) for n in range(60)] for value in (0.1, 0, -0.1))
    peers = {NodeId("ann"): better, NodeId("ben"): better}
    assert transfer.judged(FACTS, peers, same, rule).outcome == "accept"
    assert transfer.judged(FACTS, peers, worse, rule).outcome == "reject"
    alone = {NodeId("ann"): better}
    assert transfer.judged(FACTS, alone, same, rule).outcome == "hold"


def _change(network: torch.nn.Module, size: float) -> Delta:
    source = torch.Generator().manual_seed(11)
    rows_, columns = network.get_submodule(MODULE).weight.shape
    b = torch.randn(rows_, 2, generator=source).double() * size
    return {MODULE: Factors(b, torch.randn(2, columns, generator=source).double())}


def _gap(
    network: torch.nn.Module, teacher: torch.nn.Module, text: torch.Tensor, change: Delta
) -> float:
    with torch.inference_mode():
        p = teacher(input_ids=text).logits.log_softmax(-1)
        with transfer.grafted(network, change):
            q = network(input_ids=text).logits.log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())
