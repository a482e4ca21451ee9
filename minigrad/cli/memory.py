"""How much memory a command will need, so that it can refuse before it starts."""

from __future__ import annotations

from ..character import CELLS
from ..errors import MinigradError

__all__ = ["demand", "graph_bytes", "score_bytes", "weight_bytes"]

MOST = 6e9
"""Bytes that a command may take."""

_STEP_BYTES = {"rnn": (18_000, 100), "lstm": (57_000, 360), "gru": (57_000, 360)}
"""What one recorded step took when it was measured: bytes a step, and bytes a step and feature."""

_KERNEL_BYTES = {"rnn": 40, "lstm": 80, "gru": 80}
"""What a kernel keeps, forward and backward, of one step and feature."""


def graph_bytes(cell: str, steps: int, batch: int, hidden: int, kernel: str = "steps") -> float:
    """Of the recorded graph of one layer, with its Record."""
    step, feature = _STEP_BYTES[cell] if kernel == "steps" else (0, _KERNEL_BYTES[cell])
    return steps * (step + batch * hidden * feature)


def score_bytes(vocabulary: int, targets: int) -> float:
    """Of the scores of so many targets, and what the loss makes of them."""
    return 20 * vocabulary * targets


def weight_bytes(cell: str, vocabulary: int, features: int, hidden: int, layers: int = 1) -> float:
    """Of the weights with their gradients, the optimizer's slots and temporaries."""
    gates = len(CELLS[cell].cell_type.gates)
    inner = sum(gates * hidden * (below + hidden + 2) for below in (features, *[hidden] * (layers - 1)))
    return (inner + vocabulary * (features + hidden + 1)) * 48


def demand(needed: float, what: str, remedy: str) -> None:
    """Refuse what would need more than MOST bytes.

    Raises:
        MinigradError: It would.
    """
    if needed > MOST:
        raise MinigradError(
            f"{what}: that takes about {min(needed, 1e18) / 1e9:,.1f} GB of memory, more than {MOST / 1e9:g}.\n"
            f"  {remedy}"
        )
