"""A folder that is there with all its content, or not at all; also where whoever made it was killed."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge.errors import InputError

log = logging.getLogger(__name__)


def make_whole(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make a folder that is there with all its content, or not at all. Raises InputError."""
    remove_left(folder)
    try:
        for missing in [one for one in folder.absolute().parents if not one.exists()][::-1]:
            missing.mkdir(0o755)  # whatever the umask: nobody else's to write into
        scratch = Path(tempfile.mkdtemp(prefix=_beginning(folder), dir=folder.parent))
        try:
            with _held(scratch):
                fill(scratch)
                scratch.rename(folder)
        except BaseException:
            shutil.rmtree(scratch)
            raise
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror})") from error


def remove_left(folder: Path) -> None:
    """Remove what was to become this folder where its maker was killed: after a restore there are keys in it.

    Whoever makes one holds a lock on it, which ends with the process. A file system without such locks keeps all.
    """
    for path in _left(folder):
        with suppress(OSError), _held(path, needed=True):
            shutil.rmtree(path, ignore_errors=True)
            if path.exists():
                log.warning(
                    "%s: left by an `init` or `restore` that was killed, and may hold keys; remove it", path
                )
            else:
                log.warning("%s: removed; an `init` or `restore` was killed while it made it", path)


def _left(folder: Path) -> list[Path]:
    """This user's folders beside it that have such a name, at work or not."""
    with suppress(OSError), os.scandir(folder.absolute().parent) as entries:
        named = [Path(entry) for entry in entries if entry.name.startswith(_beginning(folder))]
        return sorted(path for path in named if _is_ours(path.lstat()))
    return []


def _is_ours(status: os.stat_result) -> bool:
    """As `mkdtemp` makes it."""
    return (
        stat.S_ISDIR(status.st_mode)
        and stat.S_IMODE(status.st_mode) == stat.S_IRWXU
        and status.st_uid == os.geteuid()
    )


def _beginning(folder: Path) -> str:
    """No prefix that somebody else would choose: what begins like this may be removed."""
    return f".{folder.absolute().name}.hadir-making-"


@contextmanager
def _held(folder: Path, *, needed: bool = False) -> Iterator[None]:
    """Hold the lock on a folder. Raises OSError where it is `needed` and another has it, or there are none here."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if needed:
                raise
        yield
    finally:
        os.close(descriptor)
