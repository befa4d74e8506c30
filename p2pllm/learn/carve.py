"""Cut a block's files out of its parent's: a smaller model that plain transformers loads.

Each weight is picked by the cut's index sets, so a fresh block answers as its parent does with the
left-out channels and heads silent and the left-out layers skipped. The same cut of the same parent
gives the same bytes on every machine.
"""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from p2pllm import base_files, blocks, durable, model_json, weights
from p2pllm.blocks import Cut
from p2pllm.errors import LocalError
from p2pllm.learn.algebra import Part, Parts

WEIGHTS_FILE = "model.safetensors"
_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}

Tensors = Mapping[str, torch.Tensor]


def parts(cut: Cut, modules: Sequence[str] | None = None) -> Parts:
    """Where the block's linear modules stand in the parent, for `algebra.lift` and `restrict`.

    modules   endings such as `q_proj`; None takes all seven
    """
    made = {}
    for layer in range(cut.frame.layers):
        for rest in blocks.MATRICES:
            name = f"model.layers.{layer}.{rest}"
            child = cut.child_name(name)
            if child is not None and (modules is None or rest.rpartition(".")[2] in modules):
                rows, columns = cut.index(name)
                made[child] = Part(name, blocks.shape_in(cut.frame, rest), rows, columns)
    return made


def tensors_of(parent_dir: Path, cut: Cut) -> dict[str, torch.Tensor]:
    """The block's tensors by their names in the block."""
    made: dict[str, torch.Tensor] = {}
    for path in weights.weight_files(parent_dir):
        with safe_open(path, framework="pt") as file:
            for name in weights.read_header(path):
                child = cut.child_name(name)
                if child is not None:
                    made[child] = pick(file.get_tensor(name), name, cut)
    return made


def pick(tensor: torch.Tensor, name: str, cut: Cut) -> torch.Tensor:
    """What the block keeps of one tensor of the parent, of a weight or of a bias."""
    module, _dot, _kind = name.rpartition(".")
    rows, columns = cut.index(module)
    for dim, index in ((0, rows), (1, columns)):
        if index is not None and dim < tensor.dim():
            tensor = tensor.index_select(dim, torch.tensor(index))
    return tensor.contiguous()


def write(out_dir: Path, parent_dir: Path, cut: Cut, tensors: Tensors) -> None:
    """A block's directory, as an import would leave it; complete when this returns.

    Tensors are kept as the parent's files keep theirs. LocalError E0204 if `out_dir` is taken.
    """
    if out_dir.exists() and any(out_dir.iterdir()):
        raise LocalError("E0204", f"{out_dir} is not empty", fix=["name a directory to be made"])
    making = durable.making(out_dir)
    shutil.rmtree(making, ignore_errors=True)  # what a killed job left
    making.mkdir(parents=True)
    kinds = _dtypes(parent_dir, cut)
    kept = {name: tensors[name].detach().to(dtype).contiguous() for name, dtype in kinds.items()}
    save_file(kept, making / WEIGHTS_FILE, metadata={"format": "pt"})
    (making / blocks.CUT_FILE).write_bytes(blocks.encode(cut))
    for name in (*base_files.JSON_FILES, *base_files.COPIED):
        source = parent_dir / name
        if source.is_file() and name != blocks.CUT_FILE:
            shutil.copyfile(source, making / name)
    config = blocks.child_config(cut, base_files.read_config(parent_dir))
    (making / base_files.CONFIG_FILE).write_bytes(model_json.write_object(config))
    base_files.inspect(making)
    blocks.read(making)
    for path in making.iterdir():
        path.chmod(0o644)
    if out_dir.exists():
        out_dir.rmdir()
    making.replace(out_dir)


def cut_block(parent_dir: Path, cut: Cut, out_dir: Path) -> None:
    """The block that this cut makes of a base, as it is cut: nothing mended."""
    write(out_dir, parent_dir, cut, tensors_of(parent_dir, cut))


def compose(members: Sequence[tuple[Path, Cut]], parent_dir: Path, cut: Cut, out_dir: Path) -> None:
    """A larger block out of others: each weight the mean over the blocks that have it.

    What none of them has comes from the parent; so blocks that nobody changed compose to exactly
    the block that `cut` makes of the parent. What blocks were trained to is closer to each other
    the nearer they stayed to it. Idea: the paper's figure 4.
    """
    made = {}
    with ExitStack() as opened:
        files = [
            (opened.enter_context(safe_open(folder / WEIGHTS_FILE, framework="pt")), member)
            for folder, member in members
        ]
        for path in weights.weight_files(parent_dir):
            with safe_open(path, framework="pt") as parent:
                for name in weights.read_header(path):
                    child = cut.child_name(name)
                    if child is not None:
                        mean = _mean(name, parent.get_tensor(name), files)
                        made[child] = pick(mean, name, cut)
    write(out_dir, parent_dir, cut, made)


def _mean(name: str, own: torch.Tensor, files: Sequence[tuple[Any, Cut]]) -> torch.Tensor:
    total = torch.zeros(own.shape, dtype=torch.float64)
    count = torch.zeros(own.shape, dtype=torch.float64)
    for file, member in files:
        child = member.child_name(name)
        if child is not None:
            part = file.get_tensor(child).double()
            place = _place(name, member)
            total[place] += part
            count[place] += 1
    return torch.where(count > 0, total / count.clamp(min=1), own.double()).to(own.dtype)


def _place(name: str, cut: Cut) -> Any:
    """Where in the parent's tensor the block's stands; a weight is cut along one side at most."""
    module, _dot, kind = name.rpartition(".")
    rows, columns = cut.index(module)
    if kind == "weight" and columns is not None:
        return (slice(None), torch.tensor(columns))
    return slice(None) if rows is None else torch.tensor(rows)


def _dtypes(parent_dir: Path, cut: Cut) -> dict[str, torch.dtype]:
    found = {}
    for name, tensor in weights.read_directory(parent_dir).items():
        child = cut.child_name(name)
        if child is not None:
            found[child] = _DTYPES[tensor.dtype]
    return found
