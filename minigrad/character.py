"""A language model of characters: from each character to scores of the next one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from . import nn
from .engine import Array
from .errors import CheckpointError, DataError, MinigradError, NonFiniteError, reason
from .scope import no_grad
from .tensor import Tensor
from .train import load_weights

__all__ = ["CELLS", "CharacterModel"]

CELLS: dict[str, type[nn.Recurrent]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class CharacterModel(nn.Module):
    """Embedding or one-hot vectors, recurrent layers, Linear.

    Args:
        characters: The vocabulary, V different characters.
        cell: "rnn", "lstm" or "gru"; the layers and their parameters carry this name.
        hidden: H.
        layers: L.
        embedding: Features of a character's vector; 0: one-hot vectors of V.
        dropout: Between the layers.
        kernel: "fused" or "steps"; see `nn.Recurrent`.
        scale: Every weight starts from N(0, scale²) and every bias at 0; None: as each layer says.
        rng: Where initial values and dropout's masks come from; None: a fresh generator.
    """

    def __init__(
        self, characters: Sequence[str], cell: str = "lstm", *, hidden: int = 128, layers: int = 1, embedding: int = 32,
        dropout: float = 0.0, kernel: str = "fused", scale: float | None = None, rng: np.random.Generator | None = None,
    ) -> None:  # fmt: skip
        if cell not in CELLS:
            raise MinigradError(f"CharacterModel: cell={cell!r}.\n  Choose one of {', '.join(CELLS)}.")
        rng = nn.init.generator(rng)
        self.characters = tuple(characters)
        self.settings = {"cell": cell, "hidden": hidden, "layers": layers, "embedding": embedding, "dropout": dropout,
                         "kernel": kernel}  # fmt: skip
        v = len(self.characters)
        self.embedding = nn.Embedding(v, embedding, rng=rng) if embedding else None
        setattr(self, cell, CELLS[cell](embedding or v, hidden, layers, dropout=dropout, kernel=kernel, rng=rng))
        self.output = nn.Linear(hidden, v, rng=rng)
        if scale is not None:
            for p in self.parameters():
                p.data = (scale * rng.standard_normal(p.shape) * (p.ndim > 1)).astype(p.dtype)

    @property
    def layer(self) -> nn.Recurrent:
        """The recurrent layers."""
        layer: nn.Recurrent = getattr(self, self.settings["cell"])  # type: ignore[call-overload]
        return layer

    def forward(self, ids: Any, state: Any = None) -> tuple[Tensor, Any]:
        """From characters by their place in the vocabulary, (T, N), to scores (T, N, V) and the last state."""
        outputs, state = self.layer(self._vectors(ids), state)
        return self.output(outputs), state

    def _vectors(self, ids: Any) -> Any:
        return self.embedding(ids) if self.embedding else np.eye(len(self.characters), dtype=np.float32)[ids]

    def loss(self, inputs: Array, targets: Array, state: Any = None, *, reduction: str = "mean") -> tuple[Tensor, Any]:
        """The cross entropy of targets (T, N) given inputs (T, N), in nats, and the last state."""
        scores, state = self(inputs, state)
        return nn.cross_entropy(scores, targets, reduction=reduction), state

    def last_loss(self, inputs: Array, target: Array) -> Tensor:
        """The cross entropy of what follows inputs (T, N) alone: target (N,)."""
        _, state = self.layer(self._vectors(inputs))
        top = state if isinstance(state, Tensor) else state[0]  # (L, N, H)
        return nn.cross_entropy(self.output(top[-1]), target)

    def ids(self, text: str) -> Array:
        """The place of each character in the vocabulary, (len(text),).

        Raises:
            DataError: The model has never seen a character.
        """
        places = {c: k for k, c in enumerate(self.characters)}
        unknown = next((c for c in text if c not in places), None)
        if unknown is not None:
            raise DataError(
                f"the model knows {len(places)} characters, and {unknown!r} is none of them.\n"
                "  Give a text with the characters of the one that it was trained on."
            )
        return np.array([places[c] for c in text], np.int64)

    def sample(
        self, prompt: str = "", *, temperature: float = 1.0, rng: np.random.Generator | None = None
    ) -> Iterator[str]:
        """Characters without end, each drawn from what the model expects after those before it.

            p = softmax(scores / temperature)

        Args:
            prompt: What it has read before; empty: a line end, or the first character it knows.
            temperature: Below 1 the likely gets likelier; at 0 the likeliest is taken.
            rng: Where the draws come from; None: a fresh generator.
        Raises:
            DataError: The prompt has a character that the model does not know.
            MinigradError: The temperature is negative or not finite.
            NonFiniteError: While it draws: a score is NaN or infinite.
        """
        if not 0 <= temperature < math.inf:
            raise MinigradError(f"sample: temperature={temperature}.\n  Give a finite number from 0.")
        start = prompt or ("\n" if "\n" in self.characters else self.characters[0])
        return self._drawn(self.ids(start), temperature, nn.init.generator(rng))

    def _drawn(self, ids: Array, temperature: float, rng: np.random.Generator) -> Iterator[str]:
        state = None
        training = self.training
        while True:
            self.eval()
            with no_grad(), np.errstate(all="ignore"):
                scores, state = self(ids[:, np.newaxis], state)
            self.train(training)
            last = scores.numpy()[-1, 0].astype(np.float64)
            if not np.isfinite(last).all():
                raise NonFiniteError(
                    "sample: the model's scores are not finite.\n  Train it with a lower learning rate."
                )
            if temperature:
                with np.errstate(over="ignore"):  # a temperature near 0 sends the unlikely to minus infinity
                    p = np.exp((last - last.max()) / temperature)
                choice = int(rng.choice(len(p), p=p / p.sum()))
            else:
                choice = int(last.argmax())
            ids = np.array([choice])
            yield self.characters[choice]

    def saved(self) -> dict[str, Any]:
        """All but the weights that `restored` needs, as plain data."""
        return {"settings": dict(self.settings), "characters": "".join(self.characters)}

    @classmethod
    def restored(cls, checkpoint: Mapping[str, Any]) -> CharacterModel:
        """The model in the checkpoint of a run.

        Raises:
            CheckpointError: There is none in it, or it does not fit its weights.
        """
        try:
            settings, characters = checkpoint["model"]["settings"], checkpoint["model"]["characters"]
            weights = checkpoint["training"]["weights"]
            size = sum(w.size for w in weights.values())
            v, h, layers, embedding = (
                len(characters), *(settings[name] for name in ("hidden", "layers", "embedding"))
            )  # fmt: skip
            if not all(type(n) is int for n in (h, layers, embedding)) or not isinstance(characters, str):
                raise ValueError("its settings are of another kind")
            if not v or len(set(characters)) < v:
                raise ValueError("its vocabulary is empty or names a character twice")
            if min(h, layers) < 1 or embedding < 0 or max(v * max(h, embedding), layers * h * h) > size:
                raise ValueError("its sizes are not those of its weights")  # before anything large is made
            model = cls(characters, **settings)
            load_weights(model, weights)
        except (LookupError, TypeError, ValueError, AttributeError, MinigradError) as error:
            raise CheckpointError(
                f"the model in this file does not fit together: {reason(error)}.\n"
                "  Give a file that minigrad train saved."
            ) from None
        return model
