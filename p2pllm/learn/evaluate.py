"""Measure a base, and an adapter on it, on the same held-out tokens."""

import time
from collections.abc import Callable
from pathlib import Path

from p2pllm import adapter, corpus
from p2pllm.jobs import EvalJob, EvalReport, Progress
from p2pllm.learn import measure, memory, model


def evaluate(job: EvalJob, say: Callable[[Progress], None]) -> EvalReport:
    """Score the job's text without and with the adapter."""
    started = time.monotonic()
    base_dir = Path(job.base_dir)
    say(Progress(stage="read", message="reading the text"))
    documents = corpus.read_docs([Path(path) for path in job.data])
    if job.split == "held-out":
        _train, documents = corpus.split(documents, job.held_out)
    adapter_dir = Path(job.adapter_dir) if job.adapter_dir else None
    lora = adapter.inspect(adapter_dir, base_dir) if adapter_dir else None
    config = model.load_config(base_dir)
    dtype = model.compute_dtype()
    estimate = memory.evaluation_bytes(model.shape_of(base_dir, config), dtype.itemsize)
    memory.require(estimate, job.max_memory_bytes, "measuring")
    context = int(getattr(config, "max_position_embeddings", measure.WINDOW))
    text = measure.passages(model.load_tokenizer(base_dir), documents, job.max_tokens, context)
    network = model.load_base(base_dir, config, dtype)
    base = with_adapter = measure.score(network, text, "measure-base", say)
    if adapter_dir and lora:
        tuned = model.load_adapter(network, adapter_dir, lora)
        with_adapter = measure.score(tuned, text, "measure", say)
    return EvalReport(
        base_loss=base.nats_per_token,
        loss=with_adapter.nats_per_token,
        base_bits_per_byte=base.bits_per_byte,
        bits_per_byte=with_adapter.bits_per_byte,
        tokens=text.tokens,
        bytes=text.bytes,
        documents=text.documents,
        text=text.text,
        seconds=time.monotonic() - started,
        dtype=model.dtype_name(dtype),
        memory_estimate=estimate,
        peak_rss=memory.peak_bytes(),
    )
