"""Music: what sounds next in a chorale, in nats a step; and a tune that a network has written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from minigrad import Tensor, bptt, clip_grad_norm, nn, no_grad, optim
from minigrad.bptt.attribution import attribution
from minigrad.course import Narrator, narrate
from minigrad.data import batches, music
from minigrad.data.midi import read_notes
from minigrad.views import draw, lens

EPOCHS = 24
CELLS = {"RNN": (100, 5e-3), "GRU": (46, 3e-2), "LSTM": (36, 3e-2)}  # units, learning rate; units: Chung et al. 2014
NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


class Player(nn.Module):
    """From the keys that sound to a score for each of the 88 keys one step later.

    A forgetful one starts from a state of zeros at every step: it knows the last chord only.
    """

    def __init__(self, kind: str, hidden: int, rng: np.random.Generator, forgetful: bool = False) -> None:
        self.forgetful = forgetful
        self.layer = getattr(nn, kind)(music.KEYS, hidden, kernel="fused", rng=rng)
        self.readout = nn.Linear(hidden, music.KEYS, rng=rng)

    def forward(self, rolls: Any, lengths: Any = None, state: Any = None) -> tuple[Tensor, Any]:
        if self.forgetful:  # every step is a sequence of its own
            outputs, _ = self.layer(rolls.reshape(1, -1, music.KEYS))
            return self.readout(outputs).reshape(rolls.shape), None
        outputs, state = self.layer(rolls, state, lengths=lengths)
        return self.readout(outputs), state


def loss_of(model: Player, batch: batches.Batch) -> Tensor:
    """The sum over keys, steps and chorales, in nats."""
    scores, _ = model(batch.inputs, batch.lengths)
    each = nn.binary_cross_entropy_with_logits(
        scores, batch.targets, reduction="none"
    )
    steps = np.arange(len(batch.inputs))[:, np.newaxis, np.newaxis]
    real = steps < batch.lengths[:, np.newaxis]  # (T, N, 1): no padding
    return (each * real.astype(np.float32)).sum()


def together(rolls: Sequence[Any], rng: np.random.Generator | None) -> Iterator[batches.Batch]:
    """Batches whose input at step t is what sounded at t - 1; nothing sounds before the first."""
    targets = [roll.astype(np.float32) for roll in rolls]
    inputs = [np.concatenate([np.zeros_like(roll[:1]), roll[:-1]]) for roll in targets]
    return batches.by_length(inputs, targets, 8 if rng else 64, rng=rng)


def nats_a_step(model: Player, rolls: Sequence[Any]) -> float:
    with no_grad():
        lost = sum(loss_of(model, batch).item() for batch in together(rolls, None))
    return lost / sum(map(len, rolls))


def train(kind: str, tunes: music.Tunes, rng: np.random.Generator, forgetful: bool = False) -> Player:
    """The best epoch's network, by its loss on the validation part."""
    hidden, rate = CELLS[kind]
    model = Player(kind, hidden, rng, forgetful)
    optimizer = optim.Adam(model.parameters(), lr=rate)
    best, kept = np.inf, model.state_dict()
    for epoch in range(EPOCHS):
        optimizer.lr = rate * (1 - epoch / EPOCHS)
        for batch in together(tunes.training, rng):
            optimizer.zero_grad()
            (loss_of(model, batch) * (1 / int(batch.lengths.sum()))).backward()
            clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
        if epoch % 4 == 3:
            found = nats_a_step(model, tunes.validation)
            if found < best:
                best, kept = found, model.state_dict()
    model.load_state_dict(kept)
    return model


def compose(model: Player, first: Any, steps: int, rng: np.random.Generator) -> Any:
    """Go on after some steps of a chorale, (T, 88): each key is drawn for itself, then read again."""
    roll = [*first.astype(np.float32)]
    with no_grad():
        scores, state = model(np.array([np.zeros_like(roll[0]), *roll])[:, np.newaxis])
        for _ in range(steps):
            chances = 1 / (1 + np.exp(-scores.numpy()[-1, 0]))
            roll.append((rng.random(music.KEYS) < chances).astype(np.float32))
            scores, state = model(roll[-1][np.newaxis, np.newaxis], None, state)
    return np.array(roll, np.uint8)


def chord(keys: Any) -> str:
    """Its notes from below, such as C3 G3 E4 C5."""
    pitches = np.flatnonzero(keys) + music.LOWEST
    return " ".join(f"{NAMES[p % 12]}{p // 12 - 1}" for p in pitches) or "–"


