"""A home after a kill: half-made folders go, checkpoints stay a week, missing folders come back."""

import os
import shutil
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio

from gossip.heard import HeardLog
from node.answers import _card
from node.commands.models import model_rows
from node.events import Events
from node.library import Library
from node.models import Models
from node.offers import Offers
from node.tidy import KEEP_CHECKPOINT_S, look_over, tidy
from p2pllm import durable, keys
from p2pllm.errors import LocalError
from p2pllm.manifest import Manifest, model_id
from p2pllm.names import Place
from p2pllm.store import Store


def _kept(home: Path) -> tuple[Models, Path]:
    store, library = Store(home / "store", 10**7), Library(home / "node.db")
    models = Models(home, store, library, keys.generate())
    source = home / "source"
    source.mkdir()
    (source / "config.json").write_text("{}")
    files = models.keep_files(source, lambda _done: None)
    manifest = Manifest(
        kind="base",
        place=Place("en", "medical"),
        name="tiny",
        by=models.identity.node,
        created_at=1.0,
        licence="MIT",
        consent=False,
        model=model_id(files),
        params=1,
        base_size=0,
        files=files,
    )
    return models, Path(models._seal(manifest, "local", "").folder)


def test_only_what_belongs_to_a_model_or_a_fresh_tuning_stays(tmp_path: Path) -> None:
    models, folder = _kept(tmp_path)
    with closing(models.store), closing(models.library):
        half = folder.parent / f".{folder.name}.123"
        orphan = tmp_path / "models" / "en" / "gone@0123456789abcdef"
        work = {
            name: tmp_path / "work" / name
            for name in ("tune-new", "tune-old", "block-x", "import-x")
        }
        for made in (half, orphan, *work.values()):
            made.mkdir(parents=True)
        now = half.stat().st_mtime
        old = now - KEEP_CHECKPOINT_S - 60
        os.utime(work["tune-old"], (old, old))
        tidy(tmp_path, models, now)
        assert folder.is_dir()
        assert [name for name, made in work.items() if made.exists()] == ["tune-new", "block-x"]
        assert not half.exists()
        assert not orphan.exists()


def test_a_folder_that_somebody_deleted_is_laid_out_again(tmp_path: Path) -> None:
    models, folder = _kept(tmp_path)
    with closing(models.store), closing(models.library):
        shutil.rmtree(folder)
        tidy(tmp_path, models, 0.0)
        assert (folder / "config.json").read_text() == "{}"


def test_a_home_that_was_copied_uses_its_own_folders(tmp_path: Path) -> None:
    models, folder = _kept(tmp_path / "old")
    models.store.close()
    models.library.close()
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    new = tmp_path / "new"
    store, library = Store(new / "store", 10**7), Library(new / "node.db")
    with closing(store), closing(library):
        copied = Models(new, store, library, models.identity)
        tidy(new, copied, 0.0)
        (held,) = library.models()
        assert Path(held.folder) == new / folder.relative_to(tmp_path / "old")
        trio.run(copied.drop, held)
        assert not Path(held.folder).exists()
    assert folder.is_dir()


@pytest.mark.parametrize("left", [None, 0, 4095])
def test_a_lost_library_costs_no_model(tmp_path: Path, left: int | None) -> None:
    models, folder = _kept(tmp_path)
    models.library.close()
    library = tmp_path / "node.db"
    library.with_name("node.db-wal").unlink(missing_ok=True)
    library.unlink() if left is None else os.truncate(library, left)
    with pytest.raises(LocalError, match="E0306"):
        Library(library)
    assert folder.is_dir()
    shutil.rmtree(tmp_path / "models")
    library.unlink(missing_ok=True)
    Library(library).close()


def test_a_changed_folder_is_laid_out_anew_and_what_lacks_bytes_is_named(tmp_path: Path) -> None:
    models, folder = _kept(tmp_path)
    with closing(models.store), closing(models.library):
        (folder / "config.json").write_text("spoilt")
        assert look_over(models) == []
        assert (folder / "config.json").read_text() == "{}"
        (held,) = models.library.models()
        (file,) = models.manifest(held.manifest).files
        blob = models.store.path(file.blake3)
        blob.chmod(0o600)
        blob.write_text("!!")
        assert models.store.verify() == [file.blake3]
        assert look_over(models) == [held.ref]
        assert not folder.exists()
        tidy(tmp_path, models, 0.0)  # and a start goes on without it


def test_a_damaged_description_costs_its_own_model_alone(tmp_path: Path) -> None:
    models, _folder = _kept(tmp_path)
    with closing(models.store), closing(models.library):
        (sound,) = models.library.models()
        renamed = msgspec.structs.replace(models.manifest(sound.manifest), name="other")
        spoilt = models._seal(renamed, "local", "")
        for held in (sound, spoilt):
            models.offer(held.manifest, offered=True)
        blob = models.store.path(spoilt.manifest)
        blob.chmod(0o600)
        blob.write_text("{}")
        services: Any = SimpleNamespace(models=models)
        cards = [_card(services, held) for held in models.library.models()]
        assert [card["state"] for card in cards] == ["offered", "damaged"]
        offered = models.offered_blobs()
        assert sound.manifest in offered
        assert spoilt.manifest not in offered
        offers = Offers(models, HeardLog(tmp_path / "heard.db"), Events(lambda: 0.0))
        assert [held.manifest for held in offers.offered()] == [sound.manifest]
        assert [model["state"] for model in cards if model_rows([model])]  # and it can be shown


def test_a_copy_that_was_killed_or_failed_can_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, folder = _kept(tmp_path)
    with closing(models.store), closing(models.library):
        manifest = models.manifest(models.library.models()[0].manifest)
        dest = tmp_path / "mine" / "copy"
        making = durable.making(dest / "copy")
        making.mkdir(parents=True)  # as a kill leaves it
        (making / "config.json").write_text("{")
        with monkeypatch.context() as patched:
            patched.setattr(shutil, "copyfile", _full)
            with pytest.raises(OSError, match="full"):
                models.export(manifest, dest)
        assert not list(dest.iterdir())
        assert models.export(manifest, dest) == dest
        assert [path.name for path in dest.iterdir()] == ["config.json"]
        assert (dest / "config.json").read_text() == (folder / "config.json").read_text()
        with pytest.raises(LocalError, match="not empty"):
            models.export(manifest, dest)


def _full(_source: Path, target: Path) -> None:
    target.write_text("{")
    raise OSError("full")
