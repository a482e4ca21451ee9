"""The benchmarks run and refuse to time what is wrong. Nothing here is timed."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.benchmarks import measures, memory, problem, run, table, timing
from tests.benchmarks.__main__ import ROOT, environment
from tests.benchmarks.contenders import hand_written, hips_autograd, jax_scan, mygrad_ops, ours, pytorch
from tests.benchmarks.measures import MEASURES, Settings
from tests.benchmarks.problem import Disagreement, Result, Size, agree, made
from tests.benchmarks.table import Row, Table
from tests.benchmarks.timing import Spread

SMALL = Size(3, 2, 3, 4)


# The command


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.slow
def test_command_runs_every_measure_within_80_columns_and_writes_nothing():
    before = run.README.read_text("utf8")
    done = command("--tiny")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all(f"### {measure.title}" in lines for measure in MEASURES)
    assert max(len(line) for line in lines if line.startswith("|")) <= table.WIDTH
    assert run.README.read_text("utf8") == before


def test_command_names_what_is_not_installed():
    done = command("--tiny", "--only", "chain")
    assert done.returncode == 0, done.stderr
    for name, package in run.LIBRARIES.items():
        there = run._version(package) is not None
        heading = "Contenders: " if there else "Missing, and not measured: "
        assert any(heading in line and name in line for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--write", "--tiny"), "leave out --tiny"),
        (("--write", "--only", "chain"), "leave out --tiny and --only"),
        (("--repeats", "0"), "counts from 1"),
        (("--only", "nothing"), "invalid choice"),
    ],
)
def test_command_refuses(arguments, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        run.main(arguments)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_environment_has_one_thread_and_leaves_the_kernel_to_openblas():
    made_ = environment({"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "1", "OMP_NUM_THREADS": "8", "HOME": "/"})
    assert made_["OMP_NUM_THREADS"] == made_["OPENBLAS_NUM_THREADS"] == "1"
    assert made_["HOME"] == "/"
    assert not {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"} & set(made_)


def test_only_one_measure_runs(capsys):
    assert run.main(["--tiny", "--only", "chain"]) == 0
    printed = capsys.readouterr().out
    assert [m.name for m in MEASURES if f"### {m.title}" in printed] == ["chain"]


# Who takes part


def contenders():
    """(library, what it computes) of everybody, and the cells that they can."""
    for cell in problem.GATES:
        yield pytest.param(np, ours.steps, cell, id=f"minigrad steps {cell}")
        yield pytest.param(np, ours.recorded, cell, id=f"minigrad record {cell}")
        yield pytest.param(pytorch.torch, pytorch.layer, cell, id=f"PyTorch layer {cell}")
        yield pytest.param(jax_scan.jax, jax_scan.layer, cell, id=f"JAX {cell}")
        yield pytest.param(jax_scan.jax, jax_scan.with_norms, cell, id=f"JAX norms {cell}")
    yield pytest.param(pytorch.torch, pytorch.lstm_ops, "LSTM", id="PyTorch ops")
    yield pytest.param(pytorch.torch, pytorch.cells_with_norms, "LSTM", id="PyTorch cells")
    yield pytest.param(hips_autograd.autograd, hips_autograd.lstm_ops, "LSTM", id="autograd")
    yield pytest.param(mygrad_ops.mygrad, mygrad_ops.lstm_ops, "LSTM", id="MyGrad")


@pytest.mark.parametrize(("library", "build", "cell"), [*contenders()])
@pytest.mark.parametrize("size", [SMALL, Size(1, 1, 1, 1)])
@pytest.mark.filterwarnings("ignore")  # what another library deprecates is its own affair
def test_contender_computes_what_the_fused_layer_computes(library, build, cell, size):
    if library is None:
        pytest.skip("not installed")
    given = made(cell, size)
    step = build(given)
    step()  # the second step starts without the first one's gradients
    agree({"fused": ours.recorded(given)(), "other": step()}, "test")


@pytest.mark.parametrize("kind", ours.LINKS)
def test_chain_ends_where_numpy_ends(kind):
    links = {
        "tanh(h)": (5, lambda h, x: np.tanh(h)),
        "tanh(1.01 h + x) + x": (2, lambda h, x: np.tanh(h * 1.01 + x) + x),
        "h * x": (5, lambda h, x: h * x),
        "h + 1.0": (5, lambda h, x: h + 1),
    }
    count, link = links[kind]
    x = np.full(16, 0.5, np.complex128) + 1j * np.eye(1, 16)[0] * 1e-100
    h = x
    for _ in range(count):
        h = link(h, x)
    start = np.full(16, 0.5, np.float32)
    length = 8 if count == 2 else count
    results = [ours.chain(kind, start, length)()]
    if pytorch.torch is not None:
        results.append(pytorch.chain(kind, start, length)())
    for result in results:
        assert result.loss == pytest.approx(h.sum().real, rel=1e-5)
        assert np.asarray(result.gradients[0]) == pytest.approx(np.full(16, h[0].imag / 1e-100), rel=1e-5)


def test_hand_written_characters_learn_what_minigrad_learns():
    ids = np.random.default_rng(3).integers(0, 5, 50)
    trainer = ours.character_trainer(5, ids, 3, 4, "fused")
    measures._same_update(trainer, hand_written.MinCharRNN(5, ids, 3, 4, np.float64), 3)


def test_hand_written_characters_start_anew_where_the_text_ends():
    hand = hand_written.MinCharRNN(5, np.arange(5), 3, 4, np.float64)
    hand.update()
    assert hand.position == 3
    assert np.any(hand.h)
    hand.update()  # three more would end past the text
    assert hand.position == 3


# Nothing wrong is timed


@pytest.fixture
def right():
    return Result(2.0, [np.array([1.0, -4.0]), np.array([3.0])], np.ones((2, 1)))


@pytest.mark.parametrize(
    ("wrong", "quantity"),
    [
        ({"loss": 2.1}, "the loss"),
        ({"loss": np.nan}, "the loss"),
        ({"gradients": [np.array([1.1, -4.0]), np.array([3.0])]}, "gradient 0"),
        ({"gradients": [np.array([1.0, -4.0]), np.array([[3.0]])]}, "gradient 1"),
        ({"gradients": [np.array([1.0, -4.0]), np.array([np.nan])]}, "gradient 1"),
        ({"norms": np.full((2, 1), 1.1)}, "norms"),
    ],
)
def test_a_contender_that_computes_something_else_is_not_timed(right, wrong, quantity):
    with pytest.raises(Disagreement, match=quantity):
        agree({"one": right, "other": right._replace(**wrong)}, "test")


def test_contenders_that_agree_pass(right):
    close = right._replace(loss=2.0001, gradients=[np.array([1.0001, -4.0]), np.array([3.0])])
    agree({"one": right, "other": close, "without norms": right._replace(norms=None)}, "test")


def test_a_wrong_contender_stops_the_measure():
    wrong = measures.Contender("wrong", np, lambda p: ours.fused(made("LSTM", Size(2, 2, 3, 4))))
    with pytest.raises(Disagreement, match="lstm-fused, teach: the loss of wrong"):
        measures.layers("lstm-fused", "", "LSTM", (measures.MINIGRAD_FUSED, wrong), (1, 1, 1), Settings(1, True))


def test_update_that_differs_stops_the_measure():
    ids = np.random.default_rng(3).integers(0, 5, 50)
    with pytest.raises(Disagreement, match="min-char-rnn"):
        measures._same_update(
            ours.character_trainer(5, ids, 3, 4, "fused"), hand_written.MinCharRNN(5, ids[::-1], 3, 4, np.float64), 3
        )


def test_norms_that_change_the_training_stop_the_measure():
    ids = np.random.default_rng(3).integers(0, 65, 50)
    plain, watched = (ours.text_trainer("lstm", ids, 3, 2, 4, "fused", every) for every in (0, 1))
    measures._same_losses(plain, watched, "history")
    with pytest.raises(Disagreement, match=r"history: losses .* 3 kept"):
        measures._same_losses(plain, ours.text_trainer("lstm", ids, 3, 2, 4, "fused", 1), "history")
    with pytest.raises(Disagreement, match="0 kept"):
        measures._same_losses(*(ours.text_trainer("gru", ids, 3, 2, 4, "fused", 0) for _ in range(2)), "history")


# What is missing is said


def test_missing_contender_has_a_row_that_says_so_and_no_ratio():
    missing = measures.Contender("absent", None, lambda p: pytest.fail("built"))
    found = measures.layers("x", "", "LSTM", (measures.MINIGRAD_FUSED, missing), (1.0, 1.0, 1.0), Settings(1, True))
    own, absent = (next(r for r in found.rows if r.contender == name) for name in ("minigrad, fused", "absent"))
    assert (absent.found, absent.note, absent.ratio) == (None, "missing", None)
    assert own.found is not None
    assert own.ratio is None
    assert "— / 1" in table.rendered(found)


def test_contender_that_recurses_too_deep_has_a_row_that_says_so():
    def build(given):
        raise RecursionError

    deep = measures.Contender("deep", np, build)
    steps, notes = measures._started((measures.MINIGRAD_FUSED, deep), made("LSTM", SMALL), "test")
    assert notes == {"deep": "RecursionError"}
    assert list(steps) == ["minigrad, fused"]


@pytest.mark.parametrize("name", ["memory", "chain"])
@pytest.mark.slow
def test_measure_runs_without_pytorch(name, monkeypatch):
    monkeypatch.setattr(pytorch, "torch", None)
    found = next(m for m in MEASURES if m.name == name).run(Settings(1, True))
    assert next(r.note for r in found.rows if r.contender.startswith("PyTorch")) == "missing"
    assert all(r.ratio is None for r in found.rows)


def test_library_that_is_not_installed_is_none():
    assert problem.optional("no_library_has_this_name") is None
    assert problem.optional("numpy") is np


# Tables


@pytest.mark.parametrize(
    ("ratio", "goal", "text"),
    [
        (0.984, 1.0, "0.98 / 1"), (1.004, 1.0, "1.00 / 1"), (1.006, 1.0, "1.01 / 1 ABOVE"),
        (1.62, 1.4, "1.62 / 1.4 ABOVE"), (1.62, None, "1.62"), (None, 1.4, "— / 1.4"), (None, None, ""),
    ],
)  # fmt: skip
def test_ratio_above_its_goal_is_marked(ratio, goal, text):
    assert table.ratio_text(Row("", "", None, ratio, goal)) == text


@pytest.mark.parametrize(("x", "text"), [(0.0361, "0.036"), (4.912, "4.91"), (36.04, "36"), (1234.5, "1234")])
def test_numbers_have_three_digits(x, text):
    assert table.numbers(x) == text


def test_summary_has_the_ratios_with_a_goal_alone():
    rows = [Row("a", "one", Spread(1, 2, 3), 2.0, 1.0), Row("a", "two", Spread(1, 1, 1), 1.0)]
    some = Table("name", "title", "ms", rows)
    lines = table.summary([some]).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["measure", "-------", "name"]


def test_table_shows_medians_quartiles_and_notes():
    some = Table("name", "title", "ms", [Row("a", "one", Spread(1, 2, 3), 2.0, 1.0), Row("a", "two", note="missing")])
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in table.rendered(some).splitlines()[4:]]
    assert cells == [["a", "one", "2", "1–3", "2.00 / 1 ABOVE"], ["", "two", "—", "missing", ""]]


def test_written_replaces_what_stands_between_the_marks(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n", "utf8")
    table.written(path, "new")
    table.written(path, "newer")
    assert path.read_text("utf8") == f"before\n{table.BEGIN}\n\nnewer\n\n{table.END}\nafter\n"


def test_readme_has_the_marks():
    text = run.README.read_text("utf8")
    assert text.count(table.BEGIN) == text.count(table.END) == 1
    assert text.index(table.BEGIN) < text.index(table.END)


def test_readme_names_every_measure():
    assert [m.name for m in MEASURES if f"`{m.name}`" not in run.README.read_text("utf8")] == []


# Samples


def test_contenders_take_turns_and_each_starts_a_round():
    calls = []
    timing.interleaved({name: lambda name=name: calls.append(name) for name in "abc"}, 3, least=0.0)
    assert "".join(calls) == "aabbcc" + "abc" + "bca" + "cab"  # warmed up and tried, then three rounds


def test_fast_contender_is_repeated_within_a_sample():
    calls = []
    timing.interleaved({"a": lambda: calls.append(0)}, 1, least=1e-3)
    assert len(calls) > 10


def test_garbage_collector_is_off_inside_a_sample_and_on_again_after_an_error():
    seen = []

    def step():
        seen.append(timing.gc.isenabled())
        if len(seen) == 3:
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  # raised above
        timing.interleaved({"a": step}, 5, least=0.0)
    assert seen[1:] == [False] * (len(seen) - 1)
    assert timing.gc.isenabled()


def test_spread_is_the_quartiles():
    assert timing.spread([5.0, 1.0, 3.0, 2.0, 4.0]) == Spread(2.0, 3.0, 4.0)
    assert timing.spread([2.0]) == Spread(2.0, 2.0, 2.0)


def test_peak_is_at_least_what_is_held_now():
    held = memory.now()
    some = np.ones(1 << 22)  # 32 MB
    assert memory.peak() >= held + some.nbytes // 2
    assert memory.peak() >= memory.now() or os.name == "nt"
