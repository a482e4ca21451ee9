"""Every measure as one file, and as JSON for other programs: the fields of its class, each of the type it declares.

    save(measure, path), load(path)            a file as `archive` describes it: .npy arrays and a header
    to_json(measure), from_json(document)      mappings, lists and numbers, as docs/json.md describes them

Both hold the same tree: an object is a mapping of its fields by name and of "type", the name of its class; all come
back equal, bit for bit. Nothing but the classes listed here is ever made, and of them only what fits its fields.
"""

from __future__ import annotations

import dataclasses
import math
import os
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, TypeAlias, Union

import numpy as np

from .. import archive
from ..clip import Clipping
from ..engine import Array
from ..errors import RecordError
from ..optim import Update
from .attribution import Attribution
from .diagnose import Diagnosis, Lane
from .fault import Fault, Zero
from .gates import Activity, Gates
from .history import Diagnosed
from .jacobian import JacobianCurves, LinearWalk
from .record import (
    Box,
    Flow,
    Graph,
    OpNode,
    ParameterRecord,
    Reading,
    Record,
    SequenceRecord,
    StackedTerms,
    Term,
)
from .surface import Descent, ErrorSurface
from .terms import StepTerms
from .thresholds import ClippingEffect, Norms
from .truncation import Truncation

__all__ = ["FORMAT", "MEASURES", "PARTS", "SHAPES", "VERSION", "Measure", "from_json", "load", "save", "to_json"]

FORMAT, VERSION = "minigrad measure", 2
"""What a file and a document call themselves. The version rises with the fields of any class below."""

Measure: TypeAlias = Any
"""One of `MEASURES`, or a tuple of them, as `step_terms` and `clipping_effects` give it."""

MEASURES: tuple[type, ...] = (
    StepTerms, JacobianCurves, LinearWalk, Attribution, Gates, Activity, Diagnosis, Lane, Fault, Zero, Diagnosed,
    Norms, ClippingEffect, Clipping, Truncation, ErrorSurface, Descent,
)  # fmt: skip
"""What is saved and comes as JSON."""

PARTS: tuple[type, ...] = (
    Record, SequenceRecord, ParameterRecord, StackedTerms, Term, Graph, OpNode, Box, Flow, Reading, Update,
)  # fmt: skip
"""What measures are made of, and the Record: it has a file format of its own, and the same JSON."""

SHAPES: dict[str, str] = {
    **dict.fromkeys((f"StepTerms.{x}" for x in ("norms", "shares", "cosines", "from_last", "from_first")), "T"),
    **dict.fromkeys(("JacobianCurves.step_largest", "JacobianCurves.step_smallest"), "Q"),
    **dict.fromkeys(
        (f"JacobianCurves.{x}" for x in ("largest", "smallest", "path_largest", "path_smallest", "rest", "bound")),
        "Q+1",
    ),
    "LinearWalk.weight": "G H", "LinearWalk.real": "T N", "LinearWalk.before": "T N H", "LinearWalk.slopes": "T N H",
    "Attribution.norms": "T T N", "Attribution.enters": "T", "Attribution.lengths": "N",
    "Gates.half_lives": "H", **dict.fromkeys((f"Activity.{x}" for x in ("mean", "low", "high", "slope")), "H"),
    "Activity.slope_by_step": "T", "Diagnosed.arriving": "T",
    **dict.fromkeys(("ClippingEffect.states_before", "ClippingEffect.states_after"), "T"),
    **dict.fromkeys((f"Truncation.{x}" for x in ("norms", "angles", "lost", "lost_by_weight")), "K"),
    "ErrorSurface.across": "X", "ErrorSurface.up": "Y", "ErrorSurface.errors": "Y X", "ErrorSurface.gradients": "Y X",
    "Descent.path": "K+1 2", "Descent.errors": "K+1", "Descent.gradients": "K+1", "Descent.fired": "K",
}  # fmt: skip
"""The axes of a measure's arrays, by class and field: the same letter is the same number within one object."""

_CLASSES = {cls.__name__: cls for cls in (*MEASURES, *PARTS)}
_KIND = archive.Format(
    FORMAT, VERSION, RecordError, "Give a file that storage.save wrote; one of record.save is read by Record.load."
)
_DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
           "float64")  # fmt: skip
_INFINITIES = {"inf": math.inf, "-inf": -math.inf}
_NOT_FINITE = {"nan": math.nan, **_INFINITIES}


