"""The one JSON document of `minigrad bptt --json`, as docs/json.md describes it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import __version__
from ..bptt import storage
from ..bptt.diagnose import Diagnosis, diagnose
from ..bptt.fault import Fault, Zero
from ..bptt.record import Reading, SequenceRecord, kind_of
from ..data.text import Text
from .bptt_models import Look

__all__ = ["document_of"]


def document_of(
    args: argparse.Namespace, text: Text, looks: Mapping[str, Look], files: Mapping[str, list[str]]
) -> dict[str, Any]:
    settings = ("model", "steps", "cell", "hidden", "init", "train", "clip", "loss", "level", "all", "seed")
    return {
        "format": "minigrad bptt",
        "version": 4,
        "minigrad": __version__,
        "text": {"name": text.name, "characters": len(text), "vocabulary": len(text.characters)},
        "settings": {name: getattr(args, name) for name in settings},
        "files": files.get("cells", []),
        "cells": {cell: {**_cell(look, text, args), "files": files[cell]} for cell, look in looks.items()},
    }


def _cell(look: Look, text: Text, args: argparse.Namespace) -> dict[str, Any]:
    record = look.record
    clipping = record.clipping
    assert clipping is not None
    return {
        "cell": look.variant.cell, "hidden": look.variant.hidden, "init": look.variant.init,
        "training": None if look.training is None else {k: _finite(x) for k, x in look.training._asdict().items()},
        "loss": _finite(record.loss),
        "sequences": {name: _sequence(look, s, text, args) for name, s in record.sequences.items()},
        "parameters": {
            name: {"shape": p.shape, "weight_norm": _finite(p.weight_norm), "gradient": _norm(p.norm, p.gradient.dtype)}
            for name, p in record.parameters.items()
        },
        "clipping": {
            "threshold": clipping.threshold, "norm_before": _finite(clipping.norm_before),
            "norm_after": _finite(clipping.norm_after), "coefficient": _finite(clipping.coefficient),
            "fired": clipping.fired,
        },
    }  # fmt: skip


def _sequence(look: Look, sequence: SequenceRecord, text: Text, args: argparse.Namespace) -> dict[str, Any]:
    record = look.record
    found = diagnose(record, sequence=sequence.name)
    by_step = {name: p.by_step(sequence.name) for name, p in record.parameters.items()}
    readings = {f"dL_d{state}": sequence.readings(state) for state in sequence.states}
    steps = []
    for t in range(sequence.steps):
        steps.append({
            "t": t + 1, "character": text.text[t], "label": look.labels[t], "target": look.labels[t + 1],
            "loss": None if record.losses is None else _finite(record.losses[t]),
            **{name: _reading(some[t]) for name, some in readings.items()},
            "terms": {name: _norm(norms[t], sequence.dtype) for name, norms in by_step.items() if t in norms},
        })  # fmt: skip
    document: dict[str, Any] = {
        "verdict": found.verdict, "rule": found.rule, "diagnosis": _diagnosis(found), "steps": steps,
    }  # fmt: skip
    if args.show:
        document["show"] = {name: storage.to_json(x) for name, x in look.measured[sequence.name].items()}
    return document


def _diagnosis(found: Diagnosis) -> dict[str, Any]:
    lane = found.lane

    def place(x: Fault | Zero | None) -> dict[str, Any] | None:
        if x is None:
            return None
        named = x._asdict()
        time = named.pop("time")
        return {**_plain(named), "t": None if time is None else time + 1}

    return {
        "state": found.state, "exact": found.exact, "earliest": found.earliest + 1, "latest": found.latest + 1,
        "share": None if lane is None else _finite(lane.share), "ratio": _finite(found.ratio),
        "decades": _finite(found.decades), "tenth": lane and lane.tenth, "thousandth": lane and lane.thousandth,
        "underflow": lane and lane.underflow, "first_fault": place(found.fault), "first_zero": place(found.zero),
    }  # fmt: skip


def _plain(x: Any) -> Any:
    """Mappings, lists and numbers as JSON has them."""
    if isinstance(x, np.ndarray):
        return _plain(x.tolist())
    if isinstance(x, Mapping):
        return {str(key): _plain(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [_plain(value) for value in x]
    return _finite(x) if isinstance(x, float) else x


def _norm(norm: float, dtype: Any) -> dict[str, Any]:
    return _reading(Reading(norm, kind_of(norm, dtype)))


def _reading(reading: Reading) -> dict[str, Any]:
    return {"norm": _finite(reading.norm), "kind": reading.kind}


def _finite(x: float) -> float | None:
    """A number as JSON has it."""
    if isinstance(x, int):
        return x
    return float(x) if math.isfinite(x) else None
