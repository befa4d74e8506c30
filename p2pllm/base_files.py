"""What the JSON files of a base may say, and the one form they are kept in. No torch.

A base's config.json decides which classes a loader makes, so a base that names code of its own, or
a kernel to fetch, is refused; so is one whose weights are quantised, since an adapter is bound to
the numbers themselves. Versions, paths and other traces of the machine that wrote a file are left
out, so that importing the same model twice, or on two machines, gives the same bytes.
"""

from pathlib import Path
from typing import Any

from p2pllm import gguf_header, model_json, weights
from p2pllm.errors import PeerError

CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
INDEX_FILE = "model.safetensors.index.json"
VARIANT_FILE = "model.gguf"  # the weights of a quantised variant: docs/specs/variants.md
CUT_FILE = "block.cut"  # of a block: what it keeps of its parent, see `p2pllm.blocks`
# What a base may have beside its weights. Everything else in a directory stays behind.
JSON_FILES = (
    CONFIG_FILE,
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
MAX_JSON_BYTES = 4 * 1024**2
MAX_TOKENIZER_BYTES = 64 * 1024**2  # 262,144 tokens take 33 MB
MAX_TEXT_BYTES = 1024**2
MAX_INDEX_BYTES = 32 * 1024**2  # as a header: every tensor once
# Files that are taken as they are, with the most bytes each may have.
COPIED = {
    TOKENIZER_FILE: MAX_TOKENIZER_BYTES,
    "chat_template.jinja": MAX_TEXT_BYTES,
    "LICENSE": MAX_TEXT_BYTES,
    "LICENSE.txt": MAX_TEXT_BYTES,
    CUT_FILE: MAX_TEXT_BYTES,
}

_IMPORT = "import the base with p2pllm, which writes it so"
_CODE = frozenset({"auto_map", "custom_pipelines", "trust_remote_code"})
_TRACES = frozenset(
    {
        "transformers_version",
        "name_or_path",
        "is_local",
        "local_files_only",
        "attn_implementation",
        "experts_implementation",
        "torch_dtype",
        "tokenizer_file",
        "cache_dir",
    }
)


def read_config(base_dir: Path) -> dict[str, Any]:
    """A base's config.json, safe to build a model from; PeerError E0711 if it is not."""
    config = read_json(base_dir, CONFIG_FILE)
    name = architecture(config)
    if not name.endswith("ForCausalLM"):
        raise refused(f"it is a {name[:60]}, and only causal language models are taken")
    if "quantization_config" in config:
        raise refused("its weights are quantised", "import the model in full precision, or as GGUF")
    if (base_dir / TOKENIZER_FILE).is_file():
        return config
    raise refused(
        f"it has no {TOKENIZER_FILE}", "save the tokenizer with transformers' AutoTokenizer"
    )


def inspect(base_dir: Path) -> str:
    """The architecture of a base whose files are as an import leaves them; else E0711.

    Only known files, JSON in its one form, an index of exactly the weights that are there, and
    headers that hold (E0606, E0608).
    """
    config = read_config(base_dir)
    for path in sorted(base_dir.iterdir()):
        if path.name in JSON_FILES:
            if path.read_bytes() != model_json.write_object(read_json(base_dir, path.name)):
                raise refused(f"{path.name} is not in its one form", _IMPORT)
        elif path.name in COPIED:
            check_size(path)
        elif path.suffix != ".safetensors" and path.name not in (INDEX_FILE, VARIANT_FILE):
            raise refused(f"{path.name[:80]} is no part of a base", _IMPORT)
    if is_variant(base_dir):
        if next(base_dir.glob("*.safetensors*"), None):
            raise refused(f"it has {VARIANT_FILE} and other weights too")
        gguf_header.read_header(base_dir / VARIANT_FILE)
        return architecture(config)
    weights.read_directory(base_dir)
    check_index(base_dir)
    return architecture(config)


def is_variant(base_dir: Path) -> bool:
    """Whether a base is a quantised variant of another: its weights are one GGUF file."""
    return (base_dir / VARIANT_FILE).is_file()


def check_index(base_dir: Path) -> None:
    """Return if an index, if there is one, names exactly the weights files that are there."""
    # A loader opens the files of an index by their names: they must be those that were judged.
    path = base_dir / INDEX_FILE
    if not path.is_file():
        return
    with path.open("rb") as file:
        raw = file.read(MAX_INDEX_BYTES + 1)
    try:
        named = model_json.read_object(raw, MAX_INDEX_BYTES).get("weight_map")
    except ValueError as bad:
        raise refused(f"{INDEX_FILE}: {bad}") from bad
    files = {path.name for path in weights.weight_files(base_dir)}
    if not isinstance(named, dict) or {str(name) for name in named.values()} != files:
        raise refused(f"{INDEX_FILE} does not name exactly the files that are there")


def check_size(path: Path) -> None:
    """Return if a file that is kept as it is has no more bytes than it may; else E0711."""
    size = path.stat().st_size
    if size > COPIED[path.name]:
        raise refused(f"{path.name} has {size} bytes, at most {COPIED[path.name]}")


def read_json(base_dir: Path, name: str) -> dict[str, Any]:
    """One JSON file of a base, cleaned of traces; PeerError E0711 if it may not be used."""
    path = base_dir / name
    if not path.is_file():
        raise refused(f"it has no {name}")
    with path.open("rb") as file:
        raw = file.read(MAX_JSON_BYTES + 1)
    try:
        plain = model_json.read_object(raw, MAX_JSON_BYTES)
    except ValueError as bad:
        raise refused(f"{name}: {bad}") from bad
    _refuse_code(name, plain)
    return _clean(plain)


def architecture(config: dict[str, Any]) -> str:
    """The one class a config names, such as LlamaForCausalLM; PeerError E0711 if not one."""
    names = config.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise refused("config.json does not name one architecture")
    return names[0]


def refused(why: str, fix: str = "import another copy of the model, from its makers") -> PeerError:
    """The error for a base that is not taken."""
    return PeerError("E0711", f"the base is refused: {why}", fix=[fix])


def _refuse_code(name: str, value: object) -> None:
    if isinstance(value, list):
        for item in value:
            _refuse_code(name, item)
    if isinstance(value, dict):
        for key, item in value.items():
            if key in _CODE and item:
                raise refused(f"{name} names code to run ({key})")
            _refuse_code(name, item)


def _clean(plain: dict[str, Any]) -> dict[str, Any]:
    # A leading underscore marks what transformers keeps for itself: where a file came from, which
    # attention kernel to take. Neither belongs to the model.
    return {
        key: _clean(value) if isinstance(value, dict) else value
        for key, value in plain.items()
        if key not in _TRACES and not key.startswith("_")
    }
