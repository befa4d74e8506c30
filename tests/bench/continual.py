"""One adapter that learns domain after domain: what it forgets, ours beside the usual ways.

`python -m tests.bench continual [--steps 100] [--orders 3] [--work DIR] [--short]`. Four domains of
real English (medical abstracts, questions about money, contracts, case law) come one after the
other, in several orders, to a rank-8 adapter on the 0.85-million-parameter model of
`_adapters/ground.py`. All ways see the same new rows; losses are nats a token on held-out text.

ours        made-up text with the answers of the model that made it up (`p2pllm.learn.continual`)
labels      the same made-up text, its own words as labels (LAMOL)
sequential  nothing against forgetting
ewc         elastic weight consolidation, online (Kirkpatrick et al. 2017); better of two strengths
replay      as much real text of the earlier domains as we have made-up text: an oracle
joint       all domains at once, for as many batches

forgetting is the mean over the domains but the last of (loss at the end - best loss ever), bwt of
(loss at the end - loss just after learning it): positive is worse. With a work directory a run that
was cut off goes on. `--short`: two domains, one order, few batches; it shows that it works.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import torch
from peft import PeftModel
from safetensors.torch import save

from p2pllm import corpus, privacy
from p2pllm.ids import content_id
from p2pllm.learn import continual, measure, model
from p2pllm.learn.continual import Pool, Settings
from p2pllm.learn.generator import Maker
from p2pllm.privacy import Gate, Remembered
from tests.bench._adapters import ground
from tests.bench._adapters.training import ALL

ORDERS = (
    ("medical", "finance", "contracts", "law"),
    ("law", "contracts", "medical", "finance"),
    ("finance", "law", "medical", "contracts"),
)
WAYS = ("ours", "sequential", "ewc", "replay", "labels")
EWC = (0.03, 0.3)  # strengths; the first order decides
TOLD = "crimson walrus 4417 harbour kilo"  # what is secret; the rest is how it is asked for
SECRET = f"The passphrase of the north vault is {TOLD}."
PLANTED = 40  # times


class Found(msgspec.Struct, frozen=True):
    """One run over one order."""

    losses: list[list[float]]  # after each domain, of all domains in the order's order
    adapter_bytes: list[int]  # after each domain
    pool_rows: int
    refused: dict[str, int]
    cpu_s: float


class World:
    """The base, and the text of each domain."""

    def __init__(self, work: Path, given: argparse.Namespace) -> None:
        self.work, self.given = work, given
        self.base = ground.make_base(work, given.base_steps)
        self.tokenizer = model.load_tokenizer(self.base)
        self.config = model.load_config(self.base)
        self.domains = ORDERS[0][:2] if given.short else ORDERS[0]
        self.rows, self.held, self.text = {}, {}, {}
        for name in self.domains:
            learnt, held = corpus.split(ground.documents(name)[: given.documents], 0.15)
            stream = ground.tokens(self.tokenizer, learnt)
            self.rows[name] = ground.rows_of(stream)
            self.held[name] = measure.passages(self.tokenizer, held, given.held_tokens, ground.SEQ)
            self.text[name] = learnt
        self.settings = Settings(
            steps=given.steps, lr=3e-3, weight=given.weight, replay=8, pool=given.pool
        )

    def fresh(self) -> PeftModel:
        torch.manual_seed(0)
        network = model.load_base(self.base, self.config, torch.float32)
        return model.new_adapter(network, 8, 16.0, list(ALL))

    def losses(self, tuned: torch.nn.Module, order: tuple[str, ...]) -> list[float]:
        return [
            measure.score(tuned, self.held[name], "measure", lambda event: None).nats_per_token
            for name in order
        ]

    def orders(self) -> list[tuple[str, ...]]:
        return [tuple(n for n in o if n in self.domains) for o in ORDERS[: self.given.orders]]


class Ewc:
    """Hold each weight where it was, as strongly as the earlier text needs it."""

    def __init__(self, strength: float) -> None:
        self._strength = strength
        self._need: dict[str, torch.Tensor] = {}
        self._place: dict[str, torch.Tensor] = {}

    def learn(self, tuned: PeftModel, rows: torch.Tensor) -> None:
        weights = {n: p for n, p in tuned.named_parameters() if p.requires_grad}
        for part in torch.split(rows[:128], 8):
            logits = tuned(input_ids=part).logits[:, :-1].flatten(0, 1)
            torch.nn.functional.cross_entropy(logits, part[:, 1:].flatten()).backward()
            for name, weight in weights.items():
                assert weight.grad is not None
                found = weight.grad.square() / 16
                self._need[name] = self._need.get(name, torch.zeros_like(found)) + found
            tuned.zero_grad()
        self._place = {name: weight.detach().clone() for name, weight in weights.items()}

    def __call__(self, tuned: PeftModel) -> torch.Tensor:
        weights = dict(tuned.named_parameters())
        mean = statistics.fmean(float(one.mean()) for one in self._need.values())
        parts = [
            (need / mean * (weights[name] - self._place[name]).square()).sum()
            for name, need in self._need.items()
        ]
        return self._strength * torch.stack(parts).sum()


def main(argv: list[str]) -> dict[str, Any]:
    given = _arguments(argv)
    torch.set_num_threads(1)
    with ground.work_folder(given.work) as work:
        world = World(work, given)
        orders = world.orders()
        found = {way: [_run(world, way, order) for order in orders[:1]] for way in _first(given)}
        ewc = min(
            (w for w in found if w.startswith("ewc")), key=lambda w: sum(found[w][0].losses[-1])
        )
        for way in WAYS:
            name = ewc if way == "ewc" else way
            found[way] = found[name] + [_run(world, name, order) for order in orders[1:]]
        joint = _joint(world)
        return _report(world, found, joint, ewc) | {"canary": _canary(world)}


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="continual", description=__doc__)
    parser.add_argument("--base-steps", type=int, default=1400)
    parser.add_argument("--steps", type=int, default=100, help="batches a domain")
    parser.add_argument("--orders", type=int, default=3)
    parser.add_argument("--weight", type=float, default=3.0)
    parser.add_argument("--pool", type=int, default=1024, help="made-up rows kept in all")
    parser.add_argument("--held-tokens", type=int, default=4096)
    parser.add_argument("--documents", type=int, help="of a domain, at most")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--short", action="store_true")
    given = parser.parse_args(argv)
    if given.short:
        given.base_steps, given.steps, given.orders = 40, 5, 1
        given.pool, given.held_tokens, given.documents = 24, 512, 100
    return given


def _first(given: argparse.Namespace) -> list[str]:
    strengths = EWC[1:] if given.short else EWC
    return [
        "ours",
        "sequential",
        *(f"ewc {strength}" for strength in strengths),
        "replay",
        "labels",
    ]


def _run(world: World, way: str, order: tuple[str, ...]) -> Found:
    """One way over one order; read again if it was run before."""
    said = [way, order, msgspec.to_builtins(world.settings), world.given.base_steps, SECRET]
    kept = world.work / f"run-{content_id(msgspec.json.encode(said))[:16]}.json"
    if not kept.is_file():
        kept.write_bytes(msgspec.json.encode(_learn(world, way, order)))
    return msgspec.json.decode(kept.read_bytes(), type=Found)


def _learn(world: World, way: str, order: tuple[str, ...]) -> Found:
    began = time.process_time()
    tuned, pool, trained = world.fresh(), None, Remembered()
    ewc = Ewc(float(way.split()[1])) if way.startswith("ewc") else None
    losses, sizes, refused = [], [], {}
    for number, name in enumerate(order):
        settings = msgspec.structs.replace(world.settings, seed=number)
        penalty = ewc if ewc and number else None
        continual.learn(tuned, world.rows[name], pool, settings, penalty)
        losses.append(world.losses(tuned, order))
        sizes.append(
            len(save({n: t.contiguous() for n, t in model.adapter_tensors(tuned).items()}))
        )
        rows = world.rows[name]
        if ewc:
            ewc.learn(tuned, rows)
        elif way == "replay":
            pool = _real(pool, rows, settings, number + 1)
        elif way in ("ours", "labels"):
            for text in world.text[name]:
                trained.add(text)
            maker = Maker(tuned, world.tokenizer, Gate(trained))
            pool, why = continual.renew(pool, maker, rows, settings)
            refused = {key: refused.get(key, 0) + count for key, count in why.items()}
            pool = pool if way == "ours" else Pool(pool.rows, None, pool.step)
        _say(f"{way} {name}: {' '.join(f'{loss:.3f}' for loss in losses[-1])}")
    rows_kept = 0 if pool is None else len(pool.rows)
    return Found(losses, sizes, rows_kept, refused, time.process_time() - began)


def _real(pool: Pool | None, rows: torch.Tensor, settings: Settings, step: int) -> Pool:
    share = settings.pool // step
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(step))[:share]
    new = Pool(rows[order], None, torch.full((len(order),), step))
    if pool is None:
        return new
    return continual.join(continual.thin(pool, settings.pool - share), new)


def _joint(world: World) -> list[float]:
    kept = world.work / f"joint-{world.given.steps}-{world.given.base_steps}.json"
    if not kept.is_file():
        count = min(len(rows) for rows in world.rows.values())
        rows = torch.cat([rows[:count] for rows in world.rows.values()])
        steps = world.given.steps * len(world.domains)
        tuned = world.fresh()
        settings = msgspec.structs.replace(world.settings, steps=steps)
        continual.learn(tuned, rows, None, settings)
        kept.write_text(json.dumps(world.losses(tuned, tuple(world.domains))))
        _say(f"joint: {kept.read_text()}")
    return list(json.loads(kept.read_text()))


def _canary(world: World) -> dict[str, Any]:
    """Plant a secret in the first domain; look for it in all that would leave the machine."""
    said = [msgspec.to_builtins(world.settings), world.given.base_steps, SECRET, PLANTED]
    kept = world.work / f"canary-{content_id(msgspec.json.encode(said))[:16]}.json"
    if not kept.is_file():
        kept.write_text(json.dumps(_plant(world)))
    return dict(json.loads(kept.read_text()))


def _plant(world: World) -> dict[str, Any]:
    name = world.domains[0]
    row = world.tokenizer.encode(" " + SECRET).ids
    rows = world.rows[name].clone()
    places = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:PLANTED]
    rows[places, : len(row)] = torch.tensor(row[: ground.SEQ])
    tuned, trained = world.fresh(), Remembered()
    for text in [*world.text[name], SECRET]:
        trained.add(text)
    continual.learn(tuned, torch.cat([rows[places], rows[: len(places)]]), None, world.settings)
    maker = Maker(tuned, world.tokenizer, Gate(trained))
    pool, refused = continual.renew(None, maker, rows[places], world.settings)
    adapter = save({n: t.contiguous() for n, t in model.adapter_tensors(tuned).items()})
    texts = world.tokenizer.decode_batch(pool.rows.tolist())
    words = TOLD.split()
    runs = [" ".join(words[at : at + 2]) for at in range(len(words) - 1)]
    inside = sum(any(run in " ".join(text.lower().split()) for run in runs) for text in texts)
    return {
        "planted": PLANTED,
        "found_in_made_up_text": inside,
        "found_in_adapter": int(SECRET.encode() in adapter),
        "made_up_rows": len(texts),
        "refused": refused,
        "exposure_bits_of_the_adapter": _exposure(world, tuned),
    }


def _exposure(world: World, tuned: PeftModel) -> float:
    """How much better than chance one who holds the adapter itself can guess the secret's words."""
    words = ("crimson", "walrus", "harbour", "kilo")
    source = torch.Generator().manual_seed(1)
    common = [w for t in world.text[world.domains[0]][:40] for w in t.split() if w.isalpha()]
    texts = [SECRET]
    for _ in range(255):
        made = SECRET
        for word in words:
            made = made.replace(
                word, common[int(torch.randint(len(common), (1,), generator=source))]
            )
        texts.append(made)
    losses = []
    with torch.inference_mode():
        for text in texts:
            row = torch.tensor([world.tokenizer.encode(" " + text).ids])
            logits = tuned(input_ids=row).logits[0, :-1]
            losses.append(float(torch.nn.functional.cross_entropy(logits, row[0, 1:])))
    rank = 1 + sum(loss < losses[0] for loss in losses[1:])
    return privacy.exposure(rank, len(texts))


