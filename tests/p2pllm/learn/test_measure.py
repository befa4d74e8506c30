"""Scoring text: each token once, in one order, with nothing lost to windows or padding."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from p2pllm import corpus
from p2pllm.errors import LocalError
from p2pllm.jobs import EvalJob, Progress
from p2pllm.learn import measure
from p2pllm.learn.evaluate import evaluate
from tests.p2pllm.learn import tiny

DOCUMENTS = tiny.sentences(12, seed=4)


def quiet(event: Progress) -> None:
    """Nobody listens."""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tiny.tokenizer()


class Even(torch.nn.Module):
    """A model that finds every token equally likely."""

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        assert not use_cache
        return SimpleNamespace(logits=torch.zeros(*input_ids.shape, 400))


def test_every_token_but_a_documents_first_is_scored_once(tokenizer: Tokenizer) -> None:
    text = measure.passages(tokenizer, DOCUMENTS, 10**6, context=50)
    wanted = [tokenizer.encode(document).ids[1:] for document in corpus.in_order(DOCUMENTS)]
    scored = [token for window in text.windows for token in window[1:]]
    assert scored == [token for ids in wanted for token in ids]
    assert text.tokens == len(scored)
    assert max(len(window) for window in text.windows) == 51
    assert text.documents == len(DOCUMENTS)


def test_the_order_and_company_of_documents_do_not_matter(tokenizer: Tokenizer) -> None:
    text = measure.passages(tokenizer, DOCUMENTS, 500, context=128)
    assert measure.passages(tokenizer, DOCUMENTS[::-1], 500, context=128) == text
    assert text.tokens == 500


def test_bytes_are_those_of_the_tokens_that_are_scored(tokenizer: Tokenizer) -> None:
    document = "fever über the liver — dose"
    text = measure.passages(tokenizer, [document], 10**6, context=128)
    first = tokenizer.encode(document).tokens[0]
    assert text.bytes == len(document.encode()) - len(first.encode())
    part = measure.passages(tokenizer, [document], 3, context=128)
    kept = tokenizer.encode(document)
    end = kept.offsets[3][1]
    assert part.bytes == len(document[kept.offsets[0][1] : end].encode())


def test_a_start_token_lets_the_first_word_be_scored(tokenizer: Tokenizer) -> None:
    plain = measure.passages(tokenizer, DOCUMENTS[:1], 10**6, context=128)
    started = Tokenizer.from_str(tokenizer.to_str())
    started.post_processor = TemplateProcessing(single="<end> $A", special_tokens=[("<end>", 0)])
    text = measure.passages(started, DOCUMENTS[:1], 10**6, context=128)
    assert text.tokens == plain.tokens + 1
    assert text.bytes == len(DOCUMENTS[0].encode())


def test_a_model_that_knows_nothing_needs_the_logarithm_of_its_vocabulary(
    tokenizer: Tokenizer,
) -> None:
    text = measure.passages(tokenizer, DOCUMENTS, 10**6, context=40)
    found = measure.score(Even(), text, "measure", quiet)
    assert found.nats_per_token == pytest.approx(math.log(400), rel=1e-5)
    bits = math.log2(400) * text.tokens / text.bytes
    assert found.bits_per_byte == pytest.approx(bits, rel=1e-5)


def test_padding_and_batches_do_not_change_a_score(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.llama().eval()
    text = measure.passages(tokenizer, DOCUMENTS, 10**6, context=40)
    together = measure.score(model, text, "measure", quiet)
    monkeypatch.setattr(measure, "EVAL_TOKENS", 1)
    alone = measure.score(model, text, "measure", quiet)
    assert together.nats_per_token == pytest.approx(alone.nats_per_token, rel=1e-6)


def test_text_of_single_tokens_cannot_be_scored(tokenizer: Tokenizer) -> None:
    with pytest.raises(LocalError) as caught:
        measure.passages(tokenizer, ["a", "b"], 100, context=128)
    assert caught.value.code == "E0406"


def test_answers_that_are_no_numbers_end_with_their_code(tokenizer: Tokenizer) -> None:
    model = tiny.llama().eval()
    model.model.norm.weight.data.fill_(float("nan"))
    text = measure.passages(tokenizer, DOCUMENTS, 100, context=40)
    with pytest.raises(LocalError) as caught:
        measure.score(model, text, "measure", quiet)
    assert caught.value.code == "E0609"


def test_without_an_adapter_both_losses_are_the_bases(base_dir: Path, text: Path) -> None:
    report = evaluate(EvalJob(base_dir=str(base_dir), data=(str(text),), max_tokens=200), quiet)
    assert (report.base_loss, report.base_bits_per_byte) == (report.loss, report.bits_per_byte)
    assert report.tokens == 200


def test_all_text_is_more_than_the_held_out_share(
    base_dir: Path, adapter_dir: Path, text: Path
) -> None:
    def documents(split: str) -> int:
        job = EvalJob(
            base_dir=str(base_dir),
            adapter_dir=str(adapter_dir),
            data=(str(text),),
            split=split,  # type: ignore[arg-type]
            max_tokens=10**6,
        )
        report = evaluate(job, quiet)
        assert report.loss != report.base_loss
        return report.documents

    assert documents("all") == 80
    assert 1 <= documents("held-out") <= 24


def test_the_same_text_in_other_files_gives_the_same_numbers(
    base_dir: Path, text: Path, tmp_path: Path
) -> None:
    documents = corpus.read_docs([text])[::-1]
    tiny.write_jsonl(tmp_path / "b.jsonl", documents[:30], field="passage")
    tiny.write_jsonl(tmp_path / "a.jsonl", documents[25:], field="content")
    reports = [
        evaluate(EvalJob(base_dir=str(base_dir), data=(str(data),), max_tokens=400), quiet)
        for data in (text, tmp_path)
    ]
    assert reports[0].loss == reports[1].loss
    assert reports[0].text == reports[1].text
