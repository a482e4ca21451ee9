"""The training loop: truncated backpropagation through time over a stream of chunks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from . import bptt, engine
from .bptt.collect import collected
from .bptt.fault import first_fault
from .bptt.history import History, StateNorms
from .clip import Clipping, clip_grad_norm, clip_grad_value
from .data.chunks import Chunk
from .engine import Array
from .errors import CheckpointError, DataError, MinigradError, NonFiniteError, reason
from .optim import Optimizer, Update
from .scope import no_grad
from .tensor import Tensor

__all__ = ["History", "Step", "Trainer", "evaluate", "load_weights"]


class SequenceModel(Protocol):
    """What the loop asks of a model: that it is a `Module` with a loss over one chunk.

    `loss` gives the loss and the state after the chunk: a tensor, a tuple of tensors, or None. The next
    chunk gets it back, a named tuple as a plain one.
    """

    training: bool

    def loss(
        self, inputs: Array, targets: Array, state: Any = None, *, reduction: str = "mean"
    ) -> tuple[Tensor, Any]: ...

    def train(self, training: bool = True) -> None: ...

    def state_dict(self) -> dict[str, Array]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...

    def generators(self) -> dict[str, np.random.Generator]: ...


class Stream(Protocol):
    """Where chunks come from, one after the other, and where it stands."""

    def next(self) -> Chunk: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Step(NamedTuple):
    """What one update did.

    Attributes:
        update: Its number, from 1.
        loss: The mean over the chunk's targets, before the update.
        clipping: What clipping did; None without clipping.
        change: How far each parameter moved, of an update with a record; else empty.
        record: What backpropagation left at every time step, if that was asked for; clipping and
            change are in it.
    """

    update: int
    loss: float
    clipping: Clipping | None
    change: Update
    record: bptt.Record | None


class Trainer:
    """One update a chunk; the state is carried from chunk to chunk, and its gradient cut between them.

    Args:
        model: See `SequenceModel`.
        optimizer: Of its parameters.
        stream: Where chunks come from, such as `Chunks`.
        clip_norm, clip_value: Clip the gradient so; at most one of them.
        schedule: From the number of updates so far to a factor for the optimizer's learning rate; see `optim`.
        reduction: "mean" or "sum": which loss is differentiated. What is reported is the mean.
        norms_every: Keep ‖dL/dh_t‖ and ‖dL/dc_t‖ at every step and the norm of each parameter's gradient, in
            `history.norms`, of every so many updates from the first; 0: of none.
    Raises:
        MinigradError: Both kinds of clipping are asked for, the reduction is neither, or norms_every is no whole
            number from 0.
    """

    def __init__(
        self, model: SequenceModel, optimizer: Optimizer, stream: Stream, *, clip_norm: float | None = None,
        clip_value: float | None = None, schedule: Callable[[int], float] | None = None, reduction: str = "mean",
        norms_every: int = 0,
    ) -> None:  # fmt: skip
        if clip_norm is not None and clip_value is not None:
            raise MinigradError("Trainer: clip_norm and clip_value are both given.\n  Give one of them.")
        if reduction not in ("mean", "sum"):
            raise MinigradError(f"Trainer: reduction={reduction!r}.\n  Choose 'mean' or 'sum'.")
        if not isinstance(norms_every, int) or norms_every < 0:
            raise MinigradError(
                f"Trainer: norms_every={norms_every!r}.\n  Give a whole number: every so many updates, or 0 for none."
            )
        self.model, self.optimizer, self.stream, self.norms_every = model, optimizer, stream, norms_every
        self.clip_norm, self.clip_value, self.schedule, self.reduction = clip_norm, clip_value, schedule, reduction
        self.base_lr = optimizer.lr
        self.history = History()
        self.state: Any = None
        self.stopping = False

    @property
    def updates(self) -> int:
        """How many updates there have been."""
        return len(self.history)

    def step(self, record: bool = False) -> Step:
        """Read the next chunk and update the weights once.

        Args:
            record: Also keep what backpropagation left at every time step.
        Raises:
            NonFiniteError: The loss, a gradient, a new weight or a slot of the optimizer is NaN or infinite.
                It names the first node at fault. The weights are those before the update.
            MinigradError: The model's state is not what `SequenceModel` says.
        """
        with np.errstate(all="ignore"):  # what is not finite is looked for, and an error
            return self._step(record)

    def _step(self, record: bool) -> Step:
        chunk = self.stream.next()
        state = None if chunk.fresh else self.state
        number = self.updates + 1
        parameters = self.optimizer.parameters
        self.optimizer.zero_grad()
        loss, state = self.model.loss(chunk.inputs, chunk.targets, state, reduction=self.reduction)
        state = _cut(state)
        size = np.size(chunk.targets) if self.reduction == "sum" else 1
        if not math.isfinite(loss.item()):
            raise NonFiniteError(_at_fault(number, "the loss", loss))
        seen = StateNorms() if self.norms_every and (number - 1) % self.norms_every == 0 else None
        kept = None
        if record:
            kept = collected(
                loss, "steps", lambda root, see: engine.backward(root, observer=seen.beside(see) if seen else see)
            )
        else:
            engine.backward(loss, observer=seen.observe if seen else None)
        try:
            clipping = self._clip(parameters)
        except NonFiniteError:
            self.optimizer.zero_grad()
            raise NonFiniteError(_at_fault(number, "the gradient", loss)) from None
        if self.schedule is not None:
            self.optimizer.lr = self.base_lr * self.schedule(number - 1)
        before = [p.value for p in parameters]
        change = self.optimizer.step(measure=record)  # its norms cost up to half an update
        overflowed = self._overflowed()
        if overflowed is not None:
            for p, value in zip(parameters, before, strict=True):
                p.data = value
            raise NonFiniteError(
                f"update {number}: the gradient is finite, but {overflowed} would be NaN or infinite after it.\n"
                "  Lower the learning rate, or clip the gradient."
            )
        self.state = state
        self.history.add(
            loss=loss.item() / size, lr=self.optimizer.lr, norm_before=clipping.norm_before,
            norm_after=clipping.norm_after, fired=clipping.fired,
        )  # fmt: skip
        if seen is not None:
            self.history.norms.add(number, seen.norms(), clipping.before)
        clips = None if self.clip_norm is None and self.clip_value is None else clipping
        if kept is not None:
            kept = kept.after(clipping=clips, update=change)
        return Step(number, loss.item() / size, clips, change, kept)

    def _clip(self, parameters: Sequence[Tensor]) -> Clipping:
        if self.clip_value is not None:
            return clip_grad_value(parameters, self.clip_value)
        return clip_grad_norm(parameters, _NEVER if self.clip_norm is None else self.clip_norm)

    def _overflowed(self) -> str | None:
        """The first parameter, or slot of the optimizer, that the last update made NaN or infinite."""
        slots = self.optimizer.state
        for k, (name, p) in enumerate(zip(self.optimizer.names, self.optimizer.parameters, strict=True)):
            if not np.isfinite(p.value).all():
                return name
            for slot, arrays in slots.items():
                if not np.isfinite(arrays[k]).all():
                    return f"the optimizer's {slot} of {name}"
        return None

    def run(
        self, updates: int, callbacks: Iterable[Callable[[Trainer, Step], None]] = (), *, record_every: int = 0
    ) -> None:
        """Train until there have been so many updates in all, or until somebody sets `stopping`.

        Args:
            updates: Counted from the very first one, so a resumed run has the same number.
            callbacks: Called after each update with the trainer and what the update did.
            record_every: Keep a Record of every so many updates; 0: of none.
        Raises:
            NonFiniteError: As `step`.
        """
        callbacks = list(callbacks)
        while self.updates < updates and not self.stopping:
            number = self.updates + 1
            step = self.step(record=bool(record_every) and (number % record_every == 0 or number == updates))
            for callback in callbacks:
                callback(self, step)
        self.stopping = False  # not at the start: a signal may have come just before

    def state_dict(self) -> dict[str, Any]:
        """All that a later run needs to go on as if there had been no break: plain data and arrays."""
        return {
            "weights": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "base_lr": self.base_lr,
            "stream": self.stream.state_dict(),
            "state": _plain(self.state),
            "generators": {name: rng.bit_generator.state for name, rng in self.model.generators().items()},
            "history": self.history.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` of an equally built trainer gave.

        Raises:
            CheckpointError: Something is missing or does not fit.
        """
        try:
            load_weights(self.model, state["weights"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.base_lr = float(state["base_lr"])
            self.stream.load_state_dict(state["stream"])
            self.history.load_state_dict(state["history"])
            self.state = _restored(state["state"])
            generators = self.model.generators()
            if generators.keys() != state["generators"].keys():
                raise ValueError(f"it has the generators {list(state['generators'])}, the model {list(generators)}")
            for name, rng in generators.items():
                saved = state["generators"][name]
                if not _alike(saved, rng.bit_generator.state):
                    raise ValueError(f"the state of the generator {name} is of another kind")
                rng.bit_generator.state = saved
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, MinigradError) as error:
            raise CheckpointError(
                f"the saved training does not fit this model and optimizer: {reason(error)}.\n"
                "  Build both with the settings that it was saved with."
            ) from None


_NEVER = float(np.finfo(np.float64).max)


def _cut(state: Any) -> Any:
    """The state without its history: here the gradient of truncated BPTT ends."""
    if state is None:
        return None
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, tuple) and all(isinstance(s, Tensor) for s in state):
        return tuple(s.detach() for s in state)
    raise MinigradError(
        f"Trainer: the model's loss() gives a {type(state).__name__} as its state.\n"
        "  Give a tensor, a tuple of tensors, or None."
    )


