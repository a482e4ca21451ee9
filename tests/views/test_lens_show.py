"""One entry for every measure: each finds its view, all of them fit, and a notebook shows them by itself."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from minigrad import Tensor, bptt, clip_grad_norm, nn
from minigrad.bptt import storage
from minigrad.bptt.diagnose import diagnose
from minigrad.bptt.gates import gates
from minigrad.bptt.history import History
from minigrad.bptt.jacobian import jacobian_curves, linear_walk
from minigrad.bptt.surface import descent, error_surface, wall
from minigrad.bptt.terms import step_terms
from minigrad.bptt.thresholds import clipping_effects
from minigrad.bptt.truncation import truncation
from minigrad.errors import RecordError
from minigrad.views import lens, report
from tests.bptt.test_storage import MEASURES, RECORDS, measured, recorded, same
from tests.views.test_lens import ascii_of, one_line, printed

EVERY_MEASURE = pytest.mark.parametrize("name", MEASURES)


@EVERY_MEASURE
@pytest.mark.parametrize("width", [40, 80, 120])
def test_every_measure_is_shown_and_no_line_is_wider_than_the_console(name: str, width: int) -> None:
    lines = printed(lens.show(measured("lstm float64", name)), width).splitlines()
    assert lines[0].strip()
    assert max(map(cell_len, lines)) <= width


@EVERY_MEASURE
def test_every_measure_reads_in_ascii(name: str) -> None:
    assert "?" not in ascii_of(lens.show(measured("lstm float64", name)))


@EVERY_MEASURE
def test_what_was_saved_is_shown_as_it_was(name: str, tmp_path: Any) -> None:
    measure = measured("lstm float64", name)
    storage.save(measure, tmp_path / "m")
    assert printed(lens.show(storage.load(tmp_path / "m"))) == printed(lens.show(measure))
    document = json.loads(json.dumps(storage.to_json(measure)))
    assert printed(lens.show(storage.from_json(document))) == printed(lens.show(measure))


@pytest.mark.parametrize("which", [name for name in RECORDS if name != "before backward"])
def test_every_diagnosis_is_shown(which: str) -> None:
    record = RECORDS[which]()
    for sequence in record.sequences:
        found = diagnose(record, sequence=sequence)
        text = one_line(lens.show(found))
        assert text.startswith(f"{found.verdict.capitalize()} in {sequence}: {found.rule}.")


def test_a_lens_of_the_same_name_shows_the_same() -> None:
    record = recorded()
    pairs = [
        (step_terms(record), lens.terms(record)), (jacobian_curves(record), lens.jacobian(record)),
        (gates(record), lens.gates(record)), (truncation(record), lens.truncation(record)),
        (record, report.gradients(record)), ({"a": record, "b": record}, report.compare({"a": record, "b": record})),
    ]  # fmt: skip
    for measure, expected in pairs:
        assert printed(lens.show(measure)) == printed(expected)


def test_a_record_of_several_layers_is_shown_with_all_of_them() -> None:
    record = RECORDS["two layers, two directions, lengths"]()
    text = printed(lens.show(record))
    assert printed(report.layers(record)) in text
    assert printed(report.gradients(record, sequence="l1_reverse")) in text


def test_a_surface_and_descents_are_one_map_and_descents_alone_a_table() -> None:
    found = error_surface(wall, w=[4.0, 5.0, 6.0], b=[-3.0, -2.0])
    free, clipped, other = (
        descent(wall, {"w": 5.0, "b": -2.9}, lr=0.05, steps=2, clip_norm=c) for c in (None, 0.1, 0.1)
    )
    assert printed(lens.show((found, free, clipped))) == printed(
        lens.surface(found, {"without clipping": free, "clipped at 0.1": clipped})
    )
    assert "clipped at 0.1, 3" in printed(lens.show((found, free, clipped, other)))
    assert printed(lens.show({"a": free, "b": clipped})) == printed(lens.descents({"a": free, "b": clipped}))
    assert "Without clipping" in one_line(lens.show(free))


def test_effects_of_clipping_are_side_by_side() -> None:
    effects = clipping_effects(recorded(), max_norm=0.1, clip_value=1e-3)
    assert printed(lens.show(effects)) == printed(lens.clipping(effects))


def test_a_clipping_says_what_it_did() -> None:
    p = Tensor([3.0, 4.0], requires_grad=True, name="p")
    (p * np.array([3.0, 4.0], np.float32)).sum().backward()
    assert one_line(lens.show(clip_grad_norm([p], 1.0))).startswith(
        "Clipping by norm, C=1: fired. ‖g‖ 5 → 1, coefficient 0.2, angle 0°."
    )
    assert "did not fire, ‖g‖ = 1 stays" in one_line(lens.show(clip_grad_norm([p], 2.0)))


def test_what_has_no_lens_is_shown_field_by_field() -> None:
    text = printed(lens.show(linear_walk(recorded())))
    assert text.startswith("LinearWalk: its fields.")
    fields = {line.split()[0] for line in text.splitlines()[3:]}
    assert fields == {f.name for f in dataclasses.fields(linear_walk(recorded()))}


def test_a_long_field_is_cut_and_a_hostile_one_is_shown_as_what_it_is() -> None:
    walk = dataclasses.replace(linear_walk(recorded()), variant="\x1b[31m" + "x" * 500)
    text = printed(lens.show(walk), 60)
    assert "\x1b" not in text
    assert "…" in text


@pytest.mark.parametrize("x", [None, 3, "x", [], {}, (), {"a": 1}, np.ones(3), object(), (1, 2)])
def test_what_is_no_measure_is_refused(x: Any) -> None:
    with pytest.raises(RecordError, match=r"^lens.show: a \w+ is no measure\.\n  Give a Record"):
        lens.show(x)


# In a notebook


class Formatter:
    def __init__(self) -> None:
        self.known: dict[type, Any] = {}

    def for_type(self, cls: type, function: Any) -> None:
        self.known[cls] = function


class Shell:
    """As much of IPython's as an extension needs."""

    def __init__(self) -> None:
        self.display_formatter = type("Display", (), {"mimebundle_formatter": Formatter()})()


