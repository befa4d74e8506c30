"""Every long verb broken off: by Ctrl-C, by kill -9 of its job or of the daemon, by little memory.

`python -m tests.bench survival [--only tune eval] [--short]`. Real daemons, the real command line,
tiny models. Each verb runs once undisturbed; then, under another name, it is interrupted as its job
begins and in mid-work, its job is killed, its daemon is killed and started again; then the same
command is given once more and must end with the same bytes. At last the daemon is started with 32
MiB for learning: each verb must refuse (E0708) before it has loaded anything.

ctrl_c_s is from the signal to the end of the command; left_s from it to the end of the job's own
process. `wrong` lists what is not as it should be: nothing. `--short`: one verb, no kills.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil

from p2pllm.ids import content_id
from tests.node.daemons import ROOT, Daemon, running, until
from tests.p2pllm.learn import tiny

PLACE = ("--lang", "en", "--domain", "medical")
OBEYED_S = 2.0
LITTLE = {"P2PLLM_LEARN__MAX_MEMORY_GIB": "0.03125"}
BEFORE_LOADING = {"start", "read", "inspect", "find", "fetch", "store", "waiting", "plan", "hash"}
AGAIN = "again"  # a word of the sentence that says how to go on


class Verb(msgspec.Struct, frozen=True):
    """A long verb, and the stage that is its mid-work; '{n}' stands for the name it gives."""

    name: str
    argv: tuple[str, ...]
    stage: str
    puller: bool = False  # asked of the second daemon


class Ended(msgspec.Struct, frozen=True):
    """How a command ended."""

    status: int
    last: dict[str, Any]
    stages: tuple[str, ...]
    timed: bool  # a time left was shown
    seconds: float

    @property
    def code(self) -> str:
        return str(self.last.get("error", {}).get("code", ""))

    @property
    def says(self) -> str:
        return "; ".join(self.last.get("error", {}).get("fix", []))


class World:
    """Two daemons, a base, two adapters, a block, and text."""

    def __init__(self, folder: Path, short: bool) -> None:
        self.folder, self.wrong = folder, list[str]()
        self.daemons = {"a": Daemon(folder / "a").up()}
        self.source = tiny.save_base(folder / "base", tiny.llama())
        self.text = tiny.write_jsonl(folder / "text.jsonl", tiny.sentences(60, seed=2))
        self.long = tiny.write_jsonl(folder / "long.jsonl", tiny.sentences(4000, seed=5))
        if short:
            return
        a = self.daemons["a"]
        self.start("b")
        a.wait(lambda s: s["swarm"]["dht_peers"] >= 1, "the second daemon")
        terms = {"kind": "push", "licence": "MIT", "consent": True}
        base = a.job(kind="import", source=str(self.source), name="tiny", lang="en")
        a.job(**terms, ref=base["ref"])
        pushed = []
        for number, name in enumerate(("one", "two")):
            made = tiny.save_adapter(folder / name, seed=number)
            pushed.append(a.job(**terms, path=str(made), place="en/medical", name=name))
        self.pulled = Path(pushed[0]["path"])

    def start(self, name: str, **environment: str) -> Daemon:
        """The daemon of this name, begun anew."""
        away = () if name == "a" else ("--bootstrap", self.daemons["a"].address)
        self.daemons[name] = Daemon(self.folder / name, *away, **environment).up()
        return self.daemons[name]

    def check(self, right: bool, what: str) -> None:
        if not right:
            self.wrong.append(what)
            print(f"WRONG {what}", file=sys.stderr, flush=True)


def verbs(world: World) -> list[Verb]:
    """All of them, in an order in which each finds what it needs."""
    data, much = ("--data", str(world.text)), ("--data", str(world.long))
    named, terms = ("--name", "{n}"), ("--yes", "--licence", "MIT")
    steps = ("--steps", "800", "--batch", "2", "--seq", "32")
    return [
        Verb("import", ("base", "import", str(world.source), *named), "start"),
        Verb("tune", ("tune", "--base", "tiny", *data, *PLACE, *named, *steps), "train"),
        Verb("eval", ("eval", "en/medical/one", *much, "--max-tokens", "400000"), "measure"),
        Verb(
            "distill",
            ("distill", "en/medical/one", "--into", "tiny", *data, *PLACE, *named, *steps),
            "train",
        ),
        Verb(
            "learn start",
            ("learn", "start", "en/medical", "--base", "tiny", "--once", *data, *named, *steps),
            "train",
        ),
        Verb(
            "block cut",
            ("block", "cut", "tiny", *data, "--ffn", "0.5", "--steps", "200", *named),
            "train",
        ),
        Verb(
            "block gather",
            ("block", "gather", "en/medical/one", "--into", "tiny", *PLACE, *named),
            "start",
        ),
        Verb(
            "derive",
            ("derive", "en/law", "--from", "en/tiny", "--budget", "80kB", *data, *named),
            "train",
        ),
        Verb("merge", ("merge", "en/medical/one", "en/medical/two", *PLACE, *named), "start"),
        Verb(
            "quantise",
            ("quantise", "tiny", *much, "--max-tokens", "200000", *named),
            "measure-base",
        ),
        Verb(
            "export",
            (
                *["export", "en/medical/one", "--format", "safetensors", "--to"],
                f"{world.folder}/to-{{n}}",
            ),
            "start",
        ),
        Verb(
            "push",
            (*("push", str(world.folder / "two"), "--base", "tiny", *PLACE, *named), *terms),
            "start",
        ),
        Verb("pull", ("pull", "en/medical/one"), "start", puller=True),
    ]


@contextmanager
def command(world: World, verb: Verb, name: str) -> Iterator[subprocess.Popen[str]]:
    """The verb, running."""
    home = world.folder / ("b" if verb.puller else "a")
    argv = [word.replace("{n}", name) for word in verb.argv]
    with subprocess.Popen(
        [sys.executable, "-m", "node.cli", "--home", str(home), "--json", *argv],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def reached(child: subprocess.Popen[str], stage: str) -> bool:
    """Read events up to one of this stage."""
    assert child.stdout is not None
    return any(json.loads(line).get("stage") == stage for line in child.stdout)


def ended(child: subprocess.Popen[str], began: float) -> Ended:
    """Read the rest of a command."""
    assert child.stdout is not None
    events = [json.loads(line) for line in child.stdout]
    status = child.wait(60)
    return Ended(
        status,
        events[-1] if events else {},
        tuple(dict.fromkeys(event["stage"] for event in events if "stage" in event)),
        any("eta_s" in event for event in events),
        time.monotonic() - began,
    )


def whole(world: World, verb: Verb, name: str) -> Ended:
    """The verb from its start to its end."""
    began = time.monotonic()
    with command(world, verb, name) as child:
        return ended(child, began)


def job_of(world: World, verb: Verb) -> psutil.Process | None:
    """The process that does the job of a daemon, or loads what it needs."""
    found = []
    for child in world.daemons["b" if verb.puller else "a"].children():
        try:
            if "p2pllm.learn" in child.cmdline():
                found.append(child)
        except psutil.Error:
            continue
    return max(found, key=lambda child: child.create_time(), default=None)


def interrupted(world: World, verb: Verb, stage: str) -> dict[str, Any]:
    with command(world, verb, "broken") as child:
        world.check(reached(child, stage), f"{verb.name}: no stage {stage}")
        began = time.monotonic()
        child.send_signal(signal.SIGINT)
        end = ended(child, began)
    until(lambda: job_of(world, verb) is None, f"{verb.name}: its job ends", 20.0)
    left = time.monotonic() - began
    world.check(end.seconds < OBEYED_S, f"{verb.name}: Ctrl-C at {stage} took {end.seconds:.2f} s")
    known = (end.status, end.code) == (130, "E1001") and AGAIN in end.says
    world.check(known, f"{verb.name}: Ctrl-C at {stage} ended with {end.status} {end.last}")
    return {"stage": stage, "ctrl_c_s": round(end.seconds, 2), "left_s": round(left, 2)}


def killed(world: World, verb: Verb, *, daemon: bool) -> dict[str, Any]:
    """What a command says whose job, or whose daemon, is killed in mid-work."""
    name = "b" if verb.puller else "a"
    with command(world, verb, "broken") as child:
        world.check(reached(child, verb.stage), f"{verb.name}: no stage {verb.stage}")
        if daemon:
            world.daemons[name].kill()
        else:
            until(lambda: job_of(world, verb), f"{verb.name}: a job").kill()
        end = ended(child, time.monotonic())
    wanted = (3, "E0302") if daemon else (10, "E1003")
    right = (end.status, end.code) == wanted and AGAIN in end.says
    world.check(right, f"{verb.name}: killed, it ended with {end.status} {end.last}")
    if daemon:
        world.start(name)
        if verb.puller:
            world.daemons[name].wait(lambda s: s["swarm"]["dht_peers"] >= 1, "joined again")
    return {"status": end.status, "says": end.says}


def made(result: dict[str, Any]) -> Any:
    """What a verb made, without names and times: its files, or its measure."""
    if "path" not in result:
        return {key: result[key] for key in ("loss", "base_loss", "tokens")}
    files = sorted(path for path in Path(result["path"]).rglob("*") if path.is_file())
    return {path.name: content_id(path.read_bytes()) for path in files}


def tried(world: World, verb: Verb, short: bool) -> dict[str, Any]:
    """One verb through all of it."""
    wanted, found = None, dict[str, Any](verb=verb.name)
    if verb.puller:
        wanted = made({"path": str(world.pulled)})
    elif not short:
        first = whole(world, verb, "whole")
        world.check(first.status == 0, f"{verb.name}: undisturbed, it ended with {first.last}")
        wanted = made(first.last["result"])
    stages = dict.fromkeys(["plan" if verb.name == "derive" else "start", verb.stage])
    found["interrupted"] = [interrupted(world, verb, stage) for stage in stages]
    if not short:
        found["job_killed"] = killed(world, verb, daemon=False)
        found["daemon_killed"] = killed(world, verb, daemon=True)
    end = whole(world, verb, "broken")
    world.check(end.status == 0, f"{verb.name}: given again, it ended with {end.last}")
    found["same"] = wanted is None or made(end.last.get("result", {"path": "/nowhere"})) == wanted
    world.check(found["same"], f"{verb.name}: given again, it made something else")
    world.check(bool(end.stages), f"{verb.name}: no progress")
    found |= {"stages": end.stages, "time_left": end.timed, "seconds": round(end.seconds, 1)}
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def refused(world: World, verb: Verb) -> dict[str, Any]:
    """What a verb says where it may take next to no memory."""
    end = whole(world, verb, "little")
    right = (end.status, end.code) == (7, "E0708") and set(end.stages) <= BEFORE_LOADING
    world.check(right, f"{verb.name}: with little memory {end.status} {end.stages} {end.last}")
    return {"verb": verb.name, "code": end.code, "seconds": round(end.seconds, 1)}


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="survival", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--short", action="store_true")
    given = parser.parse_args(argv)
    only = ["import"] if given.short else given.only
    with tempfile.TemporaryDirectory(prefix="p2", dir="/tmp") as folder:
        world = World(Path(folder), given.short)
        try:
            chosen = [verb for verb in verbs(world) if not only or verb.name in only]
            found = [tried(world, verb, given.short) for verb in chosen]
            little = [] if given.short else _with_little(world, chosen)
        finally:
            with running(*world.daemons.values()):
                pass
    waits = [one["ctrl_c_s"] for verb in found for one in verb["interrupted"]]
    return {
        "short": given.short,
        "verbs": found,
        "refused": little,
        "worst_ctrl_c_s": max(waits),
        "without_time_left": [one["verb"] for one in found if not one["time_left"]],
        "wrong": world.wrong,
    }


def _with_little(world: World, chosen: list[Verb]) -> list[dict[str, Any]]:
    client = world.daemons["b"].client
    for card in client.get("models")["models"]:
        if card["kind"] == "adapter":  # a pull proves what is not here yet
            client.delete("models", ref=card["ref"])
    for name in list(world.daemons):
        world.daemons[name].stop()
        world.start(name, **LITTLE)
    return [refused(world, verb) for verb in chosen]
