"""Files that are whole or not there, also after a power cut, and that only their owner may read."""

from __future__ import annotations

import errno
import glob
import os
import stat
import threading
from pathlib import Path

from edge.errors import CannotRecord, DiskFull, KeyFileError


def write_durably(
    path: Path, content: bytes, mode: int = 0o600, owner: tuple[int, int] | None = None
) -> None:
    """The old file or the new one, never a part of either; on disk when this returns.

    `owner` is user and group that it is to belong to from the first moment on. Raises OSError; the old file is
    there then.
    """
    temporary = _written_beside(path, content, mode, owner)
    temporary.replace(path)
    sync_folder(path.parent)


def create_durably(path: Path, content: bytes, mode: int = 0o600) -> None:
    """A new file, whole or not there, never in place of another; on disk when this returns.

    Raises OSError, FileExistsError among them; nothing is left then.
    """
    temporary = _written_beside(path, content, mode)
    try:
        path.hardlink_to(temporary)
    finally:
        temporary.unlink()
    sync_folder(path.parent)


def _written_beside(path: Path, content: bytes, mode: int, owner: tuple[int, int] | None = None) -> Path:
    """A file of our own beside it, synced; what dead processes left there makes room."""
    _remove_leftovers(path)
    temporary = _beside(path)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)  # the umask would narrow it
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _beside(path: Path) -> Path:
    """A name that no other process or thread uses: two may write the same file at once, and one of them wins."""
    return path.with_name(f"{path.name}.{os.getpid()}-{threading.get_native_id()}.new")


def _remove_leftovers(path: Path) -> None:
    for leftover in path.parent.glob(f"{glob.escape(path.name)}.*-*.new"):
        thread = leftover.name.removeprefix(f"{path.name}.").removesuffix(".new").partition("-")[2]
        if leftover == _beside(path) or not Path(f"/proc/{thread}").exists():
            leftover.unlink(missing_ok=True)


def point_durably(link: Path, target: str) -> None:
    """Make a symbolic link lead to `target` in one step (rename(2)), on disk when this returns."""
    _remove_leftovers(link)
    temporary = _beside(link)
    temporary.symlink_to(target)
    temporary.replace(link)
    sync_folder(link.parent)


def remove_durably(path: Path) -> None:
    """Gone, and still gone after a power cut; no error where it was not there."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """What was made, renamed or removed in a folder is on disk when this returns."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """A file's content. Raises ValueError where it is longer than anything of its kind, and OSError."""
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"larger than {max_bytes} bytes")
    return content


def check_private(path: Path, status: os.stat_result) -> None:
    """Raise KeyFileError unless only its owner, who is the daemon's user or root, may read this file or replace it."""
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise KeyFileError(f"{path}: mode {mode:04o} is readable by others; run: chmod 600 {path}")
    if status.st_uid not in (os.geteuid(), 0):
        raise KeyFileError(
            f"{path}: belongs to user {status.st_uid}; it must belong to the daemon's user ({os.geteuid()}) or root"
        )
    for folder in {path.parent, path.resolve().parent}:  # where a link leads, too
        _check_place(folder)


def _check_place(folder: Path) -> None:
    """Whoever may write into a file's folder may put another file in its place, whatever the file's own mode."""
    status = folder.stat()
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o022 and not mode & stat.S_ISVTX:
        raise KeyFileError(
            f"{folder}: mode {mode:04o} lets others put a file in place of a private one; run: chmod go-w {folder}"
        )
    if status.st_uid not in (os.geteuid(), 0):
        raise KeyFileError(
            f"{folder}: belongs to user {status.st_uid}, who could put a file in place of a private one; it must "
            f"belong to the daemon's user ({os.geteuid()}) or root"
        )


def unwritable(what: str, error: OSError) -> CannotRecord:
    """The error to raise where something could not be written: what it was, and whether there was no room."""
    kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else CannotRecord
    return kind(f"{what} cannot be written ({error.strerror}); check the disk (df, dmesg)")
