"""Sensors: whose voice is it, and what does the heart do next; told from and forecast by real signals."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.table import Table

from minigrad import Tensor, bptt, clip_grad_norm, grad, nn, no_grad, optim
from minigrad.course import Narrator, narrate
from minigrad.data import batches, sensor
from minigrad.views import draw, report

HORIZONS = (1, 2, 5, 10)
WARM = 100  # steps that a network reads before it is asked


class Listener(nn.Module):
    """From a signal to a score for each class: many to one."""

    def __init__(self, kind: str, features: int, classes: int, rng: np.random.Generator) -> None:
        self.layer = getattr(nn, kind)(features, 32, kernel="fused", rng=rng)
        self.readout = nn.Linear(32, classes, rng=rng)

    def forward(self, signals: Any, lengths: Any = None) -> Tensor:
        _, h = self.layer(signals, lengths=lengths)
        scores: Tensor = self.readout(h[-1])
        return scores


def trained(kind: str, signals: sensor.Signals, rng: np.random.Generator) -> Listener:
    part = signals.training
    model = Listener(kind, part.sequences[0].shape[1], len(signals.classes), rng)
    optimizer = optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(30):
        for batch in batches.by_length(part.sequences, part.labels, 16, rng=rng):
            optimizer.zero_grad()
            nn.cross_entropy(model(batch.inputs, batch.lengths), batch.targets).backward()
            clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
    return model


def accuracy(model: Listener, part: sensor.Part) -> float:
    with no_grad():
        right = [model(b.inputs, b.lengths).numpy().argmax(1) == b.targets
                 for b in batches.by_length(part.sequences, part.labels, 64, rng=None)]  # fmt: skip
    return float(np.concatenate(right).mean())


def when(model: Listener, part: sensor.Part) -> Any:
    """Which tenth of its signal the gradient of the chosen class's score goes to, mean over signals, (10,)."""
    total = np.zeros(10)
    for batch in batches.by_length(part.sequences, part.labels, 64, rng=None):
        x = Tensor(batch.inputs, requires_grad=True)
        best = model(x, batch.lengths).max(axis=1).sum()
        (gradient,) = grad(best, [x])
        norms = np.linalg.norm(gradient, axis=2)
        for n, length in enumerate(batch.lengths):
            tenth = np.arange(length) * 10 // length
            total += np.bincount(tenth, norms[:length, n] / norms[:length, n].sum(), minlength=10)
    return total / total.sum()


