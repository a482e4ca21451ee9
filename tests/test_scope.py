"""Scopes: the path of names an op is recorded under."""

import contextvars
import dataclasses

import pytest

from minigrad import Tensor, named_scope
from minigrad.scope import Run, Scope, current, is_recording, no_grad, time_step

RUN = Run(name="l0", cell="LSTM", steps=4, scope=("lstm",), number=7)


def here():
    return current.get().scope


def test_outside_any_scope_the_path_is_empty():
    assert (here().path, str(here())) == ((), "")


def test_scopes_nest_outermost_first():
    with named_scope("model"), named_scope("lstm"):
        assert here().path == ("model", "lstm")


def test_scope_reads_as_a_path():
    with named_scope("lstm"), time_step(2, RUN), named_scope("forget gate"):
        assert str(here()) == "lstm / t=3 / forget gate"


def test_time_step_counts_from_one_in_its_name_and_from_zero_in_its_index():
    with time_step(0, RUN):
        assert (here().path, here().time, here().run) == (("t=1",), 0, RUN)


def test_outside_a_time_step_a_scope_is_no_part():
    with named_scope("loss", symbol="L"):
        assert here() == Scope(("loss",))


def test_outermost_scope_inside_a_step_is_its_part():
    with time_step(0, RUN), named_scope("forget gate", symbol="f"):
        assert (here().part, here().symbol) == ("forget gate", "f")


def test_deeper_scope_keeps_the_part_it_is_in():
    with time_step(0, RUN), named_scope("forget gate", symbol="f"), named_scope("sum", symbol="s"):
        assert here().path == ("t=1", "forget gate", "sum")
        assert (here().part, here().symbol) == ("forget gate", "f")


def test_part_without_a_symbol_is_drawn_by_its_name():
    with time_step(0, RUN), named_scope("attention"):
        assert here().symbol == "attention"


def test_scope_above_the_step_is_no_part():
    with named_scope("lstm", symbol="x"), time_step(0, RUN):
        assert (here().part, here().symbol) == (None, None)


def test_step_within_a_part_of_another_step_starts_afresh():
    inner = dataclasses.replace(RUN, name="l1", number=8)
    with time_step(3, RUN), named_scope("decoder", symbol="d"):
        with time_step(0, inner):
            assert here() == Scope(("t=4", "decoder", "t=1"), 0, inner)
        assert (here().time, here().run, here().part) == (3, RUN, "decoder")


def test_path_is_restored_after_the_block():
    with named_scope("outer"):
        with named_scope("inner"):
            pass
        assert here().path == ("outer",)
    assert here().path == ()


def test_path_is_restored_after_an_exception():
    with named_scope("outer"):
        with pytest.raises(KeyError), time_step(1, RUN), named_scope("inner"):
            raise KeyError
        assert here() == Scope(("outer",))


def test_one_scope_may_be_opened_again():
    gate = named_scope("gate")
    for outer in ("a", "b"):
        with named_scope(outer), gate:
            assert here().path == (outer, "gate")
    assert here().path == ()


def test_one_scope_may_be_opened_within_itself():
    again, seen = named_scope("block"), []

    def open_twice():
        with again:
            with again:
                seen.append(here().path)
            seen.append(here().path)
        seen.append(here().path)

    contextvars.copy_context().run(open_twice)
    assert seen == [("block", "block"), ("block",), ()]


def test_scope_does_not_end_no_grad():
    with no_grad(), named_scope("evaluation"):
        assert not is_recording()


def test_no_grad_keeps_the_scope():
    with named_scope("evaluation"), no_grad():
        assert here().path == ("evaluation",)


def test_tensors_remember_the_scope_they_were_made_in():
    x = Tensor([1.0], requires_grad=True)
    with named_scope("lstm"), time_step(2, RUN), named_scope("output gate", symbol="o"):
        y = x * x
    assert x.scope == Scope()
    assert y.scope == Scope(("lstm", "t=3", "output gate"), 2, RUN, "output gate", "o")


def test_runs_of_the_same_words_are_two_runs():
    again = dataclasses.replace(RUN)
    assert again != RUN
    assert RUN == RUN
    assert len({RUN, again}) == 2


def test_run_has_every_step_real_and_walks_forward_unless_told():
    assert (RUN.lengths, RUN.reverse) == (None, False)
