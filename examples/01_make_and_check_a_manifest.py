"""Describe an adapter in a signed manifest, read it back, and see a forged one refused.

Run: python examples/01_make_and_check_a_manifest.py     (no network, no files)
"""

import hashlib
import time

from p2pllm import keys, manifest
from p2pllm.errors import PeerError
from p2pllm.ids import ContentId, content_id
from p2pllm.names import exact_ref, parse_place


def chunk_list(data: bytes) -> bytes:
    """The BLAKE3 of each MiB of a file, one after another: what lets a peer check every chunk."""
    step = manifest.CHUNK_BYTES
    hashes = [content_id(data[start : start + step]) for start in range(0, len(data), step)]
    return b"".join(bytes.fromhex(each) for each in hashes)


def describe(path: str, data: bytes) -> manifest.File:
    """The manifest's entry of one file."""
    return manifest.File(
        path=path,
        size=len(data),
        blake3=content_id(data),
        chunks=content_id(chunk_list(data)),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def main() -> None:
    """Make, seal, open, tamper."""
    me = keys.generate()
    weights = bytes(3_000_000)  # stands for adapter_model.safetensors
    made = manifest.Manifest(
        kind="adapter",
        place=parse_place("en/medical"),
        name="abstracts",
        by=me.node,
        created_at=time.time(),
        licence="apache-2.0",
        consent=True,
        model=ContentId("0" * 64),  # the model id of the base it fits
        params=134_515_008,
        base_size=269_060_552,
        files=(describe("adapter_model.safetensors", weights),),
        lora=manifest.Lora(rank=8, alpha=16, targets=("q_proj", "v_proj"), tensors=120),
    )
    name, record = manifest.seal(me, made)
    print(f"sealed    {len(record)} bytes as {exact_ref(made.place, made.name, name)}")

    opened = manifest.open_manifest(record)
    assert opened == made
    print(f"opened    signed by {opened.by}, {opened.size:,} bytes in {len(opened.files)} file")

    forged = record.replace(b"apache-2.0", b"cc-by-4.00")
    try:
        manifest.open_manifest(forged)
    except PeerError as refused:
        print(f"forged    refused: {refused}")
    else:
        raise AssertionError("a forged manifest was accepted")


if __name__ == "__main__":
    main()
