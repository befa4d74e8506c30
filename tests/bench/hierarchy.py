"""Real daemons over languages and domains: do heads agree, is every update held, and held once?

Twelve nodes over three languages and two domains, with a sub-domain; models are tiny, and every
process, stream, verdict and signature is real. Each place has two keepers, who judge by text of
their own, and whom its subscribers trust. In order: everybody joins and clones the base; an update
at every place is accepted and reaches every subscriber; the swarm is cut in two, the halves accept
different updates of one place and are joined again; a keeper, and a subscriber that is just
applying, are killed while an update is on its way, and come back; a keeper is killed for good.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from p2pllm.heads import HeadFile
from p2pllm.names import parse_place
from tests.bench._hierarchy.swarm import SPLIT, SUB, WAIT_S, Node, Swarm, say, since, wait
from tests.node.daemons import free_port, until

LEARNER_S, IDLE_S = 70.0, 20.0


def main(argv: Sequence[str]) -> dict[str, Any]:
    """Run the story; see the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench hierarchy")
    parser.add_argument("--daemons", type=int, default=12)
    parser.add_argument("--short", action="store_true", help="four daemons")
    parser.add_argument("--work", type=Path, help="where to leave the homes; a short path")
    given = parser.parse_args(list(argv))
    count = 4 if given.short else given.daemons
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="p2", dir="/tmp") as folder:
        swarm = Swarm(given.work or Path(folder), count)
        with swarm.up():
            found = _story(swarm)
    return {"daemons": count, "places": len(swarm.places), **found, "seconds": since(began)}


def _story(swarm: Swarm) -> dict[str, Any]:
    join_s = swarm.join()
    say(f"all {len(swarm.nodes)} joined, {join_s} s")
    clone_s = swarm.clone()
    say(f"all have the base, {clone_s} s")
    updates, spread = _spread(swarm)
    _cut(swarm)
    updates[SPLIT] |= _diverge(swarm)
    heal_s = _heal(swarm, updates[SPLIT])
    killed, kills = _kill(swarm)
    updates[SPLIT].add(killed)
    later, replaced_s = _replace(swarm)
    updates[SUB].add(later)
    held, wanted, twice = _count(swarm, updates)
    agree = {place: _agree(swarm, place) for place in swarm.places}
    return {
        "heads_agree": all(agree.values()),
        "places_agreeing": sum(agree.values()),
        "held": held,
        "subscriptions": wanted,
        "held_share": held / wanted,
        "applied_twice": twice,
        "join_s": join_s,
        "clone_s": clone_s,
        **spread,
        "split_healed_s": heal_s,
        **kills,
        "keeper_replaced_s": replaced_s,
        "tree_levels": _levels(swarm),
        "idle_cores": _idle(swarm),
    }


def _spread(swarm: Swarm) -> tuple[dict[str, set[str]], dict[str, float]]:
    """An update at every place is accepted by a keeper and reaches every subscriber."""
    began = time.monotonic()

    def bring(place: str) -> tuple[str, float]:
        update = swarm.accept(place, swarm.of(place)[-1], swarm.keeping[place])
        accepted = time.monotonic()
        swarm.reaches(place, update, swarm.of(place))
        return update, since(accepted)

    with ThreadPoolExecutor(4) as pool:
        sent = dict(zip(swarm.places, pool.map(bring, swarm.places), strict=True))
    took = {"spread_s": since(began), "reach_s_max": max(late for _, late in sent.values())}
    say(f"an update of each of {len(sent)} places is accepted and at all subscribers, {took}")
    return {place: {update} for place, (update, _) in sent.items()}, took


def _cut(swarm: Swarm) -> None:
    """One half comes back at other addresses, which the other does not learn, nor it theirs."""
    ours = [node for node in swarm.nodes if not node.half]
    cut = [node for node in swarm.nodes if node.half]
    swarm.each(lambda node: node.daemon.stop(), cut)
    for node in cut:
        node.forget(ours)
    ports = [free_port() for _ in cut]
    for node, port in zip(cut, ports, strict=True):
        seeds = [f"/ip4/127.0.0.1/tcp/{ports[0]}/p2p/{cut[0].name}"] if node is not cut[0] else []
        node.start(*seeds, port=port)
    for node in cut:
        node.daemon.up()
    for half in (ours, cut):
        names = {node.name for node in half}
        for node in half:
            few = min(1, len(half) - 1)
            wait(lambda n=node, all_=names, f=few: f <= len(_met(n)) and _met(n) <= all_, "apart")
    say("the swarm is in two halves")


def _met(node: Node) -> set[str]:
    return {peer["peer_id"] for peer in node.get("peers")["peers"]}


def _diverge(swarm: Swarm) -> set[str]:
    """Each half accepts another update of one place."""
    made = []
    for half, keeper in enumerate(swarm.keeping[SPLIT]):
        here = swarm.of(SPLIT, half)
        made.append(swarm.accept(SPLIT, here[-1], [keeper]))
        swarm.reaches(SPLIT, made[-1], here)
    first, second = (swarm.of(SPLIT, half) for half in (0, 1))
    assert not any(made[1] in node.applied(SPLIT) for node in first)
    assert not any(made[0] in node.applied(SPLIT) for node in second)
    say("the halves have gone their own ways")
    return set(made)


