"""Where a killed tuning goes on: adapter, optimizer and what was measured, in one safetensors file.

The state that is no tensor is JSON in the file's metadata, so that both are of the same step.
"""

import shutil
from pathlib import Path
from typing import Protocol

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from p2pllm import durable, weights
from p2pllm.errors import PeerError
from p2pllm.learn.measure import Score

FOLDER = "resume"
_FILE = "state.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq")


class Trainer(Protocol):
    """What is trained in steps: `p2pllm.learn.training.Trainer`, a lesson of distillation."""

    step: int
    trained: dict[str, torch.nn.Parameter]
    optimizer: torch.optim.AdamW


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
    data = save(tensors, metadata={"state": msgspec.json.encode(state).decode()})
    durable.replace_file(folder / _FILE, data)


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
