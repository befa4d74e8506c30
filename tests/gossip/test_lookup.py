"""The search for the nodes nearest to a key, in networks that exist in memory only."""

import random

import pytest

from gossip.lookup import PARALLEL, WIDTH, Lookup, position

NODES = [bytes([0, 36]) + random.Random(n).randbytes(36) for n in range(1000)]


def keys(rng: random.Random, count: int) -> list[bytes]:
    return [rng.randbytes(20) for _ in range(count)]


def nearest(key: bytes, nodes: list[bytes]) -> list[bytes]:
    target = int.from_bytes(key, "big")
    return sorted(nodes, key=lambda node: position(node) ^ target)


class Network:
    """Nodes that know a random part of the others, and their own neighbourhood."""

    def __init__(self, rng: random.Random, nodes: list[bytes], dead: set[bytes]) -> None:
        self.nodes, self.dead = nodes, dead
        self.calls = 0
        self.known = {
            node: rng.sample(nodes, min(len(nodes), 30))
            + nearest(position(node).to_bytes(20, "big"), nodes)[1:21]
            for node in nodes
        }

    def search(self, targets: list[bytes], start: list[bytes]) -> Lookup:
        lookup = Lookup(targets, start)
        while asks := lookup.next():
            for node, asked in asks.items():
                self.calls += 1
                if node in self.dead or node not in self.known:
                    lookup.failed(node)
                else:
                    near = {key: nearest(key, self.known[node])[:20] for key in asked}
                    lookup.answered(node, near)
        return lookup


@pytest.mark.parametrize("seed", range(5))
def test_the_nearest_of_a_thousand_nodes_are_found(seed: int) -> None:
    rng = random.Random(seed)
    network = Network(rng, NODES, set())
    targets = keys(rng, 8)
    lookup = network.search(targets, NODES[:3])
    for key in targets:
        assert lookup.nearest(key)[:5] == nearest(key, NODES)[:5]


@pytest.mark.parametrize("seed", range(5))
def test_the_nearest_living_nodes_are_found_with_a_third_dead(seed: int) -> None:
    rng = random.Random(seed)
    dead = set(rng.sample(NODES[3:], 333))
    living = [node for node in NODES if node not in dead]
    targets = keys(rng, 4)
    lookup = Network(rng, NODES, dead).search(targets, NODES[:3])
    for key in targets:
        assert lookup.nearest(key)[:5] == nearest(key, living)[:5]


def test_invented_nodes_beside_the_key_hide_nobody() -> None:
    rng = random.Random(7)
    network = Network(rng, NODES[:50], set())
    key = rng.randbytes(20)
    invented = nearest(key, [bytes([0, 36]) + rng.randbytes(36) for _ in range(20_000)])[:20]
    assert position(invented[-1]) ^ int.from_bytes(key, "big") < 2**152  # far nearer than any real
    liar = nearest(key, NODES[:50])[0]
    network.known[liar] = invented
    assert network.search([key], NODES[:3]).nearest(key)[:5] == nearest(key, NODES[:50])[:5]


def test_a_node_is_asked_once_for_all_the_keys_it_is_near_to() -> None:
    rng = random.Random(3)
    network = Network(rng, NODES[:16], set())
    network.search(keys(rng, 14), NODES[:16])
    assert network.calls <= 2 * 16  # and not 14 keys by 8 nodes


def test_no_more_nodes_than_wanted_are_asked_at_once_for_a_key() -> None:
    lookup = Lookup([b"\0" * 20], NODES)
    assert len(lookup.next()) == PARALLEL
    assert lookup.next() == {}


def test_nobody_known_is_an_end_not_a_wait() -> None:
    lookup = Lookup([b"\0" * 20], [])
    assert lookup.next() == {}
    assert lookup.nearest(b"\0" * 20) == []


def test_only_the_nearest_nodes_are_asked() -> None:
    rng = random.Random(5)
    network, key = Network(rng, NODES, set()), rng.randbytes(20)
    lookup = network.search([key], nearest(key, NODES)[:20])
    assert set(lookup.nearest(key)) == set(nearest(key, NODES)[:WIDTH])
    assert network.calls == WIDTH
