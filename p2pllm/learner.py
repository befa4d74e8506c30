"""What one continual learner knows between its steps, in a private folder. No torch.

    state.json        this module's `State`, replaced whole: what it does not name is not there
    seen              ids of documents learnt from, 16 bytes each, in order; only ever appended to
    runs              `p2pllm.privacy.Remembered` of all text ever learnt from
    steps/NNNN/       after a step: `adapter/` (PEFT), and `pool.logits`: the made-up rows
    steps/next/       the step under way

Going back is pointing `head` at an earlier step. Documents learnt from since stay seen, so that
text that did harm is not learnt again by itself. Format: docs/specs/continual.md.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from p2pllm import durable
from p2pllm.errors import LocalError
from p2pllm.jobs_learn import MAX_GROUPS, Meter

STATE_FILE, SEEN_FILE, RUNS_FILE, POOL_FILE = "state.json", "seen", "runs", "pool.logits"
ID_BYTES = 16


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step that was taken."""

    number: Annotated[int, msgspec.Meta(ge=1)]
    parent: int  # the step it went on from; 0 for none
    at: float  # Unix seconds
    documents: int
    train_tokens: int
    before: float
    after: float
    meters: tuple[Meter, ...]
    forgetting: float
    shares: tuple[tuple[int, int], ...]  # of the pool: step, rows; in the order of its rows
    seen: int  # documents seen when it ended
    adapter: str  # content id of its weights


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Anchor text: the ids of held-out documents, and the best that was ever measured on them."""

    since: int
    ids: tuple[str, ...]
    best: float


class State(msgspec.Struct, frozen=True, kw_only=True, tag="learner.1"):
    """All of it."""

    head: int = 0  # the step that is in force; 0 for none
    last: int = 0  # the highest number given
    seen: int = 0
    steps: tuple[Step, ...] = ()
    groups: Annotated[tuple[Group, ...], msgspec.Meta(max_length=MAX_GROUPS)] = ()

    def step(self, number: int) -> Step:
        """A step that is kept; LocalError E0408 if it is not."""
        for step in self.steps:
            if step.number == number:
                return step
        kept = ", ".join(str(step.number) for step in self.steps) or "none"
        raise LocalError("E0408", f"no step {number} is kept", why=[f"kept: {kept}"])


def read(folder: Path) -> State:
    """The state; a fresh one where there is none, LocalError E0306 if it is damaged."""
    try:
        raw = (folder / STATE_FILE).read_bytes()
    except FileNotFoundError:
        return State()
    try:
        return msgspec.json.decode(raw, type=State)
    except msgspec.MsgspecError as bad:
        raise LocalError(
            "E0306",
            f"{folder.name}/{STATE_FILE} is damaged: {str(bad)[:200]}",
            fix=["remove the folder to begin anew; adapters that were kept stay"],
        ) from bad


def write(folder: Path, state: State) -> None:
    """Put the state in place of the one before."""
    durable.replace_file(folder / STATE_FILE, msgspec.json.encode(state))


def step_folder(folder: Path, number: int) -> Path:
    """Where a step's files are."""
    return folder / "steps" / f"{number:04d}"


def adapter_folder(folder: Path, number: int) -> Path:
    """Where the adapter of a step is: its files and no others."""
    return step_folder(folder, number) / "adapter"


def work_folder(folder: Path) -> Path:
    """Where the step under way is."""
    return folder / "steps" / "next"


def seen(folder: Path, state: State) -> set[bytes]:
    """The ids of the documents that were learnt from."""
    try:
        raw = (folder / SEEN_FILE).read_bytes()[: state.seen * ID_BYTES]
    except FileNotFoundError:
        return set()
    return {raw[at : at + ID_BYTES] for at in range(0, len(raw), ID_BYTES)}


def add_seen(folder: Path, state: State, ids: list[bytes]) -> int:
    """Append ids after those that count; how many count then."""
    path = folder / SEEN_FILE
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(fd, state.seen * ID_BYTES)
        durable.write_at(fd, memoryview(b"".join(ids)), state.seen * ID_BYTES)
        os.fsync(fd)
    finally:
        os.close(fd)
    return state.seen + len(ids)


def commit(folder: Path, state: State, step: Step, groups: tuple[Group, ...], keep: int) -> State:
    """Make the step under way the head, and forget the files of steps beyond `keep`."""
    target = step_folder(folder, step.number)
    shutil.rmtree(target, ignore_errors=True)  # of a crash between here and the state
    work_folder(folder).rename(target)
    durable.sync_folder(target.parent)
    steps = (*state.steps, step)[-keep:]
    made = State(head=step.number, last=step.number, seen=step.seen, steps=steps, groups=groups)
    write(folder, made)
    tidy(folder, made)
    return made


def go_back(folder: Path, number: int, *, again: bool) -> State:
    """Make an earlier step the head; 0 is the base alone. Steps after it are forgotten.

    again   what was learnt since may be learnt again
    """
    state = read(folder)
    target = state.step(number) if number else None
    seen = (target.seen if target else 0) if again else state.seen
    steps = tuple(step for step in state.steps if target and step.number <= number)
    groups = tuple(group for group in state.groups if group.since <= number)
    made = State(head=number, last=state.last, seen=seen, steps=steps, groups=groups)
    write(folder, made)
    tidy(folder, made)
    return made


def tidy(folder: Path, state: State) -> None:
    """Remove the files of steps that the state does not name."""
    kept = {step_folder(folder, step.number).name for step in state.steps} | {"next"}
    for path in (folder / "steps").glob("*"):
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)


def stamp(paths: Sequence[str]) -> tuple[object, ...]:
    """What changes when text comes: names, sizes and times of the files."""
    made = []
    for path in paths:
        for folder, _folders, names in os.walk(path) if Path(path).is_dir() else [("", [], [path])]:
            for name in sorted(names):
                try:
                    found = os.stat(Path(folder) / name)
                except FileNotFoundError:
                    continue
                made.append((folder, name, found.st_size, found.st_mtime_ns))
    return tuple(made)
