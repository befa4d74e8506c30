"""Blocks: what they answer, that anyone can load them, and that equal cuts are equal bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from p2pllm import adapter, base_files, blocks
from p2pllm.blocks import Cut
from p2pllm.errors import LocalError, PeerError
from p2pllm.learn import algebra, carve, delta, importance, model, refit
from p2pllm.learn.graft import grafted
from p2pllm.learn.importance import Size
from tests.p2pllm.learn import tiny

PARENT = "ab" * 32
ROWS = torch.arange(96).view(4, 24)


def load(folder: Path) -> Any:
    return model.load_base(folder, model.load_config(folder), torch.float32).requires_grad_(False)


def cut_of(base_dir: Path, layers: dict[int, tuple[Any, Any]]) -> Cut:
    return blocks.make(PARENT, blocks.frame_in(base_dir), layers)


@pytest.fixture(scope="module")
def deep_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four layers, and weights far enough from zero that every part shows."""
    network = tiny.llama(3, num_hidden_layers=4)
    for name, parameter in network.named_parameters():
        if "norm" not in name:
            parameter.data.mul_(4)
    folder = tmp_path_factory.mktemp("deep")
    tiny.save_base(folder / "foreign", network)
    return tiny.imported(folder / "foreign", folder / "base")


@contextmanager
def masked(network: Any, cut: Cut) -> Iterator[Any]:
    """The parent with what the cut leaves out silent, and its layers skipped."""
    hooks = []
    for at, layer in enumerate(network.model.layers):
        if at not in cut.layers:
            hooks.append(layer.register_forward_hook(lambda _m, given, _a: given[0]))
            continue
        for rest, module in (
            ("mlp.down_proj", layer.mlp.down_proj),
            ("self_attn.o_proj", layer.self_attn.o_proj),
        ):
            columns = cut.index(f"model.layers.{at}.{rest}")[1]
            mask = torch.zeros(module.weight.shape[1])
            mask[list(range(len(mask)) if columns is None else columns)] = 1
            hooks.append(
                module.register_forward_pre_hook(lambda _m, given, mask=mask: (given[0] * mask,))
            )
    yield network
    for hook in hooks:
        hook.remove()


def test_a_block_answers_as_its_parent_with_the_rest_silent(
    deep_base: Path, tmp_path: Path
) -> None:
    cut = cut_of(
        deep_base, {0: (range(0, 64, 3), [1]), 2: (range(22), [0]), 3: (range(40, 62), [1])}
    )
    carve.cut_block(deep_base, cut, tmp_path / "block")
    parent, block = load(deep_base), load(tmp_path / "block")
    with masked(parent, cut):
        wanted = parent(input_ids=ROWS).logits
    got = block(input_ids=ROWS).logits
    assert torch.allclose(got, wanted, atol=1e-4, rtol=1e-5)
    assert not torch.allclose(got, parent(input_ids=ROWS).logits, atol=1e-2)


def test_the_whole_cut_is_the_parent(deep_base: Path, tmp_path: Path) -> None:
    carve.cut_block(deep_base, blocks.whole(PARENT, blocks.frame_in(deep_base)), tmp_path / "all")
    both = load(tmp_path / "all")(input_ids=ROWS).logits, load(deep_base)(input_ids=ROWS).logits
    assert torch.equal(*both)


def test_plain_transformers_and_peft_take_a_block(deep_base: Path, tmp_path: Path) -> None:
    cut = cut_of(deep_base, {1: (range(24), [0]), 3: (range(8, 32), [1])})
    carve.cut_block(deep_base, cut, tmp_path / "block")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "block", dtype=torch.float32)
    ours = load(tmp_path / "block")
    assert torch.equal(plain(input_ids=ROWS).logits, ours(input_ids=ROWS).logits)
    assert plain.config.intermediate_size == 24
    assert len(plain.generate(ROWS[:1, :4], max_new_tokens=4, do_sample=False)[0]) > 4
    get_peft_model(plain, LoraConfig(target_modules=["q_proj", "down_proj"], r=2))
    size = sum(path.stat().st_size for path in (tmp_path / "block").glob("*.safetensors"))
    assert size < sum(path.stat().st_size for path in deep_base.glob("*.safetensors"))


