"""Sentiment: a network that reads a sentence and says praise or blame, beside one that only counts words."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from minigrad import Tensor, bptt, clip_grad_norm, grad, nn, no_grad, optim
from minigrad.course import Narrator, narrate
from minigrad.data import batches, sensor, sentiment
from minigrad.views import draw, report

HIDDEN, FEATURES = 16, 16
YARDSTICKS = {"tweets": 0.908, "movies": 0.824}  # naive Bayes, measured with another fifth held out
THINGS = ("film", "story", "plot", "ending")
PRAISE, BLAME = ("wonderful", "moving", "funny", "brilliant"), ("dull", "boring", "tired", "awful")


class Reader(nn.Module):
    """Many words to one verdict."""

    def __init__(self, words: int, rng: np.random.Generator) -> None:
        self.embedding = nn.Embedding(words, FEATURES, rng=rng)
        small = {name: 0.1 * rows for name, rows in self.embedding.state_dict().items()}
        self.embedding.load_state_dict(small)
        self.dropout = nn.Dropout(0.4, rng=rng)
        self.layer = nn.GRU(FEATURES, HIDDEN, kernel="fused", rng=rng)
        self.readout = nn.Linear(HIDDEN, 2, rng=rng)

    def read(self, embedded: Tensor, lengths: Any = None) -> Tensor:
        """Scores of blame and praise, (N, 2), from embedded words, (T, N, D)."""
        _, h = self.layer(self.dropout(embedded), lengths=lengths)
        scores: Tensor = self.readout(self.dropout(h[-1]))
        return scores

    def forward(self, ids: Any, lengths: Any = None) -> Tensor:
        return self.read(self.embedding(ids), lengths)


def train(
    model: Reader, part: sentiment.Part, epochs: int, rng: np.random.Generator
) -> None:
    optimizer = optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(epochs):
        for batch in batches.by_length(
            part.sequences, part.labels, 32, rng=rng
        ):
            scores = model(batch.inputs, batch.lengths)
            optimizer.zero_grad()
            nn.cross_entropy(scores, batch.targets).backward()
            clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
    model.eval()  # from here on nothing is dropped


def accuracy(model: Reader, part: sentiment.Part) -> float:
    with no_grad():
        right = [
            model(b.inputs, b.lengths).numpy().argmax(1) == b.targets
            for b in batches.by_length(part.sequences, part.labels, 64, rng=None)
        ]
    return float(np.concatenate(right).mean())


def margin(model: Reader, sequence: Any) -> float:
    """Praise less blame: above 0 the verdict is praise."""
    with no_grad():
        scores = model(sequence[:, np.newaxis]).numpy()[0]
    return float(scores[1] - scores[0])


def shares(model: Reader, sequence: Any) -> Any:
    """What each word gives to the margin, to first order: x_t . d margin / dx_t."""
    embedded = model.embedding(sequence[:, np.newaxis])
    scores = model.read(embedded)
    (gradient,) = grad(scores[0, 1] - scores[0, 0], [embedded])
    return (gradient * embedded.numpy()).sum(axis=(1, 2))


def leaving_out(model: Reader, sequence: Any) -> Any:
    """How far the margin falls when each word in turn becomes unknown, (T,)."""
    without = np.repeat(sequence[:, np.newaxis], len(sequence), axis=1)
    np.fill_diagonal(without, 0)
    with no_grad():
        scores = model(without).numpy()
    return margin(model, sequence) - (scores[:, 1] - scores[:, 0])


def mean_margin(model: Reader, data: sentiment.Sentences, words: tuple[str, ...], no: str = "") -> float:
    texts = [f"the {thing} is {no}{word}" for thing in THINGS for word in words]
    return float(np.mean([margin(model, data.sequence(text)) for text in texts]))


def on_other_fifths(data: sentiment.Sentences, rng: np.random.Generator) -> list[float]:
    """What naive Bayes gets if other fifths of the same sentences are held out, 20 times."""
    sequences = [*data.training.sequences, *data.test.sequences]
    labels, found = np.concatenate([data.training.labels, data.test.labels]), []
    for _ in range(20):
        known, asked = np.split(rng.permutation(len(labels)), [len(data.training.labels)])
        bayes = sentiment.naive_bayes([sequences[n] for n in known], labels[known], len(data.words))
        found.append(bayes.accuracy([sequences[n] for n in asked], labels[asked]))
    return found


def padding(all_batches: list[batches.Batch]) -> float:
    """The share of places in these batches that hold nothing."""
    return 1 - sum(int(b.lengths.sum()) for b in all_batches) / sum(b.inputs.size for b in all_batches)


def lesson(lesson: Narrator) -> None:
    lesson.question("""
        "Funny, not dull." "Dull, not funny." The same words. **Does a network that reads them in order tell
        them apart**, and is it better at telling praise from blame than a program that only counts words?
    """)

    lesson.step("1. Many to one")
    data = {kind: sentiment.load(kind, fallback=True) for kind in ("tweets", "movies")}
    movies = data["movies"]
    real = not movies.synthetic
    where = (f"sentences that twenty people each have rated ({movies.source})" if real else
             "a stand-in made from patterns; `minigrad data fetch sentences` gets real ones")  # fmt: skip
    lesson.say(f"""
        This lesson runs on {where}. A word is a number, the **embedding** makes a row of numbers from it, the GRU
        reads one row a step, and only its *last* state is asked for the verdict.
    """)
    lesson.formula("x_t = E[word_t]    h_t = GRU(x_t, h_{t-1})    scores = W h_T + b", "margin = praise - blame")
    model = Reader(len(movies.words), lesson.rng(1))
    model.eval()
    sequence = movies.test.sequences[0]
    with no_grad():
        embedded = model.embedding(sequence).numpy()
    lesson.claim("to embed is to take rows of E",
                 bool((embedded == model.embedding.weight.numpy()[sequence]).all()))  # fmt: skip

    lesson.step("2. Sentences of unequal length, side by side")
    part = movies.training
    mixed = [batches.padded(part.sequences[k : k + 32]) for k in range(0, len(part.labels), 32)]
    wasted = 1 - sum(n.sum() for _, n in mixed) / sum(ids.size for ids, _ in mixed)
    alike = [*batches.by_length(part.sequences, part.labels, 32, rng=lesson.rng(2))]
    lesson.say("""
        A batch is as long as its longest sentence; the others are padded. The layer is told the **lengths** and holds
        each state from the sentence's end on: that is its **mask**.
    """)
    lesson.claim(f"of batches as they come {wasted:.0%} is padding, of batches by length {padding(alike):.1%}",
                 padding(alike) < wasted / 3)  # fmt: skip
    few = [movies.test.sequences[k] for k in range(8)]
    together, lengths = batches.padded(few)
    with no_grad():
        scores = model(together, lengths).numpy()
    apart = max(abs(float(s[1] - s[0]) - margin(model, ids)) for s, ids in zip(scores, few, strict=True))
    lesson.claim(f"read together with padding, each verdict is what it is alone (within {apart:.0e})", apart < 1e-5)

    lesson.step("3. Training, and two yardsticks")
    lesson.source(train)
    lesson.say("""
        **Majority** always says what is more frequent. **Naive Bayes** counts how often each word stands in praise and
        in blame and adds up logarithms: no order, no training loop, a fraction of a second.
    """)
    table = Table("data", "test sentences", "majority", "naive Bayes", "GRU")
    found, models, counted = {}, {}, {}
    for kind, epochs in (("tweets", 6), ("movies", 3)) if real else (("tweets", 10), ("movies", 10)):
        some = data[kind]
        models[kind] = model = Reader(len(some.words), lesson.rng(1))
        train(model, some.training, epochs, lesson.rng(3))
        bayes = counted[kind] = sentiment.naive_bayes(some.training.sequences, some.training.labels, len(some.words))
        bar = bayes.accuracy(some.test.sequences, some.test.labels)
        most = sensor.majority(some.test.labels)
        right = accuracy(model, some.test)
        found[kind] = (most, bar, right, np.sqrt(bar * (1 - bar) / len(some.test.labels)))
        table.add_row(kind, f"{len(some.test.labels):,}", f"{most:.1%}", f"{bar:.1%}", f"{right:.1%}")
    lesson.show(table)
    for kind, (most, bar, right, error) in found.items():
        lesson.claim(f"{kind}: the GRU is {100 * (right - most):.0f} points above the majority", right > most + 0.15)
        if real:
            lesson.claim(f"{kind}: and {100 * (right - bar):+.1f} points from naive Bayes, within 3 either way; with "
                         f"so many test sentences the standard error of such a figure is {100 * error:.1f} points",
                         abs(right - bar) < 0.03)  # fmt: skip
            others = on_other_fifths(data[kind], lesson.rng(4))
            lesson.claim(f"{kind}: with other fifths held out naive Bayes gets {min(others):.1%} to {max(others):.1%}. "
                         f"So {YARDSTICKS[kind]:.1%}, measured with another fifth, and the table's {bar:.1%} do not "
                         "contradict each other: a figure belongs to its split",
                         min(others) < YARDSTICKS[kind] < max(others)
                         and abs(bar - np.mean(others)) < 3 * np.std(others, ddof=1))  # fmt: skip
        else:
            lesson.claim(f'{kind}: and {100 * (right - bar):.0f} above naive Bayes: the patterns say "not" often',
                         right > bar + 0.1)  # fmt: skip

    lesson.step("4. Which words the gradient reaches")
    model = models["movies"]
    text = "the story is moving and funny , but the ending is dull" if real else "the story is not dull"
    sequence, words = movies.sequence(text), sentiment.words_of(text)
    lesson.formula("share of word t = x_t · ∂margin/∂x_t", "sum over its features; first order only")
    embedded = model.embedding(sequence[:, np.newaxis])
    verdict = model.read(embedded)
    model.zero_grad()
    record = bptt.backward(verdict[0, 1] - verdict[0, 0])
    lesson.picture("sentence", draw.unrolled(record, labels=words, title="Where the verdict comes from"), """
        The gradient of the *verdict* on its way back through the sentence. All of it enters at the last word, and each
        word it passes gets a part. The words' rows of E are what it changes.
    """)
    lesson.say(f"""
        No loss is differentiated here but the **margin**, {record.loss:+.2f}: where picture and report say L or loss,
        read margin.
    """)
    lesson.show(report.gradients(record, labels=words))
    given, lost = shares(model, sequence), leaving_out(model, sequence)
    lesson.say("""
        Three answers to what each word is worth: naive Bayes' log P(word | praise) - log P(word | blame), which is the
        same in every sentence; the share by the gradient; and how far the margin falls if the word is made unknown.
    """)
    table = Table("word", "naive Bayes", "share by gradient", "margin lost without it", title=Text(text))
    odds = counted["movies"].likelihoods
    for t, word in enumerate(words):
        log_odds = odds[1, sequence[t]] - odds[0, sequence[t]]
        table.add_row(Text(word), f"{log_odds:+.1f}", f"{given[t]:+.2f}", f"{lost[t]:+.2f}")
    lesson.show(table)
    if real:
        lesson.claim(f'the share of "funny" is {given[words.index("funny")]:+.2f}, of "dull" {given[-1]:+.2f}',
                     given[words.index("funny")] > 0.1 and given[-1] < -0.1)  # fmt: skip
    else:
        lesson.claim(f'without "not" the margin falls by {lost[words.index("not")]:.1f}', lost[words.index("not")] > 1)
    longer = [ids for ids in movies.test.sequences if len(ids) >= 5][:100]
    agree = [np.corrcoef(shares(model, ids), leaving_out(model, ids))[0, 1] for ids in longer]
    typical = float(np.median(agree))
    lesson.claim(f"in 100 test sentences one gradient agrees with leaving out every word in turn: the correlation "
                 f"is {typical:.2f} (median)", typical > (0.9 if real else 0.3))  # fmt: skip

    lesson.step('5. Order, and the word "not"')
    pair = [movies.sequence(f"the film is {a} , not {b}") for a, b in (("funny", "dull"), ("dull", "funny"))]
    one, other = (float(np.diff(counted["movies"].scores(ids))[0]) for ids in pair)
    margins = [margin(model, ids) for ids in pair]
    lesson.claim(f'"funny, not dull" and "dull, not funny" are the same to naive Bayes ({one:+.2f}, {other:+.2f})',
                 abs(one - other) < 1e-9)  # fmt: skip
    lesson.claim(f"and not to the GRU: {margins[0]:+.2f} and {margins[1]:+.2f}", margins[0] > margins[1] + 0.5)
    table = Table("the film is …", "margin", 'margin with "not"', title="means over words and things")
    told = {}
    for name, some_words in (("praise", PRAISE), ("blame", BLAME)):
        plain, negated = (mean_margin(model, movies, some_words, no) for no in ("", "not "))
        told[name] = plain, negated
        table.add_row(f"a word of {name}", f"{plain:+.2f}", f"{negated:+.2f}")
    lesson.show(table)
    (good, not_good), (bad, not_bad) = told["praise"], told["blame"]
    lesson.claim(f'"not" before praise takes {good - not_good:.1f} from the margin', good - not_good > 1)
    if real:
        place = movies.words.index("not")
        with_it = np.array([place in ids for ids in movies.training.sequences])
        blamed = 1 - float(movies.training.labels[with_it].mean())
        lesson.claim(f'but "not" before blame makes no praise of it ({bad:+.1f}, then {not_bad:+.1f}): from these '
                     'sentences it has learnt that "not" is a bad word, not that it turns things round',
                     not_bad < bad + 0.8 and not_bad < -1)  # fmt: skip
        lesson.claim(f'it had {with_it.sum()} training sentences with "not" to learn from, {blamed:.0%} of them blame',
                     blamed > 0.5)  # fmt: skip
        ending = 'But it does not understand "not": it took it for a bad word.'
    else:
        lesson.claim(f'and "not" before blame turns it round: {bad:+.1f}, then {not_bad:+.1f}', not_bad > bad + 2)
        ending = 'And it learnt that "not" turns things round, for its patterns do so both ways.'
    most, bar, right, _ = found["movies"]
    lesson.answer(f"""
        **It tells them apart**: it puts the right one of the two {margins[0] - margins[1]:.1f} higher (margins
        {margins[0]:+.2f} and {margins[1]:+.2f}; praise is above 0), where naive Bayes puts them level. {ending}
        Of the test sentences the GRU got {right:.1%} right, naive Bayes {bar:.1%}, the majority {most:.1%}.
        Before you train a network, count words.
    """)


if __name__ == "__main__":
    narrate(lesson, __file__)
