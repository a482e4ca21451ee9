"""The picture of a graph without time steps."""

from __future__ import annotations

import itertools
import re
from itertools import pairwise

import numpy as np
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


def ways(source: str) -> dict[str, list[tuple[float, float]]]:
    """The corners of every wire by its id."""
    found = re.findall(r'-> "n\d+" \[pos="s,[-\d.,]+ ([^"]+)".*? id="(\w+)"', source)
    return {name: [tuple(map(float, p.split(","))) for p in way.split()][::3] for way, name in found}  # type: ignore[misc]


def on_one_line(a: list[tuple[float, float]], b: list[tuple[float, float]]) -> bool:
    """Whether two wires have a piece in common."""
    for (p, q), (r, s) in itertools.product(pairwise(a), pairwise(b)):
        for k in (0, 1):
            if abs(p[k] - q[k]) + abs(r[k] - s[k]) + abs(p[k] - r[k]) < 0.01:
                low, high = max(min(p[1 - k], q[1 - k]), min(r[1 - k], s[1 - k])), min(
                    max(p[1 - k], q[1 - k]), max(r[1 - k], s[1 - k])
                )
                if high - low > 0.5:
                    return True
    return False


def test_several_uses_by_one_op_have_a_wire_each() -> None:
    a, b = (mg.Tensor(v, requires_grad=True, name=n) for n, v in (("a", 0.7), ("b", 0.5)))
    drawn = ways(draw.graph(bptt.backward(mg.tanh(a * b) + a * a, keep="ops")).source)
    assert len(drawn) == 7
    assert sum(name.startswith("e_n0_") for name in drawn) == 3
    crossed = [
        (x, y) for x, y in itertools.combinations(drawn, 2)
        for (p, q), (r, s) in itertools.product(pairwise(drawn[x]), pairwise(drawn[y]))
        for (c, d), (e, f) in (((p, q), (r, s)), ((r, s), (p, q)))
        if c[1] == d[1] and e[0] == f[0] and min(c[0], d[0]) < e[0] < max(c[0], d[0])
        and min(e[1], f[1]) < c[1] < max(e[1], f[1])
    ]  # fmt: skip
    assert crossed == []


@pytest.mark.parametrize("seed", range(12))
def test_no_two_wires_lie_on_each_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = [mg.Tensor(np.array(x), requires_grad=True) for x in rng.uniform(0.2, 1, 3)]
    for _ in range(3 + seed):
        p, q = (made[int(k)] for k in rng.integers(max(0, len(made) - 5), len(made), 2))
        made.append([p * q, p + q, mg.tanh(p), p * p][int(rng.integers(4))])
    record = bptt.backward(sum(made[-3:], mg.Tensor(np.array(0.0))), keep="ops")
    assert record.graph is not None
    drawn = ways(draw.graph(record, everything=True).source)
    assert len(drawn) == sum(len(node.parents) for node in record.graph.nodes)
    assert [(x, y) for x, y in itertools.combinations(drawn, 2) if on_one_line(drawn[x], drawn[y])] == []


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
