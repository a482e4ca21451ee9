"""Files that are written whole or not at all, whatever happens: an error, Ctrl-C, kill -9, a full disk, a power cut."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["remove_leftovers", "replacing"]


@contextmanager
def replacing(target: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A new file that takes the target's place when this block ends; after an error there, nothing has changed.

    A symbolic link stays, and the file that it points to is replaced. The permissions of the old file are kept.
    Only a process that is killed leaves its unfinished file behind: see `remove_leftovers`.

    Args:
        target: The file's name.
        durable: The content is on the disk before the old file goes, so that a power cut, too, leaves one of the
            two whole. That takes milliseconds; False is for what can be made again at once, such as pictures.
    Raises:
        OSError: The target is a folder, a device or a pipe, its folder is missing or closed, or the disk is full.
    """
    target = Path(os.path.realpath(target))
    mode = _mode_of(target)
    part = target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")  # tempfile's are for their owner alone

    def opener(path: str, flags: int) -> int:
        return os.open(path, flags, 0o666 if mode is None else mode)  # less the umask: never wider than the old file

    try:
        with open(part, "xb", opener=opener) as file:
            yield file
            file.flush()
            if mode is not None and stat.S_IMODE(os.fstat(file.fileno()).st_mode) != mode:
                os.chmod(part, mode)  # what the umask took away
            if durable:
                os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if durable:
        with suppress(OSError):  # Windows opens no folder; and the new file stands whole in any case
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def remove_leftovers(target: Path) -> None:
    """Remove what processes that were killed while they replaced the target left behind.

    Call it when no other process writes the target: that one would lose its unfinished file, and fail.
    """
    target = Path(os.path.realpath(target))
    part = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.part")
    with suppress(FileNotFoundError, NotADirectoryError):  # no folder, no leftovers
        for path in list(target.parent.iterdir()):
            if part.fullmatch(path.name) and stat.S_ISREG(path.lstat().st_mode):
                path.unlink(missing_ok=True)


def _mode_of(target: Path) -> int | None:
    """The permissions of the old file; None where there is none."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if not stat.S_ISREG(mode):  # /dev/null would become a plain file
        raise FileExistsError(errno.EEXIST, "No regular file, so it is not replaced", str(target))
    return stat.S_IMODE(mode) & 0o777
