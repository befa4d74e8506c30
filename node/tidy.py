"""Put a home in order at start: what a kill left half done goes, what is missing is laid out."""

import shutil
from pathlib import Path

from node.models import Models

KEEP_CHECKPOINT_S = 7 * 86400.0  # an unfinished job can be given again this long


def tidy(home: Path, models: Models, now: float) -> None:
    """Remove folders that no model and no unfinished job owns; lay missing ones out again."""
    for held in models.library.models():  # the home may have been moved, or be a copy of another
        folder = str(models.folder_of(held.ref))
        if held.folder != folder:
            models.library.set_folder(held.manifest, folder)
    owned = {Path(held.folder) for held in models.library.models()}
    for folder in _model_folders(home / "models"):
        if folder not in owned:
            shutil.rmtree(folder, ignore_errors=True)
    for work in _folders(home / "work"):
        age = now - work.stat().st_mtime
        if not work.name.startswith(("tune-", "distill-", "block-")) or age > KEEP_CHECKPOINT_S:
            shutil.rmtree(work, ignore_errors=True)
    for held in models.library.models():
        if not Path(held.folder).exists() and models.store.has(held.manifest):
            models.lay_out(held.manifest, models.manifest(held.manifest))


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
