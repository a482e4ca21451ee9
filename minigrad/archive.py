"""One file format for all that minigrad saves: arrays by name, and a header of plain values.

    a zip archive, its entries stored as they are: np.load and unzip open it
      header.json   {"format": …, "version": …, "arrays": [name, …], "header": …}
      NAME.npy      one an array, in the same order: little-endian, in C order

Nothing is unpickled, nothing is made larger than the file, no name in it becomes a path. A damaged file is refused or,
where the damaged byte says nothing (a date), read as it was. The same content gives the same bytes.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import stat
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from .atomic import replacing
from .engine import Array
from .errors import MinigradError

__all__ = ["Format", "read", "write"]

_LARGEST = 1 << 32  # bytes of a file
_LARGEST_HEADER = 1 << 27  # bytes of header.json; the record of 10,000 LSTM steps with every op has 74 million …
_MOST = 10_000_000  # … and 8.6 million values, of which each takes up to a hundred times its bytes in memory
_MOST_ARRAYS = 500_000
_DEEPEST = 100  # lists and mappings inside each other
_WIDEST = 1024  # bits of an integer: the time to read one grows with their square
_TYPES = ("|b1", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16")
_HARMLESS = re.compile("[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_UTF8 = ("utf-8", "surrogatepass")  # half of a pair stays half: names of files may hold it


class Format(NamedTuple):
    """A kind of file: "minigrad record", the version of what its header means, the error, its usual remedy."""

    name: str
    version: int
    error: type[MinigradError]
    remedy: str

    def refusal(self, path: str | os.PathLike[str], found: str, remedy: str | None = None) -> MinigradError:
        """The error that says why this file cannot be read."""
        return self.error(f"read {os.fspath(path)!r} as {self.name}: {found}.\n  {remedy or self.remedy}")


class _Refused(Exception):
    """What was found and, where it is not the usual one, the remedy."""


def write(path: str | os.PathLike[str], kind: Format, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write one file, under this very name; an older one stays whole until the new one is complete.

    Args:
        path, kind: Where, and what the file is.
        header: None, bool, int, float, str, and lists and mappings (whose keys are str) of them. All come back as
            they were, floats bit for bit, NaN and infinities too.
        arrays: Of bool, integers, floating-point or complex numbers, of any shape, under any name.
    Raises:
        kind.error: Header or arrays hold something else, or are too large.
        OSError: The file cannot be written.
    """
    try:
        for name, array in arrays.items():
            if array.dtype.newbyteorder("<").str not in _TYPES:
                allowed = ", ".join(str(np.dtype(code)) for code in _TYPES)
                raise _Refused(f"array {name!r} has elements of type {array.dtype}", f"Convert it to one of {allowed}.")
        table = {"format": kind.name, "version": kind.version, "arrays": [*arrays], "header": _each(header, _encoded)}
        text = json.dumps(table, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(*_UTF8)
        _limit(len(text), _LARGEST_HEADER, "bytes in its header")
        _limit(_values(text), _MOST, "values in its header")
        _limit(len(arrays), _MOST_ARRAYS, "arrays")
        contents: list[Any] = [text, *arrays.values()]
        with replacing(Path(path)) as file:
            with zipfile.ZipFile(file, "w") as archive:
                for name, content in zip(_entries(arrays), contents, strict=True):
                    entry = zipfile.ZipInfo(name)  # of 1 January 1980, zip's first day …
                    entry.create_system, entry.external_attr = 3, 0o100644 << 16  # … and of Unix, on Windows too
                    entry.file_size = len(content) if isinstance(content, bytes) else content.nbytes
                    with archive.open(entry, "w") as member:
                        if isinstance(content, bytes):
                            member.write(content)
                        else:
                            little = np.asarray(content, content.dtype.newbyteorder("<"), order="C")
                            npy.write_array(member, little, (1, 0), allow_pickle=False)
            _limit(file.tell(), _LARGEST, "bytes")
    except _Refused as refused:
        found, remedy = refused.args
        raise kind.error(f"write {os.fspath(path)!r} as {kind.name}: {found}.\n  {remedy}") from None


def read(path: str | os.PathLike[str], kind: Format) -> tuple[dict[str, Any], dict[str, Array]]:
    """The header and the arrays of a file that `write` wrote; the arrays are one's own, native and in C order.

    Raises:
        kind.error: The file is missing, cut short, damaged, of another kind or version, or not of minigrad's making.
    """
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):  # a pipe would wait, and a device never end
            raise _Refused("this is a folder" if stat.S_ISDIR(mode) else "this is no regular file", kind.remedy)
        with _Bounded(io.FileIO(path)) as file:
            size = os.fstat(file.fileno()).st_size
            _limit(size, _LARGEST, "bytes")
            with zipfile.ZipFile(file) as archive:
                return _read(archive, size, kind)
    except _Refused as refused:
        raise kind.refusal(path, *refused.args) from None
    except FileNotFoundError:
        raise kind.refusal(path, "there is no such file") from None
    except MemoryError:
        raise kind.refusal(path, "it does not fit into memory") from None
    except Exception as error:  # what others made, or what is damaged, fails in any way at all
        found = f"minigrad did not write this file, or it is damaged ({error!r:.100})"
        raise kind.refusal(path, getattr(error, "strerror", None) or found) from None


