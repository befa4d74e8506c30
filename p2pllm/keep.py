"""What garbage collection must spare: what is pinned, what is just coming in, what these name."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from p2pllm.durable import full_disk_is_expected, replace_file
from p2pllm.errors import LocalError, PeerError
from p2pllm.ids import ContentId, parse_content_id
from p2pllm.manifest import open_manifest


class Keep:
    """Pins (kept in a file, a line each) and holds (of this run). `lock` is the store's."""

    def __init__(self, path: Path, lock: threading.RLock) -> None:
        self._path, self._lock = path, lock
        self._pins = _read(path)
        self._holds = 0
        self._held: set[ContentId] = set()

    def pins(self) -> set[ContentId]:
        """The pinned blobs."""
        with self._lock:
            return set(self._pins)

    def set_pin(self, blob: ContentId, pinned: bool) -> None:
        """Pin or unpin; on disk when this returns."""
        with self._lock:
            pins = self._pins | {blob} if pinned else self._pins - {blob}
            if pins != self._pins:
                with full_disk_is_expected("the list of pins"):
                    replace_file(self._path, "".join(f"{pin}\n" for pin in sorted(pins)).encode())
                self._pins = pins

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Spare what comes in during the block."""
        with self._lock:
            self._holds += 1
        try:
            yield
        finally:
            with self._lock:
                self._holds -= 1
                if not self._holds:
                    self._held.clear()

    def note(self, blob: ContentId) -> None:
        """This blob comes in, or was asked to and is here."""
        with self._lock:
            if self._holds:
                self._held.add(blob)

    def spared(
        self, roots: Iterable[ContentId], read: Callable[[ContentId], bytes]
    ) -> set[ContentId]:
        """Roots, pins and holds, and for each that is a manifest its files and chunk lists.

        `read` gives the bytes of a blob small enough to be a manifest, else none.
        """
        found = {*roots, *self._pins, *self._held}
        return found.union(*(_named_by(read(blob)) for blob in found))


def _named_by(data: bytes) -> set[ContentId]:
    try:
        files = open_manifest(data).files
    except PeerError:  # another kind of blob: it names nothing
        return set()
    return {name for file in files for name in (file.blake3, file.chunks)}


def _read(path: Path) -> set[ContentId]:
    try:
        return {parse_content_id(line) for line in path.read_text().split()}
    except FileNotFoundError:
        return set()
    except (PeerError, UnicodeDecodeError) as bad:
        raise LocalError(
            "E0306",
            f"{path} is damaged",
            why=[str(bad)],
            fix=["remove the lines that are no content id (64 lowercase hex digits)"],
        ) from bad
