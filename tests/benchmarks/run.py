"""Runs the measures, prints their tables, and writes them into the README beside this file."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .measures import MEASURES, SIZES, Settings
from .table import Table, rendered, summary, written

__all__ = ["conditions", "main"]

README = Path(__file__).with_name("README.md")
LIBRARIES = {"PyTorch": "torch", "JAX": "jax", "HIPS autograd": "autograd", "MyGrad": "mygrad"}


def _processor() -> str:
    """The processor's name, where the system tells it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text("utf8").splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def conditions(arguments: Sequence[str]) -> str:
    """Where, with what, when and how this was measured."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index]
    versions = {name: _version(package) for name, package in LIBRARIES.items()}
    there = [f"{name} {version}" for name, version in versions.items() if version is not None]
    missing = [name for name, version in versions.items() if version is None]
    lines = [
        f"- Machine: {_processor()}, {os.cpu_count()} cores, {cores} used; {platform.system()} {platform.machine()}",
        f"- Python {platform.python_version()}, NumPy {np.__version__}, {blas['name']} {blas['version']}",
        f"- Contenders: {', '.join(there) or 'none'}",
        *([f"- Missing, and not measured: {', '.join(missing)}"] if missing else []),
        f"- {datetime.date.today()}: `{' '.join(('python -m tests.benchmarks', *arguments))}`",
        f"- Sizes: {'; '.join(f'{n} T={t}, N={b}, C={c}, H={h}' for n, (t, b, c, h) in SIZES.items())}",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser("python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=[m.name for m in MEASURES], help="this measure alone")
    parser.add_argument("--repeats", type=int, default=Settings().repeats, help="samples of each (%(default)s)")
    parser.add_argument("--tiny", action="store_true", help="sizes that only show that everything runs")
    parser.add_argument("--write", action="store_true", help="also write the tables into the README beside this file")
    given = parser.parse_args(arguments)
    if given.write and (given.tiny or given.only):
        parser.error("--write takes every measure at its full size: leave out --tiny and --only")
    if given.repeats < 1:
        parser.error("--repeats counts from 1")
    settings = Settings(1 if given.tiny else given.repeats, given.tiny)
    where = conditions(arguments)
    _say(where)
    tables: list[Table] = []
    for measure in MEASURES:
        if not given.only or measure.name in given.only:
            tables.append(measure.run(settings))
            _say(rendered(tables[-1]))
    _say(summary(tables))
    if given.tiny:
        _say("A tiny run: everything runs, and its numbers mean nothing.")
    if given.write:
        written(README, "\n\n".join((where, summary(tables), *map(rendered, tables))))
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
