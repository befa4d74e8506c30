"""A block: a smaller model cut out of a base along lines that never cross the residual stream.

A `Cut` says which layers a block keeps, which channels of each layer's feed-forward part and which
groups of attention heads (the query heads that share one key-value head). The width of the
residual stream, the embeddings and the vocabulary stay. So every weight matrix is cut along one
side at most, an adapter of the block becomes one of its parent by putting rows of B or columns of
A where they came from, and back by taking them: both exact. docs/specs/blocks.md.

Every layer keeps equally many channels and groups, since the settings of a plain model know one
width for all. No torch.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import msgspec

from p2pllm import base_files, codec, weights
from p2pllm.errors import LocalError, PeerError
from p2pllm.ids import ContentIdField
from p2pllm.weights import Tensor

CUT_FILE = base_files.CUT_FILE
MAX_LAYERS = 1024
MAX_CHANNELS = 131_072  # of a layer
MAX_CUT_BYTES = base_files.MAX_TEXT_BYTES

Index = tuple[int, ...] | None
"""Positions in the parent, ascending; None: all of them."""
Bitmap = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_CHANNELS // 8)]
Size = Annotated[int, msgspec.Meta(ge=1, le=MAX_CHANNELS)]

_MODULE = re.compile(r"model\.layers\.(?P<layer>0|[1-9][0-9]{0,3})\.(?P<rest>[a-z_.]+)")
# What a layer may hold, by what of it is cut. Norms span the residual stream or one head: whole.
_ROWS_OF_CHANNELS = frozenset({"mlp.gate_proj", "mlp.up_proj"})
_COLUMNS_OF_CHANNELS = frozenset({"mlp.down_proj"})
_ROWS_OF_HEADS = frozenset({"self_attn.q_proj"})
_ROWS_OF_GROUPS = frozenset({"self_attn.k_proj", "self_attn.v_proj"})
_COLUMNS_OF_HEADS = frozenset({"self_attn.o_proj"})
MATRICES = tuple(
    sorted(
        _ROWS_OF_CHANNELS
        | _COLUMNS_OF_CHANNELS
        | _ROWS_OF_HEADS
        | _ROWS_OF_GROUPS
        | _COLUMNS_OF_HEADS
    )
)
"""What a layer's weight matrices are called within it."""


