"""The training loop: truncated BPTT, what it carries and cuts, what it reports, and how it goes on after a break."""

from __future__ import annotations

import gc
import math
import resource
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor, bptt, checkpoint, clip_grad_norm, clip_grad_value, nn, optim
from minigrad.bptt.diagnose import diagnose
from minigrad.character import CharacterModel
from minigrad.data.chunks import Chunk, Chunks
from minigrad.errors import CheckpointError, DataError, MinigradError, NonFiniteError
from minigrad.train import History, Step, Trainer, evaluate

TEXT = "the cat sat on the mat; the dog did not.\n" * 4
CHARACTERS = sorted(set(TEXT))
IDS = np.array([CHARACTERS.index(c) for c in TEXT])

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.05, momentum=0.9),
    "adagrad": lambda p: optim.Adagrad(p, lr=0.1),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "adam": lambda p: optim.Adam(p, lr=0.01),
}
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)


def character_model(cell: str = "lstm", seed: int = 0, **options: Any) -> CharacterModel:
    return CharacterModel(CHARACTERS, cell, rng=np.random.default_rng(seed), **{"hidden": 6, "embedding": 4, **options})


def trainer(
    cell: str = "lstm", optimizer: str = "adam", steps: int = 7, batch: int = 3, ids: Any = IDS,
    model: dict[str, Any] | None = None, **options: Any,
) -> Trainer:  # fmt: skip
    made = character_model(cell, **(model or {}))
    return Trainer(made, OPTIMIZERS[optimizer](made.parameters()), Chunks(ids, steps, batch), **options)


def weights(of: Trainer) -> dict[str, bytes]:
    return {name: w.tobytes() for name, w in of.model.state_dict().items()}


class Sine(nn.Module):
    """A user's own: predicts the next number. Its state is a tuple, or none at all."""

    def __init__(self, carries: bool = True) -> None:
        rng = np.random.default_rng(0)
        self.carries = carries
        self.cell = nn.RNNCell(1, 8, rng=rng)
        self.readout = nn.Linear(8, 1, rng=rng)
        self.received: list[Any] = []

    def loss(self, inputs: Any, targets: Any, state: Any = None, *, reduction: str = "mean") -> tuple[Tensor, Any]:
        self.received.append(state)
        outputs, last = nn.unroll(self.cell, inputs[:, :, np.newaxis], None if state is None else nn.RNNState(*state))
        loss = nn.mse_loss(self.readout(outputs), targets[:, :, np.newaxis], reduction=reduction)
        return loss, last if self.carries else None


class Line(nn.Module):
    """The smallest: w x for the next number; no time, no state."""

    def __init__(self, w: float = 1.0, dtype: Any = np.float64) -> None:
        self.w = nn.Parameter(np.array([w], dtype))

    def loss(self, inputs: Any, targets: Any, state: Any = None, *, reduction: str = "mean") -> tuple[Tensor, Any]:
        return nn.mse_loss(self.w * inputs, targets, reduction=reduction), state


def sine(length: int = 400) -> Any:
    return np.sin(np.arange(length) * 0.3).astype(np.float32)


# What an update is