class Forecaster(nn.Module):
    """From each step of a series to the next: many to many."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.layer = nn.GRU(1, 16, kernel="fused", rng=rng)
        self.readout = nn.Linear(16, 1, rng=rng)

    def forward(self, x: Any, state: Any = None) -> tuple[Tensor, Any]:
        """What follows each step of x, (T, N, 1): the step itself and a change."""
        outputs, state = self.layer(x, state)
        return self.readout(outputs) + x, state


def fit(series: Any, rng: np.random.Generator) -> Forecaster:
    """Teacher forcing: every step is forecast from the true steps before it."""
    model = Forecaster(rng)
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    inputs, targets = sensor.windows(series, 60)
    for number in range(400):
        if number == 300:
            optimizer.lr = 2e-3
        chosen = rng.integers(0, inputs.shape[1], 32)
        forecast, _ = model(inputs[:, chosen, np.newaxis])
        loss = nn.mse_loss(forecast, targets[:, chosen, np.newaxis])
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
    return model


def one_step_error(model: Forecaster, series: Any) -> float:
    with no_grad():
        forecast, _ = model(series[:-1, np.newaxis, np.newaxis])
    return float(((forecast.numpy()[:, 0, 0] - series[1:])[WARM:] ** 2).mean())


def linear_error(training: Any, test: Any, lags: int) -> float:
    """x_{t+1} as the best linear function of the last `lags` steps: autoregression by least squares."""
    windows = [np.lib.stride_tricks.sliding_window_view(part.astype(np.float64), lags + 1) for part in (training, test)]
    known = [np.column_stack([part[:, :-1], np.ones(len(part))]) for part in windows]
    weights = np.linalg.lstsq(known[0], windows[0][:, -1], rcond=None)[0]
    return float(((known[1] @ weights - windows[1][:, -1])[max(0, WARM - lags) :] ** 2).mean())


def running_free(model: Forecaster, true: Any, steps: int) -> Any:
    """After WARM true steps the network reads its own forecasts, (steps, N); true is (T, N)."""
    with no_grad():
        forecast, state = model(true[:WARM, :, np.newaxis])
        x, found = forecast.numpy()[-1:], []
        for _ in range(steps):
            found.append(x[0, :, 0])
            forecast, state = model(x, state)
            x = forecast.numpy()
    return np.array(found)


def lesson(lesson: Narrator) -> None:
    lesson.question("""
        Nine people say the same two vowels; an electrode writes down a heart. **Whose voice is it, and what does the
        heart do next?** And what does a network do with a signal that it has to go on with alone?
    """)

    lesson.step("1. Signals of unequal length, told apart")
    signals = sensor.load(fallback=True)
    real = not signals.synthetic
    where = signals.source if real else f"{signals.source} (a stand-in; `minigrad data fetch sensors` gets real ones)"
    lengths = [len(sequence) for part in (signals.training, signals.test) for sequence in part.sequences]
    channels = signals.training.sequences[0].shape[1]
    lesson.say(f"""
        This part runs on {where}: {len(signals.training.labels)} signals to learn from, {len(signals.test.labels)} to
        be tested on, {channels} channels, {min(lengths)} to {max(lengths)} steps, {len(signals.classes)} classes.
    """)
    models, right = {}, {"the most frequent class": sensor.majority(signals.test.labels)}
    for kind in ("RNN", "GRU"):
        models[kind] = trained(kind, signals, lesson.rng(1))
        right[kind] = accuracy(models[kind], signals.test)
    table = Table("who", "test signals right")
    for name, share in right.items():
        table.add_row(name, f"{share:.1%}")
    lesson.show(table)
    worst = min(right["RNN"], right["GRU"])
    if real:
        lesson.claim(f"both cells are right in {worst:.1%} or more", worst > 0.9)
    else:
        lesson.claim(f"the GRU is right in {right['GRU']:.1%}", right["GRU"] > 0.5)

    lesson.step("2. Where in time does the verdict come from?")
    order = np.argsort([len(sequence) for sequence in signals.test.sequences], kind="stable")
    some = [signals.test.sequences[n] for n in order[:: len(order) // 7][:8]]
    together, ends = batches.padded(some)
    records = {}
    for kind, model in models.items():
        model.zero_grad()
        records[kind] = bptt.backward(model(together, ends).max(axis=1).sum())
    lesson.picture("verdict", draw.compare(records), f"""
        Eight test signals of {ends.min()} to {ends.max()} steps in one batch, RNN above GRU; what is differentiated is
        the score of each one's chosen class. It enters at the signal's own end, so at late steps only the long ones
        have a gradient. Follow it to the left.
    """)
    lesson.show(report.compare(records))
    lesson.say("""
        Beware of "first" and "last" here: at the last steps only the longest signal is left in the norm. And "loss" is
        what is differentiated: the sum of the eight scores.
    """)
    s = records["GRU"].sequence()
    norms = s.norms("h")
    short = int(ends.argmin())
    lesson.claim(f"past the end of a signal of {ends[short]} steps there is no gradient: padding teaches nothing",
                 bool((norms[ends[short] :, short] == 0).all()) and norms[ends[short] - 1, short] > 0)  # fmt: skip
    tenths = {kind: when(model, signals.test) for kind, model in models.items()}
    table = Table("tenth of the signal", *map(str, range(1, 11)), title="where the gradient of the verdict goes, in %")
    for kind, parts in tenths.items():
        table.add_row(kind, *(f"{100 * share:.0f}" for share in parts))
    lesson.show(table)
    halves = {kind: float(parts[:5].sum()) for kind, parts in tenths.items()}
    if real:
        lesson.claim(f"in the mean over all test signals the first half gets {halves['RNN']:.0%} of the RNN's gradient "
                     f"and {halves['GRU']:.0%} of the GRU's: both lean on the end, the RNN more",
                     halves["RNN"] < halves["GRU"] < 0.45)  # fmt: skip

    lesson.step("3. What comes next: one step ahead")
    series = sensor.load_series(fallback=True)
    beat = not series.synthetic
    where = "" if beat else " (a stand-in; `minigrad data fetch sensors` gets a heart)"
    lesson.say(f"""
        Now one long series: {series.source}{where}, {len(series.training):,} steps to learn from, the next
        {len(series.test):,} to be tested on. Two yardsticks: **persistence** says "as it is now", an **autoregression**
        takes the best fixed sum of the last 32 steps. The series is scaled so that its training part has mean 0 and
        variance 1: a squared error of 1 is that of who always says the mean.
    """)
    lesson.source(fit)
    forecaster = fit(series.training, lesson.rng(2))
    errors = {
        "the mean of the series": float(series.test[WARM:].var()),
        "persistence": sensor.persistence(series.test[WARM:]),
        "autoregression, 32 steps": linear_error(series.training, series.test, 32),
        "GRU": one_step_error(forecaster, series.test),
    }
    table = Table("forecast", "mean squared error", f"typical error in {series.unit}")
    for name, error in errors.items():
        table.add_row(name, f"{error:.4f}", f"{np.sqrt(error) * series.deviation:.3f}")
    lesson.show(table)
    simple, linear, own = errors["persistence"], errors["autoregression, 32 steps"], errors["GRU"]
    lesson.claim(f"the GRU's error is {own / simple:.2f} of persistence's", own < simple * (0.2 if beat else 0.5))
    if beat:
        lesson.claim(f"and {own / linear:.2f} of the autoregression's: a beat is not linear", own < 0.85 * linear)
    else:
        lesson.claim(f"and {own / linear:.2f} of the autoregression's: of linear waves no network is needed",
                     own > 0.95 * linear)  # fmt: skip

    lesson.step("4. Alone: the network reads its own forecasts")
    starts = np.arange(0, len(series.test) - WARM - max(HORIZONS), 10)
    true = np.stack([series.test[k : k + WARM + max(HORIZONS)] for k in starts], axis=1)
    free = running_free(forecaster, true, max(HORIZONS))
    with no_grad():
        taught = forecaster(true[:-1, :, np.newaxis])[0].numpy()[WARM - 1 :, :, 0]
    far = {h: [float(((x[h - 1] - true[WARM + h - 1]) ** 2).mean())
               for x in (taught, free, np.broadcast_to(true[WARM - 1], free.shape))] for h in HORIZONS}  # fmt: skip
    lesson.say(f"""
        In training every step was forecast from *true* steps. Left alone, it reads what it said itself, errors and all.
        {len(starts)} starts in the test part, {WARM} true steps before each:
    """)
    table = Table("steps ahead", "with true inputs", "running free", "persistence")
    for h, row in far.items():
        table.add_row(str(h), *(f"{error:.4f}" for error in row))
    lesson.show(table)
    lesson.claim("at the first step both are the same", bool(np.isclose(far[1][0], far[1][1], rtol=1e-4)))
    ahead = max(HORIZONS)
    grown = far[ahead][1] / far[ahead][0]
    lesson.claim(f"after {ahead} steps alone the error is {grown:.0f} times that with true inputs", grown > 3)
    lesson.answer(f"""
        **Whose voice**: right in {right['GRU']:.1%} of signals, from gradients of which {halves['GRU']:.0%} go to the
        first half. **What next**: to {own / simple:.2f} of the error of "as it is now". But one step ahead is what it
        learnt: {ahead} steps alone, and its error is {grown:.0f} times as large.
    """)


if __name__ == "__main__":
    narrate(lesson, __file__)
