"""Put a home in order at start: what a kill left half done goes, what is missing is laid out."""

import filecmp
import shutil
from pathlib import Path

from node.models import Models
from p2pllm.manifest import Manifest
from p2pllm.store import Store

KEEP_CHECKPOINT_S = 7 * 86400.0  # an unfinished job can be given again this long


def tidy(home: Path, models: Models, now: float) -> None:
    """Remove folders that no model and no unfinished job owns; lay missing ones out again."""
    for held in models.library.models():  # the home may have been moved, or be a copy of another
        here = str(models.folder_of(held.ref))
        if held.folder != here:
            models.library.set_folder(held.manifest, here)
    owned = {Path(held.folder) for held in models.library.models()}
    for folder in _model_folders(home / "models"):
        if folder not in owned:
            shutil.rmtree(folder, ignore_errors=True)
    for work in _folders(home / "work"):
        age = now - work.stat().st_mtime
        if not work.name.startswith(("tune-", "distill-", "block-")) or age > KEEP_CHECKPOINT_S:
            shutil.rmtree(work, ignore_errors=True)
    for held in models.library.models():
        manifest = None if Path(held.folder).exists() else models.whole(held.manifest)
        if manifest is not None:
            models.lay_out(held.manifest, manifest)


def look_over(models: Models) -> list[str]:
    """Lay out anew each folder that holds other bytes than the store; which models lack some."""
    lacking = []
    for held in models.library.models():
        manifest, folder = models.whole(held.manifest), Path(held.folder)
        if manifest is None or not _as_stored(models.store, manifest, folder):
            models.take_down(folder)
        if manifest is None:
            lacking.append(held.ref)
        else:
            models.lay_out(held.manifest, manifest)
    return lacking


def _as_stored(store: Store, manifest: Manifest, folder: Path) -> bool:
    for file in manifest.files:
        kept, shown = store.path(file.blake3), folder / file.path
        if not shown.is_file():
            return False
        if not kept.samefile(shown) and not filecmp.cmp(kept, shown, shallow=False):
            return False
    return True


def _model_folders(place: Path) -> list[Path]:
    found = []
    for folder in _folders(place):
        if "@" in folder.name:
            found.append(folder)
        else:
            found += _model_folders(folder)
    return found


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