@pytest.mark.parametrize("clip", ["norm", "value", "none"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_training_equals_the_loop_written_out(cell: str, reduction: str, clip: str) -> None:
    steps, batch, updates = 7, 3, 30  # 41 * 4 = 164 characters, 54 a stream: 7 chunks, so it begins anew four times
    limit = {"norm": {"clip_norm": 0.3}, "value": {"clip_value": 0.02}, "none": {}}[clip]
    schedule = optim.cosine_decay(40, warmup=5)
    subject = trainer(cell, "adam", steps, batch, reduction=reduction, schedule=schedule, **limit)
    seen: list[Step] = []
    subject.run(updates, [lambda _, step: seen.append(step)])

    model = character_model(cell)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    streams = IDS[: 54 * batch].reshape(batch, 54).T
    start, state, fired = 0, None, []
    for k in range(updates):
        if start + steps >= 54:
            start, state = 0, None
        inputs, targets = streams[start : start + steps], streams[start + 1 : start + steps + 1]
        scores, state = model(inputs, state)
        state = state.detach() if isinstance(state, Tensor) else tuple(s.detach() for s in state)
        loss = nn.cross_entropy(scores, targets, reduction=reduction)
        model.zero_grad()
        loss.backward()
        norm = math.sqrt(sum(float((p.grad.astype(np.float64) ** 2).sum()) for p in model.parameters()))
        if clip == "norm":
            fired.append(clip_grad_norm(model.parameters(), 0.3).fired)
        if clip == "value":
            fired.append(clip_grad_value(model.parameters(), 0.02).fired)
        optimizer.lr = 0.01 * schedule(k)
        optimizer.step()
        assert seen[k].loss == loss.item() / (targets.size if reduction == "sum" else 1)
        assert subject.history.columns["norm_before"][k] == pytest.approx(norm, rel=1e-6)
        assert subject.history.columns["lr"][k] == optimizer.lr
        start += steps
    for name, w in model.state_dict().items():
        assert w.tobytes() == subject.model.state_dict()[name].tobytes(), name
    assert [bool(x) for x in subject.history.columns["fired"]] == (fired or [False] * updates)
    assert [step.update for step in seen] == list(range(1, updates + 1))
    assert all((step.clipping is None) is (clip == "none") for step in seen)
    if fired:
        assert any(fired)
        after = subject.history.columns["norm_after"]
        assert all((a < b) is bool(f) for a, b, f in zip(after, subject.history.columns["norm_before"], fired))


def test_the_loss_reported_is_the_mean_whichever_is_differentiated() -> None:
    mean, total = trainer(reduction="mean"), trainer(reduction="sum")
    a, b = mean.step(), total.step()
    assert a.loss == pytest.approx(b.loss, rel=1e-6)
    before = [x.history.columns["norm_before"][0] for x in (mean, total)]
    assert before[1] == pytest.approx(21 * before[0], rel=1e-5)  # T * N = 21


def test_no_gradient_crosses_from_chunk_to_chunk() -> None:
    """The second chunk's gradient is that of the carried state as a constant."""
    subject = trainer("rnn", "sgd", steps=4, batch=1, clip_norm=None)
    subject.step()
    carried = subject.state
    assert isinstance(carried, Tensor)
    assert not carried.requires_grad
    assert carried.parents == ()
    model = subject.model
    before = {name: w.copy() for name, w in model.state_dict().items()}
    stream = Chunks(IDS, 4, 1)
    stream.next()
    chunk = stream.next()
    loss, _ = model.loss(chunk.inputs, chunk.targets, Tensor(carried.numpy()))
    gradients = mg.grad(loss, model.parameters())  # type: ignore[attr-defined]
    subject.step()
    for (name, after), g in zip(model.state_dict().items(), gradients, strict=True):
        np.testing.assert_allclose(after, before[name] - 0.1 * g, rtol=1e-5, atol=1e-7)


def test_the_state_is_carried_and_starts_fresh_with_the_streams() -> None:
    model = Sine()
    subject = Trainer(model, optim.Adam(model.parameters()), Chunks(sine(26), 4, 2))  # 13 a stream: 3 chunks a walk
    subject.run(7)
    assert [state is None for state in model.received] == [True, False, False, True, False, False, True]
    assert all(type(state) is tuple and len(state) == 1 for state in model.received if state is not None)


def test_a_model_without_a_state_gets_none() -> None:
    model = Sine(carries=False)
    subject = Trainer(model, optim.Adam(model.parameters()), Chunks(sine(26), 4, 2))
    subject.run(5)
    assert model.received == [None] * 5


def test_a_state_of_another_kind_is_refused_before_the_update() -> None:
    class Odd(Line):
        def loss(self, *args: Any, **options: Any) -> tuple[Tensor, Any]:
            return super().loss(*args, **options)[0], [1, 2]

    model = Odd(dtype=np.float32)
    subject = Trainer(model, optim.SGD(model.parameters(), lr=0.1), Chunks(sine(26), 4, 2))
    with pytest.raises(MinigradError, match=r"a list as its state.\n  Give a tensor, a tuple of tensors, or None"):
        subject.step()
    assert model.w.item() == 1.0


@pytest.mark.parametrize("carries", [True, False])
def test_a_users_own_model_learns_a_sine(carries: bool) -> None:
    model = Sine(carries)
    subject = Trainer(
        model, optim.Adam(model.parameters(), lr=0.01), Chunks(sine(), 10, 4), clip_norm=1.0,
        schedule=optim.cosine_decay(150, warmup=10),
    )  # fmt: skip
    subject.run(150)
    losses = subject.history.columns["loss"]
    assert losses[0] > 0.1
    assert subject.history.recent("loss", 10) < 0.03
    assert evaluate(model, sine(100)) < 0.05


def test_a_text_from_python() -> None:
    """As the README would show it."""
    model = CharacterModel(CHARACTERS, "gru", hidden=16, rng=np.random.default_rng(0))
    trainer = Trainer(model, optim.Adam(model.parameters(), lr=0.02), Chunks(model.ids(TEXT), 20, 4), clip_norm=5.0)
    losses: list[float] = []
    trainer.run(60, [lambda trainer, step: losses.append(step.loss)])
    assert losses == list(trainer.history.columns["loss"])
    assert losses[0] == pytest.approx(math.log(len(CHARACTERS)), abs=0.5)
    assert losses[-1] < 0.5
    assert evaluate(model, model.ids(TEXT)) < 0.6


# Callbacks, records, history


def test_callbacks_are_called_in_order_and_can_stop_the_run() -> None:
    subject = trainer()
    calls: list[tuple[str, int]] = []

    def first(t: Trainer, step: Step) -> None:
        assert t is subject
        calls.append(("first", step.update))
        t.stopping = step.update == 3

    subject.run(10, iter([first, lambda _, step: calls.append(("second", step.update))]))
    assert calls == [(name, k) for k in (1, 2, 3) for name in ("first", "second")]
    assert subject.updates == 3
    subject.run(5)  # goes on
    assert subject.updates == 5


def test_a_stop_asked_for_before_the_run_is_not_lost() -> None:
    subject = trainer()
    subject.stopping = True  # a signal just before
    subject.run(10)
    assert subject.updates == 0
    subject.run(2)
    assert subject.updates == 2


def test_updates_are_counted_from_the_first_run() -> None:
    subject = trainer()
    subject.run(4)
    subject.run(4)
    assert subject.updates == 4


def test_records_are_kept_every_so_often_and_of_the_last_update() -> None:
    subject = trainer()
    seen: list[Step] = []
    subject.run(8, [lambda _, step: seen.append(step)], record_every=3)
    assert [step.record is not None for step in seen] == [False, False, True, False, False, True, False, True]


@pytest.mark.parametrize("kernel", ["steps", "fused"])
@pytest.mark.parametrize("clip", [{}, {"clip_norm": 0.01}, {"clip_value": 1e-3}])
def test_a_record_has_the_norms_of_a_plain_backward(clip: dict[str, float], kernel: str) -> None:
    subject = trainer(model={"layers": 2, "kernel": kernel}, **clip)
    plain = trainer(model={"layers": 2, "kernel": kernel}, **clip)
    seen: list[Step] = []
    subject.run(3, [lambda _, step: seen.append(step)], record_every=3)
    plain.run(2)
    chunk = plain.stream.next()
    loss, _ = plain.model.loss(chunk.inputs, chunk.targets, plain.state)
    plain.optimizer.zero_grad()
    wanted = bptt.backward(loss)
    found = seen[-1].record
    assert found is not None
    assert list(found.sequences) == ["l0", "l1"]
    for name, sequence in wanted.sequences.items():
        assert found.sequences[name].readings() == sequence.readings()
    assert {name: p.norm for name, p in found.parameters.items()} == {n: p.norm for n, p in wanted.parameters.items()}
    assert found.clipping == seen[-1].clipping
    assert (found.clipping is None) is (not clip)
    assert found.update == seen[-1].change
    plain.stream.load_state_dict({"position": plain.stream.state_dict()["position"] - 7})
    plain.step()
    assert weights(plain) == weights(subject)  # a record changes nothing


def test_what_moved_is_told_beside_a_record() -> None:
    subject = trainer(optimizer="sgd")
    before = {name: w.astype(np.float64) for name, w in subject.model.state_dict().items()}
    change = subject.step(record=True).change
    after = subject.model.state_dict()
    assert list(change.sizes) == list(before)
    for name, size in change.sizes.items():
        assert size == pytest.approx(float(np.linalg.norm(after[name] - before[name])), rel=1e-3, abs=1e-9)
    assert subject.step().change == optim.Update({}, {})


@pytest.mark.parametrize("kernel", ["steps", "fused"])
@pytest.mark.parametrize("clip", [{}, {"clip_norm": 0.01}, {"clip_value": 1e-3}])
def test_norms_are_kept_every_so_many_updates_from_the_first(clip: dict[str, float], kernel: str) -> None:
    subject = trainer(model={"layers": 2, "kernel": kernel}, norms_every=3, **clip)
    plain = trainer(model={"layers": 2, "kernel": kernel}, **clip)
    records: list[bptt.Record | None] = []
    plain.run(8, [lambda _, step: records.append(step.record)], record_every=1)
    subject.run(8)
    norms = subject.history.norms
    assert list(norms.updates) == [1, 4, 7]
    assert norms.states == {"l0": ("h", "c"), "l1": ("h", "c")}
    for name, states in norms.states.items():
        for state in states:
            rows = norms.rows(name, state)
            assert rows.shape == (3, 7)
            assert rows.dtype == np.float32
            for row, update in zip(rows, norms.updates, strict=True):
                record = records[update - 1]
                assert record is not None
                wanted = [r.norm for r in record.sequences[name].readings(state)]
                np.testing.assert_allclose(row, wanted, rtol=1e-6)
                assert {n: column[(update - 1) // 3] for n, column in norms.parameters.items()} == {
                    n: p.norm for n, p in record.parameters.items()
                }  # before clipping
    assert weights(subject) == weights(plain)  # whoever looks changes nothing


@pytest.mark.parametrize("kernel", ["steps", "fused"])
def test_the_norms_are_the_same_with_a_record_and_without(kernel: str) -> None:
    one, two = (trainer(model={"layers": 2, "kernel": kernel}, norms_every=1) for _ in range(2))
    one.run(5)
    two.run(5, record_every=2)
    for name, states in one.history.norms.states.items():
        for state in states:
            assert one.history.norms.rows(name, state).tobytes() == two.history.norms.rows(name, state).tobytes()


def test_chunks_of_unequal_length_have_norms_of_unequal_length() -> None:
    class Uneven(Chunks):
        def next(self) -> Chunk:
            self.steps = 3 + self.position % 4
            return super().next()

    def made() -> Trainer:
        model = Sine()
        return Trainer(model, optim.Adam(model.parameters()), Uneven(sine(), 1, 2), norms_every=1)

    whole, first, second = made(), made(), made()
    whole.run(6)
    first.run(3)
    second.load_state_dict(first.state_dict())
    second.run(6)
    rows = whole.history.norms.rows("l0")
    lengths, position = [], 0
    for _ in range(6):
        lengths.append(3 + position % 4)
        position += lengths[-1]
    assert len(set(lengths)) > 2
    assert (~np.isnan(rows)).sum(axis=1).tolist() == lengths
    assert second.history.norms.rows("l0").tobytes() == rows.tobytes()


def test_a_model_without_time_steps_has_norms_of_its_parameters_alone() -> None:
    model = Line(dtype=np.float32)
    subject = Trainer(model, optim.SGD(model.parameters(), lr=0.01), Chunks(sine(26), 4, 2), norms_every=1)
    subject.run(3)
    assert subject.history.norms.states == {}
    assert list(subject.history.norms.parameters["w"]) == list(subject.history.columns["norm_before"])


def test_an_update_that_failed_leaves_no_norms() -> None:
    subject = trainer(norms_every=1)
    subject.run(2)
    assert isinstance(subject.state, tuple)
    subject.state = tuple(Tensor(np.full(s.shape, np.nan, np.float32)) for s in subject.state)
    with pytest.raises(NonFiniteError):
        subject.step()
    assert list(subject.history.norms.updates) == [1, 2]


@pytest.mark.parametrize("every", [-1, 0.5, "1", None])
def test_an_impossible_interval_of_norms_is_refused(every: Any) -> None:
    with pytest.raises(MinigradError, match=r"norms_every=.*\n  Give a whole number: every so many updates, or 0"):
        trainer(norms_every=every)


def test_history_averages_the_last_and_comes_back() -> None:
    history = History()
    assert math.isnan(history.recent("loss"))
    for k in range(5):
        history.add(loss=k, norm_before=2 * k, norm_after=k, fired=k % 2, lr=0.1)
    history.evaluations.append((4, 1.5))
    assert (len(history), history.recent("loss", 2), history.recent("loss", 100)) == (5, 3.5, 2.0)
    other = History()
    other.load_state_dict(history.state_dict())
    assert other.columns == history.columns
    assert other.evaluations == [(4, 1.5)]


@pytest.mark.parametrize(
    ("options", "found"),
    [({"clip_norm": 1.0, "clip_value": 1.0}, "both given"), ({"reduction": "none"}, "'none'"), ({"reduction": 1}, "1")],
)
def test_contradictory_settings_are_refused(options: dict[str, Any], found: str) -> None:
    with pytest.raises(MinigradError, match=found):
        trainer(**options)


@pytest.mark.parametrize("options", [{"clip_norm": 0.0}, {"clip_value": -1.0}, {"clip_norm": math.nan}])
def test_an_impossible_threshold_is_refused_at_the_first_update(options: dict[str, Any]) -> None:
    subject = trainer(**options)
    before = weights(subject)
    with pytest.raises(MinigradError, match="positive, finite"):
        subject.step()
    assert weights(subject) == before


# What is not finite


@pytest.mark.parametrize(("kernel", "op"), [("steps", "multiply"), ("fused", "LSTM kernel")])
def test_a_loss_that_is_not_finite_stops_before_the_update(kernel: str, op: str) -> None:
    subject = trainer(model={"kernel": kernel})
    subject.run(2)
    before, history = weights(subject), len(subject.history)
    assert isinstance(subject.state, tuple)
    poisoned = subject.state[1].numpy().copy()
    poisoned[0, 1, 2] = np.nan
    subject.state = (subject.state[0], Tensor(poisoned))
    with pytest.raises(NonFiniteError) as caught:
        subject.step()
    message = str(caught.value)
    assert message.startswith("update 3: the loss is not finite; the first value that is NaN or infinite is that ")
    assert f"is that of {op} at lstm / t=1" in message
    assert message.endswith("\n  Lower the learning rate, or clip the gradient.")
    assert weights(subject) == before
    assert len(subject.history) == history


def test_a_gradient_that_is_not_finite_stops_before_the_update() -> None:
    class Root(Line):
        def loss(self, *args: Any, **options: Any) -> tuple[Tensor, Any]:
            with mg.named_scope("t=4"):
                return mg.sqrt(self.w).sum(), None

    model = Root(0.0)
    subject = Trainer(model, optim.SGD(model.parameters(), lr=0.1), Chunks(sine(26), 4, 2))
    for _ in range(2):  # nothing is left behind: the second time says the same
        with pytest.raises(NonFiniteError) as caught:
            subject.step()
        assert str(caught.value) == (
            "update 1: the gradient is not finite; the first gradient on the way back that is NaN or infinite is that"
            " of sqrt at t=4.\n  Lower the learning rate, or clip the gradient."
        )
    assert model.w.item() == 0.0


@pytest.mark.parametrize(
    ("make", "w", "culprit"),
    [
        (lambda p: optim.SGD(p, lr=1e308), 1e5, "w would be"),
        (lambda p: optim.Adagrad(p, lr=0.1), 1e200, "the optimizer's square of w would be"),
        (lambda p: optim.Adam(p, lr=0.1), 1e200, "the optimizer's square of w would be"),
    ],
)
def test_an_update_that_would_overflow_is_taken_back(make: Any, w: float, culprit: str) -> None:
    class Steep(Line):
        def loss(self, *args: Any, **options: Any) -> tuple[Tensor, Any]:
            return (self.w * w).sum(), None

    model = Steep(1.0)
    subject = Trainer(model, make(model.parameters()), Chunks(sine(26), 4, 2))
    with pytest.raises(NonFiniteError, match=f"update 1: the gradient is finite, but {culprit} NaN or infinite after"):
        subject.step()
    assert model.w.item() == 1.0
    assert subject.updates == 0


def test_gradients_that_overflow_only_together_are_said_to() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            self.w = nn.Parameter(np.ones(4))

        def loss(self, *args: Any, **options: Any) -> tuple[Tensor, Any]:
            return (self.w * 1.7e308 * np.array([1.0, -1.0, 1.0, -1.0])).sum(), None

    model = Wide()
    subject = Trainer(model, optim.SGD(model.parameters(), lr=0.1), Chunks(sine(26), 4, 2))
    with pytest.raises(NonFiniteError, match="the gradient is not finite; a sum of finite gradients overflowed"):
        subject.step()


# Going on


@every_optimizer
def test_a_resumed_run_is_the_run_that_was_never_interrupted(optimizer: str, tmp_path: Any) -> None:
    def made() -> Trainer:
        return trainer(
            "gru", optimizer, model={"layers": 2, "dropout": 0.3}, clip_norm=0.2,
            schedule=optim.cosine_decay(40, warmup=5), norms_every=3,
        )  # fmt: skip

    whole = made()
    whole.run(23)
    for breaks in ([1], [4, 9, 22], [0, 7, 8]):
        for stop in breaks:
            part = made()
            if stop != breaks[0]:
                part.load_state_dict(checkpoint.load(tmp_path / "a"))
            part.run(stop)
            checkpoint.save(tmp_path / "a", part.state_dict())
        last = made()
        last.model.layer.rng.random(3)  # type: ignore[attr-defined]  # whatever was drawn meanwhile
        last.load_state_dict(checkpoint.load(tmp_path / "a"))
        last.run(23)
        checkpoint.save(tmp_path / "b", last.state_dict())
        checkpoint.save(tmp_path / "c", whole.state_dict())
        assert (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


@pytest.mark.parametrize("carries", [True, False])
def test_a_users_own_model_resumes_too(carries: bool) -> None:
    def made() -> Trainer:
        model = Sine(carries)
        return Trainer(model, optim.Adam(model.parameters()), Chunks(sine(60), 4, 2))

    whole, first, second = made(), made(), made()
    whole.run(12)
    first.run(5)
    second.load_state_dict(first.state_dict())
    second.run(12)
    assert weights(second) == weights(whole)
    assert second.model.received[0] is None or type(second.model.received[0]) is tuple  # type: ignore[attr-defined]


def test_dropout_goes_on_with_the_same_masks() -> None:
    """Without the generator's state the resumed run would differ."""
    first, same, other = (trainer(model={"layers": 2, "dropout": 0.5}) for _ in range(3))
    first.run(3)
    state = first.state_dict()
    same.load_state_dict(state)
    other.load_state_dict(state)
    other.model.layer.rng.random()  # type: ignore[attr-defined]
    losses = [x.step().loss for x in (first, same, other)]
    assert losses[0] == losses[1] != losses[2]


JUNK: list[Any] = [
    None, True, -1, 10**30, 0.5, math.nan, math.inf, "", "x", [], {}, [[1]], {"x": 1}, np.zeros(3), np.zeros((2, 2)),
    np.array(np.nan), np.array(["a"]), [np.zeros(1)], np.zeros(2, np.complex64),
]  # fmt: skip


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything inside nested dicts and lists."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [found for key, value in inside for found in [(*path, key), *places(value, (*path, key))]]


def replaced(tree: Any, path: tuple[Any, ...], new: Any) -> Any:
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[path[0]] = new if len(path) == 1 else replaced(copy[path[0]], path[1:], new)
    return copy


def test_junk_in_any_place_of_a_saved_run_is_refused_or_harmless() -> None:
    subject = trainer(optimizer="momentum", model={"layers": 2, "dropout": 0.3}, norms_every=1)
    subject.run(2, record_every=1)
    record = subject.step(record=True).record
    assert record is not None
    subject.history.diagnosed(3, diagnose(record))
    state = subject.state_dict()
    messages = []
    for path in places(state):
        for new in JUNK:
            try:
                subject.load_state_dict(replaced(state, path, new))
            except CheckpointError as error:
                messages.append(str(error))
                continue
            with suppress(MinigradError):
                subject.step()
    assert len(messages) > 500
    assert all(message.startswith("the saved training does not fit") for message in messages)
    assert all(message.count("\n") == 1 for message in messages)
    for path in places(state):
        without = dict(state)
        if len(path) == 1:
            del without[path[0]]
            with pytest.raises(CheckpointError):
                subject.load_state_dict(without)


@pytest.mark.parametrize("name", ["weights", "optimizer", "base_lr", "stream", "state", "generators", "history"])
def test_a_missing_part_is_named(name: str) -> None:
    subject = trainer()
    state = subject.state_dict()
    del state[name]
    with pytest.raises(CheckpointError, match=f"it has no '{name}'"):
        subject.load_state_dict(state)


def test_another_models_state_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"embedding.weight is float32 \(16, 5\), where float32 \(16, 4\)"):
        trainer().load_state_dict(trainer(model={"embedding": 5}).state_dict())
    with pytest.raises(CheckpointError, match="weights"):
        trainer("rnn").load_state_dict(trainer("gru").state_dict())
    with pytest.raises(CheckpointError, match="kind"):
        trainer(optimizer="adam").load_state_dict(trainer(optimizer="sgd").state_dict())
    long = trainer(steps=5)
    long.step()
    with pytest.raises(CheckpointError, match="position"):
        trainer(steps=4).load_state_dict(long.state_dict())
    state = trainer().state_dict()
    state["history"]["lr"] = np.zeros(3)
    with pytest.raises(CheckpointError, match="columns differ in length"):
        trainer().load_state_dict(state)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(bad: float) -> None:
    state = trainer().state_dict()
    state["weights"]["output.bias"][3] = bad
    with pytest.raises(CheckpointError, match=r"output.bias has NaN or infinity"):
        trainer().load_state_dict(state)


# Memory


@pytest.mark.parametrize("record", [False, True])
@pytest.mark.parametrize("kernel", ["steps", "fused"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.slow
def test_no_graph_outlives_its_update_without_the_collector(cell: str, kernel: str, record: bool) -> None:
    subject = trainer(cell, clip_norm=0.1, model={"kernel": kernel, "layers": 2, "dropout": 0.1})
    alive: list[weakref.ref[Any]] = []
    original = subject.model.loss

    def watched(*args: Any, **options: Any) -> tuple[Tensor, Any]:
        loss, state = original(*args, **options)
        alive.append(weakref.ref(loss))
        alive.extend(weakref.ref(s) for s in (state if isinstance(state, tuple) else (state,)))
        return loss, state

    subject.model.loss = watched  # type: ignore[method-assign]
    gc.collect()
    gc.disable()
    try:
        for _ in range(4):
            step = subject.step(record=record)
            assert len(alive) > 1
            assert all(ref() is None for ref in alive)
        del step, subject.model.loss
        assert gc.collect() == 0  # there is no cycle, big or small
    finally:
        gc.enable()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory's size as Linux tells it")
@pytest.mark.parametrize("kernel", ["steps", "fused"])
def test_memory_is_flat_over_ten_thousand_updates(kernel: str) -> None:
    subject = trainer(steps=2, batch=1, clip_norm=1.0, model={"hidden": 2, "embedding": 0, "kernel": kernel})
    page = resource.getpagesize()

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    gc.disable()  # what is freed is freed by reference counting
    try:
        subject.run(500, record_every=100)
        gc.collect()  # empties Python's stocks of unused tuples, too
        blocks, size = sys.getallocatedblocks(), resident()
        subject.run(10_500, record_every=100)
        assert gc.collect() == 0
        more, grown = sys.getallocatedblocks() - blocks, resident() - size
    finally:
        gc.enable()
    assert more < 1_000  # a tensor an update would be 10,000
    assert grown < 8e6  # the history has 400,000 bytes; a graph an update would be 100 million


# Evaluation


@pytest.mark.parametrize("kernel", ["steps", "fused"])
def test_evaluation_is_the_mean_over_all_targets_of_one_long_stream(kernel: str) -> None:
    model = character_model(layers=2, dropout=0.9, kernel=kernel)
    found = evaluate(model, IDS, steps=10)
    model.eval()
    scores, _ = model(IDS[:-1, np.newaxis])
    z = scores.numpy()[:, 0].astype(np.float64)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    assert found == pytest.approx(-log_p[np.arange(len(IDS) - 1), IDS[1:]].mean(), rel=1e-5)


def test_evaluation_leaves_the_model_as_it_was() -> None:
    subject = trainer(model={"layers": 2, "dropout": 0.5})
    before = weights(subject), subject.model.generators()["lstm.rng"].bit_generator.state
    for training in (True, False):
        subject.model.train(training)
        evaluate(subject.model, IDS)
        assert subject.model.training is training
        assert subject.model.layer.training is training  # type: ignore[attr-defined]
    assert (weights(subject), subject.model.generators()["lstm.rng"].bit_generator.state) == before


def test_evaluation_restores_the_mode_after_an_error_too() -> None:
    model = character_model()
    with pytest.raises(MinigradError):
        evaluate(model, np.full(5, 10**6))
    assert model.training is True


def test_evaluation_cuts_a_long_sequence_into_streams_from_a_state_of_zeros() -> None:
    model, ids = character_model(), np.tile(IDS, 10)  # 1640: three streams of 546
    parts = [evaluate(model, ids[k * 546 : (k + 1) * 546], streams=1) for k in range(3)]
    assert evaluate(model, ids) == pytest.approx(np.mean(parts), rel=1e-6)


@pytest.mark.parametrize("length", [0, 1])
def test_nothing_to_evaluate_is_said(length: int) -> None:
    with pytest.raises(DataError, match=rf"evaluate: {length} elements.\n  Give at least 2"):
        evaluate(character_model(), IDS[:length])


@pytest.mark.parametrize("kernel", ["steps", "fused"])
def test_an_evaluation_that_is_not_finite_says_where(kernel: str) -> None:
    model = character_model("rnn", kernel=kernel)
    dict(model.named_parameters())["rnn.weight_ih_l0"].data = np.full((6, 4), np.nan, np.float32)
    with pytest.raises(NonFiniteError, match=r"evaluate: the loss is not finite; the first .* of parameter rnn"):
        evaluate(model, IDS)
    assert model.training is True


def test_two_elements_are_enough() -> None:
    assert math.isfinite(evaluate(character_model(), IDS[:2]))
