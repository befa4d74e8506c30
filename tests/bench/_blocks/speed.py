"""What one model takes in a process of its own: `python -m tests.bench._blocks.speed DIR TOKENS`.

Plain transformers, one thread. Tokens a second are of the process's own time on the processor, the
best of five, so that neighbours on the machine do not count. Prints one JSON object.
"""

import json
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from p2pllm.learn import memory, model

RUNS = 5
PROMPT = 16


def main(folder: Path, tokens: int) -> dict[str, float]:
    torch.set_num_threads(1)
    before = memory.runtime_bytes()
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=model.compute_dtype()).eval()
    prompt = torch.arange(5, 5 + PROMPT)[None]
    long = torch.arange(8 * tokens)[None] % network.config.vocab_size
    decode, prefill = [], []
    with torch.inference_mode():
        for _ in range(RUNS):
            began = time.process_time()
            made = network.generate(
                prompt, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False
            )
            decode.append((made.shape[1] - PROMPT) / (time.process_time() - began))
            began = time.process_time()
            network(input_ids=long, use_cache=False)
            prefill.append(long.numel() / (time.process_time() - began))
    touched = sum(parameter.numel() * parameter.itemsize for parameter in network.parameters())
    return {
        "rss_mb": memory.runtime_bytes() / 1e6,
        "model_rss_mb": (memory.runtime_bytes() - before) / 1e6,
        "weights_mb": touched / 1e6,
        "tok_s": max(decode),
        "prefill_tok_s": max(prefill),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