def test_a_block_is_a_base_like_another(deep_base: Path, tmp_path: Path) -> None:
    cut = cut_of(deep_base, {0: (range(8), [0])})
    carve.cut_block(deep_base, cut, tmp_path / "block")
    assert base_files.inspect(tmp_path / "block") == "LlamaForCausalLM"
    assert blocks.read(tmp_path / "block") == cut
    assert blocks.read(deep_base) is None
    again = tiny.imported(tmp_path / "block", tmp_path / "again")
    for path in (tmp_path / "block").iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_equal_cuts_are_equal_bytes(deep_base: Path, tmp_path: Path) -> None:
    cut = cut_of(deep_base, {0: (range(8), [0]), 2: (range(8), [1])})
    for name in ("one", "two"):
        carve.cut_block(deep_base, cut, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()
    with pytest.raises(LocalError, match="E0204"):
        carve.cut_block(deep_base, cut, tmp_path / "one")


def test_a_cut_of_another_model_is_found_out(deep_base: Path, tmp_path: Path) -> None:
    carve.cut_block(deep_base, cut_of(deep_base, {0: (range(8), [0])}), tmp_path / "block")
    other = cut_of(deep_base, {0: (range(16), [0])})
    (tmp_path / "block" / blocks.CUT_FILE).write_bytes(blocks.encode(other))
    with pytest.raises(PeerError, match="E0711"):
        blocks.read(tmp_path / "block")


def test_biases_are_cut_with_their_rows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = tiny.llama().config.to_dict()
    wanted = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
    wanted += ("num_attention_heads", "num_key_value_heads", "max_position_embeddings")
    network = Qwen2ForCausalLM(Qwen2Config(**{name: config[name] for name in wanted}))
    tiny.save_base(tmp_path / "foreign", network)
    base = tiny.imported(tmp_path / "foreign", tmp_path / "base")
    cut = cut_of(base, {1: (range(8), [1])})
    carve.cut_block(base, cut, tmp_path / "block")
    parent, block = load(base), load(tmp_path / "block")
    with masked(parent, cut):
        wanted_logits = parent(input_ids=ROWS).logits
    assert torch.allclose(block(input_ids=ROWS).logits, wanted_logits, atol=1e-5)


def test_smaller_sizes_are_nested_and_keep_what_does_most(deep_base: Path) -> None:
    parent, frame = load(deep_base), blocks.frame_in(deep_base)
    scores = importance.score(parent, frame, ROWS, lambda event: None)
    sizes = [Size(), Size(ffn=0.75), Size(ffn=0.5, heads=0.5), Size(ffn=0.3, heads=0.5, depth=0.5)]
    cuts = [importance.choose(scores, PARENT, frame, size) for size in sizes]
    assert [cut.channels for cut in cuts] == [64, 48, 32, 16]
    assert [len(cut.layers) for cut in cuts] == [4, 4, 4, 2]
    for large, small in pairwise(cuts):
        assert large.holds(small)
        assert not small.holds(large)
    for bad in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(LocalError, match="E0204"):
            importance.choose(scores, PARENT, frame, Size(ffn=bad))


def test_a_channel_that_nobody_reads_goes_first(deep_base: Path) -> None:
    parent, frame = load(deep_base), blocks.frame_in(deep_base)
    parent.model.layers[1].mlp.down_proj.weight[:, 5] = 0
    parent.model.layers[2].self_attn.o_proj.weight[:, :16] = 0
    scores = importance.score(parent, frame, ROWS, lambda event: None)
    cut = importance.choose(scores, PARENT, frame, Size(ffn=0.875, heads=0.5))
    assert 5 not in blocks.kept(cut.ffn[1])
    assert blocks.kept(cut.groups[2]) == (1,)


def test_refitting_brings_a_block_nearer_to_its_parent(deep_base: Path, tmp_path: Path) -> None:
    source = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 400, (80, 24), generator=source)
    cut = cut_of(deep_base, {at: (range(48), [0, 1]) for at in (0, 1, 3)})
    carve.cut_block(deep_base, cut, tmp_path / "block")
    parent, block = load(deep_base), load(tmp_path / "block")
    wanted = parent(input_ids=rows[64:]).logits
    before = (block(input_ids=rows[64:]).logits - wanted).norm()
    refit.refit(parent, block, cut, rows[:64], lambda event: None)
    after = (block(input_ids=rows[64:]).logits - wanted).norm()
    assert after < 0.8 * before


