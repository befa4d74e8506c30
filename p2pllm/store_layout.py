"""Where the store's files stand, and how what a crash left behind is told from what counts."""

import fcntl
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from p2pllm.durable import TEMPORARY, sync_folder
from p2pllm.errors import LocalError, PeerError
from p2pllm.ids import ContentId, parse_content_id
from p2pllm.partial import Files, Map, read_map


class Layout:
    """The folders of one store: blobs/ab/abcd…, partial/, damaged/, pins, index.db, lock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.index, self.pins = root / "index.db", root / "pins"
        self._blobs, self._partial, self._damaged = (
            root / name for name in ("blobs", "partial", "damaged")
        )
        self._numbers = count()
        for folder in (root, self._blobs, self._partial, self._damaged):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def blob(self, blob: ContentId) -> Path:
        """Where a stored blob stands."""
        return self._blobs / blob[:2] / blob

    def make_room_for(self, blob: ContentId) -> Path:
        """Where a blob will stand, in a folder that is there and stays."""
        path = self.blob(blob)
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            sync_folder(self._blobs)
        return path

    def damaged(self, blob: ContentId) -> Path:
        """Where a blob is put whose bytes no longer have its name."""
        return self._damaged / blob

    def partial(self, blob: ContentId) -> Files:
        """Where a blob on its way in stands."""
        return Files(self._partial / f"{blob}.data", self._partial / f"{blob}.map")

    def temporary(self) -> Path:
        """A fresh name for a file that becomes a blob or nothing."""
        return self._partial / f"put-{next(self._numbers)}{TEMPORARY}"

    def take(self) -> int:
        """Lock the folder for this process, until the descriptor is closed or the process ends."""
        fd = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            os.close(fd)
            raise LocalError(
                "E0303",
                f"the store {self.root} is in use",
                why=["another process, or another part of this one, has it open"],
                fix=["use the daemon that runs, or stop it with `p2pllm down`"],
            ) from taken
        return fd

    def stored(self) -> list[tuple[ContentId, int]]:
        """Every blob file and its size, in the order of ids; files of other names are passed by."""
        folders = sorted(entry.path for entry in os.scandir(self._blobs) if entry.is_dir())
        return [
            (blob, size)
            for folder in folders
            for blob, size in _ids_in(Path(folder))
            if blob[:2] == os.path.basename(folder)
        ]

    def set_aside(self) -> list[tuple[ContentId, int]]:
        """Every damaged blob and its size."""
        return _ids_in(self._damaged)

    def sweep(self) -> list[Map]:
        """Remove what a crash left half made; the partial blobs that can be gone on with."""
        found = []
        for path in sorted(self._partial.iterdir()):
            blob = _id_or_none(path.stem) if path.suffix in (".data", ".map") else None
            if blob is None:
                path.unlink()
                continue
            progress = read_map(self.partial(blob))
            if progress is None or progress.blob != blob or self.blob(blob).exists():
                path.unlink()
            elif path.suffix == ".map":
                found.append(progress)
        return found


def _ids_in(folder: Path) -> list[tuple[ContentId, int]]:
    return sorted(_sizes(folder))


def _sizes(folder: Path) -> Iterator[tuple[ContentId, int]]:
    for entry in os.scandir(folder):
        blob = _id_or_none(entry.name)
        if blob is not None and entry.is_file(follow_symlinks=False):
            yield blob, entry.stat(follow_symlinks=False).st_size


def _id_or_none(text: str) -> ContentId | None:
    try:
        return parse_content_id(text)
    except PeerError:
        return None
