"""Rules of byzfl and flwr, served to the bench from whatever Python has them installed.

`PYTHON foreign.py` needs that Python to have numpy and either package; this project never does.
It prints one JSON line of what it found, then answers calls: a JSON line in, followed by the
updates and the weights as float64, and a JSON line out, followed by the merged update.
"""

import importlib
import importlib.util
import json
import sys
import time
import types
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

Rule = Callable[[Any, Any, int, int], Any]  # updates, weights, attackers, round

BYZFL = {
    "byzfl:nnm+trmean": ("NNM", "TrMean"),
    "byzfl:nnm+multikrum": ("NNM", "MultiKrum"),
    "byzfl:multikrum": ("", "MultiKrum"),
    "byzfl:trmean": ("", "TrMean"),
    "byzfl:median": ("", "Median"),
    "byzfl:meamed": ("", "Meamed"),
}
FLWR = {
    "flwr:median": "FedMedian",
    "flwr:trmean": "FedTrimmedAvg",
    "flwr:multikrum": "MultiKrum",
}
# byzfl's benchmarks import these; its rules need none of them.
UNUSED = ("torchvision", "torchvision.datasets", "torchvision.transforms")
UNUSED += ("matplotlib", "matplotlib.pyplot", "seaborn")


def main() -> None:
    """Serve until the input ends."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what the packages print is none of the bench's
    rules, missing = _rules()
    _say(sink, {"found": sorted(rules), "missing": missing})
    while line := source.readline():
        call = json.loads(line)
        rows, columns = call["shape"]
        updates = _numbers(source, rows * columns).reshape(rows, columns)
        weights = _numbers(source, rows)
        try:
            merged = rules[call["rule"]](updates, weights, call["f"], call["round"])
        except (ValueError, ArithmeticError, RuntimeError) as why:
            _say(sink, {"error": f"{type(why).__name__}: {why}"[:200]})
            continue
        answer = np.ascontiguousarray(merged, float).reshape(-1)
        _say(sink, {"size": answer.size}, answer.tobytes())


def _say(sink: BinaryIO, head: dict[str, Any], body: bytes = b"") -> None:
    sink.write(json.dumps(head).encode() + b"\n" + body)
    sink.flush()


def _numbers(source: BinaryIO, count: int) -> Any:
    return np.frombuffer(source.read(8 * count)).copy()


def _rules() -> tuple[dict[str, Rule], dict[str, str]]:
    found: dict[str, Rule] = {}
    missing: dict[str, str] = {}
    for table, load, wrap in ((BYZFL, _byzfl, _byzfl_rule), (FLWR, _flwr, _flwr_rule)):
        try:
            module = load()
        except (ImportError, RuntimeError) as why:
            missing |= dict.fromkeys(table, str(why))
            continue
        found |= {name: wrap(module, spec) for name, spec in table.items()}
    return found, missing


def _byzfl() -> Any:
    absent = [name for name in UNUSED if not importlib.util.find_spec(name.split(".")[0])]
    for name in absent:
        sys.modules[name] = _Blank(name)
    return importlib.import_module("byzfl")


class _Blank(types.ModuleType):
    """A module that has whatever is asked of it, and does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return sys.modules.get(f"{self.__name__}.{name}", lambda *_, **__: None)


def _byzfl_rule(module: Any, spec: Any) -> Rule:
    before, rule = spec

    def aggregate(updates: Any, weights: Any, f: int, now: int) -> Any:
        bound = min(f, (len(updates) - 1) // 2)
        rows = getattr(module, before)(f=bound)(updates) if before else updates
        made = getattr(module, rule)
        return np.asarray((made() if rule == "Median" else made(f=bound))(rows))

    return aggregate


def _flwr() -> Any:
    return importlib.import_module("flwr.serverapp.strategy")


def _flwr_rule(strategies: Any, spec: Any) -> Rule:
    def aggregate(updates: Any, weights: Any, f: int, now: int) -> Any:
        bound = min(f, (len(updates) - 1) // 2)
        options = {
            "MultiKrum": {"num_malicious_nodes": f, "num_nodes_to_select": len(updates) - f},
            "FedTrimmedAvg": {"beta": bound / len(updates)},
        }
        strategy = getattr(strategies, spec)(**options.get(spec, {}))
        rows = enumerate(zip(updates, weights, strict=True))
        messages = [_message(row, update, count) for row, (update, count) in rows]
        merged, _ = strategy.aggregate_train(now + 1, messages)
        return merged.to_numpy_ndarrays()[0]

    return aggregate


def _message(row: int, update: Any, examples: float) -> Any:
    app = importlib.import_module("flwr.app")
    about = app.Metadata(
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
    arrays = app.ArrayRecord({"u": app.Array(np.ascontiguousarray(update))})
    metrics = app.MetricRecord({"num-examples": float(examples)})
    return app.Message(app.RecordDict({"arrays": arrays, "m": metrics}), metadata=about)


if __name__ == "__main__":
    main()
