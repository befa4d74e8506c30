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
HELD_OUT = 0.1  # share of documents kept out of training
EVAL_TOKENS = 4096  # scored by default: a dozen abstracts, some 10 s on one core
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


LaidSet = Annotated[tuple[Laid, ...], msgspec.Meta(max_length=256)]


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """What every job says that trains a LoRA adapter on text, and measures it on text held out."""

    base_dir: Directory
    data: Paths  # .txt or .jsonl files, or directories of them
    out_dir: Directory  # the PEFT directory; `resume/` in it is there while the job is unfinished
    eval_data: Annotated[tuple[Directory, ...], msgspec.Meta(max_length=256)] = ()
    # measured on all of it and not trained on; () takes the held-out share of `data`
    rank: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 8
    alpha: Annotated[float, msgspec.Meta(gt=0, le=65536)] = 16.0
    targets: Targets = TARGETS
    lr: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1e-3
    steps: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 40
    batch: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 4
    seq: Annotated[int, msgspec.Meta(ge=8, le=131072)] = 128  # tokens
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 0
    held_out: Share = HELD_OUT
    eval_tokens: Tokens = EVAL_TOKENS
    threads: Threads = 1
    max_memory_bytes: Bytes = 0  # 0: what the machine has free


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter that stands in `out_dir`, measured before and after on `tokens` held out."""

    base_loss: float  # nats per token
    loss: float
    base_bits_per_byte: float
    bits_per_byte: float
    tokens: int
    bytes: int
    documents: int  # scored; the others of the held-out share are beyond eval_tokens
    text: str  # content id of the scored documents' ids: equal texts, equal id
    held_out: float  # the share; 0 where eval_data was given
    steps: int
    train_tokens: int
    train_documents: int
    seconds: float
    resumed_at: int  # the step a killed job went on from; 0 for a fresh start
    dtype: str  # what the CPU computed in
    memory_estimate: int  # bytes, made before anything was loaded
    peak_rss: int