def save(measure: Measure, path: str | os.PathLike[str]) -> None:
    """Write a measure, or a tuple of them, to one file; np.load opens it too.

    An older file of this name stays whole until the new one is complete.

    Raises:
        RecordError: It is no measure; or it holds what a file cannot, or too much of it.
        OSError: The file cannot be written.
    """
    if isinstance(measure, Record):
        raise RecordError("save: this is a whole record.\n  Use record.save(path) and Record.load(path).")
    arrays: dict[str, Array] = {}

    def kept(array: Array, at: tuple[str, ...]) -> dict[str, str]:
        name = ".".join(at) or "array"
        while name in arrays:  # of fields whose own names have dots
            name += "_"
        arrays[name] = array
        return {"array": name}

    archive.write(path, _KIND, {"content": _tree(_measure(measure, "save"), (), kept, lambda x, at: x)}, arrays)


def load(path: str | os.PathLike[str]) -> Measure:
    """Read what `save` wrote: equal in every bit.

    Raises:
        RecordError: The file is missing, damaged, of another kind or version, or holds no measure.
    """
    header, arrays = archive.read(path, _KIND)

    def array(x: Any, at: tuple[str, ...]) -> Array:
        _demand(isinstance(x, dict) and [*x] == ["array"] and x["array"] in arrays, at, "no array")
        kept: Array = arrays[x["array"]]
        return kept

    try:
        _demand([*header] == ["content"], (), "no measure")
        return _content(header["content"], MEASURES, _Leaves(array, lambda x, at: x))
    except Exception as error:  # what others made fails in any way at all
        raise _KIND.refusal(path, f"its header describes no measure{_why(error)}") from None


def to_json(measure: Measure | Record) -> dict[str, Any]:
    """A measure, a tuple of them or a Record as JSON has it: `json.dumps(to_json(x), allow_nan=False)`.

        {"format": "minigrad measure", "version": 2, "content": {"type": "Gates", …}, "arrays": {…}, "numbers": {…}}

    Arrays are lists of lists. All numbers are finite: null stands for NaN and the infinities, in an array or outside.
    `arrays` says by JSON pointer into `content` which list is an array, of which type and shape and where it is
    infinite; `numbers` which of the other nulls are numbers. Who only reads needs neither. See docs/json.md.

    Raises:
        RecordError: It is none of them, or holds what JSON cannot.
    """
    arrays: dict[str, Any] = {}
    numbers: dict[str, str] = {}

    def lists(array: Array, at: tuple[str, ...]) -> Any:
        if array.dtype.name not in _DTYPES:
            raise RecordError(
                f"to_json: {_pointer(at)} is an array of {array.dtype}.\n  Convert it to one of {', '.join(_DTYPES)}."
            )
        about: dict[str, Any] = {"dtype": array.dtype.name, "shape": list(array.shape)}
        arrays[_pointer(at)] = about
        if array.dtype.kind != "f" or np.isfinite(array).all():
            return array.tolist()
        for name, infinity in _INFINITIES.items():
            places = np.flatnonzero(array == infinity).tolist()
            if places:
                about[name] = places
        listed = array.astype(object)
        listed[~np.isfinite(array)] = None
        return listed.tolist()

    def number(x: float, at: tuple[str, ...]) -> float | None:
        if math.isfinite(x):
            return x
        numbers[_pointer(at)] = "nan" if math.isnan(x) else "inf" if x > 0 else "-inf"
        return None

    content = _tree(_measure(measure, "to_json", Record), (), lists, number)
    return {"format": FORMAT, "version": VERSION, "content": content, "arrays": arrays, "numbers": numbers}


def from_json(document: Mapping[str, Any]) -> Measure | Record:
    """The measure that `to_json` was given, from its document as `json.loads` reads it.

    A number that another program wrote without a fraction (1 for 1.0) is read as what the field declares. Without
    `numbers` a null where a number belongs is NaN.

    Raises:
        RecordError: The document is of another format or version, or describes no measure.
    """
    found = "this is no mapping"
    remedy = "Give what to_json made, of the same version of minigrad."
    if isinstance(document, Mapping):
        found = f"its format is {document.get('format')!r:.60}, its version {document.get('version')!r:.20}"
        if document.get("format") == FORMAT and document.get("version") == VERSION:
            try:
                return _from_json(document)
            except Exception as error:
                found = f"it describes no measure{_why(error)}"
    raise RecordError(f"from_json: {found}, where {FORMAT!r}, version {VERSION}, is read.\n  {remedy}")


