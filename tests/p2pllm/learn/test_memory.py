"""Memory: the estimate stands near the real peak, and bounds are read where they are set."""

import pytest

from p2pllm.errors import LocalError
from p2pllm.learn import memory
from p2pllm.learn.memory import Shape, Training

SMOLLM2 = Shape(params=134_515_008, layers=30, hidden=576, intermediate=1536, vocabulary=49_152)
LIBRARIES = 381 * 2**20  # torch, transformers and peft, before a model is there
# Peaks of real tunings of SmolLM2-135M on one thread: bytes a number, adapter parameters, tokens
# at once, MiB. The runs are slow, so its figures stand here.
PEAKS = [
    (2, 276_480, 64, 1002),
    (2, 921_600, 512, 1598),
    (2, 4_884_480, 512, 1890),
    (2, 921_600, 1024, 2459),
    (2, 7_372_800, 256, 1238),
    (4, 276_480, 64, 1298),
    (4, 921_600, 512, 2146),
    (4, 4_884_480, 512, 2316),
    (4, 921_600, 1024, 3322),
]


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "runtime_bytes", lambda: LIBRARIES)


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(("item", "trainable", "tokens", "peak"), PEAKS)
def test_the_estimate_of_a_tuning_stands_near_its_peak(
    item: int, trainable: int, tokens: int, peak: int
) -> None:
    found = memory.training_bytes(SMOLLM2, item, Training(trainable, tokens))
    assert 0.9 * peak < found / 2**20 < 1.6 * peak


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(("tokens", "peak"), [(512, 1640), (64, 1150)])
def test_the_estimate_holds_for_a_wider_model(tokens: int, peak: int) -> None:
    """236 million parameters, 12 layers, the output not tied to the input."""
    wide = Shape(236_000_000, layers=12, hidden=1024, intermediate=2816, vocabulary=49_152)
    found = memory.training_bytes(wide, 2, Training(638_976, tokens))
    assert 0.9 * peak < found / 2**20 < 1.6 * peak


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(("item", "peak"), [(2, 891), (4, 1371)])
def test_the_estimate_of_an_evaluation_stands_near_its_peak(item: int, peak: int) -> None:
    found = memory.evaluation_bytes(SMOLLM2, item)
    assert 0.9 * peak < found / 2**20 < 1.6 * peak


@pytest.mark.usefixtures("libraries")
def test_the_estimate_of_an_import_stands_near_its_peak() -> None:
    assert 0.9 < memory.import_bytes(SMOLLM2.params) / (1188 * 2**20) < 1.6


def test_a_bound_of_zero_means_what_is_free() -> None:
    assert memory.bound(0) > 2**24
    memory.require(2**20, 0, "little")


def test_too_much_is_refused_with_both_figures() -> None:
    with pytest.raises(LocalError, match="needs about 1024 MiB") as caught:
        memory.require(2**30, 2**29, "tuning")
    assert caught.value.code == "E0708"
    assert caught.value.details == {"needed_bytes": 2**30, "allowed_bytes": 2**29}


def test_the_peak_is_at_least_what_is_held_now() -> None:
    assert memory.peak_bytes() >= memory.runtime_bytes() > 2**20