def test_an_extension_makes_every_measure_show_itself() -> None:
    shell = Shell()
    lens.load_ipython_extension(shell)
    known = shell.display_formatter.mimebundle_formatter.known
    assert known.keys() >= {*storage.MEASURES, bptt.Record}
    for name in MEASURES:
        measure = measured("lstm float64", name)
        if not isinstance(measure, tuple) or hasattr(measure, "_fields"):
            bundle = known[type(measure)](measure)
            assert bundle["text/html"].startswith("<pre")
            assert bundle["text/plain"].strip()
    assert "l0" in known[bptt.Record](recorded())["text/plain"]


def test_what_cannot_be_shown_is_left_to_python() -> None:
    shell = Shell()
    lens.load_ipython_extension(shell)
    known = shell.display_formatter.mimebundle_formatter.known
    x = Tensor([1.0], requires_grad=True)
    assert known[bptt.Record](bptt.backward((x * x).sum())) is None  # it has no time steps
    assert known[History](History()) is None


def test_the_measures_of_a_layer_with_a_kernel_are_the_same() -> None:
    def measures(kernel: Any) -> Any:
        layer = nn.GRU(3, 4, rng=np.random.default_rng(5), kernel=kernel)
        output, _ = layer(np.random.default_rng(6).standard_normal((5, 2, 3)).astype(np.float32))
        return gates(bptt.backward(output.sum()))

    assert same(storage.from_json(storage.to_json(measures("fused"))), measures("fused"))
    assert one_line(lens.show(measures("fused"))) == one_line(lens.show(measures("steps")))