def _from_json(document: Mapping[str, Any]) -> Measure | Record:
    arrays, numbers = document["arrays"], document.get("numbers", {})
    _demand(isinstance(arrays, dict) and isinstance(numbers, dict), (), "without its arrays and numbers")

    def array(x: Any, at: tuple[str, ...]) -> Array:
        about = arrays.get(_pointer(at))
        _demand(isinstance(about, dict) and about.get("dtype") in _DTYPES, at, "not listed in arrays")
        dtype, shape, flat = np.dtype(about["dtype"]), about["shape"], [x]
        for size in shape:
            _demand(type(size) is int and all(isinstance(some, list) and len(some) == size for some in flat), at,
                    "of another shape")  # fmt: skip
            flat = list(chain.from_iterable(flat))
        kinds = {"b": (bool,), "f": (float, int, NoneType)}.get(dtype.kind, (int,))
        _demand(all(isinstance(v, kinds) and isinstance(v, bool) == (dtype.kind == "b") for v in flat), at,
                "of other elements")  # fmt: skip
        made: Array
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                made = np.array([math.nan if v is None else v for v in flat], np.float64).astype(dtype)
            _demand(not np.isinf(made).any(), at, "of numbers too large")
            for name, infinity in _INFINITIES.items():
                for k in about.get(name, ()):
                    _demand(type(k) is int and 0 <= k < len(flat) and flat[k] is None, at, "finite where it is not")
                    made[k] = infinity
        else:
            made = np.array(flat, dtype)
        made = made.reshape(shape)
        return made

    def number(x: Any, at: tuple[str, ...]) -> Any:
        return _NOT_FINITE[numbers[_pointer(at)]] if x is None and _pointer(at) in numbers else x

    return _content(document["content"], (*MEASURES, Record), _Leaves(array, number))


# From a measure to a tree


def _measure(x: Any, attempted: str, *more: type) -> Any:
    allowed = (*MEASURES, *more)
    if type(x) in allowed or (type(x) is tuple and x and all(type(one) in MEASURES for one in x)):
        return x
    what = f"a tuple of {', '.join(dict.fromkeys(type(one).__name__ for one in x))}" if type(x) is tuple else (
        f"a {type(x).__name__}"
    )  # fmt: skip
    names = ", ".join(cls.__name__ for cls in allowed)
    raise RecordError(f"{attempted}: this is {what}, no measure.\n  Give one of {names}, or a tuple of measures.")


def _tree(
    x: Any, at: tuple[str, ...], array: Callable[[Array, tuple[str, ...]], Any],
    number: Callable[[float, tuple[str, ...]], Any],
) -> Any:  # fmt: skip
    """Mappings, lists and plain values of a measure; arrays and floats as these two make them."""
    if x is None or isinstance(x, (bool, int, str)):
        return x
    if isinstance(x, float):
        return number(float(x), at)
    if isinstance(x, np.ndarray):
        return array(x, at)
    if type(x) in _CLASSES.values():
        fields = {name: _tree(getattr(x, name), (*at, name), array, number) for name in _hints(type(x))}
        return {"type": type(x).__name__, **fields}
    if isinstance(x, Mapping) and all(isinstance(key, (str, float)) for key in x):
        named = {key if isinstance(key, str) else repr(float(key)): value for key, value in x.items()}
        return {name: _tree(value, (*at, name), array, number) for name, value in named.items()}
    if isinstance(x, tuple):
        return [_tree(value, (*at, str(k)), array, number) for k, value in enumerate(x)]
    raise RecordError(
        f"A measure that holds a {type(x).__name__} at {_pointer(at)} cannot be stored.\n"
        "  Its fields are None, bool, int, float, str, arrays, the classes of this module, mappings and tuples of them."
    )


# From a tree to a measure: every value is of the type that its field declares


class _Leaves(NamedTuple):
    """How an array and a number stand in a tree."""

    array: Callable[[Any, tuple[str, ...]], Array]
    number: Callable[[Any, tuple[str, ...]], Any]


class _Unfit(ValueError):
    """A tree that is no measure."""


def _demand(holds: bool, at: tuple[str, ...], what: str) -> None:
    if not holds:
        raise _Unfit(f"{repr(_pointer(at))[:200] if at else 'the whole'} is {what}")


def _why(error: Exception) -> str:
    return f" ({error})" if isinstance(error, _Unfit) else ""


