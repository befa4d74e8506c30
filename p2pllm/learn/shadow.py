"""Score documents one by one under a set and under another: what the gate decides by.

One stretch of each document, so that what is averaged is independent: windows of one text are not
(docs/specs/gate.md, section 1).
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import torch
from blake3 import blake3
from tokenizers import Tokenizer
from transformers import PreTrainedModel

from p2pllm import corpus, probes
from p2pllm.errors import PeerError
from p2pllm.job_fields import Secret
from p2pllm.jobs import Progress
from p2pllm.jobs_shadow import EXCERPT, MAX_DOCUMENTS, Scored, ShadowJob, ShadowReport, Text
from p2pllm.learn import delta, memory, model, transfer
from p2pllm.learn.delta import Delta

LEAST = 4  # tokens; a shorter document says nothing
LIMIT = 1e6  # of a number in a report
Say = Callable[[Progress], None]


class Read(msgspec.Struct, frozen=True):
    """One text as token ids, and each document's loss before the change."""

    text: Text
    documents: tuple[torch.Tensor, ...]
    before: tuple[float, ...]


class Reader:
    """A base in memory, and the texts that changes of it are scored on."""

    def __init__(
        self,
        network: PreTrainedModel,
        tokenizer: Tokenizer,
        texts: Sequence[Text],
        secret: Secret,
        epoch: int,
        before: Delta | None = None,
    ) -> None:
        self._network = network
        self._read = []
        for text in texts:
            found = _documents(tokenizer, text, secret.value, epoch)
            losses = transfer.losses(network, before, found)
            self._read.append(Read(text, tuple(found), tuple(losses)))

    def gains(self, change: Delta | None) -> tuple[Scored, ...]:
        """What each document gains; PeerError E0609 if a loss is no number."""
        found = []
        for read in self._read:
            after = transfer.losses(self._network, change, read.documents)
            gains = transfer.gains(read.before, after)
            if not all(abs(gain) < LIMIT for gain in gains):  # nor NaN
                raise PeerError(
                    "E0609", "with the adapter the base answers NaN or infinite numbers"
                )
            found.append(Scored(read.text.name, read.text.part, tuple(gains)))
        return tuple(found)


def shadow(job: ShadowJob, say: Say) -> ShadowReport:
    """Both sets on the same documents."""
    started = time.monotonic()
    say(Progress(stage="shadow", message="laying the change on what is served"))
    base_dir = Path(job.base_dir)
    config = model.load_config(base_dir)
    shape = model.shape_of(base_dir, config)
    estimate = memory.probing_bytes(shape, model.compute_dtype().itemsize, 0)
    memory.require(estimate, job.max_memory_bytes, "laying a change on what is served")
    network = model.load_base(base_dir, config, model.compute_dtype()).requires_grad_(False)
    tokenizer = model.load_tokenizer(base_dir)
    before, after = delta.laid(job.before, base_dir), delta.laid(job.after, base_dir)
    reader = Reader(network, tokenizer, job.texts, job.secret, job.epoch, before)
    return ShadowReport(
        found=reader.gains(after),
        seconds=time.monotonic() - started,
        peak_rss=memory.peak_bytes(),
    )


def _documents(tokenizer: Tokenizer, text: Text, secret: bytes, epoch: int) -> list[torch.Tensor]:
    documents = corpus.read_docs([Path(path) for path in text.data])
    chosen = {
        "probes": lambda: probes.active(documents, secret, epoch),
        "anchors": lambda: probes.resting(documents, secret, epoch),
        "live": lambda: probes.reserve(documents, secret),
        "all": lambda: corpus.in_order(documents),
    }[text.part]()
    ids = (_excerpt(tokenizer.encode(one).ids, one, secret) for one in chosen)
    return [torch.tensor(one) for one in ids if len(one) > LEAST][:MAX_DOCUMENTS]


def _excerpt(ids: list[int], document: str, secret: bytes) -> list[int]:
    """A stretch of a document, the same one each time; where it begins only this node knows."""
    draw = int.from_bytes(blake3(document.encode(), key=blake3(secret).digest()).digest(length=8))
    at = draw % max(1, len(ids) - EXCERPT)
    return ids[at : at + EXCERPT + 1]