class _Bounded(io.BufferedReader):
    """A file that is never read whole: of a directory of gigabytes zipfile would make twenty times as much."""

    def read(self, size: int | None = -1, /) -> bytes:
        _limit(size or 0, _LARGEST_HEADER, "bytes in its header or directory")
        return super().read(size)


def _read(archive: zipfile.ZipFile, size: int, kind: Format) -> tuple[dict[str, Any], dict[str, Array]]:
    entries = archive.infolist()
    if any(e.compress_type or e.flag_bits or e.compress_size != e.file_size for e in entries):
        raise ValueError("entries that are compressed or encrypted")
    if sum(e.file_size for e in entries) > size:
        raise ValueError(f"entries larger than the {size:,} bytes of the file")
    text = archive.read(entries[0])
    _limit(_values(text), _MOST, "values in its header")
    found = json.loads(text.decode(*_UTF8), parse_int=_integer, parse_constant=_integer)  # NaN is none: refused
    name, version, names = found["format"], found["version"], found["arrays"]
    if name != kind.name:
        raise _Refused(f"this is another kind of file, {name!r:.60}", kind.remedy)
    if type(version) is not int or version != kind.version:
        remedy = ("Save it once more.", "Update minigrad: pip install --upgrade minigrad-bptt.")[version > kind.version]
        raise _Refused(f"it is of version {version!r:.20}, and this minigrad reads version {kind.version}", remedy)
    header = _each(found["header"], _decoded)
    if len(found) != 4 or not isinstance(header, dict) or not isinstance(names, list) or len({*names}) < len(names):
        raise ValueError("a header that is not in order")
    if [e.filename for e in entries] != _entries(names):
        raise ValueError("other entries than the header names")
    return header, {name: _array(archive, entry) for name, entry in zip(names, entries[1:], strict=True)}


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Array:
    with archive.open(entry) as member:
        version = npy.read_magic(member)
        shape, columns, dtype = npy.read_array_header_1_0(member, max_header_size=500)  # Python's parser reads it
        size = member.tell() + math.prod(shape) * dtype.itemsize
        wrong = version != (1, 0) or columns or dtype.str not in _TYPES or min(shape, default=0) < 0
        if wrong or size != entry.file_size:
            raise ValueError(f"{entry.filename}: no array that minigrad writes")
        array: Array = np.empty(shape, dtype)
        content = array.reshape(-1).view(np.uint8)  # the same memory
        for start in range(0, len(content), 1 << 20):
            member.readinto(content[start : start + (1 << 20)])  # type: ignore[attr-defined]
    if dtype == np.bool_ and np.any(content > 1):
        raise ValueError(f"{entry.filename}: elements that are neither True nor False")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _entries(names: Iterable[str]) -> list[str]:
    """The entries of an archive; the true names, which may be no names of files, stand in header.json."""
    return ["header.json", *(f"{n if _HARMLESS.fullmatch(n) else f'#{k}'}.npy" for k, n in enumerate(names))]


def _limit(found: int, limit: int, what: str) -> None:
    if found > limit:
        remedy = "Save less at once: fewer steps, a smaller batch, float32."
        raise _Refused(f"it has {found:,} {what}, where {limit:,} are the limit", remedy)


def _values(text: bytes) -> int:
    """At least as many as this JSON has."""
    return 1 + sum(map(text.count, (b"[", b"{", b",")))


def _integer(digits: str) -> int:
    if len(digits) > _WIDEST:
        raise ValueError("too wide an integer")
    return int(digits)


# JSON has neither NaN nor infinities: they are "~" and their 64 bits, and a text that begins with ~ gets another one.


def _each(x: Any, leaf: Callable[[Any], Any], depth: int = 0) -> Any:
    """The same lists and mappings of what `leaf` makes of everything else, the too deep ones among it."""
    if x is None or isinstance(x, (str, int, float)) or depth == _DEEPEST:
        return leaf(x)
    if isinstance(x, list):
        return [_each(v, leaf, depth + 1) for v in x]
    if isinstance(x, Mapping) and all(isinstance(k, str) for k in x):
        return {k: _each(v, leaf, depth + 1) for k, v in x.items()}
    return leaf(x)


def _encoded(x: Any) -> Any:
    if isinstance(x, str):
        return "~" + x if x.startswith("~") else x
    if isinstance(x, float):
        return x if math.isfinite(x) else "~" + struct.pack(">d", x).hex()
    if x is None or isinstance(x, bool) or (isinstance(x, int) and x.bit_length() <= _WIDEST):
        return x
    raise _Refused(
        f"its header cannot hold this {type(x).__name__}",
        f"Give None, bool, int (below 2**{_WIDEST}), float, str, and lists and mappings (keys: str) of them,"
        f" {_DEEPEST} deep at most.",
    )


def _decoded(x: Any) -> Any:
    if isinstance(x, (list, dict)):
        raise ValueError(f"more than {_DEEPEST} lists inside each other")
    if isinstance(x, str) and x.startswith("~"):
        return x[1:] if x.startswith("~~") else struct.unpack(">d", bytes.fromhex(x[1:]))[0]
    return x