def _content(x: Any, allowed: tuple[type, ...], leaves: _Leaves) -> Any:
    if isinstance(x, list):
        _demand(len(x) > 0, (), "an empty list")
        return tuple(_object(one, MEASURES, (str(k),), leaves) for k, one in enumerate(x))
    return _object(x, allowed, (), leaves)


def _object(x: Any, allowed: Sequence[type], at: tuple[str, ...], leaves: _Leaves) -> Any:
    _demand(isinstance(x, dict) and isinstance(x.get("type"), str), at, "no object")
    cls = _CLASSES.get(x["type"])
    _demand(cls in allowed, at, f"a {x['type']!r:.60}, not {' or '.join(a.__name__ for a in allowed)}")
    assert cls is not None
    hints = _hints(cls)
    _demand(x.keys() == {"type", *hints}, at, f"a {cls.__name__} of other fields")
    fields = {name: _typed(x[name], hint, (*at, name), leaves) for name, hint in hints.items()}
    _check_shapes(cls.__name__, fields, at)
    return cls(**fields)


def _hints(cls: type) -> dict[str, Any]:
    """The fields of a dataclass or a NamedTuple with their types, in order."""
    if cls not in _HINTS:
        names = getattr(cls, "_fields", None) or [f.name for f in dataclasses.fields(cls)]
        hints = typing.get_type_hints(cls)
        _HINTS[cls] = {name: hints[name] for name in names}
    return _HINTS[cls]


_HINTS: dict[type, dict[str, Any]] = {}


def _typed(x: Any, hint: Any, at: tuple[str, ...], leaves: _Leaves) -> Any:
    """The value of a field, as its type says."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, UnionType):
        kinds = [a for a in arguments if a is not NoneType]
        x = leaves.number(x, at) if float in kinds else x
        if x is None and NoneType in arguments:
            return None
        # Of several, all are plain; what is none of them is refused by the first.
        return _typed(x, type(x) if type(x) in kinds else kinds[0], at, leaves)
    if origin is Literal:
        _demand(x in arguments, at, f"none of {', '.join(map(str, arguments))}")
        return x
    if origin is np.ndarray:
        return leaves.array(x, at)
    if hint is float:
        x = leaves.number(x, at)
        _demand(x is None or (isinstance(x, (int, float)) and not isinstance(x, bool)), at, "no number")
        return math.nan if x is None else float(x)
    if hint in (bool, int, str):
        _demand(type(x) is hint, at, f"no {hint.__name__}")
        return x
    if hint in _CLASSES.values():
        return _object(x, (hint,), at, leaves)
    if origin is Sequence and isinstance(x, dict):
        return _object(x, (StackedTerms,), at, leaves)  # which is one
    if origin in (tuple, Sequence):
        _demand(isinstance(x, list), at, "no list")
        kinds = [arguments[0]] * len(x) if origin is Sequence or arguments[-1] is Ellipsis else [*arguments]
        _demand(len(kinds) == len(x), at, f"a list of {len(x)}, not {len(kinds)}")
        return tuple(_typed(v, kind, (*at, str(k)), leaves) for k, (v, kind) in enumerate(zip(x, kinds, strict=True)))
    assert origin in (Mapping, dict), hint
    _demand(isinstance(x, dict), at, "no mapping")
    key, value = arguments
    return {key(name): _typed(v, value, (*at, name), leaves) for name, v in x.items()}


def _check_shapes(name: str, fields: Mapping[str, Any], at: tuple[str, ...]) -> None:
    """Every array has the axes that SHAPES names, and each letter is one number."""
    sizes: dict[str, int] = {}
    for field, array in _arrays(fields):
        axes = SHAPES.get(f"{name}.{field}")
        if axes is None:
            continue
        _demand(array.ndim == len(axes.split()), (*at, field), f"an array of {array.ndim} axes, not of ({axes})")
        for axis, size in zip(axes.split(), array.shape, strict=True):
            letter, _, more = axis.partition("+")
            known = int(letter) if letter.isdigit() else sizes.setdefault(letter, size - int(more or 0))
            _demand(size == known + int(more or 0), (*at, field), f"of shape {array.shape}, not ({axes})")


def _arrays(fields: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    for field, value in fields.items():
        some = value.values() if isinstance(value, Mapping) else (value,)
        for one in some:
            if isinstance(one, np.ndarray):
                yield field, one


def _pointer(at: tuple[str, ...]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in at)
