"""Published rules beside ours: short versions of our own, and byzfl's and flwr's where installed.

Every rule is told how many attackers there are, except FLTrust, FLAME and the plain mean, which
do not ask.
"""

import importlib
import importlib.util
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.bench.trust_harness.layer import TrustLayer
from tests.bench.trust_harness.simulate import MakeRule
from tests.bench.trust_harness.task import Floats, RootProbe


class Weighing:
    """A rule that is a weighted mean; remembers its weights and whom it left out."""

    def __init__(self, f: int, seed: int) -> None:
        self.f, self.rng = f, np.random.default_rng(seed)
        self.last_weights = np.zeros(0)
        self.flagged: set[int] = set()

    def mean(self, updates: Floats, weights: Floats) -> Floats:
        """The mean with these weights, which need not sum to 1."""
        self.last_weights = weights / max(weights.sum(), 1e-12)
        self.flagged = set(np.flatnonzero(weights <= 1e-9).tolist())
        merged: Floats = self.last_weights @ updates
        return merged


class Mean(Weighing):
    """No defence."""

    def __call__(self, updates: Floats, weights: Floats, probe: RootProbe) -> Floats:
        return self.mean(updates, np.ones(len(updates)))


class FLTrust(Weighing):
    """Weights by the cosine to an update trained on the probe (Cao et al. 2021)."""

    def __call__(self, updates: Floats, weights: Floats, probe: RootProbe) -> Floats:
        updates, root = _finite(updates), probe.local_update()
        norms = np.linalg.norm(updates, axis=1) + 1e-12
        length = np.linalg.norm(root)
        cosine = np.maximum(0, updates @ root / (norms * length + 1e-12))
        return self.mean(updates * (length / norms)[:, None], cosine)


class Flame(Weighing):
    """The majority cluster by cosine, clipped to the median norm (Nguyen et al. 2022)."""

    def __call__(self, updates: Floats, weights: Floats, probe: RootProbe) -> Floats:
        from sklearn.cluster import HDBSCAN

        updates = _finite(updates)
        norms = np.linalg.norm(updates, axis=1) + 1e-12
        units = updates / norms[:, None]
        cluster = HDBSCAN(
            min_cluster_size=len(updates) // 2 + 1,
            min_samples=1,
            metric="precomputed",
            allow_single_cluster=True,
            copy=True,
        ).fit(np.maximum(0, 1 - units @ units.T))
        kept = (cluster.labels_ >= 0).astype(float)
        median = np.median(norms)
        clipped = updates * np.minimum(1, median / norms)[:, None]
        merged = self.mean(clipped, kept if kept.any() else np.ones(len(updates)))
        return merged + self.rng.normal(0, 1e-3 * median / np.sqrt(len(merged)), len(merged))


