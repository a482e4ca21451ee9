"""Starts the benchmark in an environment of its own: one core, one BLAS thread, before NumPy is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]

ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""What would make OpenBLAS take another kernel than the one it chooses for this processor."""


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The caller's variables with one thread for everybody, and OpenBLAS left to choose for itself."""
    return {**{name: value for name, value in given.items() if name not in UNSET}, **ONE_THREAD}


def main() -> int:
    """Run `tests.benchmarks.run` with the same arguments on one core; its exit status."""
    if hasattr(os, "sched_setaffinity"):  # the last core that we may use: the first ones serve the system's interrupts
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    command = [sys.executable, "-m", "tests.benchmarks.run", *sys.argv[1:]]
    return subprocess.run(command, cwd=ROOT, env=environment(os.environ)).returncode


if __name__ == "__main__":
    sys.exit(main())
