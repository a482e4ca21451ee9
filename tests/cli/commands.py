"""The command line as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import minigrad


def process(*argv: str, **options: Any) -> subprocess.Popen[str]:
    """Start `minigrad` with these words, every warning an error."""
    path = str(Path(minigrad.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **options.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "minigrad", *argv], env=environment, text=True, encoding="utf-8",
        stdout=options.pop("stdout", subprocess.PIPE), stderr=options.pop("stderr", subprocess.PIPE), **options,
    )  # fmt: skip
