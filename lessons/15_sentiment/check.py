"""What the exercise should give: the layer's own last states, the package's naive Bayes, a linear model's shares."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import nn, no_grad
from minigrad.course import Judge
from minigrad.data import sentiment


def check(work: Any, judge: Judge) -> None:
    rng = np.random.default_rng(15)
    for lengths in ((4, 4), (5, 2, 3), (1, 6, 1, 4)):
        layer = nn.GRU(3, 4, kernel="fused", rng=rng)
        x = rng.normal(size=(max(lengths), len(lengths), 3)).astype(np.float32)
        with no_grad():
            outputs, h = layer(x, lengths=np.array(lengths))
        found = work.last_states(outputs.numpy(), np.array(lengths))
        judge.equal(f"last_states for lengths {lengths}", found, h.numpy()[0])

    for vocabulary in (3, 7):
        sequences = [rng.integers(0, vocabulary, rng.integers(1, 9)) for _ in range(10)]
        sequences[0] = np.full(12, vocabulary - 1)  # the classes differ in how many words they have
        labels = np.arange(10) % 2
        counts = [np.bincount(np.concatenate(sequences[k::2]), minlength=vocabulary) for k in (1, 0)]
        bayes = sentiment.naive_bayes(sequences, labels, vocabulary)
        right = bayes.likelihoods[1] - bayes.likelihoods[0]
        odds = work.log_odds(*counts)
        judge.equal(f"log_odds of {vocabulary} words", odds, right)
        for sequence in (sequences[0], sequences[1], np.array([0, 1, 0])):
            scores = bayes.scores(sequence)  # as many sentences of each class: the priors cancel
            judge.equal(f"naive_margin of the words {sequence.tolist()}", work.naive_margin(sequence, odds),
                        float(scores[1] - scores[0]))  # fmt: skip

    for steps, features in ((1, 1), (3, 3), (5, 2)):
        weights, embedded = rng.normal(size=(2, steps, features))
        found = work.word_shares(embedded, weights)
        judge.equal(f"word_shares of {steps} words with {features} features", found,
                    np.array([x @ w for x, w in zip(embedded, weights, strict=True)]))  # fmt: skip
        judge.equal("of a linear margin the shares are all there is", float(np.sum(found)),
                    float(np.sum(weights * embedded)))  # fmt: skip
