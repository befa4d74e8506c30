"""Run one bench: NAME is a module of this package with `main(argv) -> dict`.

The last line of standard output is one JSON object: what the bench found, and `conditions`.
Without --json the same is printed for people first. A bench reports its progress on stderr.
"""

import datetime
import importlib
import json
import os
import pkgutil
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import tests.bench


def main(argv: list[str]) -> int:
    names = [
        module.name for module in pkgutil.iter_modules(tests.bench.__path__) if not module.ispkg
    ]
    names = sorted(name.replace("_", "-") for name in names if not name.startswith("_"))
    if not argv or argv[0] not in names:
        print(
            f"usage: python -m tests.bench {{{','.join(names)}}} [--json] [options]",
            file=sys.stderr,
        )
        return 2
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # two on a busy machine wait for each other
    name, rest = argv[0], [word for word in argv[1:] if word != "--json"]
    before = _conditions()
    module = importlib.import_module(f"tests.bench.{name.replace('-', '_')}")
    found: dict[str, Any] = module.main(rest)
    result = {"bench": name, **found, "conditions": before | {"load_after": os.getloadavg()[0]}}
    if "--json" not in argv:
        for key, value in result.items():
            print(f"{key:>28}  {value}")
    print(json.dumps(result))
    return 0


def _conditions() -> dict[str, Any]:
    """What the figures depend on, apart from the code."""
    return {
        "cpus": os.cpu_count(),
        "cpu": _cpu_model(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    root = Path(__file__).parents[2]
    git = ["git", "-C", str(root)]
    head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    if head.returncode:
        return "unknown"
    changed = subprocess.run(
        [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True
    )
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
