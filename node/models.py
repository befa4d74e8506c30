"""Models as files of the store and as folders people load: take in, describe, lay out, drop."""

import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from node.library import Held, Library, Origin
from p2pllm import durable
from p2pllm import manifest as manifests
from p2pllm.digest import blake3_of
from p2pllm.errors import LocalError, Unavailable
from p2pllm.ids import ContentId
from p2pllm.keys import Identity
from p2pllm.manifest import MAX_MANIFEST_BYTES, File, Manifest
from p2pllm.names import exact_ref
from p2pllm.reserve import reserve_of
from p2pllm.store import Store

LINK_ABOVE_BYTES = 8 * 1024 * 1024  # larger files share the store's bytes by a hard link

Progress = Callable[[int], None]


class Models:
    """The node's models: the store's bytes, the library's rows and the folders, kept in step."""

    def __init__(self, home: Path, store: Store, library: Library, identity: Identity) -> None:
        self.store = store
        self.library = library
        self.identity = identity
        self.reserve = reserve_of(home)
        self._folders = home / "models"
        self._offered: frozenset[ContentId] | None = None

    def manifest(self, manifest_id: ContentId) -> Manifest:
        """The description of a model whose manifest is in the store."""
        return manifests.open_manifest(self.store.read(manifest_id, MAX_MANIFEST_BYTES))

    def described(self, held: Held) -> Manifest | None:
        """The description of a model of ours; None where the disk spoilt it, so that no other
        model is kept from whoever goes through them all."""
        try:
            return self.manifest(held.manifest)
        except Unavailable:
            return None

    def whole(self, manifest_id: ContentId) -> Manifest | None:
        """The description of a model of which every byte is here."""
        if not self.store.has(manifest_id):
            return None
        manifest = self.manifest(manifest_id)
        here = (self.store.has(b) for file in manifest.files for b in (file.blake3, file.chunks))
        return manifest if all(here) else None

    def is_intact(self, held: Held) -> bool:
        """Whether the folder of a model holds the bytes that its manifest names."""
        try:
            files = self.manifest(held.manifest).files
            return all(_has_bytes(Path(held.folder) / file.path, file.blake3) for file in files)
        except (Unavailable, OSError):  # the description, or a file, is not there or not to be read
            return False

    async def take_in(self, folder: Path, progress: Progress) -> tuple[File, ...]:
        """Every file of a folder, copied into the store; progress in bytes."""
        tell = partial(trio.from_thread.run_sync, progress)
        return await trio.to_thread.run_sync(self.keep_files, folder, tell)

    def keep_files(self, folder: Path, progress: Progress) -> tuple[File, ...]:
        """The same, blocking; `progress` is called in this thread."""
        files: list[File] = []
        for path in sorted(p for p in folder.iterdir() if p.is_file()):
            files.append(self._keep(path, sum(file.size for file in files), progress))
        return tuple(files)

    def _keep(self, path: Path, before: int, progress: Progress) -> File:
        kept = self.store.put_file(path, lambda done: progress(before + done))
        return File(
            path=path.name,
            size=kept.size,
            blake3=kept.blake3,
            chunks=kept.chunks,
            sha256=kept.sha256,
        )

    async def seal(self, manifest: Manifest, origin: Origin, *, tag: str = "") -> Held:
        """Sign a description, keep it, lay the model out as a folder, and record it."""
        return await trio.to_thread.run_sync(self._seal, manifest, origin, tag)

    def _seal(self, manifest: Manifest, origin: Origin, tag: str) -> Held:
        manifest_id, record = manifests.seal(self.identity, manifest)
        self.store.put_bytes(record)
        return self._record(manifest_id, manifest, origin, tag)

    async def accept(
        self, manifest_id: ContentId, manifest: Manifest, *, offered: bool = True
    ) -> Held:
        """Record a model whose manifest and files came from peers and are in the store.

        offered  False: it is here to be judged, and nobody may fetch it yet
        """
        record = partial(self._record, offered=offered)
        return await trio.to_thread.run_sync(record, manifest_id, manifest, "pulled", "")

    def offer(self, manifest_id: ContentId, *, offered: bool) -> Held:
        """Let peers fetch a model of ours, or no longer."""
        self.library.set_offered(manifest_id, offered=offered)
        self._offered = None
        held = self.library.get(manifest_id)
        assert held is not None
        return held

    def _record(
        self,
        manifest_id: ContentId,
        manifest: Manifest,
        origin: Origin,
        tag: str,
        *,
        offered: bool = True,
    ) -> Held:
        held = Held(
            manifest=manifest_id,
            place=manifest.place,
            name=manifest.name,
            kind=manifest.kind,
            model=manifest.model,
            origin=origin,
            offered=manifest.consent and offered,
            announced=origin == "pulled",
            tag=tag,
            created_at=manifest.created_at,
            added_at=time.time(),
            folder=str(self.lay_out(manifest_id, manifest)),
        )
        self.library.add(manifest_id, manifest, held)
        self._offered = None
        return held

    def folder_of(self, ref: str) -> Path:
        """Where the model of an exact reference is laid out in this home."""
        return self._folders.joinpath(*ref.split("/"))

    def lay_out(self, manifest_id: ContentId, manifest: Manifest) -> Path:
        """The folder of a model, made whole or not at all."""
        folder = self.folder_of(exact_ref(manifest.place, manifest.name, manifest_id))
        place = folder.parent
        if folder.exists():
            return folder
        place.mkdir(parents=True, exist_ok=True)
        building = place / f".{folder.name}.{os.getpid()}"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        for file in manifest.files:
            _place(self.store.path(file.blake3), building / file.path, file.size)
        os.rename(building, folder)
        return folder

    def take_down(self, folder: Path) -> None:
        """Remove a folder that was laid out and then refused."""
        shutil.rmtree(folder, ignore_errors=True)

    def export(self, manifest: Manifest, dest: Path) -> Path:
        """A copy of a model's files in a folder of the user's, which must be new or empty.

        They are written inside it, as what it stands in may be another file system or not ours to
        write to; what a killed copy left is no obstacle.
        """
        names = {file.path for file in manifest.files}
        making = durable.making(dest / "copy")
        dest.mkdir(parents=True, exist_ok=True)
        ours = {making.name, *names} if making.exists() else set()
        if {path.name for path in dest.iterdir()} - ours:
            raise LocalError("E0204", f"{dest} is not empty", fix=["name a new folder"])
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        try:
            for file in manifest.files:
                shutil.copyfile(self.store.path(file.blake3), making / file.path)
            for name in names:
                os.rename(making / name, dest / name)
        finally:
            shutil.rmtree(making, ignore_errors=True)
        return dest

    def _blobs_of(self, held: Held) -> set[ContentId]:
        manifest = self.described(held)
        if manifest is None:
            return set()
        listed = {id_ for file in manifest.files for id_ in (file.blake3, file.chunks)}
        return {held.manifest, *listed}

    def offered_blobs(self) -> frozenset[ContentId]:
        """Every blob that peers may fetch: those of offered models and no other."""
        if self._offered is None:
            offered = [held for held in self.library.models() if held.offered]
            blobs: set[ContentId] = set()
            self._offered = frozenset(blobs.union(*map(self._blobs_of, offered)))
        return self._offered

    @asynccontextmanager
    async def coming_in(self) -> AsyncIterator[None]:
        """While blobs arrive that no model names yet, they are not collected."""
        hold = self.store.hold()
        await trio.to_thread.run_sync(hold.__enter__)
        try:
            yield
        finally:
            hold.__exit__(None, None, None)

    async def drop(self, held: Held) -> int:
        """Forget a model, its folder and the bytes nobody else needs; bytes freed."""
        with self.reserve.lent():
            self.library.remove(held.manifest)
            self._offered = None
            await trio.to_thread.run_sync(partial(shutil.rmtree, held.folder, ignore_errors=True))
            return sum(size for _, size in await self.collect(dry_run=False))

    async def collect(self, *, dry_run: bool) -> list[tuple[ContentId, int]]:
        """Remove blobs that no model of ours names; with `dry_run` only say which."""
        roots = (held.manifest for _ in range(1) for held in self.library.models())
        with self.reserve.lent():
            return await trio.to_thread.run_sync(self.store.gc, roots, dry_run)


def _has_bytes(path: Path, blob: ContentId) -> bool:
    with path.open("rb") as file:
        return blake3_of(file.fileno(), lambda _done: None) == blob


def _place(source: Path, target: Path, size: int) -> None:
    if size >= LINK_ABOVE_BYTES:
        try:
            os.link(source, target)
            return
        except OSError:  # another file system, or one without hard links
            pass
    shutil.copyfile(source, target)
