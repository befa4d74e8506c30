"""Published rules beside ours: short versions of our own, and byzfl's and flwr's where they are.

Every rule is told how many attackers there are, except FLTrust, FLAME and the plain mean, which
do not ask.
"""

import json
import select
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.trust_harness.layer import TrustLayer
from tests.bench.trust_harness.simulate import MakeRule
from tests.bench.trust_harness.task import Floats, RootProbe

SLOW = 120.0  # seconds until a rival's answer is given up


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


class Foreign:
    """The rules of another Python's byzfl and flwr, asked over a pipe (foreign.py)."""

    def __init__(self, python: str) -> None:
        script = str(Path(__file__).with_name("foreign.py"))
        quiet = subprocess.DEVNULL
        # -P: the script's folder must not hide modules of the same names.
        self._process = subprocess.Popen(
            [python, "-P", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=quiet
        )
        told = self._answer()
        self.found: list[str] = told["found"]
        self.missing: dict[str, str] = told["missing"]

    def ask(self, rule: str, updates: Floats, weights: Floats, f: int, now: int) -> Floats:
        """What a rule makes of updates; ValueError if it refuses.

        RuntimeError if it takes longer than SLOW or its Python ended: silence is no figure.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        head = {"rule": rule, "f": f, "round": now, "shape": updates.shape}
        self._process.stdin.write(json.dumps(head).encode() + b"\n")
        self._process.stdin.write(updates.tobytes() + weights.tobytes())
        self._process.stdin.flush()
        told = self._answer()
        if "error" in told:
            raise ValueError(told["error"])
        return np.frombuffer(self._process.stdout.read(8 * told["size"])).copy()

    def close(self) -> None:
        """End the other Python."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], SLOW)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            self.close()
            raise RuntimeError("the rivals' Python ended" if ready else "a rival takes too long")
        told: dict[str, Any] = json.loads(line)
        return told


def rules(foreign: Foreign | None = None) -> dict[str, MakeRule]:
    """Every rule that can run here, by name."""
    found: dict[str, MakeRule] = {"trust": lambda n, f, d, seed: TrustLayer(d, seed)}
    found |= {name: _own(kind) for name, kind in OWN.items()}
    if foreign:
        found |= {name: _asked(foreign, name) for name in foreign.found}
    return found


def _own(kind: type[Weighing]) -> MakeRule:
    return lambda n, f, d, seed: kind(f, seed)


def _asked(foreign: Foreign, name: str) -> MakeRule:
    def make(n: int, f: int, d: int, seed: int) -> Callable[..., Floats]:
        def aggregate(updates: Floats, weights: Floats, probe: RootProbe) -> Floats:
            return foreign.ask(name, _finite(updates), weights, f, probe.round)

        return aggregate

    return make


def _finite(updates: Floats) -> Floats:
    return np.nan_to_num(updates, nan=0.0, posinf=1e3, neginf=-1e3)


def _squared_gaps(rows: Floats) -> Floats:
    squares = (rows**2).sum(1)
    return np.asarray(np.maximum(squares[:, None] + squares[None] - 2 * rows @ rows.T, 0))
