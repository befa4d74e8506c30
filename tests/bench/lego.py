"""Rounds with blocks of unlike shapes on unlike text, beside the whole model and clients alone.

`python -m tests.bench lego [--work DIR] [--seeds 3] [--plots DIR] [--short]`. Four clients, four
shapes, four ranks, four domains of real text (medicine, law, finance, contracts) that the base, of
0.85 million parameters, has not read. Losses are nats a token; on the union, the mean of four.

union_loss            of the composed parent after the last round, each client one domain
best_client_loss      of the best client that kept to itself and tuned as much
fedavg_gain_share     the parent's gain over what FedAvg gains with the whole model at every client;
                      the same adapters, ranks, rounds and text, averaged exactly; over all seeds.
                      In equal time: what a device has is time, and a client with a smaller block
                      does as many more steps as it has fewer weights. Each has the learning rate
                      that was best for it on seeds 0 and 1, of 0.01, 0.015, 0.02 and 0.03
fedavg_gain_share_equal_steps   the same, but no client does more steps than another
fedavg_layers_gain_share   over FedAvg that trains the layers' matrices in full
fedavg_all_gain_share      over FedAvg that trains every weight, embeddings and norms as well
alpha_gap             how much worse Dirichlet 0.1 is than Dirichlet 100: loss over loss, less one
curve                 every model after every round (the paper's figure 3)
leave_one_out         the parent after half of the rounds, played anew without one client (figure 5)
client_share          of the mean, before and after the weights are balanced: `algebra.balanced`
composed              two blocks of one parent, trained apart, and the larger one out of both (4)

With a work directory a run that was cut off goes on. `--short` takes a base that has hardly learnt
and one round: it shows that it works, not how well.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from p2pllm import blocks
from p2pllm.learn import algebra, carve, importance, rounds
from p2pllm.learn.importance import Size
from p2pllm.learn.rounds import Client, Round, Rules
from tests.bench._adapters import ground
from tests.bench._lego import plots, rivals
from tests.bench._lego.rivals import Rival
from tests.bench._lego.world import DOMAINS, SHAPES, WHOLE, Shape, Share, World, mean, rules_of

ALPHAS = (0.1, 100.0)
ALPHA_NAMES = tuple(f"alpha-{alpha:g}" for alpha in ALPHAS)


def main(argv: list[str]) -> dict[str, Any]:
    given = _arguments(argv)
    torch.set_num_threads(1)
    with ground.work_folder(given.work) as work:
        world = World(work, given)
        apart = world.apart()
        found: dict[str, Any] = {}
        for seed in range(given.seed, given.seed + given.seeds):
            for name, run in (("lego", _lego), ("lego-steps", _even), ("fedavg", _whole)):
                found[f"{name}-{seed}"] = _kept(
                    world, f"{name}-{seed}", lambda r=run, s=seed: r(world, apart, s)
                )
        found["without"] = _kept(world, "without", lambda: _without(world, apart))
        for name, everything in (("fedavg-layers", False), ("fedavg-all", True)):
            found[name] = _kept(world, name, lambda e=everything: _fedavg(world, apart, e))
        found["alone"] = _kept(world, "alone", lambda: _alone(world, apart))
        for alpha in ALPHAS:
            shares = world.dirichlet(alpha, len(SHAPES), given.seed)
            found[f"alpha-{alpha:g}"] = _kept(
                world, f"alpha-{alpha:g}", lambda s=shares: _lego(world, s, given.seed)
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
    parser.add_argument("--whole-lr", type=float, default=2e-2, help="of adapters on whole models")
    parser.add_argument("--fedavg-lr", type=float, default=3e-3, help="of whole matrices")
    parser.add_argument("--server-rate", type=float, default=1.0)
    parser.add_argument("--momentum", type=float, default=0.0)
    parser.add_argument("--rows", type=int, default=3000, help="of a domain, 64 tokens each")
    parser.add_argument("--held-tokens", type=int, default=2048, help="of a domain")
    parser.add_argument("--general", type=int, default=800, help="rows that blocks are refitted on")
    parser.add_argument("--mend", type=int, default=100, help="steps of a block's recovery")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3, help="runs of which the shares are a mean")
    parser.add_argument("--short", action="store_true")
    given = parser.parse_args(argv)
    if given.short:
        given.base_steps, given.rounds, given.steps, given.batch = 5, 1, 2, 4
        given.rows, given.held_tokens, given.general, given.mend = 40, 64, 16, 1
        given.seeds = 1
    return given


def _kept(world: World, name: str, run: Callable[[], Any]) -> Any:
    """What a part found; read again if it was found before with the same settings."""
    said = {k: str(v) for k, v in vars(world.given).items() if k not in ("work", "plots", "seeds")}
    path = world.work / f"{name}{'-short' if world.given.short else ''}.json"
    if path.is_file():
        before = json.loads(path.read_text())
        if before["settings"] == said:
            return before["found"]
    path.write_text(json.dumps({"settings": said, "found": run()}))
    return json.loads(path.read_text())["found"]


def _lego(
    world: World, shares: Sequence[Share], seed: int, *, paced: bool = True
) -> dict[str, Any]:
    """Rounds with blocks: the parent after every round, and in the first of them every client."""
    clients, parent = world.clients(shares, paced=paced), world.copied()
    rules = msgspec.structs.replace(rules_of(world.given), seed=seed)
    shown = {c.name: _own(s) for c, s in zip(clients, shares, strict=True)}
    if not paced or seed != world.given.seed:
        shown = {}
    curve, mine = [_point(world, 0, parent, clients, shown)], {}
    for number, one in enumerate(
        rounds.play(clients, parent, rules, world.given.rounds, lambda event: None), 1
    ):
        curve.append(_point(world, number, parent, clients, shown))
        mine = _client_share(clients, one)
        print(f"round {number}: parent {curve[-1]['parent']:.4f}", file=sys.stderr, flush=True)
    return {
        "curve": curve,
        "base": world.losses(world.parent),
        "rows": {client.name: share.of for client, share in zip(clients, shares, strict=True)},
        "steps": {client.name: round(rules.steps * client.pace) for client in clients},
        "client_share": mine,
    }


def _even(world: World, shares: Sequence[Share], seed: int) -> dict[str, Any]:
    return _lego(world, shares, seed, paced=False)


def _client_share(clients: Sequence[Client], one: Round) -> dict[str, dict[str, float]]:
    """How much of a round's mean is whose, and by which weight."""
    plain, even = algebra.shares(one.updates), algebra.shares(algebra.balanced(one.updates))
    total = sum(client.weight for client in clients)
    return {
        client.name: {
            "weight": client.weight / total,
            "plain": float(plain[at]),
            "balanced": float(even[at]),
        }
        for at, client in enumerate(clients)
    }


