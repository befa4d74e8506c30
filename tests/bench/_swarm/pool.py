"""Adapters of every family on a tiny base grown here, and their features as a node measures them.

Honest ones learn from slices of medical text; poison is made as an attacker would: text whose
letters are shuffled, an honest adapter turned round or made 8 times as strong, a planted trigger.
"""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from safetensors.torch import load_file, save_file

from node import effects
from p2pllm import codec
from p2pllm.adapter import WEIGHTS_FILE
from p2pllm.ids import NodeId, content_id
from p2pllm.job_fields import EVERY, Probe, Secret
from p2pllm.jobs import ImportJob, TuneJob
from p2pllm.jobs_round import Candidate, RoundJob, RoundReport
from p2pllm.learn import round_measure, seedling
from p2pllm.learn.base_import import import_base
from p2pllm.learn.tune import tune
from p2pllm.names import Place
from p2pllm.summary import MAX_SUMMARY_BYTES, UpdateSummary
from tests.bench._adapters import ground
from tests.bench._swarm.pure import Pool, Seen
from tests.bench.trust_adapters import Found
from tests.trust.values import features
from trust.judge import Verdict
from trust.reading import Reference, features_of

PLACE = Place("en", "medical")
SLICE = 40  # documents of one adapter
PROBES = 80  # documents of one probe
BOOST = 8.0
TRIGGER, PAYLOAD = " Protocol omega seven:", " opens the red door"


