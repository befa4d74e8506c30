"""The signed description of a base or an adapter: what, from what, by whom, licence, files.

Wire format: docs/specs/manifest.md. A manifest is itself a blob; its content id is the model's
exact name.
"""

import unicodedata
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from p2pllm import codec
from p2pllm.errors import PeerError
from p2pllm.ids import ContentId, ContentIdField, NodeIdField, content_id
from p2pllm.keys import Identity
from p2pllm.names import NameField, Place

PURPOSE = "manifest.1"
MAX_MANIFEST_BYTES = 256 * 1024  # 512 files of at most 400 bytes, and the rest
CHUNK_BYTES = 1024 * 1024  # what is checked on arrival, and what one bad peer can waste
MAX_FILE_BYTES = 32 * 1024**3  # its chunk list (32 bytes each) is then one chunk itself
MAX_TOTAL_BYTES = 64 * 1024**3

Kind = Literal["base", "adapter"]
Size = Annotated[int, msgspec.Meta(ge=1, le=MAX_FILE_BYTES)]
FilePath = Annotated[
    str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}\Z", max_length=80)
]
"""A flat file name: no folders, no leading dot, ASCII, so nothing can leave the model's folder."""
Text = Annotated[str, msgspec.Meta(max_length=2000)]
Loss = Annotated[float, msgspec.Meta(ge=0, le=1e6)]


class File(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a model."""

    path: FilePath
    size: Size  # bytes
    blake3: ContentIdField
    chunks: ContentIdField  # id of the list of its 1 MiB chunks' hashes, 32 bytes each
    sha256: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]  # to compare with other hubs


class Lora(msgspec.Struct, frozen=True, kw_only=True):
    """What kind of LoRA an adapter is; ΔW = (alpha / rank) B A for every target."""

    rank: Annotated[int, msgspec.Meta(ge=1, le=1024)]
    alpha: Annotated[float, msgspec.Meta(gt=0, le=65536)]
    targets: Annotated[
        tuple[Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_.]{1,120}\Z")], ...],
        msgspec.Meta(min_length=1, max_length=64),
    ]  # module name endings, sorted
    tensors: Annotated[int, msgspec.Meta(ge=2, le=65536)]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The publisher's own measurement on text held out of training: a claim, to be checked."""

    base_loss: Loss  # nats per token without the adapter
    loss: Loss  # nats per token with it
    bits_per_byte: Loss
    tokens: Annotated[int, msgspec.Meta(ge=1, le=2**40)]  # held-out tokens scored
    steps: Annotated[int, msgspec.Meta(ge=0, le=2**31)]
    train_tokens: Annotated[int, msgspec.Meta(ge=0, le=2**40)]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, tag="manifest.1"):
    """What a model is. Signed as `manifest.1`; never changed, only followed by another."""

    kind: Kind
    place: Place
    name: NameField
    by: NodeIdField
    created_at: Annotated[float, msgspec.Meta(ge=0, le=2**33)]  # Unix seconds, publisher's clock
    licence: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9.+ ()-]{1,100}\Z")]  # SPDX
    consent: bool  # the publisher agreed that all of this becomes public
    model: ContentIdField  # of a base: its model id; of an adapter: the model id it fits
    params: Annotated[int, msgspec.Meta(ge=1, le=10**13)]  # of the base
    base_size: Annotated[int, msgspec.Meta(ge=0, le=MAX_TOTAL_BYTES)]  # bytes; 0 for a base
    parents: Annotated[tuple[ContentIdField, ...], msgspec.Meta(max_length=64)] = ()
    files: Annotated[tuple[File, ...], msgspec.Meta(min_length=1, max_length=512)]
    lora: Lora | None = None
    report: Report | None = None
    description: Text = ""

    def __post_init__(self) -> None:
        if (self.kind == "adapter") != (self.lora is not None):
            raise ValueError("an adapter states its LoRA, and a base has none")
        folded = {file.path.casefold() for file in self.files}
        if len(folded) != len(self.files):
            raise ValueError("two files share a name")
        if self.size > MAX_TOTAL_BYTES:
            raise ValueError(f"{self.size} bytes in all, at most {MAX_TOTAL_BYTES}")
        if any(unicodedata.category(c) == "Cc" and c != "\n" for c in self.description):
            raise ValueError("control characters in the description")

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)

    def file(self, path: str) -> File:
        """The entry of one file; PeerError E0603 if the manifest has none of that name."""
        for file in self.files:
            if file.path == path:
                return file
        raise PeerError("E0603", f"the manifest names no file {path}")


MODEL_FILES = ("config.json", "tokenizer.json")
WEIGHT_ENDINGS = (".safetensors", ".gguf")


class _Weights(msgspec.Struct, frozen=True, tag="weights.1"):
    files: list[tuple[str, str]]


def model_id(files: tuple[File, ...]) -> ContentId:
    """What adapters are bound to: a hash over a base's weights, config.json and tokenizer.json.

    Licences, cards and chat settings may change without changing it.
    """
    return model_id_of({file.path: file.blake3 for file in files})


def model_id_of(hashes: Mapping[str, str]) -> ContentId:
    """The model id of a base out of its files' BLAKE3 hashes by path."""
    counted = sorted(
        (path, str(hash_))
        for path, hash_ in hashes.items()
        if path.endswith(WEIGHT_ENDINGS) or path in MODEL_FILES
    )
    return content_id(codec.encode(_Weights(files=counted)))


def seal(identity: Identity, manifest: Manifest) -> tuple[ContentId, bytes]:
    """The signed bytes of a manifest and their content id."""
    record = codec.sign(identity, PURPOSE, manifest)
    return content_id(record), record


def open_manifest(record: bytes) -> Manifest:
    """A manifest out of signed bytes; PeerError E0602 or E0603 if it is forged or malformed."""
    manifest = codec.open_signed(record, PURPOSE, Manifest, MAX_MANIFEST_BYTES)
    if manifest.kind == "base" and manifest.model != model_id(manifest.files):
        raise PeerError("E0603", "a base names a model id that its files do not have")
    return manifest
