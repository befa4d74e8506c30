"""What models take: `python -m tests.bench._blocks.speed DIR TOKENS`, or two DIRs side by side.

Plain transformers, one thread. One model in a process of its own says what memory it takes. Two
take turns, and each turn is a pair of times that the same neighbours on the machine have slowed:
the speed-up is the median of the pairs' ratios. Seconds are the process's own on the processor. A
token's time is the recommender's: the least of a turn (`p2pllm.learn.gauge`).
Prints one JSON object.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from p2pllm.learn import gauge, memory, model

TURNS = 7
PROMPT = 16


def memory_of(folder: Path, tokens: int) -> dict[str, float]:
    """Megabytes of a process that has made some tokens, and what of them is the model's."""
    before = memory.runtime_bytes()
    network = _load(folder)
    gauge.turn(_read(network), tokens)
    touched = sum(parameter.numel() * parameter.itemsize for parameter in network.parameters())
    return {
        "rss_mb": memory.runtime_bytes() / 1e6,
        "model_rss_mb": (memory.runtime_bytes() - before) / 1e6,
        "weights_mb": touched / 1e6,
    }


def side_by_side(parent: Path, block: Path, tokens: int) -> dict[str, float]:
    """Tokens a second of both, medians, made one after the other and read at once.

    A node runs models in bfloat16 where the processor multiplies it; `..._float32`: elsewhere.
    """
    found = _turns((_load(parent), _load(block)), tokens)
    if model.compute_dtype() == torch.float32:
        whole = found
    else:
        whole = _turns((_load(parent, torch.float32), _load(block, torch.float32)), tokens)
    return found | {f"{key}_float32": whole[key] for key in ("tok_s", "speedup")}


def _turns(networks: tuple[Any, Any], tokens: int) -> dict[str, float]:
    found: dict[str, float] = {}
    ready = [_read(network) for network in networks]
    runs: dict[str, Callable[[int], float]] = {
        "tok_s": lambda one: 1 / min(gauge.turn(ready[one], tokens)),
        "prefill_tok_s": lambda one: _prefill(networks[one], 8 * tokens),
    }
    for key, run in runs.items():
        pairs = [(run(0), run(1)) for _ in range(TURNS + 1)][1:]
        found[f"parent_{key}"], found[key] = (
            statistics.median(one) for one in zip(*pairs, strict=True)
        )
        found[key.replace("tok_s", "speedup")] = statistics.median(b / a for a, b in pairs)
    return found


def _load(folder: Path, dtype: torch.dtype | None = None) -> Any:
    torch.set_num_threads(1)
    dtype = dtype or model.compute_dtype()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def _read(network: Any) -> gauge.Decode:
    return gauge.fill(network, PROMPT, network.config.vocab_size)


def _prefill(network: Any, tokens: int) -> float:
    text = torch.arange(tokens)[None] % network.config.vocab_size
    with torch.inference_mode():
        began = time.process_time()
        network(input_ids=text, use_cache=False)
        return tokens / (time.process_time() - began)


def main(argv: list[str]) -> dict[str, float]:
    *folders, tokens = argv
    paths = [Path(folder) for folder in folders]
    return (
        memory_of(paths[0], int(tokens))
        if len(paths) == 1
        else side_by_side(paths[0], paths[1], int(tokens))
    )


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