def _plain(state: Any) -> Any:
    """A state as arrays."""
    return [s.numpy() for s in state] if isinstance(state, tuple) else None if state is None else state.numpy()


def _restored(plain: Any) -> Any:
    """What `_plain` took apart; a list may be a tuple by then."""
    if isinstance(plain, (list, tuple)) and all(isinstance(s, np.ndarray) for s in plain):
        return tuple(Tensor(s) for s in plain)
    if plain is None or isinstance(plain, np.ndarray):
        return None if plain is None else Tensor(plain)
    raise ValueError(f"its state is {type(plain).__name__}")


def _alike(found: Any, own: Any) -> bool:
    """Whether two states of generators are of one kind: names, types, shapes."""
    if isinstance(own, dict):
        return isinstance(found, dict) and found.keys() == own.keys() and all(_alike(found[k], own[k]) for k in own)
    if isinstance(own, np.ndarray):
        return isinstance(found, np.ndarray) and (found.shape, found.dtype) == (own.shape, own.dtype)
    return type(found) is type(own) and (not isinstance(own, str) or found == own)


def _at_fault(number: int, what: str, loss: Tensor) -> str:
    return f"update {number}: {what} is not finite; {_found(loss)}.\n  Lower the learning rate, or clip the gradient."


def _found(loss: Tensor) -> str:
    fault = first_fault(loss)
    return "a sum of finite gradients overflowed" if fault is None else str(fault)


