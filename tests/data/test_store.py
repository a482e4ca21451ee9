"""Reading fetched archives: what is pinned, where it lies, and what is refused."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minigrad.data import store
from minigrad.errors import DataError
from tests.data.conftest import packed


def refused(action: Callable[[], Any]) -> str:
    """The one error: what was attempted and found on one line, what would do on the next."""
    with pytest.raises(DataError) as caught:
        action()
    message = str(caught.value)
    assert len(message.splitlines()) == 2
    return message


def test_pins_are_complete_and_name_no_host() -> None:
    assert len({one.file for one in store.PINNED.values()}) == len(store.PINNED)
    for name, one in store.PINNED.items():
        assert name == one.name
        assert re.fullmatch("[0-9a-f]{64}", one.sha256)
        assert one.file.startswith((f"{one.package}-{one.version}", f"{one.package.replace('-', '_')}-{one.version}"))
        assert one.file.endswith((".whl", ".tar.gz"))
        assert one.size > 100_000
        assert all((one.what, one.licence, one.citation))
    sources = [path.read_text("utf-8") for path in Path(store.__file__).parent.glob("*.py")]
    assert [line for source in sources for line in re.findall(r"https?://\S+", source)] == []


@pytest.mark.parametrize(
    ("system", "variable", "value", "expected"),
    [
        ("linux", "XDG_CACHE_HOME", "/there", "/there/minigrad"),
        ("linux", "XDG_CACHE_HOME", "not/absolute", "/home/me/.cache/minigrad"),
        ("linux", "XDG_CACHE_HOME", "", "/home/me/.cache/minigrad"),
        ("linux", "LOCALAPPDATA", "/there", "/home/me/.cache/minigrad"),
        ("freebsd14", "", "", "/home/me/.cache/minigrad"),
        ("darwin", "XDG_CACHE_HOME", "/there", "/home/me/Library/Caches/minigrad"),
        ("win32", "LOCALAPPDATA", "/there", "/there/minigrad"),
        ("win32", "XDG_CACHE_HOME", "/there", "/home/me/AppData/Local/minigrad"),
        ("win32", "MINIGRAD_CACHE", "/mine", "/mine"),
        ("linux", "MINIGRAD_CACHE", "/mine", "/mine"),
    ],
)
def test_the_cache_lies_where_the_system_keeps_caches(
    monkeypatch: pytest.MonkeyPatch, system: str, variable: str, value: str, expected: str
) -> None:
    for name in ("MINIGRAD_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    if variable:
        monkeypatch.setenv(variable, value)
    assert store.cache_folder(system) == Path(expected)


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("MINIGRAD_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert "Set MINIGRAD_CACHE" in refused(lambda: store.cache_folder("linux"))


@pytest.mark.parametrize("name", ["names", "plays"])
def test_members_are_read_from_the_archive(fetched: Any, cache: Path, name: str) -> None:
    members = {"a/b.txt": "한글\r\n".encode(), "c": b"", "d/e/f.bin": bytes(range(256)) * 1000}
    path = fetched(name, members)
    archive = store.open_archive(name)
    assert archive.names == tuple(members)
    assert {member: archive.read(member) for member in archive.names} == members
    assert store.available(name)
    assert [*cache.iterdir()] == [path]  # nothing was unpacked


def test_an_archive_inside_an_archive_is_read_alike(fetched: Any) -> None:
    fetched("sentences", {"in.tar.gz": packed("in.tar.gz", {"x": b"1"}), "in.zip": packed("in.zip", {"y": b"2"})})
    archive = store.open_archive("sentences")
    assert archive.open("in.tar.gz").read("x") == b"1"
    assert archive.open("in.zip").read("y") == b"2"


def test_folders_are_no_members(fetched: Any, pin: Any, cache: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        entry = tarfile.TarInfo("a")
        entry.type = tarfile.DIRTYPE
        archive.addfile(entry)
    fetched("names", {})
    (cache / pin("names", content.getvalue()).file).write_bytes(content.getvalue())
    assert store.open_archive("names").names == ()


def test_what_was_not_fetched_names_the_command(cache: Path) -> None:
    assert not store.available("plays")
    message = refused(lambda: store.open_archive("plays"))
    assert "read the plays: they have not been fetched" in message
    assert "minigrad data fetch plays" in message


def test_an_unknown_data_set_lists_the_known_ones() -> None:
    for action in (store.pinned, store.available, store.open_archive):
        message = refused(lambda action=action: action("tunes"))  # type: ignore[misc]
        assert "'tunes'" in message
        assert "names, plays" in message


def test_another_file_under_the_pinned_name_is_refused(fetched: Any) -> None:
    path = fetched("plays", {"a": b"1"})
    content = bytearray(path.read_bytes())
    for k in range(0, len(content), 7):
        content[k] ^= 1
        path.write_bytes(content)
        assert "this is not the pinned file.\n  Fetch it again: minigrad data fetch plays" in refused(
            lambda: store.open_archive("plays")
        )
        content[k] ^= 1
    path.write_bytes(content[:-1])
    assert not store.available("plays")
    refused(lambda: store.open_archive("plays"))


def test_a_folder_in_the_place_of_the_file_is_refused(cache: Path) -> None:
    (cache / store.PINNED["plays"].file).mkdir(parents=True)
    assert "Is a directory" in refused(lambda: store.open_archive("plays"))
    assert not store.is_whole(cache / store.PINNED["plays"].file, store.PINNED["plays"])


@pytest.mark.parametrize("file", ["a.whl", "a.tar.gz"])
@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/passwd", "//host/x", "..\\x", "C:\\x", "C:x", "\\x", "a/..", ".."]
)
def test_a_member_that_leaves_the_folder_is_refused(file: str, name: str) -> None:
    message = refused(lambda: store.Archive(file, packed(file, {"fine": b"", name: b"1"}), "Fetch it again."))
    assert "leaves the folder" in message
    assert message.endswith("\n  Fetch it again.")


@pytest.mark.parametrize("file", ["a.whl", "a.tar.gz"])
@pytest.mark.parametrize("name", ["..a/x", "a..b", "a/...", "a b", "한글"])
def test_a_member_with_dots_that_stays_inside_is_read(file: str, name: str) -> None:
    assert store.Archive(file, packed(file, {name: b"1"}), "").read(name) == b"1"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind: bytes) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        entry = tarfile.TarInfo("a")
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    assert "is a link or a device" in refused(lambda: store.Archive("a.tar.gz", content.getvalue(), "Fetch."))


@pytest.mark.parametrize("file", ["a.whl", "a.tar.gz"])
def test_a_broken_archive_is_refused_or_read_right(file: str) -> None:
    """Cut anywhere, or with any byte changed: never another error, never other content."""
    members = {"a.txt": b"something to read " * 30, "b/c.txt": bytes(range(256))}
    content = packed(file, members)
    damaged = [content[:k] for k in range(0, len(content), 5)]
    for k in range(0, len(content), 3):
        damaged.append(content[:k] + bytes([content[k] ^ 0x55]) + content[k + 1 :])
    refusals = 0
    for one in [*damaged, b"", b"PK", b"\x1f\x8b", b"hello" * 100]:
        try:
            archive = store.Archive(file, one, "Fetch it again.")
            found = [archive.read(name) for name in archive.names]
        except DataError as error:  # two lines, as every error
            refusals += len(str(error).splitlines()) == 2
        else:
            assert all(data in members.values() for data in found)
    assert refusals > len(damaged) // 2


def test_a_missing_member_is_named() -> None:
    archive = store.Archive("a.whl", packed("a.whl", {"x": b""}), "Fetch it again.")
    assert refused(lambda: archive.read("y")) == "read 'a.whl': it holds no 'y'.\n  Fetch it again."


@pytest.mark.data
@pytest.mark.parametrize("name", store.PINNED)
def test_each_pinned_archive_is_whole_and_has_its_licences(name: str) -> None:
    one = store.PINNED[name]
    assert store.is_whole(store.cache_folder() / one.file, one)
    archive = store.open_archive(name)
    assert all(len(archive.read(member)) > 200 for member in one.licences)
