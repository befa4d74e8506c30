"""Files that are there whole or not at all, also after a kill or a power cut."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from p2pllm.errors import LocalError

TEMPORARY = ".tmp"  # the suffix of a file that nobody has promised anything about yet

# EFBIG is what a file-size limit (ulimit -f) answers, EDQUOT what a user's disk quota does.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def making(folder: Path) -> Path:
    """Where a folder is made before it is put in its place: a name that nobody else gives."""
    return folder.with_name(f".{folder.name}.p2pllm{TEMPORARY}")


def making_for(folder: Path) -> Path:
    """The same for a folder of the user's: inside it where it is there, as it may be a mount."""
    return making(folder / "made" if folder.is_dir() else folder)


def replace_file(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put `data` at `path` whole: temporary file, fsync, rename, fsync of the folder."""
    replace_by_parts(path, [memoryview(data)], mode)


def replace_by_parts(path: Path, parts: Iterable[memoryview], mode: int = 0o600) -> None:
    """The same of bytes that follow each other and are never in memory together."""
    temporary = path.with_name(path.name + TEMPORARY)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        offset = 0
        for part in parts:
            write_at(fd, part, offset)
            offset += part.nbytes
        os.fsync(fd)
        os.rename(temporary, path)
    except OSError:
        temporary.unlink()
        raise
    finally:
        os.close(fd)
    sync_folder(path.parent)


def write_at(fd: int, data: memoryview, offset: int) -> None:
    """Write all of `data` at `offset`; a single pwrite may write less."""
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written


def allocate(fd: int, size: int) -> None:
    """Take `size` bytes of disk for a file now, so that filling it later cannot fail."""
    try:
        if size:
            os.posix_fallocate(fd, 0, size)
    except OSError as fault:
        if fault.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
            raise
        os.ftruncate(fd, size)  # a file system that cannot: a full disk shows later, as E0802


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def full_disk_is_expected(what: str) -> Iterator[None]:
    """Turn 'no space left' inside the block into LocalError E0802."""
    try:
        yield
    except OSError as fault:
        if fault.errno not in _FULL:
            raise
        raise disk_full(what, fault.strerror or "no space left") from fault


def file_fault(fault: BaseException) -> LocalError | None:
    """What the system said of a file or folder, as an error; None if this is something else."""
    if not isinstance(fault, OSError):
        return None
    if fault.errno in _FULL:
        return disk_full(str(fault.filename or "nothing more can be written"), str(fault.strerror))
    if fault.filename is None:
        return None
    there = "something else is there" if isinstance(fault, FileExistsError) else fault.strerror
    return LocalError("E0308", f"cannot use {fault.filename}", why=[str(there)])


@contextmanager
def file_faults_told() -> Iterator[None]:
    """Raise what the system says of a file inside the block as LocalError, as `file_fault` does."""
    try:
        yield
    except OSError as fault:
        told = file_fault(fault)
        if told is None:
            raise
        raise told from fault


def disk_full(what: str, reason: str) -> LocalError:
    """The error that says that the disk, not the quota, is what is lacking."""
    return LocalError(
        "E0802",
        f"the disk is full: {what}",
        why=[reason],
        fix=["free disk space, or move the store to a larger disk; what was fetched is kept"],
    )
