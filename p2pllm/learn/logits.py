"""A teacher's answers to rows of text, kept in a file: asked once, learnt from by many.

A cache that was being written when its process died goes on where its parts end.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
from safetensors import safe_open
from safetensors.torch import save

from p2pllm import durable, weights
from p2pllm.errors import LocalError, PeerError
from p2pllm.ids import ContentId, content_id
from p2pllm.jobs import Progress
from p2pllm.learn.divergence import Sparse, keep
from p2pllm.logit_cache import (
    HEADER,
    MAX_TOKENS,
    SMALL_VOCABULARY,
    Caching,
    Description,
    check_tensors,
    decode_description,
)

AT_ONCE = 512  # tokens that go through the teacher at once
PART = 8192  # tokens of a part: some seconds of a small teacher, what a kill costs

Say = Callable[[Progress], None]


class Asked(msgspec.Struct, frozen=True):
    """Which teacher, by which tokenizer; what of its answers is kept."""

    teacher: ContentId
    tokenizer: ContentId
    caching: Caching = Caching()


class LogitCache:
    """A file of cached answers, proved and in memory."""

    def __init__(self, path: Path) -> None:
        tensors = weights.read_header(path)
        with safe_open(path, framework="pt") as file:
            self.about = decode_description((file.metadata() or {}).get(HEADER, ""))
            check_tensors(tensors, self.about)
            read = {name: file.get_tensor(name) for name in tensors}
        self.rows = read["tokens"].long()
        self._index, self._value = read["index"], read["value"]
        self._prove()

    def answers(self, picked: torch.Tensor) -> Sparse:
        """What the teacher said to these rows: entries of (rows, seq - 1, keep)."""
        # Two bytes an index: torch.uint16 takes no mask, so it goes through numpy.
        index = torch.from_numpy(self._index.numpy()[picked.numpy()].astype("int64"))
        return Sparse(index, self._value[picked].float(), self.about.caching.kind == "top")

    def _prove(self) -> None:
        about = self.about
        highest = max(int(self._index.numpy().max()), int(self.rows.max()))
        value = self._value.float()
        odd = value.isnan().any() or (value > 0).any() or int(self._index.numpy().min()) < 0
        if odd or highest >= about.vocabulary or int(self.rows.min()) < 0:
            raise PeerError("E0603", "cached logits: a token or a probability that cannot be")
        if text_id(self.rows) != about.text:
            raise PeerError("E0603", "cached logits: the text is not the one described")


def cache_logits(
    teacher: torch.nn.Module, rows: torch.Tensor, path: Path, asked: Asked, say: Say
) -> LogitCache:
    """Ask a teacher about every row, (count, seq) token ids, and keep its answers at `path`."""
    if rows.numel() > MAX_TOKENS:
        raise LocalError("E0204", f"{rows.numel()} tokens to cache, at most {MAX_TOKENS}")
    parts = path.with_name(path.name + ".parts")
    parts.mkdir(parents=True, exist_ok=True)
    width = max(1, PART // rows.shape[1])
    began, fresh = time.monotonic(), 0
    made = []
    for number, part in enumerate(torch.split(rows, width)):
        file = parts / f"{number}.safetensors"
        about = _describe(teacher, part, asked)
        if not _holds(file, about):
            durable.replace_file(file, _encode(_ask(teacher, part, asked, number), part, about))
            fresh += part.numel()
        made.append(file)
        done = min(rows.numel(), (number + 1) * width * rows.shape[1])
        left = (time.monotonic() - began) / max(1, fresh) * (rows.numel() - done)
        total = rows.numel()
        say(Progress(stage="teach", done=done, total=total, unit="tokens", eta_s=left))
    joined = [LogitCache(file) for file in made]
    answers = [one.answers(torch.arange(len(one.rows))) for one in joined]
    whole = Sparse(
        torch.cat([one.index for one in answers]),
        torch.cat([one.value for one in answers]),
        answers[0].tail,
    )
    durable.replace_file(path, _encode(whole, rows, _describe(teacher, rows, asked)))
    shutil.rmtree(parts)
    return LogitCache(path)


def write(
    path: Path, teacher: torch.nn.Module, rows: torch.Tensor, answers: Sparse | None, asked: Asked
) -> None:
    """Keep answers that are there already; those of nobody are each row's own next token."""
    if answers is None:
        index = rows[:, 1:].unsqueeze(-1)
        answers = Sparse(index, torch.zeros(index.shape), tail=False)
    caching = msgspec.structs.replace(asked.caching, keep=answers.index.shape[-1])
    about = _describe(teacher, rows, msgspec.structs.replace(asked, caching=caching))
    durable.replace_file(path, _encode(answers, rows, about))


def text_id(rows: torch.Tensor) -> ContentId:
    """The id of rows of tokens, whatever type they are kept in."""
    return content_id(rows.numpy().astype("<i4").tobytes())


def _describe(teacher: torch.nn.Module, rows: torch.Tensor, asked: Asked) -> Description:
    return Description(
        teacher=asked.teacher,
        tokenizer=asked.tokenizer,
        text=text_id(rows),
        vocabulary=int(teacher.get_input_embeddings().weight.shape[0]),  # type: ignore[operator]
        rows=len(rows),
        seq=rows.shape[1],
        caching=asked.caching,
    )


def _ask(teacher: torch.nn.Module, rows: torch.Tensor, asked: Asked, number: int) -> Sparse:
    source = torch.Generator().manual_seed(asked.caching.seed * 1_000_003 + number)
    index, value, tail = [], [], True
    with torch.inference_mode():
        for batch in torch.split(rows, max(1, AT_ONCE // rows.shape[1])):
            logits = teacher(input_ids=batch, use_cache=False).logits[:, :-1]
            few = keep(logits, asked.caching, source)
            index.append(few.index)
            value.append(few.value)
            tail = few.tail
    return Sparse(torch.cat(index), torch.cat(value), tail)


def _encode(answers: Sparse, rows: torch.Tensor, about: Description) -> bytes:
    whole = torch.uint16 if about.vocabulary <= SMALL_VOCABULARY else torch.int32
    tensors = {
        "tokens": rows.to(whole).contiguous(),
        "index": answers.index.to(whole).contiguous(),
        "value": answers.value.half().contiguous(),
    }
    return save(tensors, metadata={HEADER: msgspec.json.encode(about).decode()})


def _holds(file: Path, about: Description) -> bool:
    try:
        return LogitCache(file).about == about
    except (FileNotFoundError, PeerError):
        return False
