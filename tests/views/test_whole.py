"""The picture of a graph without time steps."""

from __future__ import annotations

import re

import pytest

import minigrad as mg
from minigrad import bptt
from minigrad.errors import RecordError
from minigrad.views import draw


def expression() -> mg.Tensor:
    a, b, c = (mg.Tensor(v, requires_grad=True, name=n) for n, v in (("a", 2.0), ("b", -3.0), ("c", 10.0)))
    return (a * b + c) * mg.tanh(a)


def test_every_op_and_leaf_shows_its_value_and_gradient() -> None:
    record = bptt.backward(expression(), keep="ops")
    source = draw.graph(record).source
    # d = a b + c = 4, L = d tanh a: dL/dc = tanh 2 = 0.964, dL/db = 2 tanh 2 = 1.93
    for label in (r"a\n2\ng", r"b\n-3\ng 1.9", r"c\n10\ng 0.96", r"+\n4\ng 0.96", r"×\n-6\ng 0.96", r"tanh\n0.96\ng 4"):
        assert f'label="{label}' in source


def test_a_graph_drawn_before_backward_says_so_and_shows_no_gradient() -> None:
    source = draw.graph(bptt.record(expression())).source
    assert "no gradient has been computed yet" in source
    assert re.findall(r'id="n\d+" label="[^"]*g ([^"]*)"', source) == ["—"] * 7


def test_computation_runs_from_left_to_right() -> None:
    record = bptt.backward(expression(), keep="ops")
    source = draw.graph(record).source
    x = {int(n): float(at) for n, at in re.findall(r'"n(\d+)" \[pos="([\d.]+),', source)}
    assert record.graph is not None
    assert all(x[p] < x[node.id] for node in record.graph.nodes for p in node.parents)


def chain(length: int) -> bptt.Record:
    x = mg.Tensor([0.5], requires_grad=True, name="x")
    y = x
    for _ in range(length):
        y = mg.tanh(y)
    return bptt.backward(y.sum(), keep="ops")


def test_a_deep_graph_is_folded_in_the_middle_and_fits_the_page() -> None:
    picture = draw.graph(chain(300))
    assert picture.size[0] <= 1200
    shown = len(re.findall(r'class="(?:gate|input) t0"', picture.source))
    assert f"… {302 - shown} ops …" in picture.source


def test_everything_draws_all_of_a_deep_graph() -> None:
    source = draw.graph(chain(60), everything=True).source
    assert source.count('class="gate t0"') == 61
    assert "fold" not in source


def test_a_record_without_ops_cannot_be_drawn_op_by_op() -> None:
    with pytest.raises(RecordError, match="keep='ops'"):
        draw.graph(bptt.backward(expression()))


def test_a_record_without_steps_names_the_picture_that_fits_it() -> None:
    with pytest.raises(RecordError, match=r"draw\.graph"):
        draw.unrolled(bptt.backward(expression(), keep="ops"))
