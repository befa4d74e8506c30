"""Distillation: the divergences, the cache of answers, and a student that gets nearer."""

import math
from pathlib import Path

import msgspec
import pytest
import torch
from torch.nn import functional

from p2pllm.errors import LocalError, PeerError
from p2pllm.ids import content_id
from p2pllm.learn import distill
from p2pllm.learn.distill import Asked, Live, LogitCache, Recipe, cache_logits, keep, kl
from p2pllm.logit_cache import Caching, bytes_per_token
from tests.p2pllm.learn import tiny

VOCABULARY = 50


def logits(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 2


def test_without_skew_it_is_the_textbook_divergence() -> None:
    student, teacher = logits(1, 3, 4), logits(2, 3, 4)
    expected = functional.kl_div(
        student.log_softmax(-1), teacher.log_softmax(-1), log_target=True, reduction="none"
    ).sum(-1)
    assert torch.allclose(kl(student, teacher, skew=0.0), expected.mean())
    reverse = functional.kl_div(
        teacher.log_softmax(-1), student.log_softmax(-1), log_target=True, reduction="none"
    ).sum(-1)
    assert torch.allclose(kl(student, teacher, skew=0.0, reverse=True), reverse.mean())


def test_skew_is_that_of_its_formula_and_zero_for_equals() -> None:
    student, teacher = logits(1, 6), logits(2, 6)
    p, q = teacher.softmax(-1), student.softmax(-1)
    forward = (p * (p / (0.1 * p + 0.9 * q)).log()).sum(-1).mean()
    reverse = (q * (q / (0.9 * p + 0.1 * q)).log()).sum(-1).mean()
    assert torch.allclose(kl(student, teacher, skew=0.1), forward)
    assert torch.allclose(kl(student, teacher, skew=0.1, reverse=True), reverse)
    assert kl(student, student).abs() < 1e-6


@pytest.mark.parametrize("reverse", [False, True])
def test_all_entries_kept_are_the_whole_distribution(reverse: bool) -> None:
    student, teacher = logits(1, 2, 5), logits(2, 2, 5)
    few = keep(teacher, Caching(keep=VOCABULARY, kind="top", temperature=2.0))
    whole = kl(student, teacher, temperature=2.0, reverse=reverse)
    assert torch.allclose(kl(student, few, temperature=2.0, reverse=reverse), whole, atol=1e-4)


def test_a_tail_bounds_the_divergence_from_below_and_has_a_gradient() -> None:
    student, teacher = logits(1, 4, 4).requires_grad_(True), logits(2, 4, 4)
    part = kl(student, keep(teacher, Caching(keep=16, kind="top")), skew=0.0)
    assert 0 < part < kl(student, teacher, skew=0.0)  # merging outcomes loses information
    part.backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", ["sampled", "mixed"])
def test_draws_give_the_gradient_of_the_whole_on_average(kind: str) -> None:
    student, teacher = logits(1, 1), logits(2, 1)
    source = torch.Generator().manual_seed(0)
    caching = msgspec.convert({"keep": 16, "kind": kind}, Caching)
    few = keep(teacher.expand(4000, -1), caching, source)
    assert torch.allclose(few.value.exp().sum(-1), torch.ones(4000))
    leaf = student.clone().requires_grad_(True)
    kl(leaf.expand(4000, -1), few, skew=0.0).backward()  # type: ignore[no-untyped-call]
    wanted = student.softmax(-1) - teacher.softmax(-1)
    assert leaf.grad is not None
    assert (leaf.grad - wanted).abs().max() < 0.01
    with pytest.raises(LocalError, match="no reverse"):
        kl(student.expand(4000, -1), few, reverse=True)


def rows(count: int = 24) -> torch.Tensor:
    tokenizer = tiny.tokenizer()
    stream = [token for text in tiny.sentences(20, seed=4) for token in tokenizer.encode(text).ids]
    return torch.tensor(stream[: count * 16]).view(count, 16)


def decided() -> torch.nn.Module:
    """A teacher that prefers some tokens to others, which a random one hardly does."""
    teacher = tiny.llama(seed=1, tie_word_embeddings=False)
    with torch.no_grad():
        teacher.lm_head.weight *= 15
    return teacher


def asked(**changes: object) -> Asked:
    caching = msgspec.structs.replace(Caching(keep=8, kind="top"), **changes)
    return Asked(content_id(b"teacher"), content_id(b"tokenizer"), caching)


def test_a_cache_is_read_as_it_was_asked_and_small(tmp_path: Path) -> None:
    teacher, text = tiny.llama(seed=1), rows()
    path = tmp_path / "logits"
    made = cache_logits(teacher, text, path, asked(), lambda event: None)
    picked = torch.tensor([3, 7])
    with torch.no_grad():
        expected = keep(teacher(input_ids=text[picked]).logits[:, :-1], Caching(keep=8, kind="top"))
    for cache in (made, LogitCache(path)):
        found = cache.answers(picked)
        assert torch.equal(found.index, expected.index)
        assert torch.allclose(found.value, expected.value, atol=5e-3)
        assert torch.equal(cache.rows, text)
    assert bytes_per_token(made.about) == pytest.approx(8 * 4 + 2 * 16 / 15)
    assert path.stat().st_size < bytes_per_token(made.about) * 24 * 15 + 2000
    assert not list(tmp_path.glob("*.parts"))


def test_a_cut_off_cache_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, text = tiny.llama(seed=1), rows()
    monkeypatch.setattr("p2pllm.learn.logits.PART", 128)
    whole = tmp_path / "whole"
    cache_logits(teacher, text, whole, asked(kind="sampled"), lambda event: None)

    def stop(event: object) -> None:
        raise KeyboardInterrupt

    cut = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        cache_logits(teacher, text, cut, asked(kind="sampled"), stop)
    assert not cut.exists()
    [part] = (tmp_path / "cut.parts").iterdir()
    written = part.stat().st_mtime_ns
    seen: list[int] = []

    def watch(event: object) -> None:
        seen.append(part.stat().st_mtime_ns)

    cache_logits(teacher, text, cut, asked(kind="sampled"), watch)
    assert set(seen) == {written}  # kept, not made again
    assert cut.read_bytes() == whole.read_bytes()


def test_a_cache_that_lies_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "logits"
    cache_logits(tiny.llama(seed=1), rows(), path, asked(), lambda event: None)
    good = path.read_bytes()
    for wrong, right in ((b'"keep":8', b'"keep":9'), (b'"seq":16', b'"seq":17')):
        path.write_bytes(good.replace(wrong.replace(b'"', b'\\"'), right.replace(b'"', b'\\"')))
        with pytest.raises(PeerError, match="not those described"):
            LogitCache(path)
    path.write_bytes(good[:-2] + b"\x00\x7e")  # a probability that is no number
    with pytest.raises(PeerError, match="cannot be"):
        LogitCache(path)
    path.write_bytes(b"\x80\x04" + good)
    with pytest.raises(PeerError, match="pickle"):
        LogitCache(path)


@pytest.mark.parametrize("how", ["live", "top", "sampled", "mixed"])
def test_a_taught_student_comes_nearer_to_its_teacher(how: str, tmp_path: Path) -> None:
    teacher, student, text = decided(), tiny.llama(seed=2), rows()
    source: distill.Teacher = Live(teacher, text)
    if how != "live":
        source = cache_logits(teacher, text, tmp_path / "c", asked(kind=how), lambda event: None)
    before = kl(student(input_ids=text).logits, teacher(input_ids=text).logits).item()
    skew = 0.0 if how in ("sampled", "mixed") else 0.1
    losses = distill.distill(student, text, source, Recipe(steps=30, lr=3e-3, skew=skew))
    assert len(losses) == 30
    after = kl(student(input_ids=text).logits, teacher(input_ids=text).logits).item()
    assert after < 0.8 * before


def test_labels_alone_are_learnt_without_a_teacher() -> None:
    losses = distill.distill(tiny.llama(seed=2), rows(), None, Recipe(steps=12, lr=3e-3))
    assert losses[0] == pytest.approx(math.log(400), rel=0.1)
    assert losses[-1] < losses[0] - 0.3


def test_another_tokenizer_is_refused(base_dir: Path, tmp_path: Path) -> None:
    assert distill.require_same_tokenizer(base_dir, base_dir) == distill.tokenizer_id(base_dir)
    plain = msgspec.json.decode((base_dir / "tokenizer.json").read_bytes())
    plain["model"]["merges"] = plain["model"]["merges"][:-1]
    (tmp_path / "tokenizer.json").write_bytes(msgspec.json.encode(plain))
    with pytest.raises(LocalError) as refused:
        distill.require_same_tokenizer(base_dir, tmp_path)
    assert refused.value.code == "E0713"
