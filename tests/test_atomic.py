"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad import atomic
from minigrad.atomic import remove_leftovers, replacing

posix = pytest.mark.skipif(os.name == "nt", reason="permissions, links and pipes of POSIX")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A file with old content, in a folder of its own."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    return path


@pytest.fixture
def usual_mask() -> Iterator[None]:
    mask = os.umask(0o022)
    yield
    os.umask(mask)


def overwrite(target: Path, content: bytes = b"new") -> None:
    with replacing(target) as file:
        file.write(content)


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def unchanged(target: Path) -> bool:
    """The old file, and nothing beside it."""
    return target.read_bytes() == b"old" and list(target.parent.iterdir()) == [target]


def test_old_content_stays_until_the_new_is_complete(target: Path) -> None:
    with replacing(target) as file:
        file.write(b"new")
        file.flush()
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), ValueError("half"), MemoryError()])
def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(target: Path, error: BaseException) -> None:
    def stopped() -> None:
        with replacing(target) as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)):
        stopped()
    assert unchanged(target)


def test_an_error_while_writing_a_new_file_leaves_nothing(tmp_path: Path) -> None:
    def stopped() -> None:
        with replacing(tmp_path / "new") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert list(tmp_path.iterdir()) == []


# A disk that is full, or cannot be reached


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_is_full_at_the_end_leaves_the_old_file(
    target: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        overwrite(target)
    assert unchanged(target)


@pytest.mark.parametrize("room", [0, 1, 1000, 100_000])
def test_a_disk_that_fills_while_writing_leaves_the_old_file(target: Path, room: int) -> None:
    """The system's own limit on a file's size stands for the disk: the write fails as it does when one is full."""
    program = (
        "import pathlib, resource, runpy, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))\n"
        "try:\n"
        "    with runpy.run_path(sys.argv[1])['replacing'](pathlib.Path(sys.argv[2])) as file:\n"
        "        file.write(bytes(200_000))\n"
        "except OSError as error:\n"
        "    sys.exit(error.errno)\n"
    )
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-S", "-B", "-c", program, atomic.__file__, str(target)])
    assert done.returncode == errno.EFBIG
    assert unchanged(target)


@pytest.mark.parametrize("durable", [True, False])
def test_what_is_durable_is_on_the_disk_before_it_takes_the_name(
    target: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    calls: list[str] = []
    sync, replace = os.fsync, os.replace

    def noted_sync(number: int) -> None:
        status = os.fstat(number)
        calls.append("folder" if stat.S_ISDIR(status.st_mode) else f"file of {status.st_size}")
        sync(number)

    def noted_replace(*paths: Any) -> None:
        calls.append("replace")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_replace)
    with replacing(target, durable=durable) as file:
        file.write(b"twelve bytes")
    folder = [] if os.name == "nt" else ["folder"]
    assert calls == (["file of 12", "replace", *folder] if durable else ["replace"])
    assert target.read_bytes() == b"twelve bytes"


def test_a_folder_that_cannot_be_synced_is_no_error(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def files_only(number: int) -> None:
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(number)

    monkeypatch.setattr(os, "fsync", files_only)
    overwrite(target)
    assert target.read_bytes() == b"new"


def test_a_folder_that_cannot_be_opened_is_no_error(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def as_on_windows(path: Any, flags: int, *mode: int) -> int:
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", as_on_windows)
    overwrite(target)
    assert target.read_bytes() == b"new"


def test_no_file_stays_open(target: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("no /proc")
    before = len(list(descriptors.iterdir()))
    for _ in range(5):
        overwrite(target)
    assert len(list(descriptors.iterdir())) == before


# Permissions


def test_a_new_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    overwrite(tmp_path / "new")
    assert permissions(tmp_path / "new") == permissions(tmp_path / "plain")


@posix
@pytest.mark.usefixtures("usual_mask")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o666, 0o777, 0o400])
def test_permissions_of_the_old_file_are_kept(target: Path, mode: int) -> None:
    target.chmod(mode)
    overwrite(target)
    assert target.read_bytes() == b"new"
    assert permissions(target) == mode


@posix
@pytest.mark.usefixtures("usual_mask")
def test_a_private_file_is_private_while_it_is_written(target: Path) -> None:
    target.chmod(0o600)
    with replacing(target):
        (part,) = (p for p in target.parent.iterdir() if p != target)
        assert permissions(part) == 0o600


# What the name may be


@posix
@pytest.mark.parametrize("relative", [False, True])
def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path, target: Path, relative: bool) -> None:
    folder = tmp_path / "links"
    folder.mkdir()
    link = folder / "b.txt"
    link.symlink_to(Path("..") / target.name if relative else target)
    overwrite(link)
    assert link.is_symlink()
    assert not target.is_symlink()
    assert target.read_bytes() == b"new"
    assert list(folder.iterdir()) == [link]


@posix
def test_a_link_to_nothing_gets_its_target(tmp_path: Path) -> None:
    (tmp_path / "b").symlink_to("c")
    overwrite(tmp_path / "b")
    assert (tmp_path / "b").is_symlink()
    assert (tmp_path / "c").read_bytes() == b"new"


@posix
def test_a_link_to_itself_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "b").symlink_to("b")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        overwrite(tmp_path / "b")
    assert (tmp_path / "b").is_symlink()