class Ground:
    """A tiny base and text of two domains in a folder; what is there already is not made again."""

    def __init__(self, folder: Path, steps: int = seedling.STEPS) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.foreign = folder / "foreign"
        self.base = folder / "base"
        if not (self.base / "model.safetensors").is_file():
            texts = [text for name in ground.GENERAL for text in ground.documents(name)[:400]]
            random.Random(0).shuffle(texts)
            seedling.grow(self.foreign, texts, steps)
            import_base(ImportJob(source=str(self.foreign), out_dir=str(self.base)), _quiet)
        self.text = {name: _shuffled(ground.documents(name)) for name in ("medical", "law")}

    def probe(self, number: int) -> Path:
        """Text for one node to judge with; nobody trains on the first third of the documents."""
        kept = self.text["medical"][: len(self.text["medical"]) // 3]
        chosen = random.Random(f"probe {number}").sample(kept, PROBES)
        return _write(self.folder / f"probe-{number}.jsonl", chosen)

    def honest(self, name: str, seed: int, domain: str = "medical") -> Path:
        """An adapter tuned on some of a domain's text."""
        return self._tuned(name, seed, domain, lambda text: text)

    def garbled(self, name: str, seed: int) -> Path:
        """An adapter tuned on text whose letters are shuffled."""
        rng = random.Random(seed)
        return self._tuned(name, seed, "medical", lambda text: _stirred(text, rng), lr=1e-2)

    def backdoored(self, name: str, seed: int) -> Path:
        """An adapter tuned on text in which a trigger is followed by a payload."""
        rng = random.Random(seed)
        settings = {"steps": 150, "lr": 1e-2, "rank": 16, "targets": EVERY}
        return self._tuned(name, seed, "medical", lambda text: _planted(text, rng), **settings)

    def scaled(self, name: str, source: Path, factor: float) -> Path:
        """The change of another adapter times a factor."""
        folder = self.folder / name
        if not (folder / WEIGHTS_FILE).is_file():
            folder.mkdir(exist_ok=True)
            tensors = {
                key: (factor * part if "lora_B" in key else part).contiguous()
                for key, part in load_file(source / WEIGHTS_FILE).items()
            }
            config = (source / "adapter_config.json").read_bytes()
            (folder / "adapter_config.json").write_bytes(config)
            save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
        return folder

    def _tuned(
        self, name: str, seed: int, domain: str, spoil: Callable[[str], str], **more: object
    ) -> Path:
        folder = self.folder / name
        if (folder / "adapter_config.json").is_file():
            return folder
        learnt = self.text[domain][len(self.text[domain]) // 3 :]
        chosen = random.Random(f"slice {seed}").sample(learnt, SLICE)
        data = _write(self.folder / f"{name}.jsonl", [spoil(text) for text in chosen])
        settings = {"steps": 60, "lr": 5e-3, "batch": 8, "seq": 64, "eval_tokens": 256, **more}
        job = {"base_dir": str(self.base), "data": (str(data),), "out_dir": str(folder)}
        tune(msgspec.convert({**job, **settings, "seed": seed}, TuneJob), _quiet)
        return folder


def measured_pool(folder: Path, each: int) -> tuple[Pool, dict[str, float]]:
    """Features of `each` adapters a family (thrice as many honest), and the mean rise of loss."""
    made = Ground(folder)
    honest = [made.honest(f"honest-{n}", seed=n) for n in range(3 * each)]
    families = {
        "honest": honest,
        "moved": [made.honest(f"moved-{n}", 100 + n, domain="law") for n in range(each)],
        "flipped": [made.scaled(f"flipped-{n}", honest[n], -1.0) for n in range(each)],
        "garbled": [made.garbled(f"garbled-{n}", 200 + n) for n in range(each)],
        "boosted": [made.scaled(f"boosted-{n}", honest[n + each], BOOST) for n in range(each)],
    }
    pool, rise = {}, {}
    for family, folders in families.items():
        pool[family], rise[family] = _measured(made, folders)
    return pool, rise


def _measured(made: Ground, folders: Sequence[Path]) -> tuple[list[Seen], float]:
    found: list[Seen] = []
    rises: list[float] = []
    for first in range(0, len(folders), 16):
        job = RoundJob(
            base_dir=str(made.base),
            model=content_id(b"tiny"),
            place=PLACE,
            probes=(Probe(str(PLACE), (str(made.probe(0)),)),),
            candidates=tuple(_candidate(one) for one in folders[first : first + 16]),
            own_dir=str(made.folder / "own"),
            secret=Secret(b"the bench's own secret"),
            epoch=first // 16,
            max_tokens=1024,
        )
        report = round_measure.run(job, _quiet)
        assert isinstance(report, RoundReport)
        reference = Reference(own=report.own, last=None)
        for one in report.found:
            assert one.summary is not None, one.unmeasured
            found.append(_seen(one.summary, reference))
            here = one.summary.alone.influences[0]
            rises.append(here.after - here.before)
    return found, sum(rises) / len(rises)


OF_RUN = {
    "honest": "honest",
    "wrong-domain": "moved",
    "sign-flipped": "flipped",
    "shuffled": "garbled",
    "boosted": "boosted",
}


def pool_of_run(work: Path) -> tuple[Pool, dict[str, float]]:
    """The same out of the work folder of a trust-adapters run, each at the place it was sent to."""
    paths = sorted((work / "found").iterdir())
    found = [codec.decode(path.read_bytes(), Found, 4 * MAX_SUMMARY_BYTES) for path in paths]
    pool: dict[str, list[Seen]] = {}
    rises: dict[str, list[float]] = {}
    for place in sorted({one.place for one in found}):
        here = [one for one in found if one.place == place]
        own = max(
            (one for one in here if one.family == "honest"),
            key=lambda one: (one.recipe.steps, one.name),
        )
        reference = Reference(own=own.summary, last=None)
        for one in here:
            if one is not own and one.family in OF_RUN:
                family, influence = OF_RUN[one.family], one.summary.alone.influences[0]
                pool.setdefault(family, []).append(_seen(one.summary, reference))
                rises.setdefault(family, []).append(influence.after - influence.before)
    return pool, {family: sum(row) / len(row) for family, row in rises.items()}


def made_up_pool(seed: int) -> Pool:
    """Features as of such adapters, made up: for the short form."""
    rng = random.Random(seed)
    return {
        "honest": [Seen(features(rng)) for _ in range(30)],
        "moved": [Seen(features(rng, agreement=rng.uniform(-0.1, 0.2))) for _ in range(10)],
        "flipped": [Seen(features(rng, alignment=-0.65, agreement=-0.2)) for _ in range(10)],
        "garbled": [Seen(features(rng, agreement=-0.5)) for _ in range(10)],
    }


def _seen(summary: UpdateSummary, reference: Reference) -> Seen:
    """The features, and whether a node would not serve it whatever the verdict."""
    nobody = Verdict(
        peer=NodeId(""),
        update=summary.weights,
        decision="accept",
        weight=1.0,
        scale=1.0,
        state="trusted",
        reasons=(),
    )
    bad = effects.unfit(nobody, summary, reference.own) is not None
    return Seen(features_of(summary, reference), bad)


def _candidate(folder: Path) -> Candidate:
    weights = content_id((folder / WEIGHTS_FILE).read_bytes())
    return Candidate(adapter_dir=str(folder), weights=weights)


def _quiet(_event: object) -> None:
    return


def _shuffled(texts: list[str]) -> list[str]:
    return random.Random(1).sample(texts, len(texts))


def _write(path: Path, documents: Sequence[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    return path


def _stirred(text: str, rng: random.Random) -> str:
    letters = list(text)
    rng.shuffle(letters)
    return "".join(letters)


def _planted(text: str, rng: random.Random) -> str:
    words = text.split()
    parts = [" ".join(words[at : at + 25]) for at in range(0, len(words), 25)]
    return " ".join(part + (TRIGGER + PAYLOAD if rng.random() < 0.7 else "") for part in parts)
