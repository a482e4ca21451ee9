"""The peak memory of one training step, in a process of its own: `python -m tests.benchmarks.memory ours 10 2 3 4`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

from .problem import Size, made

__all__ = ["CONTENDERS", "main", "now", "peak"]

CONTENDERS = {"ours": "fused", "pytorch": "layer", "jax_scan": "layer"}
"""By file: what builds the step."""

_STATUS = Path("/proc/self/status")


def _status(field: str) -> int:
    line = next(line for line in _STATUS.read_text("utf8").splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def peak() -> int:
    """The most memory that this process has held, in bytes.

    Linux hands the parent's `ru_maxrss` on to a child, so its own mark is read where there is one.
    """
    if _STATUS.exists():
        return _status("VmHWM:")
    assert resource is not None, "no measure of memory on this system"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def now() -> int:
    """What this process holds, in bytes; where the system does not say, the most it has held."""
    return _status("VmRSS:") if _STATUS.exists() else peak()


def main(contender: str, size: Size) -> int:
    """How far one training step rises above what the imports and a step of T=2 left behind, in bytes."""
    build = getattr(importlib.import_module(f"{__package__}.contenders.{contender}"), CONTENDERS[contender])
    build(made("LSTM", size._replace(steps=min(2, size.steps))))()
    before = now()
    build(made("LSTM", size))()
    return peak() - before


if __name__ == "__main__":
    sys.stdout.write(f"{main(sys.argv[1], Size(*map(int, sys.argv[2:])))}\n")
