"""Manifests: what a description of a model may say, and what it may not."""

import pytest
from msgspec.structs import replace

from p2pllm import codec, manifest
from p2pllm.errors import PeerError
from p2pllm.ids import content_id
from p2pllm.keys import generate
from p2pllm.manifest import MAX_FILE_BYTES, MAX_MANIFEST_BYTES, File, Manifest
from tests.vectors.values import ADAPTER, BASE, IDENTITY, named

FILE = ADAPTER.files[0]


def opened(value: Manifest) -> Manifest:
    """As a peer would read it: signed without a look at what it says."""
    return manifest.open_manifest(codec.sign(IDENTITY, manifest.PURPOSE, value))


def refused(value: Manifest) -> None:
    with pytest.raises(PeerError) as caught:
        opened(value)
    assert caught.value.code == "E0603"


def test_a_manifest_is_named_by_its_signed_bytes() -> None:
    blob, record = manifest.seal(IDENTITY, ADAPTER)
    assert blob == content_id(record)
    assert opened(ADAPTER) == ADAPTER


@pytest.mark.parametrize(
    "path",
    ["", ".hidden", "../up", "a/b", "a\\b", "/etc/passwd", "a\0b", "a" * 81, "a\n", "é.json", "-"
     "\u202e", "con:", "a b"],
)  # fmt: skip
def test_a_file_name_cannot_leave_the_folder(path: str) -> None:
    refused(replace(ADAPTER, files=(replace(FILE, path=path),)))


def test_two_files_cannot_share_a_name_nor_differ_in_case_only() -> None:
    for other in (FILE.path, FILE.path.upper()):
        with pytest.raises(ValueError, match="share a name"):
            replace(ADAPTER, files=(FILE, replace(FILE, path=other)))


@pytest.mark.parametrize("size", [0, -1, MAX_FILE_BYTES + 1, 2**36])
def test_a_file_size_is_bounded(size: int) -> None:
    refused(replace(ADAPTER, files=(replace(FILE, size=size),)))


def test_the_size_in_all_is_bounded() -> None:
    files = tuple(replace(FILE, path=f"f{n}", size=MAX_FILE_BYTES) for n in range(3))
    with pytest.raises(ValueError, match="bytes in all"):
        replace(ADAPTER, files=files)
    assert replace(ADAPTER, files=files[:2]).size == 2 * MAX_FILE_BYTES


def test_the_largest_manifest_there_can_be_fits_its_limit() -> None:
    files = tuple(
        File(path=f"{n:080}", size=2**27, blake3=FILE.blake3, chunks=FILE.chunks, sha256="f" * 64)
        for n in range(512)
    )
    large = replace(
        ADAPTER,
        files=files,
        parents=(named("parent"),) * 64,
        description="\U0001f600" * 2000,
        lora=replace(ADAPTER.lora, targets=("t" * 120,) * 64),
    )
    _, record = manifest.seal(IDENTITY, large)
    assert len(record) <= MAX_MANIFEST_BYTES
    assert manifest.open_manifest(record) == large


def test_an_adapter_states_its_lora_and_a_base_has_none() -> None:
    with pytest.raises(ValueError, match="LoRA"):
        replace(ADAPTER, lora=None)
    with pytest.raises(ValueError, match="LoRA"):
        replace(BASE, lora=ADAPTER.lora)


def test_a_description_holds_no_control_characters() -> None:
    for text in ("\x1b[31mred", "a\rb", "a\0b", "\x7f", "\x9b"):
        with pytest.raises(ValueError, match="control"):
            replace(ADAPTER, description=text)


def test_a_base_that_claims_the_model_id_of_another_is_refused() -> None:
    refused(replace(BASE, model=named("another base")))


def test_a_model_id_follows_weights_config_and_tokenizer_only() -> None:
    def with_file(path: str) -> str:
        return manifest.model_id((*BASE.files, replace(FILE, path=path)))

    for path in ("README.md", "LICENSE", "generation_config.json", "chat_template.jinja"):
        assert with_file(path) == BASE.model
    assert with_file("model-00002.safetensors") != BASE.model
    assert with_file("model.gguf") != BASE.model
    assert manifest.model_id(tuple(reversed(BASE.files))) == BASE.model
    for changed in range(3):
        files = [
            replace(file, blake3=named("changed")) if number == changed else file
            for number, file in enumerate(BASE.files)
        ]
        assert manifest.model_id(tuple(files)) != BASE.model


def test_a_manifest_of_another_key_is_refused() -> None:
    body = codec.encode(ADAPTER)
    with pytest.raises(PeerError) as caught:
        manifest.open_manifest(generate().sign(manifest.PURPOSE, body) + body)
    assert caught.value.code == "E0602"


def test_a_file_is_found_by_its_name() -> None:
    assert ADAPTER.file(FILE.path) == FILE
    with pytest.raises(PeerError):
        ADAPTER.file("missing.json")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_numbers_that_are_no_measurement_are_refused(bad: float) -> None:
    assert ADAPTER.report is not None
    refused(replace(ADAPTER, report=replace(ADAPTER.report, loss=bad)))
    refused(replace(ADAPTER, created_at=bad))
