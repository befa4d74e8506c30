"""Measure this device in about ten seconds: what each part of a token costs in time.

Eight small models that lean on different parts (many layers, wide layers, a long context, a large
vocabulary) answer in turns; the least time of each is fitted by `p2pllm.fit.fit_costs`.
"""

import time
from collections.abc import Callable

from p2pllm import fit
from p2pllm.fit import Calibration, Dimensions, Use
from p2pllm.jobs import Progress
from p2pllm.jobs_device import CalibrateJob, CalibrateReport
from p2pllm.learn import gauge, memory, model
from p2pllm.learn.steps import stepping

# layers, hidden, intermediate, vocabulary, heads, kv heads, head size, context
_PROBES = (
    (12, 128, 352, 4096, 4, 2, 32, 64),
    (12, 512, 1408, 4096, 8, 4, 64, 64),  # the reference
    (3, 2048, 5632, 4096, 16, 4, 128, 64),
    (6, 1024, 2816, 4096, 16, 4, 64, 64),
    (4, 256, 704, 32000, 4, 2, 64, 64),
    (8, 256, 704, 4096, 8, 2, 64, 768),
    (4, 512, 1408, 4096, 8, 8, 64, 1024),
    (24, 256, 704, 4096, 4, 2, 64, 128),
)
REFERENCE = 1
_LEAST_ROUNDS = 3


def probe(at: int) -> tuple[Dimensions, int]:
    """A calibration model's dimensions, and the context it is run with."""
    layers, hidden, wide, words, heads, kv_heads, size, context = _PROBES[at]
    attention = hidden * size * (2 * heads + 2 * kv_heads)
    sizes = Dimensions(
        params=layers * (attention + 3 * hidden * wide + 2 * hidden) + words * hidden + hidden,
        layers=layers,
        hidden=hidden,
        intermediate=wide,
        vocabulary=words,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=size,
    )
    return sizes, context


def calibrate(job: CalibrateJob, say: Callable[[Progress], None]) -> CalibrateReport:
    """Run the probes in turns for about `job.seconds`, and fit what they took."""
    began = time.monotonic()
    dtype = model.compute_dtype()
    runtime = memory.runtime_bytes()
    probes = [probe(at) for at in range(len(_PROBES))]
    weights = sum(sizes.params for sizes, _context in probes) * dtype.itemsize
    memory.require(runtime + 5 * weights // 4, job.max_memory_bytes, "measuring this device")
    step = stepping("build", "probes", say)
    runs, flops = [], 0.0
    for at, (sizes, context) in enumerate(probes):
        step("making the probes", at, len(probes))
        network = gauge.build(sizes, dtype)
        read = time.thread_time()
        runs.append(gauge.fill(network, context, sizes.vocabulary))
        read = time.thread_time() - read
        flops = max(flops, 2 * sizes.params * context / read)
    best, rounds = [float("inf")] * len(runs), 0
    while rounds < _LEAST_ROUNDS or time.monotonic() - began < job.seconds:
        best = [min(old, *gauge.turn(run)) for old, run in zip(best, runs, strict=True)]
        rounds += 1
        left = max(0.0, job.seconds - (time.monotonic() - began))
        say(Progress(stage="time", done=rounds, message="timing the probes in turns", eta_s=left))
    return CalibrateReport(
        calibration=_fitted(best, dtype.itemsize, runtime, flops, job.threads),
        reference_s=best[REFERENCE],
        seconds=time.monotonic() - began,
        peak_rss=memory.peak_bytes(),
    )


def _fitted(best: list[float], item: int, runtime: int, flops: float, threads: int) -> Calibration:
    rows = []
    for at in range(len(_PROBES)):
        sizes, context = probe(at)
        rows.append(fit.features(sizes, Use(context=context, item=item)))
    costs = fit.fit_costs(rows, best)
    said = [sum(a * b for a, b in zip(costs, row, strict=True)) for row in rows]
    off = max(abs(one / took - 1) for one, took in zip(said, best, strict=True))
    return Calibration(
        seconds=costs,
        runtime_bytes=runtime,
        spread=max(off, fit.LEAST_SPREAD),
        prompt_flops=flops,
        item=item,
        threads=threads,
        measured_at=time.time(),
    )
