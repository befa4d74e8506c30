"""Text on this node that updates of a place are judged with. It never leaves the machine.

HOME/probes/PLACE holds copies, one `.jsonl` a gift, so that a file that is moved or edited does not
change what was judged. Which documents are used now is decided by `p2pllm.probes`.
"""

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from p2pllm import corpus, probes
from p2pllm.durable import full_disk_is_expected, replace_file
from p2pllm.errors import LocalError
from p2pllm.names import Place, parse_place

MAX_FILES = 64  # of one place
MAX_DOCUMENTS = 4000  # of one gift; an epoch reads about 1,000 tokens of 40 % of them
MIN_DOCUMENTS = 20  # fewer leave epochs without any


class ProbeTexts:
    """The probe text of each place."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._counts: dict[Place, int] = {}

    def add(self, place: Place, documents: Sequence[str], origin: str) -> int:
        """Keep documents as probes of a place; how many the place has now.

        origin  names the gift; the same origin replaces what it gave before
        Raises LocalError E0204 for more than 64 gifts at one place, E0802 on a full disk.
        """
        folder = self._of(place)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{origin}.jsonl"
        if not path.exists() and len(self.files(place)) >= MAX_FILES:
            raise LocalError(
                "E0204",
                f"{place} has {MAX_FILES} files of probes already",
                fix=[f"p2pllm trust probes rm {place}"],
            )
        chosen = corpus.in_order(documents)[:MAX_DOCUMENTS]
        lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in chosen)
        with full_disk_is_expected(f"the probes of {place}"):
            replace_file(path, lines.encode())
        self._counts.pop(place, None)
        return self.count(place)

    def read(self, paths: Iterable[str]) -> list[str]:
        """The documents of the owner's files; LocalError E0406 if they hold no text."""
        return corpus.read_docs([Path(path) for path in paths])

    def files(self, place: Place) -> list[Path]:
        """The files of a place."""
        folder = self._of(place)
        return sorted(folder.glob("*.jsonl")) if folder.is_dir() else []

    def count(self, place: Place) -> int:
        """How many documents a place has."""
        if place not in self._counts:
            files = self.files(place)
            self._counts[place] = len(corpus.read_docs(files)) if files else 0
        return self._counts[place]

    def active(self, place: Place, secret: bytes, epoch: int) -> int:
        """How many documents are used in an epoch."""
        return len(probes.active(corpus.read_docs(self.files(place)), secret, epoch))

    def places(self) -> list[Place]:
        """The places that have probes."""
        folders = [folder for folder in self._folder.iterdir() if folder.is_dir()]
        return sorted(parse_place(folder.name.replace(".", "/")) for folder in folders)

    def remove(self, place: Place, origin: str | None = None) -> bool:
        """Remove what an origin gave to a place, or all of it; whether there was any.

        These are our copies: the files that they were made from stay.
        """
        files = self.files(place)
        gone = [path for path in files if origin is None or path.stem == origin]
        for path in gone:
            path.unlink()
        if gone == files:
            shutil.rmtree(self._of(place), ignore_errors=True)
        self._counts.pop(place, None)
        return bool(gone)

    def _of(self, place: Place) -> Path:
        # The words of a place hold no '.', so no two places share a folder.
        return self._folder / str(place).replace("/", ".")
