"""Rounds with blocks of unlike shapes on unlike text, beside the whole model and clients alone.

`python -m tests.bench lego [--work DIR] [--rounds 8] [--plots DIR] [--short]`. Four clients, four
shapes, four ranks, four domains of real text (medicine, law, finance, contracts) that the base, of
0.85 million parameters, has not read. Losses are nats a token; on the union, the mean of four.

union_loss            of the composed parent after the last round, each client one domain
best_client_loss      of the best client that kept to itself and tuned as much
fedavg_gain_share     the parent's gain over what FedAvg gains with the whole model at every client;
                      all else equal: the same adapters, ranks, steps and text, averaged exactly
fedavg_layers_gain_share   over FedAvg that trains the layers' matrices in full, no adapters
fedavg_all_gain_share      over FedAvg that trains every weight, embeddings and norms as well
alpha_gap             how much worse Dirichlet 0.1 is than Dirichlet 100: loss over loss, less one
curve                 every model after every round (the paper's figure 3)
leave_one_out         the parent without one client in any mean (figure 5)
composed              two blocks of one parent, trained apart, and the larger one out of both (4)

With a work directory a run that was cut off goes on. `--short` takes a base that has hardly learnt
and one round: it shows that it works, not how well.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from p2pllm import blocks
from p2pllm.learn import carve, importance, rounds
from p2pllm.learn.importance import Size
from p2pllm.learn.rounds import Client, Rules
from tests.bench._adapters import ground
from tests.bench._lego import plots, rivals
from tests.bench._lego.rivals import Rival
from tests.bench._lego.world import DOMAINS, SHAPES, WHOLE, Shape, Share, World, mean, rules_of

ALPHAS = (0.1, 100.0)


def main(argv: list[str]) -> dict[str, Any]:
    given = _arguments(argv)
    torch.set_num_threads(1)
    with ground.work_folder(given.work) as work:
        world = World(work, given)
        apart = world.apart()
        found = {"lego": _kept(world, "lego", lambda: _lego(world, apart))}
        found["fedavg"] = _kept(world, "fedavg", lambda: _whole(world, apart))
        for name, everything in (("fedavg-layers", False), ("fedavg-all", True)):
            found[name] = _kept(world, name, lambda e=everything: _fedavg(world, apart, e))
        found["alone"] = _kept(world, "alone", lambda: _alone(world, apart))
        for alpha in ALPHAS:
            shares = world.dirichlet(alpha, len(SHAPES), given.seed)
            found[f"alpha-{alpha:g}"] = _kept(
                world, f"alpha-{alpha:g}", lambda s=shares: _lego(world, s)
            )
        found["composed"] = _kept(world, "composed", lambda: _composed(world))
        report = _report(world, found)
    if given.plots:
        report["plots"] = plots.draw(given.plots, report)
    return report


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lego")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--plots", type=Path, help="where to put the figures, as SVG")
    parser.add_argument("--base-steps", type=int, default=1400)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=15, help="of a client in a round")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1.5e-2)
    parser.add_argument("--fedavg-lr", type=float, default=3e-3)
    parser.add_argument("--server-rate", type=float, default=1.0)
    parser.add_argument("--momentum", type=float, default=0.0)
    parser.add_argument("--rows", type=int, default=3000, help="of a domain, 64 tokens each")
    parser.add_argument("--held-tokens", type=int, default=2048, help="of a domain")
    parser.add_argument("--general", type=int, default=800, help="rows that blocks are refitted on")
    parser.add_argument("--mend", type=int, default=100, help="steps of a block's recovery")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true")
    given = parser.parse_args(argv)
    if given.short:
        given.base_steps, given.rounds, given.steps, given.batch = 5, 1, 2, 4
        given.rows, given.held_tokens, given.general, given.mend = 40, 64, 16, 1
    return given


def _kept(world: World, name: str, run: Callable[[], Any]) -> Any:
    """What a part found; read again if it was found before with the same settings."""
    said = {k: str(v) for k, v in vars(world.given).items() if k not in ("work", "plots")}
    path = world.work / f"{name}{'-short' if world.given.short else ''}.json"
    if path.is_file():
        before = json.loads(path.read_text())
        if before["settings"] == said:
            return before["found"]
    path.write_text(json.dumps({"settings": said, "found": run()}))
    return json.loads(path.read_text())["found"]


def _lego(world: World, shares: Sequence[Share]) -> dict[str, Any]:
    """Rounds with blocks: everybody after every round, and the parent without each."""
    clients, parent, rules = world.clients(shares), world.copied(), rules_of(world.given)
    own = [_own(share) for share in shares]
    curve = [_point(world, 0, parent, clients, own)]
    played = []
    for number, one in enumerate(
        rounds.play(clients, parent, rules, world.given.rounds, lambda event: None), 1
    ):
        played.append(one)
        curve.append(_point(world, number, parent, clients, own))
        print(f"round {number}: parent {curve[-1]['parent']:.4f}", file=sys.stderr, flush=True)
    without = {}
    for at, client in enumerate(clients):
        left = world.copied()
        rounds.fold(left, rounds.replay(played, rules, without=at))
        losses = world.losses(left)
        without[client.name] = {"union": mean(losses), "domains": losses, "domain": own[at]}
    return {
        "curve": curve,
        "domains": world.losses(parent),
        "base": world.losses(world.parent),
        "without": without,
        "rows": {client.name: share.of for client, share in zip(clients, shares, strict=True)},
    }


def _own(share: Share) -> str:
    """The domain that a client has most of."""
    return DOMAINS[max(range(len(DOMAINS)), key=lambda at: share.of[at])]


def _point(
    world: World, number: int, parent: Any, clients: Sequence[Client], own: Sequence[str]
) -> dict[str, Any]:
    point = {"round": number, "parent": mean(world.losses(parent)), "clients": {}, "own": {}}
    for client, domain in zip(clients, own, strict=True):
        losses = world.losses(client.network)
        point["clients"][client.name] = mean(losses)
        point["own"][client.name] = losses[domain]
    return point


def _whole(world: World, shares: Sequence[Share]) -> list[float]:
    """The same rounds with the whole model at every client; the union after every round."""
    whole = [Shape("whole", WHOLE, shape.rank) for shape in SHAPES]
    clients, parent, rules = world.clients(shares, whole), world.copied(), rules_of(world.given)
    found = [mean(world.losses(parent))]
    for _one in rounds.play(clients, parent, rules, world.given.rounds, lambda event: None):
        found.append(mean(world.losses(parent)))
        print(f"whole: {found[-1]:.4f}", file=sys.stderr, flush=True)
    return found


def _fedavg(world: World, shares: Sequence[Share], everything: bool) -> list[float]:
    """FedAvg with the whole model at every client; the union after every round."""
    whole = [Shape("whole", WHOLE, shape.rank) for shape in SHAPES]
    rules = msgspec.structs.replace(rules_of(world.given), lr=world.given.fedavg_lr)
    rival = Rival(world.clients(shares, whole), rules, everything)
    parent = world.copied()
    found = [mean(world.losses(parent))]

    def after() -> None:
        found.append(mean(world.losses(parent)))
        print(f"fedavg: {found[-1]:.4f}", file=sys.stderr, flush=True)

    rivals.fedavg(parent, rival, world.given.rounds, after)
    return found


def _alone(world: World, shares: Sequence[Share]) -> dict[str, float]:
    """Each client for itself, as many tunings as there are rounds: its loss on the union."""
    found = {}
    for client in world.clients(shares):
        rivals.alone(client, rules_of(world.given), world.given.rounds)
        found[client.name] = mean(world.losses(client.network))
        print(f"alone {client.name}: {found[client.name]:.4f}", file=sys.stderr, flush=True)
    return found


def _composed(world: World) -> dict[str, Any]:
    """Two blocks scored on two domains, each tuned on its own; and the larger block out of both."""
    rules, members, found = rules_of(world.given), [], {}
    calmer = Rules(**{**msgspec.structs.asdict(rules), "lr": rules.lr / 2})
    for name in DOMAINS[:2]:
        rows = world.rows[name]
        scores = importance.score(world.parent, world.frame, rows[:64], lambda event: None)
        cut = importance.choose(scores, world.id, world.frame, Size(ffn=0.5))
        folder = world.work / f"composed-{name}"
        if not (folder / "raw" / "config.json").is_file():
            carve.cut_block(world.base, cut, folder / "raw")
        block = world.load(folder / "raw")
        client = Client(name=name, network=block, parts=carve.parts(cut), rows=rows, rank=8)
        rivals.alone(client, calmer, max(1, world.given.rounds // 3))
        if not (folder / "tuned" / "config.json").is_file():
            carve.write(folder / "tuned", world.base, cut, block.state_dict())
        members.append((folder / "tuned", cut))
        found[name] = world.losses(world.load(folder / "tuned"))
    larger = blocks.joined([cut for _folder, cut in members])
    if not (world.work / "composed-both" / "config.json").is_file():
        carve.compose(members, world.base, larger, world.work / "composed-both")
    found["both"] = world.losses(world.load(world.work / "composed-both"))
    found["parent"] = world.losses(world.parent)
    widths = {"channels": [cut.channels for _folder, cut in members], "of_both": larger.channels}
    return {"losses": found, **widths, "two": DOMAINS[:2]}


def _report(world: World, found: dict[str, Any]) -> dict[str, Any]:
    lego, base = found["lego"], mean(found["lego"]["base"])
    union = lego["curve"][-1]["parent"]
    gain = base - union
    apart, alike = (found[f"alpha-{alpha:g}"]["curve"][-1]["parent"] for alpha in ALPHAS)
    return {
        "short": world.given.short,
        "union_loss": union,
        "base_loss": base,
        "best_client_loss": min(found["alone"].values()),
        "alone": found["alone"],
        "fedavg_gain_share": gain / (base - found["fedavg"][-1]),
        "fedavg_layers_gain_share": gain / (base - found["fedavg-layers"][-1]),
        "fedavg_all_gain_share": gain / (base - found["fedavg-all"][-1]),
        "fedavg_loss": found["fedavg"][-1],
        "fedavg_layers_loss": found["fedavg-layers"][-1],
        "fedavg_all_loss": found["fedavg-all"][-1],
        "alpha_gap": apart / alike - 1,
        "alpha_loss": {"0.1": apart, "100": alike},
        "curve": lego["curve"],
        "fedavg_curve": found["fedavg"],
        "fedavg_layers_curve": found["fedavg-layers"],
        "fedavg_all_curve": found["fedavg-all"],
        "leave_one_out": {
            name: {
                "union_loss": one["union"],
                "worse_by": one["union"] - union,
                "domain": one["domain"],
                "domain_loss": one["domains"][one["domain"]],
                "domain_loss_with_all": lego["domains"][one["domain"]],
            }
            for name, one in lego["without"].items()
        },
        "composed": found["composed"],
        "rows": {name: found[name]["rows"] for name in ("lego", "alpha-0.1", "alpha-100")},
        "shapes": [msgspec.to_builtins(shape) for shape in SHAPES],
        "rounds": world.given.rounds,
        "steps": world.given.steps,
    }
