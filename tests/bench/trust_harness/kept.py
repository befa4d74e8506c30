"""Runs that were made before: a bench that was cut off goes on, and several share one folder."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from p2pllm.ids import content_id
from tests.bench.trust_harness.simulate import Setting

HARNESS = Path(__file__).parent
TRUST = HARNESS.parents[2] / "trust"
RULES = ("rules.py", "foreign.py")
JUDGE = ("anomaly", "direction", "features", "judge", "reputation", "standing", "trial", "votes")


class Kept:
    """Figures of runs by all they depend on: rule, attack, setting, and the code of each."""

    def __init__(self, folder: Path | None, modules: list[str], only: bool = False) -> None:
        self._folder, self._only = folder, only
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        common = [HARNESS / name for name in ("attacks.py", "simulate.py", "task.py")]
        common += [Path(module) for module in modules]
        ours = [HARNESS / "layer.py", *(TRUST / f"{name}.py" for name in JUDGE)]
        self._code = _digest([*common, *(HARNESS / name for name in RULES)])
        self._our_code = _digest([*common, *ours])

    def run(
        self, names: tuple[str, str], ours: bool, setting: Setting, make: Callable[[], Any]
    ) -> dict[str, Any] | None:
        """What `make` found for this rule and attack, now or before; None where only what was."""
        if not self._folder:
            found: dict[str, Any] = make()
            return found
        key = json.dumps([names, asdict(setting), self._our_code if ours else self._code])
        path = self._folder / f"{content_id(key.encode())[:32]}.json"
        if path.is_file():
            return dict(json.loads(path.read_text())["found"])
        if self._only:
            return None
        found = make()
        part = path.with_suffix(".part")
        part.write_text(json.dumps({"key": json.loads(key), "found": found}))
        part.rename(path)
        return found


def _digest(paths: list[Path]) -> str:
    return content_id(b"".join(path.read_bytes() for path in paths))
