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
def foreign_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base as transformers saves it."""
    return tiny.save_base(tmp_path_factory.mktemp("foreign"), tiny.llama())


@pytest.fixture(scope="session")
def base_dir(foreign_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same base as an import leaves it."""
    return tiny.imported(foreign_base, tmp_path_factory.mktemp("base") / "base")


@pytest.fixture
def adapter_dir(tmp_path: Path) -> Path:
    """An adapter that PEFT made, as a push leaves it."""
    return tiny.cleaned(tiny.save_adapter(tmp_path / "foreign"), tmp_path / "adapter")


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "notes.jsonl"
    return tiny.write_jsonl(path, tiny.sentences(80, seed=3))