def load_weights(model: SequenceModel, weights: Mapping[str, Any]) -> None:
    """Give the model the weights that it had, bit for bit: none is converted, and none is NaN or infinite.

    Raises:
        CheckpointError: An array is missing, unknown, of another shape or type, or not finite.
    """
    own = model.state_dict()
    if weights.keys() != own.keys():
        raise CheckpointError(f"its weights are {list(weights)!s:.100}, where {', '.join(own)} belong")
    for name, wanted in own.items():
        found = weights[name]
        if not isinstance(found, np.ndarray) or (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
            shown = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
            raise CheckpointError(f"{name} is {shown}, where {wanted.dtype} {wanted.shape} belongs")
        if not np.isfinite(found).all():
            raise CheckpointError(f"{name} has NaN or infinity in it")
    model.load_state_dict(weights)


def evaluate(model: SequenceModel, ids: Array, *, steps: int = 256, streams: int = 64) -> float:
    """The mean loss over a held-out sequence, with dropout off and nothing recorded.

    The sequence is cut into at most `streams` streams of at least 500 elements that start from the
    state of zeros; every element but the first of a stream is a target.

    Args:
        model: See `SequenceModel`.
        ids: (L,), at least 2 elements.
        steps: How many time steps are computed at once.
        streams: N at most.
    Raises:
        DataError: There are fewer than 2 elements.
        NonFiniteError: The loss is NaN or infinite; it names the first node at fault.
    """
    if len(ids) < 2:
        raise DataError(f"evaluate: {len(ids)} elements.\n  Give at least 2: one to read, and what follows it.")
    batch = max(1, min(streams, len(ids) // 500))
    length = len(ids) // batch
    columns = np.ascontiguousarray(ids[: batch * length].reshape(batch, length).T)  # (L // N, N)
    training, total, state = model.training, 0.0, None
    model.train(False)
    try:
        with no_grad(), np.errstate(all="ignore"):
            for start in range(0, length - 1, steps):
                part = columns[start : start + steps + 1]
                before = state
                loss, state = model.loss(part[:-1], part[1:], before, reduction="sum")
                if not math.isfinite(loss.item()):
                    break
                total += loss.item()
            else:
                return total / (batch * (length - 1))
        with np.errstate(all="ignore"):  # once more, recorded
            loss, _ = model.loss(part[:-1], part[1:], before, reduction="sum")
        raise NonFiniteError(
            f"evaluate: the loss is not finite; {_found(loss)}.\n  Lower the learning rate, or clip the gradient."
        )
    finally:
        model.train(training)
