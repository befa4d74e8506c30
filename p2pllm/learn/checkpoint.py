"""Where a killed tuning goes on: adapter, optimizer and what was measured, in one safetensors file.

The state that is no tensor is JSON in the file's metadata, so that both are of the same step. The
file is written tensor by tensor: where a whole block learns, it has some hundred megabytes.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import msgspec
import torch
from safetensors import SafetensorError, safe_open

from p2pllm import durable, weights
from p2pllm.errors import PeerError
from p2pllm.jobs import Progress
from p2pllm.learn.measure import Score

FOLDER = "resume"
PAUSE_S = 15.0  # between two checkpoints at least: what a kill costs
COSTS_AT_MOST = 20  # times as long as writing one takes is the next put off
_FILE = "state.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq")


Say = Callable[[Progress], None]


class Trainer(Protocol):
    """What is trained in steps: `p2pllm.learn.training.Trainer`, a lesson of distillation."""

    step: int
    trained: dict[str, torch.nn.Parameter]
    optimizer: torch.optim.AdamW

    def advance(self) -> float:
        """Do one step; the loss before it."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint says beside its tensors."""

    job: str  # id of the job, its texts and its base: another job starts afresh
    step: int
    base: Score
    measure_s: float  # what measuring took


def write(out_dir: Path, state: State, trainer: Trainer) -> None:
    """Put a checkpoint in place of the one before."""
    folder = out_dir / FOLDER
    folder.mkdir(exist_ok=True)
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in trainer.trained.items():
        moments = trainer.optimizer.state[parameter]
        tensors[f"value.{name}"] = parameter.detach()
        tensors |= {f"{moment}.{name}": moments[moment] for moment in _MOMENTS}
    durable.replace_by_parts(folder / _FILE, _file(tensors, state))


def _file(tensors: Mapping[str, torch.Tensor], state: State) -> Iterator[memoryview]:
    """The parts of a safetensors file of float32 tensors."""
    header: dict[str, object] = {
        "__metadata__": {"state": msgspec.json.encode(state).decode()},
    }
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": [*tensor.shape], "data_offsets": [begin, end]}
    data = msgspec.json.encode(header)
    data += b" " * (-len(data) % 8)
    yield memoryview(len(data).to_bytes(8, "little") + data)
    for tensor in tensors.values():
        yield tensor.to("cpu", torch.float32).contiguous().flatten().numpy().data.cast("B")


def read(out_dir: Path, job: str) -> State | None:
    """The state of a checkpoint of this job, or None if there is none that can be used."""
    path = out_dir / FOLDER / _FILE
    try:
        weights.read_header(path)
        with safe_open(path, framework="pt") as file:
            state = msgspec.json.decode(file.metadata()["state"], type=State)
    except (FileNotFoundError, PeerError, SafetensorError, KeyError, msgspec.MsgspecError):
        return None
    return state if state.job == job else None


def follow(out_dir: Path, state: State, trainer: Trainer, steps: int, say: Say) -> State:
    """Take the steps that are left, a checkpoint after the first, now and then, and the last."""
    first, began = trainer.step, time.monotonic()
    due = began
    while trainer.step < steps:
        loss, now = trainer.advance(), time.monotonic()
        left = (now - began) / (trainer.step - first) * (steps - trainer.step) + state.measure_s
        say(
            Progress(
                stage="train", done=trainer.step, total=steps, unit="steps", loss=loss, eta_s=left
            )
        )
        if now >= due or trainer.step == steps:
            state = msgspec.structs.replace(state, step=trainer.step)
            write(out_dir, state, trainer)
            after = time.monotonic()
            due = after + max(PAUSE_S, COSTS_AT_MOST * (after - now))
    return state


def restore(out_dir: Path, state: State, trainer: Trainer) -> None:
    """Bring a trainer to the step of a checkpoint."""
    with safe_open(out_dir / FOLDER / _FILE, framework="pt") as file:
        for name, parameter in trainer.trained.items():
            parameter.data.copy_(file.get_tensor(f"value.{name}"))
            trainer.optimizer.state[parameter] = {
                "step": torch.tensor(float(state.step)),
                **{moment: file.get_tensor(f"{moment}.{name}") for moment in _MOMENTS},
            }
    trainer.step = state.step


def remove(out_dir: Path) -> None:
    """Forget the checkpoint of a job that is done."""
    shutil.rmtree(out_dir / FOLDER, ignore_errors=True)