def test_a_folder_is_no_target(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="folder"):
        overwrite(tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


@posix
def test_a_pipe_or_a_device_is_no_target(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError, match="pipe"):
        overwrite(tmp_path / "pipe")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        overwrite(tmp_path / "nowhere" / "a.txt")


def test_a_path_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    overwrite(Path("a.txt"))
    assert (tmp_path / "a.txt").read_bytes() == b"new"


def test_a_working_folder_that_changes_while_writing_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with replacing(Path("a.txt")) as file:
        file.write(b"new")
        monkeypatch.chdir(tmp_path / "elsewhere")
    assert (tmp_path / "a.txt").read_bytes() == b"new"


# What is left over


def test_leftovers_of_a_target_are_removed_and_nothing_else(target: Path) -> None:
    folder = target.parent
    leftovers = [".a.txt.00000000.part", ".a.txt.0123abcd.part"]
    others = ["a.txt.part", ".a.txt.part", ".a.txt.0123abc.part", ".a.txt.0123ABCD.part", ".b.txt.0123abcd.part",
              ".aXtxt.0123abcd.part", "x.a.txt.0123abcd.part", ".a.txt.0123abcd.part2"]  # fmt: skip
    for name in (*leftovers, *others):
        (folder / name).write_bytes(b"")
    (folder / ".a.txt.11111111.part").mkdir()
    remove_leftovers(target)
    assert {p.name for p in folder.iterdir()} == {"a.txt", *others, ".a.txt.11111111.part"}
    assert target.read_bytes() == b"old"


def test_no_folder_has_no_leftovers(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "nowhere" / "a.txt")
    assert list(tmp_path.iterdir()) == []


def test_names_with_signs_that_mean_something_to_patterns_have_leftovers_of_their_own(tmp_path: Path) -> None:
    for name in (".[a]*.0123abcd.part", ".a.0123abcd.part"):
        (tmp_path / name).write_bytes(b"")
    remove_leftovers(tmp_path / "[a]*")
    assert [p.name for p in tmp_path.iterdir()] == [".a.0123abcd.part"]


@posix
def test_leftovers_of_a_link_lie_beside_its_target(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / ".a.0123abcd.part").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "a")
    remove_leftovers(tmp_path / "link")
    assert list((tmp_path / "real").iterdir()) == []


WRITER = """
import pathlib, runpy, sys
replacing = runpy.run_path(sys.argv[1])["replacing"]
while True:
    for letter in b"abcdef":
        with replacing(pathlib.Path(sys.argv[2])) as file:
            for _ in range(20):
                file.write(bytes([letter]) * 5_000)
                file.flush()
        print(flush=True)
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_the_old_file_or_the_new_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"-" * 100_000)
    rng = np.random.default_rng(0)
    leftovers = 0
    for _ in range(20):
        command = [sys.executable, "-S", "-B", "-c", WRITER, atomic.__file__, str(target)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()  # it has written the file once
            time.sleep(rng.uniform(0, 0.02))
            process.kill()
        content = target.read_bytes()
        assert len(content) == 100_000
        assert len(set(content)) == 1
        leftovers += len(list(tmp_path.iterdir())) - 1
        remove_leftovers(target)
        assert list(tmp_path.iterdir()) == [target]
    assert set(content) <= set(b"abcdef")
    assert leftovers > 0  # some were stopped in the middle