class Neighbours(Weighing):
    """Each update mixed with its nearest, then a trimmed mean (NNM: Allouah et al. 2023)."""

    def __call__(self, updates: Floats, weights: Floats, probe: RootProbe) -> Floats:
        updates = _finite(updates)
        near = np.argsort(_squared_gaps(updates), axis=1)[:, : len(updates) - self.f]
        mixed = np.sort(updates[near].mean(1), axis=0)
        cut = min(self.f, (len(updates) - 1) // 2)
        merged: Floats = mixed[cut : len(updates) - cut].mean(0)
        return merged


class GeometricMedian(Weighing):
    """The point with the least summed distance, by Weiszfeld (RFA: Pillutla et al. 2022)."""

    def __call__(self, updates: Floats, weights: Floats, probe: RootProbe) -> Floats:
        updates = _finite(updates)
        point: Floats = np.median(updates, 0)
        for _ in range(20):
            near = 1 / (np.linalg.norm(updates - point, axis=1) + 1e-6)
            point = self.mean(updates, near)
        return point


class SelfClipping(Weighing):
    """Others clipped around the own update, for gossip (He, Karimireddy and Jaggi 2022)."""

    def __call__(self, updates: Floats, weights: Floats, probe: RootProbe) -> Floats:
        updates, own = _finite(updates), probe.own_index or 0
        off = updates - updates[own]
        norms = np.linalg.norm(off, axis=1)
        radius = np.sort(norms)[max(1, len(updates) - 1 - self.f) // 2]
        merged: Floats = updates[own] + (
            off * np.minimum(1, radius / (norms + 1e-12))[:, None]
        ).mean(0)
        return merged


OWN: dict[str, type[Weighing]] = {
    "mean": Mean,
    "fltrust": FLTrust,
    "flame": Flame,
    "nnm+trmean": Neighbours,
    "geomedian": GeometricMedian,
    "scc": SelfClipping,
}
BYZFL = {"byzfl:nnm+trmean": ("NNM", "TrMean"), "byzfl:multikrum": ("", "MultiKrum")}
FLWR = {"flwr:median": "FedMedian", "flwr:multikrum": "MultiKrum"}


def rules() -> tuple[dict[str, MakeRule], dict[str, str]]:
    """Every rule that can run here by name, and why each of the others cannot."""
    found: dict[str, MakeRule] = {"trust": lambda n, f, d, seed: TrustLayer(d, seed)}
    found |= {name: _own(kind) for name, kind in OWN.items()}
    missing: dict[str, str] = {}
    for package, table, wrap in (("byzfl", BYZFL, _byzfl), ("flwr", FLWR, _flwr)):
        try:
            module = _import(package)
        except (ImportError, RuntimeError) as why:
            missing |= dict.fromkeys(table, str(why))
            continue
        found |= {name: wrap(module, spec) for name, spec in table.items()}
    return found, missing


def _own(kind: type[Weighing]) -> MakeRule:
    return lambda n, f, d, seed: kind(f, seed)


def _import(package: str) -> Any:
    if package == "flwr":
        importlib.import_module("flwr")
        return importlib.import_module("flwr.serverapp.strategy")
    # byzfl's benchmarks import these; its rules need none of them.
    for name in (
        "torchvision",
        "torchvision.datasets",
        "torchvision.transforms",
        "matplotlib",
        "matplotlib.pyplot",
        "seaborn",
    ):
        if name.split(".")[0] in sys.modules or not importlib.util.find_spec(name.split(".")[0]):
            sys.modules.setdefault(name, _Blank(name))
    return importlib.import_module("byzfl")


class _Blank(types.ModuleType):
    """A module that has whatever is asked of it, and does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return sys.modules.get(f"{self.__name__}.{name}", lambda *_, **__: None)


def _byzfl(module: Any, spec: Any) -> MakeRule:
    before, rule = spec

    def make(n: int, f: int, d: int, seed: int) -> Callable[..., Floats]:
        def aggregate(updates: Floats, weights: Floats, probe: RootProbe) -> Floats:
            bound = min(f, (len(updates) - 1) // 2)
            rows = _finite(updates)
            rows = getattr(module, before)(f=bound)(rows) if before else rows
            return np.asarray(getattr(module, rule)(f=bound)(rows))

        return aggregate

    return make


def _flwr(strategies: Any, spec: Any) -> MakeRule:
    from flwr.app import Array, ArrayRecord, Message, Metadata, MetricRecord, RecordDict

    def message(row: int, update: Floats, examples: float) -> Any:
        about = Metadata(
            run_id=1,
            message_id="",
            src_node_id=row + 1,
            dst_node_id=1,
            reply_to_message_id="",
            group_id="",
            created_at=time.time(),
            ttl=60.0,
            message_type="train",
        )
        arrays = ArrayRecord({"u": Array(np.ascontiguousarray(update))})
        metrics = MetricRecord({"num-examples": float(examples)})
        return Message(RecordDict({"arrays": arrays, "m": metrics}), metadata=about)

    def make(n: int, f: int, d: int, seed: int) -> Callable[..., Floats]:
        options = {"MultiKrum": {"num_malicious_nodes": f, "num_nodes_to_select": n - f}}
        strategy = getattr(strategies, spec)(**options.get(spec, {}))

        def aggregate(updates: Floats, weights: Floats, probe: RootProbe) -> Floats:
            rows = enumerate(zip(_finite(updates), weights, strict=True))
            messages = [message(row, update, count) for row, (update, count) in rows]
            merged, _ = strategy.aggregate_train(probe.round + 1, messages)
            return np.asarray(merged.to_numpy_ndarrays()[0])

        return aggregate

    return make


def _finite(updates: Floats) -> Floats:
    return np.nan_to_num(updates, nan=0.0, posinf=1e3, neginf=-1e3)


def _squared_gaps(rows: Floats) -> Floats:
    squares = (rows**2).sum(1)
    return np.asarray(np.maximum(squares[:, None] + squares[None] - 2 * rows @ rows.T, 0))
