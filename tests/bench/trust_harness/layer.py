"""The trust package behind the harness's interface: features measured here, judged there."""

from functools import cache
from typing import Any

import numpy as np

from p2pllm.ids import NodeId, content_id, node_id_of
from tests.bench.trust_harness.task import Floats, RootProbe
from trust.features import (
    LARGEST,
    SKETCH,
    Features,
    Measured,
    agreement,
    alignment,
    best,
    gains,
)
from trust.judge import Book, Round, Verdict, judge
from trust.trial import tried

STEP = 0.1  # of an update: small enough for the shift to be its derivative


class TrustLayer:
    """`aggregate(updates, weights, root_probe)`, with the book as the only memory."""

    def __init__(self, d: int, seed: int) -> None:
        rng = np.random.default_rng([seed, 5])
        self._project = rng.standard_normal((d, SKETCH)) / np.sqrt(SKETCH)
        self._last = np.zeros(d)
        self._best: Floats | None = None  # of all bases so far the best on the probe
        self.book = Book()
        self.verdicts: list[Verdict] = []
        self.last_weights = np.zeros(0)
        self.flagged: set[int] = set()
        self.quarantined: set[int] = set()

    def __call__(self, updates: Floats, weights: Floats, probe: RootProbe) -> Floats:
        norms = np.linalg.norm(updates, axis=1)
        sound = norms <= LARGEST  # which neither infinity nor no number is
        updates = np.where(sound[:, None], updates, 0.0)
        self.book, self.verdicts = judge(self.book, self._measure(updates, sound, probe))
        self.last_weights = np.array([verdict.weight for verdict in self.verdicts])
        self.flagged = {row for row, one in enumerate(self.verdicts) if _flagged(one)}
        self.quarantined = {
            row for row, one in enumerate(self.verdicts) if one.state in ("quarantined", "banned")
        }
        scales = np.array([verdict.scale for verdict in self.verdicts])
        clipped = updates * scales[:, None]
        self.last_weights = np.array(self._tried(clipped, probe))
        self._last = self.last_weights @ clipped
        return self._last

    def _tried(self, clipped: Floats, probe: RootProbe) -> list[float]:
        def losses(merges: Any) -> list[list[float]]:
            points = probe.base + np.array(merges) @ clipped
            return probe.model.example_losses(points, probe.X, probe.y).tolist()

        best = probe.base if self._best is None else self._best
        points = np.vstack([best, probe.base])
        then, now = probe.model.example_losses(points, probe.X, probe.y).tolist()
        if sum(now) <= sum(then):
            self._best, then = probe.base.copy(), now
        return tried(self.last_weights.tolist(), then, now, losses)

    def _measure(self, updates: Floats, sound: Any, probe: RootProbe) -> Round:
        norms = np.linalg.norm(updates, axis=1)
        units = updates / (norms[:, None] + 1e-12)
        last = self._last / (np.linalg.norm(self._last) + 1e-12)
        echo = units @ last
        length = float(np.median(norms[sound])) if sound.any() else 1.0
        fresh = units - echo[:, None] * last
        mine = probe.local_update()
        mine /= np.linalg.norm(mine) + 1e-12
        mine_fresh = mine - (mine @ last) * last
        steps = np.vstack([units, fresh, mine, mine_fresh])
        shifts = _shifts(probe, STEP * length * steps).tolist()
        mine_shift, own_gains = shifts[-2], gains(shifts[-1])
        fresh_shifts = shifts[len(units) : -2]
        sketches = np.clip(units @ self._project, -1, 1).tolist()
        starts = [at.start for _, at, _ in probe.model.layers]
        shares = np.sqrt(np.add.reduceat(units**2, starts, axis=1)).tolist()
        echoes = np.clip(echo, -1, 1).tolist()
        batch = [
            Measured(
                peer=_node(probe.peer_ids[row]),
                update=content_id(updates[row].tobytes()),
                features=Features(
                    sound=bool(sound[row]),
                    norm=float(norms[row]),
                    shares=tuple(shares[row]),
                    echo=echoes[row],
                    agreement=agreement(shifts[row]),
                    alignment=alignment(shifts[row], mine_shift),
                    fresh=gains(fresh_shifts[row]),
                    sketch=tuple(sketches[row]),
                ),
            )
            for row in range(len(updates))
        ]
        own = None if probe.own_index is None else batch[probe.own_index].peer
        return Round(
            batch=tuple(batch),
            own=own,
            reference=agreement(mine_shift),
            own_best=best(own_gains),
        )


def make(n: int, f: int, d: int, seed: int) -> TrustLayer:
    """The rule's factory; it is told neither n nor f."""
    return TrustLayer(d, seed)


@cache
def _node(name: str) -> NodeId:
    return node_id_of(bytes.fromhex(content_id(name.encode())))


def _shifts(probe: RootProbe, steps: Floats) -> Floats:
    """Change of the mean centred score of each digit on each digit's images, (m, kinds, kinds)."""
    kinds, kind_of = np.unique(probe.y, return_inverse=True)
    points = np.vstack([np.zeros_like(probe.base), steps])
    points += probe.base
    logits = probe.model.logits(points, probe.X)
    logits -= logits.mean(-1, keepdims=True)
    means = (np.arange(len(kinds))[:, None] == kind_of) / np.bincount(kind_of)[:, None]
    scores = means @ logits[:, :, kinds]
    return np.asarray(scores[1:] - scores[0])


def _flagged(verdict: Verdict) -> bool:
    numbers: dict[str, Any] = {reason.code: reason for reason in verdict.reasons}
    return verdict.decision != "accept" or bool(numbers["p"].value < numbers["p"].limit)
