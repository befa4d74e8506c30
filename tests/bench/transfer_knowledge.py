"""Knowledge up from a child's block to its parent and down to other children, on real text.

A child on a block of the parent has learnt medical abstracts. Up: it makes up rows, the gate for
what may leave a machine lets some through, the parent sifts them and learns them beside rows of its
own. Down: what the parent learnt is restricted to the block of a child that knows law, which then
learns the parent's answers beside its own. `gap_closed` is the share of the distance to the one
that knows; damages are nats per token on text that was not to suffer (negative: it got better);
`refused` says whether the gate refused the update. Baselines stand on the same data: `plain
averaging` (half of the lifted change), `stacking only` (all of it, exact), `no replay`.
`--large` takes SmolLM2-135M and its blocks; a run that was cut off goes on with the same --work.
"""

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from p2pllm.gate import Facts, Rule
from p2pllm.ids import ContentId, NodeId
from p2pllm.learn import algebra, delta, transfer
from p2pllm.learn.delta import Delta
from p2pllm.learn.distill import Recipe
from p2pllm.learn.generator import Drawing, Maker, make_up
from p2pllm.learn.graft import grafted
from p2pllm.learn.transfer import Fresh, Sieve, Source
from p2pllm.privacy import Gate, Remembered
from tests.bench._transfer.world import GENERAL, LARGE, SHORT, TINY, Scale, World, base_of

NEW, OWN = "medical", "law"
RULE = Rule(gain=0.02, damage=0.02, examples=10, novelty=0.0)
REPLAY_SHARE = 0.5


def main(argv: Sequence[str]) -> dict[str, Any]:
    """Both directions, and the baselines of the first."""
    given = _arguments(argv)
    torch.set_num_threads(1)  # two on a machine that does other work too wait for each other
    scale = SHORT if given.short else LARGE if given.large else TINY
    with tempfile.TemporaryDirectory() as folder:
        work = Path(given.work or folder)
        work.mkdir(parents=True, exist_ok=True)
        steps = 60 if given.short else 1600
        base = base_of(work, given.large, given.base, steps)
        return _run(World(work / f"run-{given.name}", base, scale), scale)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench transfer-knowledge")
    parser.add_argument("--work", help="where what was made is kept")
    parser.add_argument("--name", default="1", help="of the run in the work directory")
    parser.add_argument("--base", help="a base as an import leaves it")
    parser.add_argument("--large", action="store_true", help="SmolLM2-135M; twenty minutes")
    parser.add_argument("--short", action="store_true", help="shows that it works, not how well")
    return parser.parse_args(list(argv))


def _run(world: World, scale: Scale) -> dict[str, Any]:
    child = world.specialist(NEW, scale.child_steps)
    packet = world.answers("packet", world.block, child, lambda: _made_up(world, child, NEW))
    replay = world.answers("replay", world.parent, None, lambda: _general(world, scale.replay))
    sifted = transfer.sift(world.parent, packet.rows, replay.rows[:32], Sieve())
    sources = [Source(packet, sifted.kept, 1 - REPLAY_SHARE), Source(replay, None, REPLAY_SHARE)]
    up = world.change("up", lambda: _learn(world, world.parent, None, sources))
    found = {"up": _up(world, child, "up", up)}
    lifted = algebra.lift(child, world.parts)
    ways = {
        "plain averaging": lambda: delta.stack([(lifted, 0.5)]),
        "stacking only": lambda: lifted,
        "no replay": lambda: world.change(
            "no-replay", lambda: _learn(world, world.parent, None, sources[:1], 1 - REPLAY_SHARE)
        ),
    }
    found["down"] = _down(world, up, packet)
    found["baselines"] = {
        name: _up(world, child, name.replace(" ", "-"), way()) for name, way in ways.items()
    }
    return {
        **found,
        "text": {
            "made_up": len(packet.rows),
            "kept": len(sifted.kept),
            "sieve": sifted.refused,
            "privacy": world.figures("privacy", dict),
        },
        "parent_parameters": sum(p.numel() for p in world.parent.parameters()),
        "block_parameters": sum(p.numel() for p in world.block.parameters()),
        "documents": scale.documents,
        "size": "short" if scale is SHORT else "large" if scale is LARGE else "tiny",
    }


