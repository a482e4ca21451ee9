"""How time is taken: contenders in turns, the median of many samples, the garbage collector off.

Time is what the processor spent on this process, all its threads together, so that what else the
machine does counts less; where the system measures that too coarsely, the time that passed.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

__all__ = ["CLOCK", "Spread", "interleaved", "spread"]

CLOCK = "process_time" if time.get_clock_info("process_time").resolution < 1e-5 else "perf_counter"
_now: Callable[[], float] = getattr(time, CLOCK)

LEAST_SECONDS = 0.02
"""A sample repeats what is faster than this until it takes as long, as a training loop would."""
SLOW_SECONDS, SLOW_SAMPLES = 1.0, 3
"""What is slower than this is sampled in the first rounds only."""


class Spread(NamedTuple):
    """The quartiles of some samples."""

    lower: float
    median: float
    upper: float


def spread(samples: Sequence[float]) -> Spread:
    """The quartiles, of one sample or more."""
    if len(samples) == 1:
        return Spread(samples[0], samples[0], samples[0])
    return Spread(*statistics.quantiles(samples, n=4, method="inclusive"))


def interleaved(
    steps: Mapping[str, Callable[[], object]], repeats: int, *, least: float = LEAST_SECONDS
) -> dict[str, Spread]:
    """The seconds that one call of each takes, all measured in turns, so that a slow spell slows all.

    Args:
        steps: What to call, by name; called before to warm up.
        repeats: Samples of each.
        least: How long a sample takes at least, in seconds.
    """
    counts, rounds = {}, {}
    for name, step in steps.items():
        step()
        once = _seconds(step, 1)
        counts[name] = max(1, math.ceil(least / max(once, 1e-6)))
        rounds[name] = min(repeats, SLOW_SAMPLES) if once > SLOW_SECONDS else repeats
    names = list(steps)
    samples: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.freeze()  # what the libraries hold is not looked at again
    try:
        for k in range(repeats):
            first = k % len(names)  # nobody always follows the same other one
            for name in names[first:] + names[:first]:
                if k >= rounds[name]:
                    continue
                gc.collect()
                samples[name].append(_seconds(steps[name], counts[name]))
    finally:
        gc.unfreeze()
    return {name: spread(some) for name, some in samples.items()}


def _seconds(step: Callable[[], object], count: int) -> float:
    gc.disable()
    try:
        start = _now()
        for _ in range(count):
            step()
        return (_now() - start) / count
    finally:
        gc.enable()