def test_refitting_the_whole_changes_next_to_nothing(deep_base: Path) -> None:
    cut = blocks.whole(PARENT, blocks.frame_in(deep_base))
    parent, block = load(deep_base), load(deep_base)
    refit.refit(parent, block, cut, ROWS, lambda event: None)
    got, wanted = block(input_ids=ROWS).logits, parent(input_ids=ROWS).logits
    assert torch.allclose(got, wanted, atol=1e-3, rtol=1e-3)


def test_untouched_blocks_compose_to_the_larger_cut(deep_base: Path, tmp_path: Path) -> None:
    first = cut_of(deep_base, {0: (range(16), [0]), 1: (range(16), [1])})
    second = cut_of(deep_base, {0: (range(8, 32), [0, 1]), 3: (range(24), [0, 1])})
    members = []
    for name, cut in (("one", first), ("two", second)):
        carve.cut_block(deep_base, cut, tmp_path / name)
        members.append((tmp_path / name, cut))
    larger = blocks.joined([first, second])
    assert larger.holds(first)
    assert larger.holds(second)
    assert (larger.layers, larger.channels, larger.group_count) == ((0, 1, 3), 32, 2)
    carve.compose(members, deep_base, larger, tmp_path / "composed")
    carve.cut_block(deep_base, larger, tmp_path / "cut")
    for path in (tmp_path / "cut").iterdir():
        assert (tmp_path / "composed" / path.name).read_bytes() == path.read_bytes()


def test_what_two_blocks_learnt_meets_in_the_middle(deep_base: Path, tmp_path: Path) -> None:
    cut = cut_of(deep_base, {0: (range(16), [0])})
    name = "model.layers.0.mlp.up_proj.weight"
    members = []
    for number in (1, 3):
        tensors = carve.tensors_of(deep_base, cut)
        tensors[name] = torch.full_like(tensors[name], number)
        carve.write(tmp_path / str(number), deep_base, cut, tensors)
        members.append((tmp_path / str(number), cut))
    larger = cut_of(deep_base, {0: (range(24), [0, 1])})
    carve.compose(members, deep_base, larger, tmp_path / "composed")
    up = load(tmp_path / "composed").get_parameter(name)
    assert torch.equal(up[:16], torch.full_like(up[:16], 2))
    assert torch.equal(up[16:], load(deep_base).get_parameter(name)[16:24])


def test_an_adapter_of_a_block_is_one_of_its_parent(deep_base: Path, tmp_path: Path) -> None:
    """On the masked parent a lifted adapter does what it does on the block."""
    cut = cut_of(deep_base, {0: (range(0, 64, 2), [1]), 3: (range(32), [0])})
    carve.cut_block(deep_base, cut, tmp_path / "block")
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "block", dtype=torch.float32)
    every = [name.rpartition(".")[2] for name in blocks.MATRICES]
    wrapped = get_peft_model(
        network, LoraConfig(r=3, lora_alpha=6, target_modules=every, task_type="CAUSAL_LM")
    )
    torch.manual_seed(0)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    wrapped.save_pretrained(tmp_path / "foreign")
    own = tiny.cleaned(tmp_path / "foreign", tmp_path / "adapter")
    change = delta.read(own, adapter.inspect(own, tmp_path / "block"))
    lifted = algebra.lift(change, carve.parts(cut))
    parent = load(deep_base)
    with masked(parent, cut), grafted(parent, lifted):
        got = parent(input_ids=ROWS).logits
    assert torch.allclose(got, wrapped(input_ids=ROWS).logits, atol=1e-3, rtol=1e-4)
    back = algebra.restrict(lifted, carve.parts(cut))
    for name, factors in change.items():
        assert torch.equal(back[name].b, factors.b)
        assert torch.equal(back[name].a, factors.a)
    assert set(carve.parts(cut, ["q_proj"])) == {
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj",
    }
