"""Where a computation first left the finite numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import engine
from ..engine import Node
from ..nn.fused import Kernel

__all__ = ["Fault", "first_fault"]


class Fault(NamedTuple):
    """The first node that is NaN or infinite.

    Attributes:
        what: "value": found on the way forward. "gradient": every value is finite, and this was the
            first found on the way back.
        op: The op's name, or the parameter's.
        scope: The path of names it was recorded in.
        time: The index of the time step, from 0; None outside any step.
        source: The caller's line that recorded it.
        own: Whether the op itself made it from finite numbers.
    """

    what: str
    op: str
    scope: tuple[str, ...]
    time: int | None
    source: str | None
    own: bool

    def __str__(self) -> str:
        where = f" at {' / '.join(self.scope)}" if self.scope else ""
        made = "" if self.own else ", and what it was given is so already"
        what = "value" if self.what == "value" else "gradient on the way back"
        return f"the first {what} that is NaN or infinite is that of {self.op}{where}{made}"


def first_fault(loss: Node) -> Fault | None:
    """Walk the graph of a loss forward, then back, to the first NaN or infinity; None if there is none.

    Forward, the values are those that were recorded. Backward, an op is at fault whose gradient is
    finite and which hands on one that is not; no `.grad` is touched.

    Raises:
        GradError, StaleGraphError: As `grad`.
    """
    for node in reversed(engine.topological(loss)):
        if not _finite(node.value):
            return _fault("value", node, all(map(_finite, node.inputs)))
    found: list[Fault] = []

    def observe(node: Node, g: Any, parts: Sequence[Any]) -> None:
        if not found and not (_finite(g) and all(map(_finite, parts))):
            found.append(_fault("gradient", node, _finite(g), getattr(parts, "trace", None)))

    engine.grad(loss, [], observer=observe)
    return found[0] if found else None


def _fault(what: str, node: Node, own: bool, trace: Any = None) -> Fault:
    op = f"parameter {node.name}" if node.name else node.op.name if node.op else "an input"
    scope, time = node.scope.path, node.scope.time
    if isinstance(node.op, Kernel):  # it stands for many steps: the first that went wrong
        run, of_states = node.op.run, node.op.saved.states
        if what == "gradient":
            of_states = {} if trace is None else trace.gradients
        downwards = run.reverse != (what == "gradient")
        order = range(run.steps - 1, -1, -1) if downwards else range(run.steps)
        time = next((t for t in order if not all(_finite(s[t]) for s in of_states.values())), None)
        scope = scope if time is None else (*scope, f"t={time + 1}")
    return Fault(what, op, scope, time, node.source, own)


def _finite(x: Any) -> bool:
    if isinstance(x, (tuple, list)):
        return all(map(_finite, x))
    return not isinstance(x, np.ndarray) or x.dtype.kind != "f" or bool(np.isfinite(x).all())
