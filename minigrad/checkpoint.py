"""Checkpoints: everything that a run needs to go on, in one file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import archive
from .engine import Array
from .errors import CheckpointError

__all__ = ["load", "save"]

_KIND = archive.Format("minigrad checkpoint", 1, CheckpointError, "Give a file that minigrad train saved.")


def save(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write nested dicts and lists of plain data and arrays; the older file stays whole until the new one is.

    Equal states give equal bytes.
    """
    arrays: dict[str, Array] = {}
    header = _packed(state, arrays)
    archive.write(path, _KIND, header, arrays)


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `save` wrote.

    Raises:
        CheckpointError: The file is missing, damaged, from a newer version or none of ours.
    """
    header, arrays = archive.read(path, _KIND)
    try:
        return {name: _unpacked(value, arrays) for name, value in header["dict"].items()}
    except Exception as error:  # what others made fails in any way at all
        raise _KIND.refusal(path, f"its table of contents is damaged ({error!r:.80})") from None


def _packed(x: Any, arrays: dict[str, Array], name: str = "") -> Any:
    """Plain data, with a name in place of each array."""
    if isinstance(x, np.ndarray):
        while name in arrays:  # {"a": {"b": x}, "a/b": y}
            name += "'"
        arrays[name] = x
        return {"array": name}
    if isinstance(x, Mapping):
        return {"dict": {key: _packed(value, arrays, f"{name}/{key}" if name else key) for key, value in x.items()}}
    if isinstance(x, (list, tuple)):
        return [_packed(value, arrays, f"{name}/{k}") for k, value in enumerate(x)]
    return x


def _unpacked(x: Any, arrays: Mapping[str, Array]) -> Any:
    if isinstance(x, list):
        return [_unpacked(value, arrays) for value in x]
    if not isinstance(x, dict):
        return x
    return arrays[x["array"]] if "array" in x else {k: _unpacked(v, arrays) for k, v in x["dict"].items()}
