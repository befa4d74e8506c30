"""Models really run, each in a process of its own: peak memory and tokens a second.

`python -m tests.bench._recommend.shapes` reads a case on standard input and writes what it saw.
None of these shapes is among those that the constants of `p2pllm.fit` or the probes of a
calibration come from. Times are processor seconds of one thread, the least of many tokens; the
calibration's reference model answers in turns with the model, so that a machine that is busier or
slower than when it was calibrated shows itself.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from p2pllm import fit
from p2pllm.fit import Calibration, Dimensions, Use
from p2pllm.jobs import ImportJob
from p2pllm.jobs_device import CalibrateJob

ROUNDS = 5
_PREFIX = "p2pllm-shape-"

# name: layers, hidden, intermediate, vocabulary, heads, kv heads, head size, tied; context
SHAPES = {
    "deep-30M": (26, 320, 832, 9000, 5, 5, 64, True, 300),
    "flat-56M": (6, 896, 2240, 10000, 14, 2, 64, True, 768),
    "untied-90M": (9, 704, 1888, 28000, 11, 11, 64, False, 450),
    "long-24M": (10, 384, 960, 12000, 12, 4, 32, True, 1800),
    "wide-150M": (4, 1536, 4608, 18000, 12, 3, 128, True, 160),
    "tall-190M": (22, 800, 2400, 26000, 25, 5, 32, True, 1100),
}
SMOLLM = "smollm2-135M"
SHORT = ("deep-30M",)


class Case(msgspec.Struct, frozen=True):
    """A model to run."""

    name: str
    folder: str
    sizes: Dimensions
    context: int


class Ran(msgspec.Struct, frozen=True):
    """What a process saw."""

    peak: int  # bytes
    token_s: float
    reference_s: float


def measure(
    names: list[str], smollm: bool, seconds: float, work: Path | None = None
) -> dict[str, Any]:
    """Errors of the estimates over the shapes, after a calibration of this device."""
    kept = work / "shapes.json" if work else None
    known: dict[str, Any] = json.loads(kept.read_text()) if kept and kept.is_file() else {}
    for left in work.glob(f"{_PREFIX}*") if work else ():  # by a run that was killed
        shutil.rmtree(left)
    for name in [*names, *([SMOLLM] if smollm else [])]:
        if name in known:
            continue
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=work) as folder:
            asked: dict[str, Any] = {"make": name, "folder": folder}
            answer = _child(asked if "" in known else asked | {"calibrate": seconds}, dict)
            known.setdefault("", answer)
            case = msgspec.convert(answer["case"], Case)
            known[name] = _row(case, _child({"run": answer["case"]}, Ran), known[""])
        print(known[name], file=sys.stderr, flush=True)
        if kept:
            kept.write_text(json.dumps(known))
    rows = [row for name, row in known.items() if name]
    memory = [abs(row["memory_error"]) for row in rows]
    return {
        "memory_error_median": round(statistics.median(memory), 4),
        "memory_error_max": round(max(memory), 4),
        "speed_error_median": _median(rows, "speed_error"),
        "speed_error_max": max(abs(row["speed_error"]) for row in rows),
        "speed_error_median_raw": _median(rows, "speed_error_raw"),
        "speed_within_bounds": sum(row["within"] for row in rows),
        "memory_over_high": sum(row["peak_mib"] > row["high_mib"] for row in rows),
        "shapes": rows,
        "calibration": known[""]["calibration"],
    }


def _median(rows: list[dict[str, Any]], key: str) -> float:
    return round(statistics.median(abs(row[key]) for row in rows), 4)


def _row(case: Case, ran: Ran, calibrated: dict[str, Any]) -> dict[str, Any]:
    device = msgspec.convert(calibrated["calibration"], Calibration)
    reference_s = float(calibrated["reference_s"])
    use = Use(context=case.context, item=device.item)
    memory, speed = fit.memory(case.sizes, use, device), fit.speed(case.sizes, use, device)
    drift = ran.reference_s / reference_s
    real = 1 / ran.token_s
    return {
        "name": case.name,
        "params": case.sizes.params,
        "context": case.context,
        "predicted_mib": memory.total >> 20,
        "high_mib": memory.high >> 20,
        "peak_mib": ran.peak >> 20,
        "memory_error": round(memory.total / ran.peak - 1, 4),
        "predicted_tokens_s": round(speed.tokens_s / drift, 2),
        "tokens_s": round(real, 2),
        "drift": round(drift, 3),
        "speed_error": round(speed.tokens_s / drift / real - 1, 4),
        "speed_error_raw": round(speed.tokens_s / real - 1, 4),
        "within": speed.low / drift <= real <= speed.high / drift,
    }


def _child(asked: dict[str, Any], kind: type) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench._recommend.shapes"],
        input=msgspec.json.encode(asked),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode()[-2000:])
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=kind)


def _main() -> None:
    import torch

    from p2pllm.learn.calibrate import calibrate

    torch.set_num_threads(1)
    asked = msgspec.json.decode(sys.stdin.buffer.read())
    answer: Any = {}
    if "calibrate" in asked:
        report = calibrate(CalibrateJob(seconds=asked["calibrate"]), lambda _event: None)
        answer |= msgspec.to_builtins(report)
    if "make" in asked:
        answer["case"] = _make(asked["make"], Path(asked["folder"]))
    else:
        answer = _seen(msgspec.convert(asked["run"], Case))
    print(msgspec.json.encode(answer).decode())


def _make(name: str, folder: Path) -> Case:
    """Write a model; SmolLM2 comes out of its package, the others hold meaningless weights."""
    from p2pllm import base_files, weights
    from p2pllm.learn import gauge, model
    from p2pllm.learn.base_import import import_base

    if name == SMOLLM:
        shutil.rmtree(folder)
        job = ImportJob(source="smollm2", out_dir=str(folder))
        report = import_base(job, lambda _event: None)
        sizes = fit.dimensions_of(base_files.read_config(folder), report.params)
        return Case(name, str(folder), sizes, 512)
    *plain, context = SHAPES[name]
    sizes = Dimensions(
        params=1,
        **dict(zip(Dimensions.__struct_fields__[1:9], plain, strict=True)),  # type: ignore[arg-type]
    )
    gauge.save(gauge.build(sizes, model.compute_dtype()), folder)
    params = weights.parameters(weights.read_directory(folder).values())
    return Case(name, str(folder), msgspec.structs.replace(sizes, params=params), context)


def _seen(case: Case) -> Ran:
    """Load it as a node does, read a prompt, answer; then answer in turns with the reference."""
    from p2pllm.learn import calibrate, gauge, memory, model

    dtype = model.compute_dtype()
    network = model.load_base(Path(case.folder), gauge.config_of(case.sizes), dtype)
    ready = gauge.fill(network, case.context - gauge.TOKENS, case.sizes.vocabulary)
    took = min(gauge.turn(ready))
    peak = memory.peak_bytes()
    sizes, context = calibrate.probe(calibrate.REFERENCE)
    other = gauge.fill(gauge.build(sizes, dtype), context, sizes.vocabulary)
    reference = min(gauge.turn(other))
    for _ in range(ROUNDS):
        took = min(took, *gauge.turn(ready))
        reference = min(reference, *gauge.turn(other))
    return Ran(peak=peak, token_s=took, reference_s=reference)


if __name__ == "__main__":
    _main()
