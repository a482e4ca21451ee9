"""Measures as files and as JSON: all come back bit for bit, hostile ones are refused, docs/json.md says what is there.

After a wanted change of a measure's fields, `MINIGRAD_GOLDEN=renew python -m pytest tests/bptt/test_storage.py` writes
the tables of docs/json.md from the classes; raise `storage.VERSION` with it once a release has had the old one.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import json
import math
import os
import pkgutil
import re
import textwrap
import typing
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal

import numpy as np
import pytest

import minigrad
from minigrad import archive, bptt, clip_grad_norm, nn, optim
from minigrad.bptt import storage
from minigrad.bptt.attribution import attribution
from minigrad.bptt.diagnose import diagnose
from minigrad.bptt.fault import Fault, Zero, first_fault, first_zero
from minigrad.bptt.gates import gates
from minigrad.bptt.history import Diagnosed
from minigrad.bptt.jacobian import jacobian_curves, linear_walk
from minigrad.bptt.record import Record, StackedTerms
from minigrad.bptt.surface import descent, error_surface, wall
from minigrad.bptt.terms import step_terms
from minigrad.bptt.thresholds import clipping_effects, norms_over_training
from minigrad.bptt.truncation import Truncation, truncation
from minigrad.errors import RecordError

ROOT = Path(__file__).parents[2]


@functools.cache
def recorded(kind: str = "LSTM", steps: int = 7, batch: int = 2, dtype: Any = np.float32, last: bool = True,
             keep: Any = "steps", lengths: tuple[int, ...] | None = None, **options: Any) -> Record:  # fmt: skip
    rng = np.random.default_rng(5)
    layer = getattr(nn, kind)(3, 4, rng=rng, dtype=dtype, **options)
    x = rng.standard_normal((steps, batch, 3)).astype(dtype)
    output, _ = layer(x, lengths=None if lengths is None else list(lengths))
    loss = ((output[-1] if last else output) ** 2).sum()
    record = bptt.backward(loss, keep=keep)
    clipping = clip_grad_norm(list(layer.parameters()), 1e-3)
    return record.after(clipping=clipping, update=optim.Adam(layer.parameters(), lr=1e-2).step())


def untouched() -> Record:
    layer = nn.LSTM(3, 4, rng=np.random.default_rng(0))
    return bptt.record(layer(np.ones((3, 1, 3), np.float32))[0].sum())


@functools.cache
def faulty() -> Fault:
    x = minigrad.Tensor([1.0, 2.0], requires_grad=True)
    with np.errstate(all="ignore"), minigrad.named_scope("cell"):
        found = first_fault(minigrad.log(x - 1.0).sum())
    assert found is not None
    return found


@functools.cache
def died() -> Zero:
    x = minigrad.Tensor([-1.0, -2.0], requires_grad=True)
    with minigrad.named_scope("cell"):
        found = first_zero(minigrad.relu(x).sum())
    assert found is not None
    return found


def diagnosed(record: Record) -> Diagnosed:
    found = diagnose(record)
    assert found.lane is not None
    return Diagnosed(7, found.sequence, found.verdict, found.state, np.array(found.lane.arriving))


RECORDS: dict[str, Any] = {
    "rnn": lambda: recorded("RNN", last=False),
    "relu": lambda: recorded("RNN", nonlinearity="relu"),
    "lstm float64": lambda: recorded("LSTM", dtype=np.float64),
    "gru fused": lambda: recorded("GRU", kernel="fused"),
    "gru reset before": lambda: recorded("GRU", reset_after=False, last=False),
    "one step, one sample": lambda: recorded("LSTM", 1, 1),
    "two layers, two directions, lengths": lambda: recorded("GRU", num_layers=2, bidirectional=True, lengths=(7, 3)),
    "ops": lambda: recorded("LSTM", 2, keep="ops"),
    "before backward": untouched,
}
EVERY_RECORD = pytest.mark.parametrize("which", RECORDS)

MEASURES: dict[str, Any] = {
    "StepTerms": lambda r: step_terms(r)[0],
    "several StepTerms": step_terms,
    "JacobianCurves": jacobian_curves,
    "LinearWalk": linear_walk,
    "Attribution": attribution,
    "Gates": gates,
    "Activity": lambda r: next(iter(gates(r).gates.values())),
    "Diagnosis": diagnose,
    "Lane": lambda r: diagnose(r).lane,
    "Fault": lambda r: faulty(),
    "Zero": lambda r: died(),
    "Diagnosed": diagnosed,
    "Norms": lambda r: norms_over_training([1.0, 3.0, math.nan, math.inf], [1.0, 2.0, math.nan, math.inf]),
    "Norms without clipping": lambda r: norms_over_training([1e308, 1e308]),
    "ClippingEffect": lambda r: clipping_effects(r, max_norm=0.1)[0],
    "several ClippingEffects": lambda r: clipping_effects(r, max_norm=0.1, clip_value=1e-3, limit=1e-3),
    "Clipping": lambda r: r.clipping,
    "Truncation": truncation,
    "ErrorSurface": lambda r: error_surface(wall, w=[4.0, 5.0, 6.0], b=[-3.0, -2.0]),
    "Descent": lambda r: descent(wall, {"w": 5.0, "b": -2.9}, lr=0.05, steps=2),
    "clipped Descent": lambda r: descent(wall, {"w": 5.0, "b": -2.9}, lr=0.05, steps=2, clip_norm=0.1),
    "mixed": lambda r: (truncation(r), gates(r)),
}
EVERY_MEASURE = pytest.mark.parametrize("name", MEASURES)


def measured(which: str, name: str) -> Any:
    """The measure of a record; None where it has none."""
    record = RECORDS[which]()
    if name != "Clipping" and not record.complete:
        return gates(record) if name == "Gates" else None
    return MEASURES[name](record)


def same(a: Any, b: Any) -> bool:
    """Equal in type and every bit; mappings by their content and order; NaN is NaN."""
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and [*a] == [*b] and all(same(a[k], b[k]) for k in a)
    if isinstance(a, np.ndarray):
        if type(b) is not np.ndarray or (a.dtype, a.shape) != (b.dtype, b.shape):
            return False
        if a.dtype.kind == "f":
            a, b = np.where(np.isnan(a), np.nan, a), np.where(np.isnan(b), np.nan, b)
        return bool(a.tobytes() == b.tobytes())
    if isinstance(a, float):
        return isinstance(b, float) and same(np.array(a), np.array(b))
    if dataclasses.is_dataclass(a):
        names = [f.name for f in dataclasses.fields(a)]
        return type(a) is type(b) and all(same(getattr(a, n), getattr(b, n)) for n in names)
    if isinstance(a, tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b)


# What is registered


def public() -> dict[str, type]:
    """Every dataclass and NamedTuple that a module of bptt makes public and defines."""
    found = {}
    for info in pkgutil.iter_modules(bptt.__path__):
        module = importlib.import_module(f"{bptt.__name__}.{info.name}")
        for name in getattr(module, "__all__", ()):
            x = getattr(module, name)
            own = isinstance(x, type) and x.__module__ == module.__name__
            if own and (dataclasses.is_dataclass(x) or (issubclass(x, tuple) and hasattr(x, "_fields"))):
                found[name] = x
    return found


def test_every_public_class_of_a_measure_is_registered() -> None:
    found = public()
    assert {"StepTerms", "Gates", "Record", "Reading"} <= found.keys()  # the reader of modules itself
    registered = {cls.__name__: cls for cls in (*storage.MEASURES, *storage.PARTS)}
    assert {name: cls for name, cls in found.items() if registered.get(name) is not cls} == {}


def test_every_class_is_registered_once() -> None:
    names = [cls.__name__ for cls in (*storage.MEASURES, *storage.PARTS)]
    assert sorted(names) == sorted({*names})


def test_every_measure_is_tested_here() -> None:
    made = {type(measured("lstm float64", name)) for name in MEASURES} - {tuple}
    assert made == {*storage.MEASURES}


def test_no_field_is_called_type() -> None:
    """For so the name of the class is called."""
    assert [cls.__name__ for cls in (*storage.MEASURES, *storage.PARTS) if "type" in fields_of(cls)] == []


def test_every_array_of_a_measure_has_its_axes() -> None:
    fields = [(f"{cls.__name__}.{name}", hint) for cls in storage.MEASURES for name, hint in fields_of(cls).items()]
    assert storage.SHAPES.keys() == {name for name, hint in fields if "array" in words(hint)}


# Files


@EVERY_MEASURE
@EVERY_RECORD
def test_a_measure_comes_back_from_a_file_bit_for_bit(which: str, name: str, tmp_path: Path) -> None:
    measure = measured(which, name)
    if measure is None:
        return
    storage.save(measure, tmp_path / "m")
    assert same(storage.load(tmp_path / "m"), measure)


def test_a_file_says_what_it_is_and_numpy_opens_it(tmp_path: Path) -> None:
    measure = gates(recorded())
    storage.save(measure, tmp_path / "m")
    with zipfile.ZipFile(tmp_path / "m") as file:
        header = json.loads(file.read("header.json"))
    assert (header["format"], header["version"]) == ("minigrad measure", storage.VERSION)
    assert header["header"]["content"]["type"] == "Gates"
    with np.load(tmp_path / "m") as arrays:
        assert measure.half_lives is not None
        np.testing.assert_array_equal(arrays["half_lives"], measure.half_lives)
        np.testing.assert_array_equal(arrays["gates.f.mean"], measure.gates["f"].mean)


def test_names_that_would_meet_in_a_file_stay_apart(tmp_path: Path) -> None:
    cut = truncation(recorded())
    one, two = np.full(len(cut.lengths), 1.0), np.full(len(cut.lengths), 2.0)
    measure = (dataclasses.replace(cut, lost_by_weight={"a": one, "a_": two, "../x": one, "": two, "a/~b": one}),)
    storage.save(measure, tmp_path / "m")
    assert same(storage.load(tmp_path / "m"), measure)
    assert same(storage.from_json(through_text(storage.to_json(measure))), measure)
    activity = next(iter(gates(recorded()).gates.values()))
    odd = dataclasses.replace(gates(recorded()), gates={"f": activity, "f.mean": activity})
    storage.save(odd, tmp_path / "m")
    assert same(storage.load(tmp_path / "m"), odd)


def test_nan_keeps_its_bits_in_a_file(tmp_path: Path) -> None:
    payload = np.frombuffer(np.uint64(0x7FF8_0000_0000_0123).tobytes())
    measure = dataclasses.replace(truncation(recorded(steps=1)), lost=payload)
    storage.save(measure, tmp_path / "m")
    assert storage.load(tmp_path / "m").lost.tobytes() == payload.tobytes()


def test_an_older_file_stays_whole_when_a_measure_cannot_be_written(tmp_path: Path) -> None:
    measure = truncation(recorded())
    storage.save(measure, tmp_path / "m")
    with pytest.raises(RecordError, match="holds a list at /sequence"):
        storage.save(dataclasses.replace(measure, sequence=["l0"]), tmp_path / "m")  # type: ignore[arg-type]
    assert same(storage.load(tmp_path / "m"), measure)


@pytest.mark.parametrize("x", [None, 3, "x", [], {}, (), (1,), np.ones(3), object()])
@pytest.mark.parametrize("attempt", ["save", "to_json"])
def test_what_is_no_measure_is_refused(x: Any, attempt: str, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=f"^{attempt}: this is .*no measure.\n  Give one of StepTerms"):
        storage.save(x, tmp_path / "m") if attempt == "save" else storage.to_json(x)
    assert [*tmp_path.iterdir()] == []


def test_a_record_has_a_file_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"whole record.\n  Use record.save"):
        storage.save(recorded(), tmp_path / "r")
    recorded().save(tmp_path / "r")
    with pytest.raises(RecordError, match=r"another kind of file, 'minigrad record'\.\n.*Record\.load"):
        storage.load(tmp_path / "r")


def test_a_measure_is_no_record(tmp_path: Path) -> None:
    storage.save(gates(recorded()), tmp_path / "m")
    with pytest.raises(RecordError, match="another kind of file, 'minigrad measure'"):
        Record.load(tmp_path / "m")


# JSON


def through_text(document: dict[str, Any]) -> Any:
    """As another program gets it and gives it back."""
    return json.loads(json.dumps(document, allow_nan=False))


@EVERY_MEASURE
@EVERY_RECORD
def test_a_measure_comes_back_from_json_bit_for_bit(which: str, name: str) -> None:
    measure = measured(which, name)
    if measure is not None:
        assert same(storage.from_json(through_text(storage.to_json(measure))), measure)


@EVERY_RECORD
def test_a_record_comes_back_from_json_bit_for_bit(which: str) -> None:
    record = RECORDS[which]()
    assert same(storage.from_json(through_text(storage.to_json(record))), as_loaded(record))


def as_loaded(x: Any) -> Any:
    """Mappings that make their values when asked are the values; a bare list of terms is a tuple."""
    if dataclasses.is_dataclass(x) and not isinstance(x, (StackedTerms, type)):
        names = [f.name for f in dataclasses.fields(x)]
        return type(x)(**{name: as_loaded(getattr(x, name)) for name in names})
    return {k: as_loaded(v) for k, v in x.items()} if isinstance(x, Mapping) else x


def test_json_of_a_record_equals_the_record() -> None:
    assert storage.from_json(through_text(storage.to_json(recorded(keep="ops")))) == recorded(keep="ops")


def test_the_document_reads_by_itself() -> None:
    document = storage.to_json(truncation(recorded()))
    assert [*document] == ["format", "version", "content", "arrays", "numbers"]
    assert document["content"]["type"] == "Truncation"
    assert document["content"]["lengths"] == [1, 2, 5, 7]
    assert all(type(x) is float for x in document["content"]["lost"])
    assert document["arrays"]["/lost"] == {"dtype": "float64", "shape": [4]}


def test_numbers_that_json_lacks_are_null_and_said_to_be() -> None:
    shape = {"across": np.array([1.0]), "up": np.array([1.0, 2.0])}
    surface = dataclasses.replace(
        error_surface(wall, w=[1.0], b=[1.0, 2.0]), **shape,
        errors=np.array([[math.nan], [math.inf]]), gradients=np.array([[-math.inf], [-0.0]]),
    )  # fmt: skip
    document = storage.to_json(surface)
    assert document["content"]["errors"] == [[None], [None]]
    assert document["arrays"]["/errors"] == {"dtype": "float64", "shape": [2, 1], "inf": [1]}
    assert document["arrays"]["/gradients"]["-inf"] == [0]
    assert same(storage.from_json(through_text(document)), surface)
    effect = dataclasses.replace(clipping_effects(recorded(), max_norm=1.0)[0], angle=math.nan, ratio_after=math.inf)
    document = storage.to_json(effect)
    assert document["content"]["angle"] is None
    assert document["numbers"] == {"/angle": "nan", "/ratio_after": "inf"}
    assert same(storage.from_json(through_text(document)), effect)
    del document["numbers"]
    assert math.isnan(storage.from_json(document).ratio_after)


def test_a_whole_number_stands_for_a_float_that_has_no_fraction() -> None:
    document = storage.to_json(norms_over_training([1.0, 2.0, 3.0]))
    assert document["content"]["mean"] == 2.0
    document["content"]["mean"] = 2
    assert type(storage.from_json(document).mean) is float


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint64, np.bool_])
def test_an_array_keeps_its_type_and_shape_in_json(dtype: Any) -> None:
    walk = linear_walk(recorded())
    for real in (np.zeros((7, 2), dtype), np.zeros((0, 2), dtype), np.ones((7, 0), dtype)):
        one = dataclasses.replace(walk, real=real, before={}, slopes={})
        assert same(storage.from_json(through_text(storage.to_json(one))).real, real)


@pytest.mark.parametrize("dtype", [np.complex128, ">f8", "datetime64[s]"])
def test_an_array_that_json_has_no_numbers_for_is_refused(dtype: Any) -> None:
    walk = dataclasses.replace(linear_walk(recorded()), real=np.zeros((7, 2), dtype))
    if dtype == ">f8":  # only the order of its bytes differs
        assert storage.to_json(walk)["arrays"]["/real"]["dtype"] == "float64"
    else:
        with pytest.raises(RecordError, match=r"^to_json: /real is an array of"):
            storage.to_json(walk)


# Hostile files and documents


def changed(document: Any, path: str, new: Any) -> Any:
    """A copy in which one place holds something else; a new value `...` takes it away."""
    document = json.loads(json.dumps(document))
    *way, last = path.split("/")
    place = functools.reduce(lambda x, key: x[int(key) if isinstance(x, list) else key], way, document)
    if new is ...:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = new
    return document


DAMAGE: list[tuple[str, Any]] = [
    ("type", "Record"), ("type", "Lane"), ("type", "str"), ("type", "__class__"), ("type", None), ("type", 3),
    ("type", ["Gates"]), ("type", ...), ("sequence", 3), ("sequence", None), ("sequence", ...), ("sequence", ["l0"]),
    ("more", 1), ("low", "0.1"), ("low", True), ("low", [0.1]), ("gates", []), ("gates", None), ("gates/f", None),
    ("gates/f", {}), ("gates/f/type", "Gates"), ("gates/f/kind", "softmax"), ("gates/f/kind", 1),
    ("gates/f/mean", None), ("gates/f/mean", 3), ("gates/f/mean", "x"), ("gates/f/mean", {}), ("still", 3),
    ("still", [1.5]), ("still", [True]), ("still", None), ("keeps", 3), ("half_lives", "x"), ("half_lives", 1.0),
]  # fmt: skip


@pytest.mark.parametrize(("path", "new"), DAMAGE, ids=str)
def test_a_document_that_describes_no_measure_is_refused(path: str, new: Any) -> None:
    good = storage.to_json(gates(recorded()))
    with pytest.raises(RecordError, match=r"^from_json: it describes no measure.*\n  Give what to_json made"):
        storage.from_json(changed(good, f"content/{path}", new))


@pytest.mark.parametrize(("path", "new"), DAMAGE, ids=str)
def test_a_file_that_describes_no_measure_is_refused(path: str, new: Any, tmp_path: Path) -> None:
    storage.save(gates(recorded()), tmp_path / "m")
    header, arrays = archive.read(tmp_path / "m", storage._KIND)
    archive.write(tmp_path / "bad", storage._KIND, changed(header, f"content/{path}", new), arrays)
    with pytest.raises(RecordError, match=r"^read '.*bad' as minigrad measure: its header describes no m.*\n  Give"):
        storage.load(tmp_path / "bad")


@pytest.mark.parametrize(
    ("path", "new"),
    [("arrays", ...), ("arrays", []), ("arrays//half_lives", ...), ("arrays//half_lives/dtype", "object"),
     ("arrays//half_lives/dtype", "<U2"), ("arrays//half_lives/dtype", "complex128"),
     ("arrays//half_lives/dtype", None),
     ("arrays//half_lives/dtype", "int64"), ("arrays//half_lives/dtype", "bool"), ("arrays//half_lives/shape", [3]),
     ("arrays//half_lives/shape", [5]), ("arrays//half_lives/shape", [4, 1]), ("arrays//half_lives/shape", [-4]),
     ("arrays//half_lives/shape", [4.0]), ("arrays//half_lives/shape", "4"), ("arrays//half_lives/shape", []),
     ("arrays//half_lives/shape", [1 << 62]), ("arrays//half_lives/inf", [0]), ("arrays//half_lives/inf", [99]),
     ("arrays//half_lives/inf", ["0"]), ("arrays//half_lives/inf", [True]), ("content/half_lives/0", "x"),
     ("content/half_lives/0", True), ("content/half_lives/0", [1.0]), ("content/half_lives/0", 10**400),
     ("content/half_lives", [1.0]), ("content", None), ("content", []), ("content", [[]]), ("content", [3]),
     ("numbers", [])],
)  # fmt: skip
def test_a_document_whose_arrays_are_wrong_is_refused(path: str, new: Any) -> None:
    good = storage.to_json(gates(recorded()))
    *way, last = path.replace("//", "/\0").split("/")
    bad = json.loads(json.dumps(good))
    place = functools.reduce(lambda x, k: x[k.replace("\0", "/")], way, bad)
    last = last.replace("\0", "/")
    if new is ...:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = new
    with pytest.raises(RecordError, match=r"^from_json: it describes no measure"):
        storage.from_json(bad)


@pytest.mark.parametrize(
    "document",
    [None, 3, "x", [], {}, {"format": "minigrad bptt", "version": 2}, {"format": "minigrad measure"},
     {"format": "minigrad measure", "version": "1"}, {"format": "minigrad measure", "version": 0},
     {"format": "minigrad measure", "version": storage.VERSION - 1},
     {"format": "minigrad measure", "version": storage.VERSION + 1},
     {"format": ["minigrad measure"], "version": storage.VERSION}],
)  # fmt: skip
def test_a_document_of_another_kind_is_refused(document: Any) -> None:
    read = f"'minigrad measure', version {storage.VERSION}, is read"
    with pytest.raises(RecordError, match=rf"^from_json: .*, where {read}\.\n  Give"):
        storage.from_json(document)


def test_a_message_says_where_a_document_is_wrong() -> None:
    good = storage.to_json(gates(recorded()))
    with pytest.raises(RecordError, match="'/gates/f/kind' is none of sigmoid, tanh, relu"):
        storage.from_json(changed(good, "content/gates/f/kind", "softmax"))


def test_a_message_stays_short_and_plain_whatever_a_name_is() -> None:
    gate = storage.to_json(gates(recorded()))["content"]["gates"]["f"]
    for name in ("\x1b[31m", "x" * 100_000):
        bad = changed(storage.to_json(gates(recorded())), "content/gates", {name: {**gate, "kind": 3}})
        with pytest.raises(RecordError) as caught:
            storage.from_json(bad)
        assert "\x1b" not in str(caught.value)
        assert len(str(caught.value)) < 600


def test_arrays_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    terms = step_terms(recorded())[0]
    for wrong in (np.zeros(3), np.zeros((7, 1)), np.array(1.0)):
        bad = dataclasses.replace(terms, cosines=wrong)
        with pytest.raises(RecordError, match=r"/cosines' is (of shape \(3,\), not|an array of \d axes, not of) \(T\)"):
            storage.from_json(storage.to_json(bad))
        storage.save(bad, tmp_path / "m")
        with pytest.raises(RecordError, match="describes no measure"):
            storage.load(tmp_path / "m")


def test_curves_have_one_entry_more_than_steps() -> None:
    curves = jacobian_curves(recorded())
    assert same(storage.from_json(storage.to_json(curves)), curves)
    with pytest.raises(RecordError, match=r"/largest' is of shape \(7,\), not \(Q\+1\)"):
        storage.from_json(storage.to_json(dataclasses.replace(curves, largest=curves.largest[1:])))


def test_a_way_over_a_surface_has_two_parameters() -> None:
    way = descent(wall, {"w": 5.0, "b": -2.9}, lr=0.05, steps=2)
    with pytest.raises(RecordError, match=r"/path' is of shape \(3, 1\), not \(K\+1 2\)"):
        storage.from_json(storage.to_json(dataclasses.replace(way, path=way.path[:, :1])))


@pytest.mark.parametrize("keep", [0, 10, 100])
def test_a_file_cut_short_is_refused(keep: int, tmp_path: Path) -> None:
    storage.save(gates(recorded()), tmp_path / "m")
    (tmp_path / "m").write_bytes((tmp_path / "m").read_bytes()[:keep])
    with pytest.raises(RecordError, match="as minigrad measure"):
        storage.load(tmp_path / "m")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"there is no such file\.\n  Give a file that storage.save wrote"):
        storage.load(tmp_path / "m")


# docs/json.md


DOCUMENT = ROOT / "docs" / "json.md"


def fields_of(cls: type) -> dict[str, Any]:
    names = getattr(cls, "_fields", None) or [f.name for f in dataclasses.fields(cls)]
    hints = typing.get_type_hints(cls)
    return {name: hints[name] for name in names}


def words(hint: Any) -> str:
    """A field's type as the document calls it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        kinds = [words(a) for a in arguments if a is not NoneType]
        return " or ".join(kinds) + ", or null" * (NoneType in arguments)
    if origin is Literal:
        return "one of " + ", ".join(f"`{a}`" for a in arguments)
    if origin is np.ndarray:
        return "array"
    if origin in (tuple, Sequence):
        if origin is tuple and arguments[-1] is not Ellipsis:
            return f"list of {len(arguments)}: {', '.join(map(words, arguments))}"
        inner = words(arguments[0])
        return f"list of ({inner})" if " or " in inner else f"list of {inner}"
    if origin in (Mapping, dict):
        return f"by name: {words(arguments[1])}" if arguments[0] is str else f"by number: {words(arguments[1])}"
    plain = {bool: "boolean", int: "whole number", float: "number", str: "text"}
    return plain.get(hint) or f"[{hint.__name__}](#{hint.__name__.lower()})"


