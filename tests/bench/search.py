"""Search by place, size and kind on 16 real DHT nodes, against a brute-force filter.

Each node has a DHT process and a p2pd of its own; their parent sides, which a daemon would hold,
share this process. `python -m tests.bench search [--nodes 16] [--adverts 500] [--queries 200]`.
"""

import argparse
import random
import statistics
import sys
import time
from typing import Any

import msgspec
import trio

from gossip import index
from p2pllm.advert import KINDS, Advert
from p2pllm.ids import content_id
from p2pllm.names import Place
from p2pllm.query import Query, matches, parse_size
from tests.gossip.dht_nodes import DhtNode, open_nodes

LANGS = ("en", "de", "pt-br", "sw")
DOMAINS = ("medical", "law", "code", "finance", "news", "")
SUBS = ("", "a", "b", "c")
SIZES = ("<200MB", "200MB-2GB", ">1GB", "s3", "s4", "<=20MB", "s5", "1MiB-64MiB")


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="search", description=__doc__)
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--adverts", type=int, default=500)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    return trio.run(_bench, parser.parse_args(argv))


async def _bench(given: argparse.Namespace) -> dict[str, Any]:
    rng = random.Random(given.seed)
    _say(f"starting {given.nodes} nodes")
    began = time.perf_counter()
    async with open_nodes(given.nodes) as nodes:
        started = time.perf_counter() - began
        _say(f"publishing {given.adverts} adverts")
        adverts = [_advert(rng, number, rng.choice(nodes)) for number in range(given.adverts)]
        publish_ms = await _publish(nodes, adverts)
        _say(f"asking {given.queries} queries")
        queries = [_query(rng) for _ in range(given.queries)]
        found = await _search(rng, nodes, queries, adverts)
        _say("asking for language, domain and size")
        narrow = [_narrow(rng) for _ in range(given.queries)]
        narrow_found = await _search(rng, nodes, narrow, adverts)
    return {
        "nodes": given.nodes,
        "adverts": given.adverts,
        "queries": given.queries,
        "start_s": round(started, 2),
        "publish_p50_ms": round(statistics.median(publish_ms), 1),
        **found,
        **{f"lang_domain_size_{key}": value for key, value in narrow_found.items()},
    }


async def _publish(nodes: list[DhtNode], adverts: list[Advert]) -> list[float]:
    took: list[float] = []

    async def publish(node: DhtNode) -> None:
        for advert in adverts:
            if advert.by == node.identity.node:
                began = time.perf_counter()
                await index.publish(node.dht, node.identity, advert, time.time())
                took.append((time.perf_counter() - began) * 1e3)

    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(publish, node)
    return took


async def _search(
    rng: random.Random, nodes: list[DhtNode], queries: list[Query], adverts: list[Advert]
) -> dict[str, Any]:
    took, wanted, got, right, equal = [], 0, 0, 0, 0
    for query in queries:
        node = rng.choice(nodes)
        began = time.perf_counter()
        answer = await index.search(node.dht, query, time.time())
        took.append((time.perf_counter() - began) * 1e3)
        expected = {advert.manifest for advert in adverts if matches(query, advert)}
        found = {advert.manifest for advert in answer}
        equal += found == expected
        wanted, got, right = wanted + len(expected), got + len(found), right + len(found & expected)
    took.sort()
    return {
        "equal": equal,
        "recall": right / wanted if wanted else 1.0,
        "precision": right / got if got else 1.0,
        "p50_ms": round(statistics.median(took), 1),
        "p99_ms": round(took[int(len(took) * 0.99)], 1),
        "max_ms": round(took[-1], 1),
        "results_mean": round(got / len(queries), 1),
    }


def _advert(rng: random.Random, number: int, node: DhtNode) -> Advert:
    domain = rng.choice(DOMAINS)
    size = int(2 ** rng.uniform(20, 34))  # 1 MiB to 16 GiB
    now = time.time()
    return Advert(
        by=node.identity.node,
        manifest=content_id(f"manifest {number}".encode()),
        kind=rng.choice(KINDS),
        place=Place(rng.choice(LANGS), domain, rng.choice(SUBS) if domain else ""),
        name=f"model-{number}",
        model=content_id(f"base {number % 5}".encode()),
        size=size,
        download=max(1, size // 50),
        params=135_000_000,
        licence=rng.choice(("MIT", "Apache-2.0")),
        created_at=now - number,
        issued_at=now,
        expires_at=now + 3600,
    )


def _query(rng: random.Random) -> Query:
    low, high = parse_size(rng.choice(SIZES)) if rng.random() < 0.6 else (0, Query().size_high)
    return Query(
        lang=rng.choice(LANGS) if rng.random() < 0.7 else None,
        domain=rng.choice(DOMAINS) if rng.random() < 0.6 else None,
        sub=rng.choice(SUBS) if rng.random() < 0.3 else None,
        size_low=low,
        size_high=high,
        kind=rng.choice(KINDS) if rng.random() < 0.5 else None,
        licence="mit" if rng.random() < 0.2 else None,
        limit=1000,
    )


def _narrow(rng: random.Random) -> Query:
    low, high = parse_size(rng.choice(SIZES))
    query = Query(size_low=low, size_high=high, limit=1000)
    return msgspec.structs.replace(query, lang=rng.choice(LANGS), domain=rng.choice(DOMAINS))


def _say(text: str) -> None:
    print(text, file=sys.stderr)