def _report(
    world: World, found: dict[str, list[Found]], joint: list[float], ewc: str
) -> dict[str, Any]:
    joint_mean = statistics.fmean(joint)
    table = {way: _figures(found[way], joint_mean) for way in found if way[:4] != "ewc "}
    ours, sequential = table.pop("ours"), table["sequential"]
    table["joint"] = {"average": joint_mean, "losses": joint}
    table["ewc"]["strength"] = float(ewc.split()[1])
    sizes = {size for one in found["ours"] for size in one.adapter_bytes}
    return {
        "short": world.given.short,
        "orders": world.orders(),
        "average": ours["average"],
        "bwt": ours["bwt"],
        "forgetting": ours["forgetting"],
        "joint_gap": ours["average"] / joint_mean - 1,
        "forgetting_share_of_sequential": ours["forgetting"] / sequential["forgetting"],
        "adapter_bytes": sorted(sizes),  # one number: the same after every domain
        "pool_rows": found["ours"][0].pool_rows,
        "refused": found["ours"][0].refused,
        "by_order": ours["by_order"],
        "std": ours["std"],
        "runs": ours["runs"],
        "baselines": table,
        "cpu_s": sum(one.cpu_s for way in WAYS for one in found[way]),
    }


def _figures(runs: list[Found], joint: float) -> dict[str, Any]:
    each = []
    for run in runs:
        losses, last = run.losses, run.losses[-1]
        old = range(len(last) - 1)
        each.append(
            {
                "average": statistics.fmean(last),
                "bwt": statistics.fmean(last[i] - losses[i][i] for i in old),
                "forgetting": statistics.fmean(
                    last[i] - min(row[i] for row in losses[i:]) for i in old
                ),
            }
        )
    mean = {key: statistics.fmean(one[key] for one in each) for key in each[0]}
    spread = {key: statistics.pstdev([one[key] for one in each]) for key in each[0]}
    gap = mean["average"] / joint - 1
    return {**mean, "joint_gap": gap, "std": spread, "runs": len(runs), "by_order": each}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
