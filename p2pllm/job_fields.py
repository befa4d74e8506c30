"""What the fields of learn jobs may hold: bounds and small parts that several jobs share."""

from typing import Annotated

import msgspec

from p2pllm.summary import Name

Directory = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
Paths = Annotated[tuple[Directory, ...], msgspec.Meta(min_length=1, max_length=256)]
Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Threads = Annotated[int, msgspec.Meta(ge=1, le=256)]
Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**50)]
Tokens = Annotated[int, msgspec.Meta(ge=16, le=2**31)]
Target = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_.]{1,120}\Z")]
Targets = Annotated[tuple[Target, ...], msgspec.Meta(min_length=1, max_length=64)]
ModelId = Annotated[str, msgspec.Meta(pattern=r"\A(?:[0-9a-f]{64})?\Z")]

TARGETS = ("k_proj", "o_proj", "q_proj", "v_proj")  # the attention of a layer
EVERY = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")


class Secret(msgspec.Struct, frozen=True):
    """What decides which text this node probes with; never shown."""

    value: Annotated[bytes, msgspec.Meta(min_length=16, max_length=64)]

    def __repr__(self) -> str:
        return "Secret()"


class Probe(msgspec.Struct, frozen=True):
    """Text of one domain to probe with."""

    domain: Name
    data: Paths


class Laid(msgspec.Struct, frozen=True):
    """One update of the accepted set, and how much of it counts."""

    adapter_dir: Directory
    weight: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
