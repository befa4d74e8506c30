"""A change laid on a base is what PEFT makes of it, stacks exactly, and leaves no trace."""

from pathlib import Path

import pytest
import torch

from p2pllm import adapter
from p2pllm.learn import delta, model
from p2pllm.learn.graft import grafted
from tests.p2pllm.learn import planted, tiny

PROBE = torch.arange(40).view(2, 20) * 7


def answers(network: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = network(input_ids=PROBE).logits
        return logits


def test_a_graft_answers_as_the_library_that_made_the_adapter(
    base_dir: Path, adapter_dir: Path
) -> None:
    lora = adapter.inspect(adapter_dir, base_dir)
    network = model.load_base(base_dir, model.load_config(base_dir), torch.float32)
    with grafted(network, delta.read(adapter_dir, lora)):
        found = answers(network)
    wanted = answers(model.load_adapter(network, adapter_dir, lora))
    assert torch.allclose(found, wanted, atol=1e-5)


def test_stacked_changes_answer_as_changed_weights_do() -> None:
    network, again = tiny.llama().eval(), tiny.llama().eval()
    one, other = planted.noise(network, 1), planted.noise(network, 2, rank=3)
    with grafted(network, delta.stack([(one, 1.0), (other, -0.5)])):
        found = answers(network)
    for name in one:
        weight = again.get_submodule(name).weight
        weight.data += one[name].b @ one[name].a - 0.5 * (other[name].b @ other[name].a)
    assert torch.allclose(found, answers(again), atol=1e-5)


def test_a_base_is_as_before_when_the_block_ends() -> None:
    network = tiny.llama().eval()
    before = answers(network)
    with grafted(network, planted.noise(network, 1)):
        assert not torch.equal(answers(network), before)
    assert torch.equal(answers(network), before)
    with pytest.raises(KeyError), grafted(network, planted.noise(network, 1)):
        raise KeyError
    assert torch.equal(answers(network), before)
