"""A cache of one's own, and tiny archives in the place of the pinned ones."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from minigrad.data import store


def packed(file: str, members: Mapping[str, bytes]) -> bytes:
    """An archive of these files, of the kind that the name tells."""
    content = io.BytesIO()
    if file.endswith(".tar.gz"):
        with tarfile.open(fileobj=content, mode="w:gz") as archive:
            for name, data in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    else:
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, data in members.items():
                zipped.writestr(name, data)
    return content.getvalue()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of the cache; nothing has been fetched, so it is not even there."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MINIGRAD_CACHE", str(folder))
    return folder


@pytest.fixture
def pin(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], store.Pinned]:
    """Make these bytes the pinned archive of a data set."""

    def pin(name: str, content: bytes) -> store.Pinned:
        checksum = hashlib.sha256(content).hexdigest()
        one = dataclasses.replace(store.PINNED[name], size=len(content), sha256=checksum)
        monkeypatch.setattr(store, "PINNED", {**store.PINNED, name: one})
        return one

    return pin


@pytest.fixture
def fetched(cache: Path, pin: Callable[[str, bytes], store.Pinned]) -> Callable[[str, Mapping[str, bytes]], Path]:
    """Put an archive of these files into the cache, as if it were the pinned one of a data set."""

    def fetched(name: str, members: Mapping[str, bytes]) -> Path:
        content = packed(store.PINNED[name].file, members)
        path = cache / pin(name, content).file
        cache.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    return fetched