def _without(world: World, shares: Sequence[Share]) -> dict[str, Any]:
    """Half of the rounds from the same start, one client not there: who learns what without it."""
    rules, found = rules_of(world.given), {}
    count = _half(world.given)
    for at, share in enumerate(shares):
        clients, parent = world.clients(shares), world.copied()
        left = clients.pop(at)
        for _one in rounds.play(clients, parent, rules, count, lambda event: None):
            pass
        losses = world.losses(parent)
        found[left.name] = {"union": mean(losses), "domains": losses, "domain": _own(share)}
        print(f"without {left.name}: {mean(losses):.4f}", file=sys.stderr, flush=True)
    return found


def _half(given: argparse.Namespace) -> int:
    return max(1, int(given.rounds) // 2)


def _own(share: Share) -> str:
    """The domain that a client has most of."""
    return DOMAINS[max(range(len(DOMAINS)), key=lambda at: share.of[at])]


def _point(
    world: World, number: int, parent: Any, clients: Sequence[Client], shown: Mapping[str, str]
) -> dict[str, Any]:
    """The losses after a round: of the parent, and of the clients that are shown."""
    domains = world.losses(parent)
    point = {"round": number, "parent": mean(domains), "domains": domains, "clients": {}, "own": {}}
    for client in clients:
        if client.name in shown:
            losses = world.losses(client.network)
            point["clients"][client.name] = mean(losses)
            point["own"][client.name] = losses[shown[client.name]]
    return point


def _whole(world: World, shares: Sequence[Share], seed: int) -> list[float]:
    """The same rounds with the whole model at every client; the union after every round."""
    whole = [Shape("whole", WHOLE, shape.rank) for shape in SHAPES]
    clients, parent = world.clients(shares, whole), world.copied()
    rules = msgspec.structs.replace(rules_of(world.given), seed=seed, lr=world.given.whole_lr)
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
    given = world.given
    seeds = range(given.seed, given.seed + given.seeds)
    lego, fedavg = found[f"lego-{given.seed}"], found[f"fedavg-{given.seed}"]
    base, union = mean(lego["base"]), lego["curve"][-1]["parent"]
    gains = {
        name: [base - _last(found[f"{name}-{seed}"]) for seed in seeds]
        for name in ("lego", "lego-steps", "fedavg")
    }
    apart, alike = (_last(found[f"alpha-{alpha:g}"]) for alpha in ALPHAS)
    return {
        "short": given.short,
        "union_loss": union,
        "base_loss": base,
        "best_client_loss": min(found["alone"].values()),
        "alone": found["alone"],
        "fedavg_gain_share": sum(gains["lego"]) / sum(gains["fedavg"]),
        "fedavg_gain_share_equal_steps": sum(gains["lego-steps"]) / sum(gains["fedavg"]),
        "fedavg_layers_gain_share": (base - union) / (base - found["fedavg-layers"][-1]),
        "fedavg_all_gain_share": (base - union) / (base - found["fedavg-all"][-1]),
        "gains_by_seed": gains,
        "union_loss_equal_steps": _last(found[f"lego-steps-{given.seed}"]),
        "fedavg_loss": fedavg[-1],
        "fedavg_layers_loss": found["fedavg-layers"][-1],
        "fedavg_all_loss": found["fedavg-all"][-1],
        "alpha_gap": apart / alike - 1,
        "alpha_loss": {"0.1": apart, "100": alike},
        "curve": lego["curve"],
        "curve_equal_steps": found[f"lego-steps-{given.seed}"]["curve"],
        "fedavg_curve": fedavg,
        "fedavg_layers_curve": found["fedavg-layers"],
        "fedavg_all_curve": found["fedavg-all"],
        "leave_one_out": _left_out(lego["curve"][_half(given)], found["without"]),
        "client_share": lego["client_share"],
        "composed": found["composed"],
        "rows": {
            name: found[key]["rows"]
            for name, key in (("lego", f"lego-{given.seed}"), *((a, a) for a in ALPHA_NAMES))
        },
        "shapes": [msgspec.to_builtins(shape) for shape in SHAPES],
        "rounds": given.rounds,
        "steps": given.steps,
        "steps_of": lego["steps"],
        "seeds": given.seeds,
    }


def _left_out(half: Mapping[str, Any], without: Mapping[str, Any]) -> dict[str, Any]:
    """The table: what the parent is after as many rounds with everybody, and without each."""
    return {
        name: {
            "rounds": half["round"],
            "union_loss": one["union"],
            "worse_by": one["union"] - half["parent"],
            "domain": one["domain"],
            "domain_loss": one["domains"][one["domain"]],
            "domain_loss_with_all": half["domains"][one["domain"]],
        }
        for name, one in without.items()
    }


def _last(found: Any) -> float:
    """The loss on the union after the last round."""
    return float(found[-1] if isinstance(found, list) else found["curve"][-1]["parent"])