def meanings(cls: type) -> dict[str, str]:
    """What the class's docstring says of each field."""
    part = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2]
    lines = textwrap.dedent(part.split("\n\n")[0]).splitlines()
    said: dict[str, str] = {}
    names: list[str] = []
    for line in lines:
        found = re.match(r"(\w+(?:, \w+)*): (.*)", line)
        if found:
            names = found[1].split(", ")
            said |= dict.fromkeys(names, found[2])
        else:
            said |= {name: f"{said[name]} {line.strip()}" for name in names}
    return said


def tables() -> str:
    parts = []
    for title, classes in (("Measures", storage.MEASURES), ("What they are made of", storage.PARTS)):
        parts.append(f"## {title}\n")
        for cls in classes:
            first = inspect.cleandoc(cls.__doc__ or "").splitlines()[0]
            said = meanings(cls)
            parts.append(f"### {cls.__name__}\n\n{first}\n\n| field | type | axes | meaning |\n|---|---|---|---|")
            for name, hint in fields_of(cls).items():
                axes = storage.SHAPES.get(f"{cls.__name__}.{name}", "")
                meaning = said.get(name, "").replace("|", "\\|").replace("<", "&lt;")
                parts.append(f"| `{name}` | {words(hint)} | {axes} | {meaning} |")
            parts.append("")
    return "\n".join(parts)


def test_the_document_names_the_fields_of_the_code() -> None:
    head, mark, written = DOCUMENT.read_text("utf8").partition("## Measures\n")
    if os.environ.get("MINIGRAD_GOLDEN") == "renew":
        DOCUMENT.write_text(head + tables(), "utf8")
        return
    assert (mark + written).strip() == tables().strip(), "the fields have changed: see the top of this file"


def test_the_document_names_format_and_version() -> None:
    text = DOCUMENT.read_text("utf8")
    assert f'"format": "{storage.FORMAT}"' in text
    assert f'"version": {storage.VERSION}' in text


def example(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT.read_text("utf8"), re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_json_of_the_document_is_what_the_code_writes_and_reads() -> None:
    measure = storage.from_json(json.loads(example("json")))
    assert isinstance(measure, Truncation)
    assert measure.lengths == (1, 2, 4)
    assert math.isnan(measure.angles[0])
    assert storage.to_json(measure) == json.loads(example("json"))


def test_the_python_of_the_document_runs() -> None:
    exec(compile(example("python"), str(DOCUMENT), "exec"), {"record": recorded()})  # the document's own code