_NORMS = ("input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm")


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of a parent that its cuts are made in."""

    layers: Annotated[int, msgspec.Meta(ge=1, le=MAX_LAYERS)]
    hidden: Size
    ffn: Size  # channels of a layer
    groups: Annotated[int, msgspec.Meta(ge=1, le=1024)]  # of heads: key-value heads
    heads: Annotated[int, msgspec.Meta(ge=1, le=1024)]  # query heads of a group
    head_dim: Annotated[int, msgspec.Meta(ge=1, le=4096)]


class Cut(msgspec.Struct, frozen=True, kw_only=True, tag="cut.1"):
    """What a block keeps of its parent. Bit i of a bitmap is bit i % 8 of its byte i // 8."""

    parent: ContentIdField  # the model id of the base that was cut
    frame: Frame
    layers: Annotated[tuple[int, ...], msgspec.Meta(min_length=1, max_length=MAX_LAYERS)]
    ffn: Annotated[tuple[Bitmap, ...], msgspec.Meta(max_length=MAX_LAYERS)]  # of each kept layer
    groups: Annotated[tuple[Bitmap, ...], msgspec.Meta(max_length=MAX_LAYERS)]

    def __post_init__(self) -> None:
        if list(self.layers) != sorted(set(self.layers)) or not self._in_frame():
            raise ValueError("the kept layers do not ascend within the parent")
        for what, maps, size in (
            ("channels", self.ffn, self.frame.ffn),
            ("groups", self.groups, self.frame.groups),
        ):
            if len(maps) != len(self.layers):
                raise ValueError(f"not one bitmap of {what} for each kept layer")
            counts = {int.from_bytes(bits).bit_count() for bits in maps}
            if len(counts) != 1 or 0 in counts:
                raise ValueError(f"not equally many {what} in every layer, or none")
            if any(len(bits) != -(-size // 8) or kept(bits)[-1] >= size for bits in maps):
                raise ValueError(f"a bitmap of {what} does not fit the parent")

    def _in_frame(self) -> bool:
        return self.layers[0] >= 0 and self.layers[-1] < self.frame.layers

    @property
    def channels(self) -> int:
        """How many feed-forward channels a layer of the block has."""
        return int.from_bytes(self.ffn[0]).bit_count()

    @property
    def group_count(self) -> int:
        """How many groups of heads a layer of the block has."""
        return int.from_bytes(self.groups[0]).bit_count()

    def child_name(self, name: str) -> str | None:
        """What a module (or tensor) of the parent is called in the block; None if it is not kept.

        A name outside the layers, such as `lm_head`, is the same in both.
        """
        match = _MODULE.fullmatch(name)
        if match is None:
            return name
        layer = int(match["layer"])
        if layer not in self.layers:
            return None
        return f"model.layers.{self.layers.index(layer)}.{match['rest']}"

    def index(self, name: str) -> tuple[Index, Index]:
        """Which rows and columns of the parent's weight the block keeps; None stands for all.

        name   of the module in the parent, such as `model.layers.3.mlp.up_proj`
        Raises PeerError E0703 if the block does not keep the layer.
        """
        match = _MODULE.fullmatch(name)
        if match is None:
            return None, None
        layer, rest = int(match["layer"]), match["rest"]
        if layer not in self.layers:
            raise PeerError("E0703", f"the block does not keep the layer of {name!r}")
        at = self.layers.index(layer)
        if rest in _ROWS_OF_CHANNELS:
            return _some(self.ffn[at], self.frame.ffn, 1), None
        if rest in _COLUMNS_OF_CHANNELS:
            return None, _some(self.ffn[at], self.frame.ffn, 1)
        if rest in _ROWS_OF_GROUPS:
            return _some(self.groups[at], self.frame.groups, self.frame.head_dim), None
        heads = _some(self.groups[at], self.frame.groups, self.frame.heads * self.frame.head_dim)
        if rest in _ROWS_OF_HEADS:
            return heads, None
        return None, heads if rest in _COLUMNS_OF_HEADS else None

    def holds(self, other: "Cut") -> bool:
        """Whether everything that `other` keeps is kept here too: `other` is nested in this."""
        if (self.parent, self.frame) != (other.parent, other.frame):
            return False
        if not set(other.layers) <= set(self.layers):
            return False
        return all(
            _within(other.ffn[at], self.ffn[mine]) and _within(other.groups[at], self.groups[mine])
            for at, mine in enumerate(self.layers.index(layer) for layer in other.layers)
        )


def kept(bits: bytes) -> tuple[int, ...]:
    """The positions whose bit is set, ascending."""
    return tuple(
        8 * at + bit for at, byte in enumerate(bits) if byte for bit in range(8) if byte >> bit & 1
    )


def bitmap(positions: Iterable[int], size: int) -> bytes:
    """The bitmap of these positions out of `size`."""
    bits = bytearray(-(-size // 8))
    for position in positions:
        if not 0 <= position < size:
            raise ValueError(f"position {position} of {size}")
        bits[position // 8] |= 1 << position % 8
    return bytes(bits)


def whole(parent: str, frame: Frame) -> Cut:
    """The cut that keeps everything: a base as a block of itself."""
    every = range(frame.layers)
    return make(
        parent,
        frame,
        {layer: (range(frame.ffn), range(frame.groups)) for layer in every},
    )


Kept = tuple[Iterable[int], Iterable[int]]
"""Channels and groups of one layer."""


def make(parent: str, frame: Frame, layers: Mapping[int, Kept]) -> Cut:
    """A cut that keeps these channels and groups of these layers; LocalError E0204 if it cannot."""
    try:
        plain = {
            "type": "cut.1",
            "parent": parent,
            "frame": msgspec.to_builtins(frame),
            "layers": sorted(layers),
            "ffn": [bitmap(layers[at][0], frame.ffn) for at in sorted(layers)],
            "groups": [bitmap(layers[at][1], frame.groups) for at in sorted(layers)],
        }
        return msgspec.convert(plain, Cut, builtin_types=(bytes,))
    except ValueError as bad:
        raise LocalError("E0204", f"no such cut can be made: {bad}") from bad


def union(cuts: Sequence[Cut]) -> dict[int, tuple[set[int], set[int]]]:
    """What any of these cuts keeps, by layer: its channels and its groups.

    The layers may differ in how much they keep, so it is no cut yet: `make` wants them even.
    Raises LocalError E0204 if the cuts are not of one parent.
    """
    if len({(cut.parent, cut.frame) for cut in cuts}) != 1:
        raise LocalError("E0204", "the blocks are not cut out of one base")
    found: dict[int, tuple[set[int], set[int]]] = {}
    for cut in cuts:
        for layer, ffn, groups in zip(cut.layers, cut.ffn, cut.groups, strict=True):
            channels, heads = found.setdefault(layer, (set(), set()))
            channels.update(kept(ffn))
            heads.update(kept(groups))
    return found


def joined(cuts: Sequence[Cut]) -> Cut:
    """The smallest cut that keeps all that these keep.

    Where one layer then has less than another, the parent's lowest free positions fill it up.
    """
    found, frame = union(cuts), cuts[0].frame
    channels = max(len(kept_here[0]) for kept_here in found.values())
    groups = max(len(kept_here[1]) for kept_here in found.values())
    layers = {
        layer: (_filled(some, channels, frame.ffn), _filled(heads, groups, frame.groups))
        for layer, (some, heads) in found.items()
    }
    return make(cuts[0].parent, frame, layers)


def frame_of(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Frame:
    """The sizes of a base, its settings and its headers agreeing; PeerError E0711 if it has none.

    A base can be cut if its layers are the attention and the gated feed-forward part that Llama
    made usual (Mistral, Qwen 2 and 3 have the same) and nothing else.
    """
    try:
        query = int(config["num_attention_heads"])
        groups = int(config.get("num_key_value_heads") or query)
        hidden = int(config["hidden_size"])
        plain = {
            "layers": int(config["num_hidden_layers"]),
            "hidden": hidden,
            "ffn": int(config["intermediate_size"]),
            "groups": groups,
            "heads": query // max(groups, 1),
            "head_dim": int(config.get("head_dim") or hidden // max(query, 1)),
        }
        frame = msgspec.convert(plain, Frame)
    except (KeyError, TypeError, ValueError) as bad:
        raise _refused(f"its settings do not state the sizes of a Llama: {bad}") from bad
    if frame.groups * frame.heads != query:
        raise _refused(f"its {query} heads do not share {frame.groups} key-value heads evenly")
    _check_tensors(frame, tensors)
    return frame


def shape_in(frame: Frame, rest: str) -> tuple[int, int]:
    """The rows and columns of a matrix of a layer, such as `mlp.up_proj`."""
    query = frame.groups * frame.heads * frame.head_dim
    return {
        "mlp.gate_proj": (frame.ffn, frame.hidden),
        "mlp.up_proj": (frame.ffn, frame.hidden),
        "mlp.down_proj": (frame.hidden, frame.ffn),
        "self_attn.q_proj": (query, frame.hidden),
        "self_attn.k_proj": (frame.groups * frame.head_dim, frame.hidden),
        "self_attn.v_proj": (frame.groups * frame.head_dim, frame.hidden),
        "self_attn.o_proj": (frame.hidden, query),
    }[rest]


def frame_in(base_dir: Path) -> Frame:
    """The sizes of the base in a directory; PeerError E0711 if it cannot be cut."""
    return frame_of(base_files.read_config(base_dir), weights.read_directory(base_dir))


def child_frame(cut: Cut) -> Frame:
    """The sizes of the block."""
    return msgspec.structs.replace(
        cut.frame, layers=len(cut.layers), ffn=cut.channels, groups=cut.group_count
    )


def child_config(cut: Cut, config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a block out of its parent's: what plain transformers loads it with."""
    made = dict(config) | {
        "num_hidden_layers": len(cut.layers),
        "intermediate_size": cut.channels,
        "num_key_value_heads": cut.group_count,
        "num_attention_heads": cut.group_count * cut.frame.heads,
        # Said outright, for hidden_size / num_attention_heads is no longer it.
        "head_dim": cut.frame.head_dim,
    }
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and len(kinds) == cut.frame.layers:
        made["layer_types"] = [kinds[layer] for layer in cut.layers]
    return made


def encode(cut: Cut) -> bytes:
    """The bytes of `block.cut`."""
    return codec.encode(cut)


def decode(raw: bytes) -> Cut:
    """A cut out of the bytes of `block.cut`; PeerError E0603 if they hold none."""
    return codec.decode(raw, Cut, MAX_CUT_BYTES)


def read(block_dir: Path) -> Cut | None:
    """The cut a directory's block was made by, held against its own sizes; None for no block.

    Raises PeerError E0603 or E0711 if it is not that of the model beside it.
    """
    path = block_dir / CUT_FILE
    if not path.is_file():
        return None
    with path.open("rb") as file:
        cut = decode(file.read(MAX_CUT_BYTES + 1))
    if frame_in(block_dir) != child_frame(cut):
        raise _refused(f"{CUT_FILE} is not about the model beside it")
    return cut


def _check_tensors(frame: Frame, tensors: Mapping[str, Tensor]) -> None:
    seen = set()
    for name, tensor in tensors.items():
        match = _MODULE.fullmatch(name.removesuffix(".weight").removesuffix(".bias"))
        if match is None:
            continue
        rest = match["rest"]
        if rest in MATRICES:
            shape = shape_in(frame, rest)
            wanted = shape if name.endswith(".weight") else shape[:1]
            if tensor.shape != wanted:
                raise _refused(f"{name[:120]} has the shape {list(tensor.shape)}")
            seen.add((int(match["layer"]), rest))
        elif len(tensor.shape) != 1 or rest not in _NORMS:
            raise _refused(f"it has {name[:120]}, which no cut knows")
    if seen != {(layer, rest) for layer in range(frame.layers) for rest in MATRICES}:
        raise _refused("its layers are not those of a Llama")


def _refused(why: str) -> PeerError:
    return PeerError("E0711", f"the base cannot be cut: {why}", fix=["cut another base"])


def _filled(some: set[int], count: int, size: int) -> list[int]:
    free = [position for position in range(size) if position not in some]
    return [*some, *free[: count - len(some)]]


def _within(small: bytes, large: bytes) -> bool:
    return int.from_bytes(small) & ~int.from_bytes(large) == 0


@lru_cache(maxsize=4096)
def _some(bits: bytes, size: int, wide: int) -> Index:
    """The positions the bitmap keeps, each standing for `wide` in a row; None if it keeps all."""
    found = kept(bits)
    if len(found) == size:
        return None
    return tuple(at * wide + step for at in found for step in range(wide))
