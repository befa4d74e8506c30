"""What a model of given dimensions really takes on this machine: memory and time, by running it.

The weights are made here and mean nothing; memory and speed do not depend on what they say.
Time is what this thread spent on the processor, the least of several tokens: on a machine that
does other work too, that is the figure nearest to an idle one.
"""

import time
from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.cache_utils import DynamicCache

from p2pllm.fit import PROMPT_CHUNK, Dimensions

TOKENS = 10  # timed a round


class Decode(msgspec.Struct, frozen=True):
    """One model with a filled context, ready to be timed."""

    network: Any
    cache: DynamicCache
    token: torch.Tensor


def config_of(sizes: Dimensions) -> LlamaConfig:
    """The settings of a Llama of these dimensions."""
    return LlamaConfig(
        num_hidden_layers=sizes.layers,
        hidden_size=sizes.hidden,
        intermediate_size=sizes.intermediate,
        vocab_size=sizes.vocabulary,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        head_dim=sizes.head_dim,
        tie_word_embeddings=sizes.tied,
        max_position_embeddings=8192,
    )


def build(sizes: Dimensions, dtype: torch.dtype) -> LlamaForCausalLM:
    """A Llama of these dimensions whose weights are all one small number."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with _Blank():
            network = LlamaForCausalLM(config_of(sizes))
    finally:
        torch.set_default_dtype(before)
    network.tie_weights()
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(0.01)
    network.requires_grad_(False)
    network.train(False)
    return network


def fill(network: Any, context: int, vocabulary: int) -> Decode:
    """The model after it has read a prompt of `context` tokens, PROMPT_CHUNK at a time."""
    prompt = (torch.arange(context) * 7919 % vocabulary)[None]
    cache = DynamicCache(config=network.config)
    with torch.inference_mode():
        for start in range(0, context, PROMPT_CHUNK):
            part = prompt[:, start : start + PROMPT_CHUNK]
            out = network(part, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return Decode(network, cache, out.logits[:, -1:].argmax(-1))


def turn(ready: Decode, tokens: int = TOKENS) -> list[float]:
    """The processor seconds of so many more tokens; the context is then cut back again."""
    token, took = ready.token, []
    with torch.inference_mode():
        for _ in range(tokens):
            began = time.thread_time()
            out = ready.network(token, past_key_values=ready.cache, use_cache=True)
            token = out.logits[:, -1:].argmax(-1)
            took.append(time.thread_time() - began)
        ready.cache.crop(-tokens)
    return took


def save(network: LlamaForCausalLM, folder: Path) -> None:
    """Write a model as a base's files, without a tokenizer."""
    network.save_pretrained(folder)


class _Blank(torch.overrides.TorchFunctionMode):
    """Random starting values cost seconds and mean nothing here: left out while this is open."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "kaiming_uniform_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
