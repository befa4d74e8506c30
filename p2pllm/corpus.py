"""Text for training and evaluation: read from files, without repeats, split by content.

A .jsonl file holds one JSON object a line; its text is the first of the fields `text`, `passage`,
`document`, `content` that is there, one document. A .txt file is one document, or, where it is
longer than `PASSAGE_CHARS`, passages of whole paragraphs. A directory stands for all such files
below it.

Whether a document is held out of training depends on its bytes and the share alone: not on the
file it came from, its neighbours, their order or this machine. So two nodes with the same text
measure on the same documents.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from p2pllm.errors import LocalError
from p2pllm.ids import ContentId, content_id

FIELDS = ("text", "passage", "document", "content")
SUFFIXES = (".jsonl", ".txt")
_CONVERT = "convert it, such as with iconv -f UTF-16 -t UTF-8, or -f LATIN1"
MIN_CHARS = 40  # less is a title or a label, not text to learn from
PASSAGE_CHARS = 4000  # about a page and a half; longer .txt files are cut at paragraphs
MAX_DOCUMENT_CHARS = 1_000_000
MAX_FILES = 10_000
MAX_BYTES = 512 * 1024**2  # of all files: some 130 million tokens, weeks on a CPU

# Control characters but tab and newline, and lone surrogates, which JSON can carry.
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def read_docs(paths: Sequence[Path]) -> list[str]:
    """The documents of these files and directories, each once, in the order of their names.

    Raises LocalError E0406 for a path that is not there, a file that is no UTF-8 text or JSON
    lines, too much text, or none.
    """
    files = _files(paths)
    total = sum(path.stat().st_size for path in files)
    if len(files) > MAX_FILES or total > MAX_BYTES:
        _no_text(
            f"{len(files)} files with {total} bytes of text, at most {MAX_FILES} and {MAX_BYTES}",
            "give fewer files",
        )
    documents: dict[str, None] = {}
    records = 0
    for path in files:
        limit = PASSAGE_CHARS if path.suffix.lower() == ".txt" else MAX_DOCUMENT_CHARS
        for text in _records(path):
            records += 1
            for passage in _passages(_clean(text), limit):
                if len(passage) >= MIN_CHARS:
                    documents[passage] = None
    if not documents:
        _no_text(
            f"no usable text in {len(files)} files with {records} records",
            f"give .txt files, or .jsonl files with a field {' or '.join(FIELDS)}; a document has"
            f" at least {MIN_CHARS} characters",
        )
    return list(documents)


def document_id(document: str) -> ContentId:
    """The content id of a document's UTF-8 bytes."""
    return content_id(document.encode())


def is_held_out(document: str, share: float) -> bool:
    """Whether a document belongs to the held-out share: its id, read as a fraction, is below."""
    return int(document_id(document)[:16], 16) < share * 2**64


def split(documents: Sequence[str], share: float) -> tuple[list[str], list[str]]:
    """Documents for training and documents held out; E0406 if either is empty."""
    train: list[str] = []
    held: list[str] = []
    for document in documents:
        (held if is_held_out(document, share) else train).append(document)
    if not train or not held:
        _no_text(
            f"{len(documents)} documents split into {len(train)} to train on and {len(held)} to"
            " measure on",
            "give more documents, or name files to measure on",
        )
    return train, held


def in_order(documents: Sequence[str]) -> list[str]:
    """The documents by their ids: one order, whatever files they came from."""
    return sorted(documents, key=document_id)


def text_id(documents: Sequence[str]) -> ContentId:
    """One id for a set of documents: equal sets, equal id."""
    ids = sorted(document_id(document) for document in documents)
    return content_id("".join(ids).encode())


def _files(paths: Sequence[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = (p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            found.update(dict.fromkeys(sorted(inside)))
        elif not path.is_file():
            _no_text(f"no file or directory {path}", "check the path")
        elif path.suffix.lower() not in SUFFIXES:
            _no_text(f"{path.name} is neither .txt nor .jsonl", "convert it to plain text")
        else:
            found[path] = None
    return list(found)


def _records(path: Path) -> Iterator[str]:
    try:
        if path.suffix.lower() == ".jsonl":
            yield from _json_lines(path)
        else:
            yield path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as bad:
        raise _refused(f"{path.name} is no UTF-8 text: {bad.reason}", _CONVERT) from bad


def _json_lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as bad:
                what = f"line {number} of {path.name} is no JSON: {bad}"
                raise _refused(what, "write one JSON object a line, or name it .txt") from bad
            if not isinstance(record, dict):
                _no_text(f"line {number} of {path.name} is no JSON object", "one object a line")
            texts = (record.get(field) for field in FIELDS)
            yield next((text for text in texts if isinstance(text, str)), "")


def _clean(text: str) -> str:
    # NFC and plain line ends, so that one document is one whatever system wrote it.
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _NO_TEXT.sub("", text).strip()


def _passages(text: str, limit: int) -> Iterator[str]:
    """The text cut at blank lines into pieces of at most `limit` characters.

    A paragraph that is longer stands alone, cut where it must be.
    """
    if len(text) <= limit:
        yield text
        return
    passage = ""
    for paragraph in re.split(r"\n\s*\n", text):
        if passage and len(passage) + len(paragraph) > limit:
            yield passage
            passage = ""
        passage = f"{passage}\n\n{paragraph}" if passage else paragraph
        at = 0
        while len(passage) - at > limit:  # each cut once: a line may have half a gigabyte
            yield passage[at : at + limit]
            at += limit
        passage = passage[at:]
    yield passage


def _refused(why: str, fix: str) -> LocalError:
    return LocalError("E0406", why, fix=[fix])


def _no_text(why: str, fix: str) -> NoReturn:
    raise _refused(why, fix)