def _made_up(world: World, child: Delta, domain: str) -> torch.Tensor:
    """Rows that the child makes up and that may leave its machine."""
    scale = world.scale
    seen = Remembered()
    world.text(domain)
    for text in world.learnt[domain]:
        seen.add(text)
    wanted = 5 * scale.rows // 4  # the gate refuses some
    openings = world.rows(domain, wanted)
    openings = openings[torch.arange(wanted) % len(openings)]
    drawing = Drawing(length=scale.seq, nucleus=0.98, seed=1)
    with grafted(world.block, child):
        maker = Maker(world.block, world.tokenizer, Gate(seen))
        made = make_up(maker, list(openings[:, : scale.opening]), drawing)
    world.figures("privacy", lambda: {"drawn": wanted, **made.refused})
    return made.rows[: scale.rows]


def _general(world: World, count: int) -> torch.Tensor:
    share = -(-count // len(GENERAL))
    return torch.cat([world.rows(domain, share) for domain in GENERAL])


def _learn(
    world: World,
    network: Any,
    under: Delta | None,
    sources: Sequence[Source],
    share: float = 1.0,
) -> Delta:
    """share   of the batch, so that each row of a packet is learnt as often without replay"""
    scale = world.scale
    batch = max(1, round(scale.batch * share))
    recipe = Recipe(steps=scale.steps, batch=batch, lr=scale.lr, skew=0.0)
    return transfer.learnt(network, under, sources, recipe, Fresh(rank=scale.rank))


def _up(world: World, child: Delta, name: str, change: Delta) -> dict[str, Any]:
    before = {domain: world.losses("parent", None, domain) for domain in (NEW, OWN, *GENERAL)}
    after = {domain: world.losses(name, change, domain) for domain in (NEW, OWN, *GENERAL)}
    goal = statistics.fmean(world.losses(f"child-{NEW}", child, NEW))
    return _verdict(before, after, goal, GENERAL)


def _down(world: World, up: Delta, packet: Any) -> dict[str, Any]:
    """What a child that knows law gets of the parent's new knowledge."""
    own = world.specialist(OWN, world.scale.other_steps)
    # Answers of the parent as it is now, to the rows that it learnt: one file for all children.
    taught = world.answers("parent-answers", world.parent, up, lambda: packet.rows)
    kept = world.answers("own-answers", world.block, own, lambda: world.rows(OWN, world.scale.rows))
    general = world.answers(
        "child-general", world.block, own, lambda: _general(world, world.scale.rows // 2)
    )
    probe = list(taught.rows[:24])
    best, scale = transfer.restricted(up, world.parts, world.block, own, probe)
    sources = [Source(taught, None, 0.4), Source(kept, None, 0.4), Source(general, None, 0.2)]
    under = transfer.joined(own, best)
    made = world.change("down", lambda: _learn(world, world.block, under, sources))
    goal = statistics.fmean(world.losses("up", up, NEW))

    def figures(name: str, change: Delta) -> dict[str, Any]:
        names = (NEW, OWN, *GENERAL)
        before = {domain: world.losses(f"child-{OWN}", own, domain) for domain in names}
        after = {domain: world.losses(name, change, domain) for domain in names}
        return _verdict(before, after, goal, (OWN, *GENERAL))

    found = figures("child-down", transfer.joined(under, made))
    return {**found, "scale": scale, "restriction_only": figures("child-restricted", under)}


def _verdict(
    before: Mapping[str, Sequence[float]],
    after: Mapping[str, Sequence[float]],
    goal: float,
    anchors: Sequence[str],
) -> dict[str, Any]:
    """The figures of one transfer, and the gate's word."""
    had, got = statistics.fmean(before[NEW]), statistics.fmean(after[NEW])
    gain = transfer.gains(before[NEW], after[NEW])
    spared = [each for name in anchors for each in transfer.gains(before[name], after[name])]
    halves = {NodeId("ann"): gain[::2], NodeId("ben"): gain[1::2]}
    decision = transfer.judged(_FACTS, halves, spared, RULE)
    worse = {
        name: round(statistics.fmean(after[name]) - statistics.fmean(before[name]), 4)
        for name in (OWN, *GENERAL)
    }
    return {
        "gap_closed": round((had - got) / (had - goal), 4) if had != goal else None,
        "anchor_damage": round(statistics.fmean(worse[name] for name in GENERAL), 4),
        "own_damage": worse[OWN],
        "refused": decision.outcome != "accept",
        "damage_by_domain": worse,
        "loss_before": round(had, 4),
        "loss_after": round(got, 4),
        "loss_of_who_knows": round(goal, 4),
        "checks": [[c.code, round(c.value, 4), c.limit, c.passed] for c in decision.checks],
    }


_FACTS = Facts(
    update=ContentId("0" * 64),
    by=NodeId("child"),
    lineage="child",
    signed=True,
    base_known=True,
    size=1,
    trust=1.0,
    norm=0.0,
    spectrum=0.0,
    novelty=1.0,
)
