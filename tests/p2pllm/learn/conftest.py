"""One tiny base, one foreign adapter and some text for all tests here; one thread."""

from pathlib import Path

import pytest
import torch

from tests.p2pllm.learn import tiny


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let pass what peft 0.21 asks of transformers 5.23: a property that will be renamed."""
    upstream = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(upstream)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_base(tmp_path_factory.mktemp("base"), tiny.llama())


@pytest.fixture
def adapter_dir(tmp_path: Path) -> Path:
    return tiny.save_adapter(tmp_path / "foreign")


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "notes.jsonl"
    return tiny.write_jsonl(path, tiny.sentences(80, seed=3))
