"""A language model of characters: from a text to an update, from an update to a text."""

from __future__ import annotations

import itertools

import numpy as np
from rich.table import Table
from rich.text import Text

from minigrad import bptt, clip_grad_norm, optim
from minigrad.character import CharacterModel
from minigrad.course import Narrator, narrate
from minigrad.data.chunks import Chunks
from minigrad.data.text import read_text, visible
from minigrad.data.yardsticks import yardsticks
from minigrad.train import Trainer, evaluate
from minigrad.views import draw, report

UPDATES = 600


def one_training_step(
    model: CharacterModel, optimizer: optim.Optimizer, chunks: Chunks
) -> bptt.Record:
    """What every language model does, however large: a step of training."""
    chunk = chunks.next()
    optimizer.zero_grad()
    loss, _ = model.loss(chunk.inputs, chunk.targets)  # predict each next one
    record = bptt.backward(loss)  # through all time steps
    clipping = clip_grad_norm(model.parameters(), 5.0)  # lesson 7
    return record.after(clipping=clipping, update=optimizer.step())


def written(model: CharacterModel, temperature: float, count: int, rng: np.random.Generator) -> str:
    return "".join(itertools.islice(model.sample("The ", temperature=temperature, rng=rng), count))


def known_words(sample: str, vocabulary: set[str]) -> float:
    """The share of its words that the training text has."""
    words = sample.split()[1:-1]  # the first and the last may be cut
    return sum(word in vocabulary for word in words) / max(1, len(words))


def lesson(lesson: Narrator) -> None:
    lesson.question("""
        A network reads a text one character at a time. At each it is asked: **what comes next?** That one question
        is all that a language model is trained on, from this one to the largest. How good is an answer, in numbers?
    """)

    lesson.step("1. Teacher forcing: the text is its own answer")
    text = read_text()
    cut = len(text.ids) * 9 // 10
    training, held_out = text.ids[:cut], text.ids[cut : cut + 20_000]
    lesson.say("""
        The text is Python's own documentation. The input at step t is character t, the target is character
        t + 1. During training the network always reads the *true* text, also where it would have written something
        else: **teacher forcing**.
    """)
    table = Table("step t", *map(str, range(1, 13)), title="the first chunk")
    for name, part in (("input x_t", training[:12]), ("target", training[1:13])):
        table.add_row(name, *(Text(visible(text.characters[k])) for k in part))
    lesson.show(table)
    chunk = Chunks(training, steps=25, batch=1).next()
    lesson.claim("each target is the next step's input", bool((chunk.targets[:-1] == chunk.inputs[1:]).all()))

    lesson.step("2. Before training: all characters are equally likely")
    model = CharacterModel(text.characters, "rnn", hidden=64, embedding=16, kernel="steps", rng=lesson.rng())
    many = len(text.characters)
    before = evaluate(model, held_out)
    lesson.formula("loss = mean over t of  -log p(target_t)   in nats: natural logarithms", "perplexity = exp(loss)")
    lesson.say("""
        Perplexity is the number of equally likely characters that would leave one as much in doubt.
    """)
    lesson.claim(f"there are V = {many} characters, log V = {np.log(many):.3f}, and the untrained loss is {before:.3f}",
                 abs(before - np.log(many)) < 0.15)  # fmt: skip

    lesson.step("3. One training step")
    lesson.source(one_training_step)
    optimizer = optim.Adam(model.parameters(), lr=4e-3)
    record = one_training_step(model, optimizer, Chunks(training, steps=25, batch=1))
    lesson.say("""
        The report of this step. (The loss is a mean over 25 steps, so each step's share is a 25th of it. *Vanishing*,
        decades and what arrives are lesson 6's words; here only look that every step has a loss. The embedding is a row
        of 16 learnt numbers for each character. The optimizer is Adam: lesson 8 has a sentence on it.)
    """)
    lesson.show(report.gradients(record))
    labels = [visible(text.characters[k]) for k in training[:25]]
    lesson.picture("one_step", draw.unrolled(record, "cell", labels=labels), """
        One training step, unrolled. Every step has a loss of its own, and every loss sends a gradient back
        through all the steps before it. The weights are the same at every step: that is lesson 4.
    """)
    lesson.claim("all 25 steps have a loss, and their mean is what is differentiated",
                 record.losses is not None and len(record.losses) == 25
                 and bool(np.isclose(record.losses.sum(), record.loss)))  # fmt: skip

    lesson.step(f"4. {UPDATES} of them, beside models that only count")
    trainer = Trainer(model, optimizer, Chunks(training, steps=25, batch=16), clip_norm=5.0)
    trainer.run(UPDATES)
    after = evaluate(model, held_out)
    counted = yardsticks(training, held_out, many)
    table = Table("model", "nats a character", "perplexity", title="on text that none of them has seen")
    rows = {**counted.named, "this network": after}
    for name, loss in sorted(rows.items(), key=lambda row: -row[1]):
        table.add_row(name, f"{loss:.3f}", f"{np.exp(loss):.1f}", style="bold" if name == "this network" else "")
    lesson.show(table)
    lesson.say("""
        *Uniform* holds all characters for equally likely, a *unigram* counts how often each occurs, a *3-gram* which
        character followed each pair of characters: it looks two characters back, not further. The network has no such
        bound, but it has to *learn* to look back.
    """)
    bigram = counted.ngrams[2]
    lesson.claim(f"after {UPDATES} updates the network is better than any model of character pairs: "
                 f"{after:.2f} against {bigram:.2f} nats", after < bigram - 0.1)  # fmt: skip
    best, least = counted.best
    lesson.claim(f"and not yet as good as the best of those that count: the {best} has {least:.2f} nats", after > least)
    lesson.claim(f"its perplexity fell from {np.exp(before):.0f} to {np.exp(after):.1f}", np.exp(after) < 12)

    lesson.step("5. Writing: sampling with a temperature")
    lesson.formula("p = softmax(scores / temperature)",
                   "(the largest score is subtracted first: p is the same, and nothing overflows)")  # fmt: skip
    words = set(text.text[:cut].split())
    shares = {}
    for temperature in (0.0, 0.5, 1.0, 2.0):
        sample = written(model, temperature, 1200, lesson.rng(5))
        shares[temperature] = known_words(sample, words)
        lesson.show(Text(f"temperature {temperature}: known words {shares[temperature]:.0%}", "bold"))
        lesson.show(Text(" ".join(sample[:160].split())))
    lesson.claim(f"a low temperature writes more words that exist ({shares[0.5]:.0%} at 0.5, {shares[1.0]:.0%} at 1, "
                 f"{shares[2.0]:.0%} at 2)", shares[0.5] > shares[1.0] + 0.05 > shares[2.0] + 0.1)  # fmt: skip
    likeliest = written(model, 0.0, 1200, lesson.rng(5))
    variety = [len(set(s.split())) for s in (likeliest, written(model, 1.0, 1200, lesson.rng(6)))]
    lesson.claim(f"at temperature 0 it always takes the likeliest and goes round in circles: {variety[0]} different "
                 f"words, against {variety[1]} at temperature 1", variety[0] * 2 < variety[1])  # fmt: skip
    lesson.answer(f"""
        An answer is as good as its **-log p**: {before:.2f} nats before training, {after:.2f} after, on text it has
        not seen, {np.exp(after):.1f} characters' worth of doubt. A model with a billion weights differs in what stands
        between the characters and the scores, not in this loop. Here that is one RNN cell, and its gradient has to
        travel back through time: what happens to it on the way is lesson 6.
    """)


if __name__ == "__main__":
    narrate(lesson, __file__)