def clashes(rolls: Sequence[Any]) -> float:
    """The share of pairs of keys sounding together that are a semitone apart, whatever the octave."""
    harsh = pairs = 0
    for keys in np.concatenate(rolls):
        pitches = np.flatnonzero(keys)
        apart = (pitches[:, np.newaxis] - pitches)[np.tril_indices(len(pitches), -1)] % 12
        harsh, pairs = harsh + int(np.isin(apart, (1, 11)).sum()), pairs + apart.size
    return harsh / max(1, pairs)


def lesson(lesson: Narrator) -> None:
    lesson.question("""
        Four voices sing a chorale. You have heard it up to this quarter note. **Which of the 88 keys sound next?** And
        how much does it help to have listened to more than the last chord?
    """)

    lesson.step("1. A piano roll, and a yes or no for each key")
    tunes = music.load_chorales(fallback=True)
    real = not tunes.synthetic
    where = "" if real else " (a stand-in; `minigrad data fetch chorales` gets the real ones)"
    lesson.say(f"""
        This lesson runs on {tunes.source}{where}: {len(tunes.training)} to learn from, {len(tunes.validation)} to
        choose by, {len(tunes.test)} to be tested on. A step is a quarter note; of 88 keys some sound. Here is a
        beginning; C4 is the C in the middle of the piano, C5 an octave above:
    """)
    chorale = tunes.test[0][:24]
    table = Table("quarter", "keys that sound")
    for step, keys in enumerate(chorale[:6], 1):
        table.add_row(str(step), Text(chord(keys)))
    lesson.show(table)
    lesson.say("""
        At each step the network gives a score s for each key, and σ(s) is the chance that it sounds: 88 separate
        questions, so the loss is a **binary cross entropy**, summed over the keys. In nats a step, it says how
        surprised the network was by what came. Its input is what *did* sound a step before: teacher forcing, as in
        lesson 5.
    """)
    lesson.formula("loss_t = -Σ_k [ y_k log σ(s_k) + (1 - y_k) log(1 - σ(s_k)) ]")
    lesson.source(loss_of)

    lesson.step("2. Two yardsticks that need no network")
    bars = {"each key as often as ever": music.marginal(tunes.training, tunes.test),
            "copy the step before": music.copy_previous(tunes.training, tunes.test)}  # fmt: skip
    lesson.say("""
        The first knows only how often each key sounds. The second knows of each key also whether it sounded a step
        before. Both were counted on the training part.
    """)
    fresh = nats_a_step(Player("GRU", 46, lesson.rng(1)), tunes.test)
    lesson.claim(f"an untrained network has {fresh:.0f} nats, near 88 log 2 = {88 * np.log(2):.0f}: a coin a key",
                 abs(fresh - 88 * np.log(2)) < 4)  # fmt: skip

    lesson.step("3. Three cells with about as many weights")
    lesson.say("""
        After Chung et al. 2014 the sizes are such that the *layers* have about as many weights. The readout's come on
        top, 88 for each unit and 88 biases: most where there are most units.
    """)
    models, lost, sizes = {}, {}, {}
    table = Table("model", "units", "layer", "readout", "nats a step, test", title="weights, and what was reached")
    for name, nats in bars.items():
        table.add_row(name, "", "", "", f"{nats:.2f}")
    for kind, (hidden, _) in CELLS.items():
        models[kind] = train(kind, tunes, lesson.rng(1))
        lost[kind] = nats_a_step(models[kind], tunes.test)
        parts = (models[kind].layer, models[kind].readout)
        sizes[kind], of_readout = (sum(p.size for p in part.parameters()) for part in parts)
        table.add_row(kind, str(hidden), f"{sizes[kind]:,}", f"{of_readout:,}", f"{lost[kind]:.2f}")
    lesson.show(table)
    lesson.claim(f"the layers have {min(sizes.values()):,} to {max(sizes.values()):,} weights",
                 max(sizes.values()) < 1.06 * min(sizes.values()))  # fmt: skip
    copied = bars["copy the step before"]
    gated, margin = max(lost["GRU"], lost["LSTM"]), lost["RNN"] - max(lost["GRU"], lost["LSTM"])
    lesson.claim(f"both gated cells beat copying, which has {copied:.2f}, by {copied - gated:.2f} or more",
                 gated < copied - 0.3)  # fmt: skip
    if real:
        lesson.claim(f"after {EPOCHS} epochs both gated cells ({gated:.2f} or less) are below the tanh RNN "
                     f"({lost['RNN']:.2f}) by {margin:.2f} or more", margin > 0.1)  # fmt: skip
        lesson.say("""
            Chung et al. 2014 found the same order on their set of chorales. Only the order may be compared: their
            figures belong to other files and another time grid. And the margin belongs to this short training, with
            learning rates chosen from a few.
        """)

    lesson.step("4. What is it worth to have listened for longer?")
    deaf = nats_a_step(train("GRU", tunes, lesson.rng(1), forgetful=True), tunes.test)
    lesson.say("""
        Is it their memory that makes the gated cells better? The same GRU, trained anew, but set back to zeros at every
        step: it hears one chord, and is **forgetful** of all others.
    """)
    near = 0.3 if real else 0.6
    lesson.claim(f"the forgetful GRU has {deaf:.2f} nats, the one that remembers {lost['GRU']:.2f}: at most {near} "
                 "apart", abs(deaf - lost["GRU"]) < near)  # fmt: skip
    lesson.claim(f"it too is below the tanh RNN ({lost['RNN']:.2f}), without any memory: that is not what the gates' "
                 "lead comes from", deaf < lost["RNN"] - 0.1)  # fmt: skip
    lesson.say("""
        One chord of four voices tells most of what the quarters before it could tell about the next one, or these nets
        are too small, and these tunes too few, to learn more. Without this run the table above would look like a proof
        of memory. And yet a gradient does come back:
    """)
    model = models["GRU"]
    model.zero_grad()
    record = bptt.backward(loss_of(model, next(together([chorale], None))))
    top = [chord(keys).split()[-1] for keys in chorale]
    lesson.picture("chorale", draw.unrolled(record, "strip", labels=["start", *top[:-1]]), """
        The first 24 steps of a chorale that the network has not seen; below, the highest voice as it was heard. Every
        step has a loss, so new gradient enters at each. The row of h keeps its size for that; the table
        below takes the losses apart. (The norms are large because L is a sum, over 24 steps and 88 keys.)
    """)
    found = attribution(record)
    lesson.show(lens.attribution(found))
    arriving = found.arriving()
    reach = {lag: float(np.median(np.diag(arriving, -lag))) for lag in (1, 8)}
    lesson.claim(f"of the gradient of a step's loss {reach[1]:.0%} is left one step before, and eight steps before "
                 f"still {reach[8]:.0%} (medians): that it arrives does not say that it brings anything",
                 reach[8] > 0.05)  # fmt: skip
    lesson.show(lens.gates(record))
    z = record.sequence().gates["z"]
    shut, kept = float((z < 0.1).mean()), float((z > 0.9).mean())
    lesson.claim(f"its update gate has divided the work: {shut:.0%} of its values are below 0.1 and write anew, "
                 f"{kept:.0%} are above 0.9 and hold", shut > 0.4 and kept > 0.03)  # fmt: skip

    lesson.step("5. A tune of its own")
    drawn = [compose(model, tunes.test[k][:8], 40, lesson.rng(2, k)) for k in range(8)]
    lesson.say("""
        The network reads 8 quarters of a chorale, then draws each key by its chance, reads what it has drawn, and so
        on.
    """)
    file = lesson.file("tune.mid")
    music.write_midi(file, drawn[0])
    lesson.show(Text.assemble("music   ", (str(file), "bold"), "   open it with any player"))
    table = Table("quarter", "keys that sound")
    for step in range(6, 14):
        table.add_row(str(step + 1), Text(chord(drawn[0][step])), style="dim" if step < 8 else "")
    lesson.show(table)
    again = read_notes(file.read_bytes())
    lesson.claim(f"the file has the {len(again)} notes of the roll",
                 sorted(again) == sorted(music.roll_notes(drawn[0])))  # fmt: skip
    often = np.concatenate(tunes.training).mean(0)
    rng = lesson.rng(3)
    harsh = {"the test part": clashes(tunes.test), "the network": clashes([roll[8:] for roll in drawn]),
             "each key as often as ever": clashes([rng.random((320, music.KEYS)) < often])}  # fmt: skip
    table = Table("whose", "pairs a semitone apart")
    for name, part in harsh.items():
        table.add_row(name, f"{part:.1%}")
    lesson.show(table)
    if real:
        lesson.claim(f"of all pairs of keys that sound together {harsh['the network']:.1%} rub by a semitone: fewer "
                     f"than in keys drawn without listening ({harsh['each key as often as ever']:.1%}), more than in "
                     f"Bach's ({harsh['the test part']:.1%})",
                     harsh["the test part"] < harsh["the network"] < harsh["each key as often as ever"])  # fmt: skip
        lesson.say("""
            That it still rubs more has a reason: each key is drawn for itself, without regard to what the others draw
            at the same step. Boulanger-Lewandowski et al. 2012 put a model of whole chords there for that reason.
        """)
    lesson.answer(f"""
        Copying the last chord costs **{copied:.2f}** nats a step, a GRU that hears that chord alone **{deaf:.2f}**, one
        that has listened from the beginning **{lost["GRU"]:.2f}**. Here the longer memory is worth next to nothing:
        before you praise a memory, measure the same network without it.
    """)


if __name__ == "__main__":
    narrate(lesson, __file__)