def _heal(swarm: Swarm, updates: set[str]) -> float:
    """One node of each half learns of the other; seconds until all have everything."""
    began = time.monotonic()
    address = swarm.nodes[1].daemon.address
    swarm.nodes[0].daemon.client.post("peers", {"address": address})
    for update in sorted(updates):
        swarm.reaches(SPLIT, update, swarm.of(SPLIT))
    until(lambda: len({tuple(n.head(SPLIT)) for n in swarm.of(SPLIT)}) == 1, "one head", WAIT_S)
    say(f"joined: both updates are everywhere, under one head, {since(began)} s")
    return since(began)


def _kill(swarm: Swarm) -> tuple[str, dict[str, Any]]:
    """Kill a subscriber that is just applying, and at once the keeper that accepted.

    Both come back, with what they had, and with the update.
    """
    keepers = swarm.keeping[SPLIT]
    others = [node for node in swarm.of(SPLIT) if node not in keepers]
    victim, publisher = others[0], others[-1]
    update = swarm.accept(SPLIT, publisher, keepers)
    began = time.monotonic()
    keeper = next(node for node in keepers if update in node.accepted(SPLIT))
    before = {node: (node.applied(SPLIT), node.accepted(SPLIT)) for node in (keeper, victim)}
    wait(lambda: _state(victim, update), "it is being applied", 0.02)
    midway = update not in victim.applied(SPLIT)
    victim.daemon.kill()
    keeper.daemon.kill()
    books = {node: node.book(SPLIT) for node in (keeper, victim)}
    rest = [node for node in swarm.of(SPLIT) if node not in (keeper, victim)]
    left = [node for node in rest if update not in node.applied(SPLIT)]
    say(f"killed two (midway: {midway}) while {len(left)} of {len(rest)} others were without it")
    for node in (keeper, victim):
        node.start(rest[0].daemon.address)
        node.daemon.up()
    swarm.reaches(SPLIT, update, swarm.of(SPLIT))
    say(f"both are back, and all have the update, {since(began)} s")
    same = all(
        node.book(SPLIT)[: len(books[node])] == books[node]
        and heads <= node.accepted(SPLIT)
        and applied.items() <= node.applied(SPLIT).items()
        for node, (applied, heads) in before.items()
    )
    kills = {"killed_midway": midway, "without_it": len(left), "kill_healed_s": since(began)}
    return update, {**kills, "nothing_lost": same}


def _replace(swarm: Swarm) -> tuple[str, float]:
    """The keeper whom all subscribers of a place trust is gone for good; who it trusted goes on."""
    keeper, heir = swarm.keeping[SUB]
    wait(lambda: heir.name in _heirs(keeper), "the keeper names its heir")
    keeper.daemon.kill()
    update = swarm.accept(SUB, swarm.of(SUB)[-1], [heir])
    began = time.monotonic()
    swarm.reaches(SUB, update, swarm.of(SUB))
    say(f"a keeper is gone for good, and the place goes on, {since(began)} s")
    return update, since(began)


def _heirs(keeper: Node) -> tuple[str, ...]:
    head = HeadFile(keeper.home / "heads").read(parse_place(SUB))
    return head.heirs if head is not None else ()


def _state(node: Node, update: str) -> bool:
    card = node.following(SPLIT)
    waiting = {one["manifest"] for one in card["waiting"]}
    return update in waiting | {one["manifest"] for one in card["applied"]}


def _count(swarm: Swarm, updates: dict[str, set[str]]) -> tuple[int, int, int]:
    """Updates held by live subscribers, of how many; and how many were applied a second time."""
    held = wanted = 0
    for place, names in updates.items():
        for node in swarm.of(place):
            wait(lambda n=node, p=place, u=names: u <= set(n.applied(p)), f"{place} at the end")
            wanted += len(names)
            held += len(names & node.applied(place).keys())
    return held, wanted, sum(len(node.again) for node in swarm.nodes)


def _agree(swarm: Swarm, place: str) -> bool:
    """Whether all live followers show one head, once nothing moves any more."""

    def same() -> bool:
        return len({tuple(node.head(place)) for node in swarm.of(place)}) == 1

    try:
        until(same, f"one head of {place}", 60.0)
    except AssertionError:
        return False
    return True


def _idle(swarm: Swarm) -> float:
    """What the busiest daemon takes of a core once nothing is left to do."""
    swarm.busy(LEARNER_S)  # the processes that learnt leave
    found = swarm.busy(IDLE_S)
    say(f"idle: {found}")
    return max(found.values())


def _levels(swarm: Swarm) -> int:
    """How many levels the tree has, which every node must show alike for the places with models."""
    trees = []
    for node in (swarm.nodes[1], swarm.nodes[-1]):
        spots = node.daemon.client.get("tree")["places"]
        trees.append({spot["level"] for spot in spots})
    assert trees[0] == trees[1]
    return len(trees[0])
