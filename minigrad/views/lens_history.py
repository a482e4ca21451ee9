"""What the gradient did through training, shown in the terminal: updates downwards, time steps to the right."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from ..bptt.diagnose import EXPLODES_ABOVE, VANISHES_BELOW
from ..bptt.history import Diagnosed, History
from ..engine import Array
from ..errors import RecordError
from .lens_marks import Shown, edges, lead, logs_of, many, note, part, percent, power, strip, table
from .palette import number
from .report import safe

__all__ = ["arriving", "heat_map", "history"]

_LEAST = 2.0
"""Decades that a map shows at least: a steady gradient looks steady."""


class _Map(NamedTuple):
    """A heat map, line by line.

    Attributes:
        ranges: Which rows of the norms each line stands for.
        lines: Their tiles.
        axis: What stands below or above them: the first and the last step.
        scale: From which norm to which, in words.
    """

    ranges: list[tuple[int, int]]
    lines: list[Text]
    axis: str
    scale: str


def heat_map(norms: Array, width: int, rows: int) -> _Map:
    """Norms (updates, T) as tiles: a line an update, or the largest of several; of steps likewise.

    The height of a tile is the logarithm of its norm, on one scale for the whole map.

    Args:
        norms: NaN where there is none.
        width: In characters.
        rows: How many lines at most.
    """
    count, steps = norms.shape
    logs = logs_of(norms.astype(np.float64))
    known = logs[np.isfinite(logs)]
    high = float(known.max()) if known.size else 0.0
    low = min(float(known.min()) if known.size else 0.0, high - _LEAST)
    wide = max(1, min(4, width // max(1, steps)))
    ranges, lines = edges(count, rows), []
    for a, b in ranges:
        lines.append(strip(np.repeat(np.fmax.reduce(logs[a:b], axis=0), wide), width, low, high))
    size = min(width, steps * wide)
    last = f"t={steps}"
    axis = f"t=1{last:>{size - 3}}" if size > len(last) + 3 else "t=1" if steps == 1 else f"t=1…{steps}"
    scale = f"{power(float(known.min()))}…{power(high)}" if known.size else "no norm"
    return _Map(ranges, lines, axis, scale)


def arriving(looks: Sequence[Diagnosed]) -> Array:
    """The shares of the last loss's gradient that arrive at each step, (looks, T); NaN past a shorter chunk's end."""
    shares = np.full((len(looks), max((len(x.arriving) for x in looks), default=0)), np.nan)
    for row, x in zip(shares, looks, strict=True):
        row[: len(x.arriving)] = x.arriving
    return shares


def history(found: History, *, sequence: str | None = None, rows: int = 12) -> RenderableType:
    """Training as the gradient saw it: norms of dL/dh_t by update and step, when it vanished, when clipping fired.

    Args:
        found: `trainer.history`, of a trainer with norms_every, or of a checkpoint.
        sequence: Which layer and direction; None: the first, and all parameters with it.
        rows: How many lines a heat map has at most.
    Raises:
        RecordError: There are no norms in it, or none of this sequence.
    """
    norms = found.norms
    if not len(norms) or not norms.states:
        raise RecordError(
            "lens.history: this training kept no norms of its gradients.\n"
            "  Give Trainer(..., norms_every=10), or minigrad train --norms-every 10."
        )
    name = next(iter(norms.states)) if sequence is None else sequence
    if name not in norms.states:
        raise RecordError(f"lens.history: no sequence {name!r}.\n  There are {', '.join(norms.states)}.")
    maps = {state: norms.rows(name, state) for state in norms.states[name]}
    updates = np.array(norms.updates)
    looks = [x for x in found.diagnoses if x.sequence == name and len(x.arriving)]

    def build(width: int) -> RenderableType:
        parts: list[RenderableType] = [lead(f"Training of {safe(name)}", _found(found, name, maps))]
        if looks:
            parts += ["", *_arriving(looks, width, rows)]
        for state, some in maps.items():
            parts += ["", *_map(found, f"‖dL/d{safe(state)}_t‖", updates, some, width, rows)]
        parts.append(note(
            f"{many(len(updates), 'update')} of {len(found)}. A tile is a step, its height and colour the logarithm,"
            " one scale for the map; where there are too many, the largest of several. Update: the first one of a"
            " line. Clipped: the share of the line's updates that clipping changed. 0: exactly 0, !: not finite.",
        ))  # fmt: skip
        if norms.parameters and name == next(iter(norms.states)):
            parts += ["", _parameters(found, width)]
        return Group(*parts)

    return Shown(build)


# In words


def _found(found: History, name: str, maps: dict[str, Array]) -> Iterator[str]:
    losses = found.columns["loss"]
    tenth = max(1, len(losses) // 10)
    first, last = (float(np.mean(some)) for some in (losses[:tenth], losses[-tenth:]))
    yield f"{many(len(losses), 'update')}, loss {number(first)} → {number(last)} (means of the first and last tenth)."
    looks = [x for x in found.diagnoses if x.sequence == name]
    if looks:
        arrives = f"less than {VANISHES_BELOW:g} of the last loss's gradient arrives at the first step"
        yield _spells("Vanishing", arrives, [(x.update, x.verdict in ("vanishing", "dead")) for x in looks])
        exploding = [(x.update, x.verdict == "exploding") for x in looks]
        if any(bad for _, bad in exploding):
            yield _spells("Exploding", f"it grows more than {EXPLODES_ABOVE:g} times on its way back", exploding)
    ratios = _ratios(next(iter(maps.values())), name.endswith("_reverse"))
    updates = np.array(found.norms.updates)
    known = np.flatnonzero(~np.isnan(ratios))
    if len(known):
        a, b = (f"{number(float(ratios[k]))} at update {updates[k]:,}" for k in (known[0], known[-1]))
        size = f"‖dL/d{safe(next(iter(maps)))}‖ at the walk's first step, in parts of that at its last:"
        yield f"{size} {a}, {b}." if len(known) > 1 else f"{size} {a}."
        small = [(int(u), bool(r < VANISHES_BELOW)) for u, r in zip(updates[known], ratios[known], strict=True)]
        if any(bad for _, bad in small):
            yield _spells("Vanishing norms", f"less than {VANISHES_BELOW:g} of it", small)
    yield _clipped(np.array(found.columns["fired"]))


def _ratios(norms: Array, reverse: bool) -> Array:
    """Each update's norm at the first step of the walk over that at the last one; NaN where there is none."""
    ratios = np.full(len(norms), np.nan)
    for k, row in enumerate(norms.astype(np.float64)):
        known = np.flatnonzero(~np.isnan(row))
        if len(known) > 1:
            ends = row[known[[0, -1]]]
            with np.errstate(all="ignore"):
                ratios[k] = np.divide(*(ends[::-1] if reverse else ends))
    return ratios


def _spells(what: str, meaning: str, looks: Sequence[tuple[int, bool]]) -> str:
    """From when to when something was so, as far as the looks tell."""
    spells = [
        [update for update, _ in some] for bad, some in groupby(looks, lambda look: look[1]) if bad
    ]
    count, last = len(looks), looks[-1][0]
    if not spells:
        return f"{what} ({meaning}): at none of {many(count, 'look')}."
    ends = [(spell[0], spell[-1]) for spell in spells]
    longest = sorted(ends, key=lambda spell: spell[0] - spell[1])[:3]
    named = [
        f"at update {a:,}" if a == b else f"from update {a:,} on" if b == last else f"from update {a:,} to {b:,}"
        for a, b in sorted(longest)
    ]  # fmt: skip
    more = f" and {many(len(ends) - 3, 'time')} more" if len(ends) > 3 else ""
    return f"{what} ({meaning}): {', '.join(named)}{more}, of {many(count, 'look')}."


def _clipped(fired: Array) -> str:
    if not fired.any():
        return "Clipping changed no gradient."
    tenth = max(1, len(fired) // 10)
    times = np.flatnonzero(fired) + 1
    whole, first, last = (percent(float(some.mean())) for some in (fired, fired[:tenth], fired[-tenth:]))
    return (
        f"Clipping fired at {whole} of the updates: {first} of the first tenth, {last} of the last; first at update"
        f" {times[0]:,}, last at {times[-1]:,}."
    )


# The maps


def _map(
    found: History, title: str, updates: Array, norms: Array, width: int, rows: int
) -> Iterator[RenderableType]:
    names = [f"{u:,}" for u in updates]
    label = max(len("update"), max(map(len, names)))
    losses, fired = (np.array(found.columns[name]) for name in ("loss", "fired"))
    head = f"{'loss':>7}{'clipped':>8}" if width >= 60 else ""
    made = heat_map(norms, max(4, width - label - 1 - len(head)), rows)
    size = max(len(made.axis), max(line.cell_len for line in made.lines))
    yield Text(f"{title}, {made.scale}", "bold")
    yield Text(f"{'update':>{label}} {made.axis:<{size}}{head}", "bold")
    for (a, b), line in zip(made.ranges, made.lines, strict=True):
        between = slice(int(updates[a]) - 1, int(updates[b]) - 1 if b < len(updates) else None)
        text = Text.assemble(f"{names[a]:>{label}} ", line)
        if head:
            text.pad_right(label + 1 + size - text.cell_len)
            text.append(f"{losses[between].mean():>7.3f}{part(float(fired[between].mean())):>8}")
        yield text


def _arriving(looks: Sequence[Diagnosed], width: int, rows: int) -> Iterator[RenderableType]:
    """How far back the last loss reached, at every look."""
    shares = arriving(looks)
    names = [f"{x.update:,}" for x in looks]
    label = max(len("update"), max(map(len, names)))
    head = "  verdict   " if width >= 60 else ""  # as wide as "not finite"
    made = heat_map(shares, max(4, width - label - 1 - len(head)), rows)
    size = max(len(made.axis), max(line.cell_len for line in made.lines))
    yield Text(f"share of the last loss's gradient that arrives, {made.scale}", "bold")
    yield Text(f"{'update':>{label}} {made.axis:<{size}}{head}".rstrip(), "bold")
    for (a, _), line in zip(made.ranges, made.lines, strict=True):
        text = Text.assemble(f"{names[a]:>{label}} ", line)
        if head:
            text.pad_right(label + 1 + size - text.cell_len)
            text.append(f"  {looks[a].verdict}")
        yield text


def _parameters(found: History, width: int) -> RenderableType:
    """The norm of each parameter's gradient over the updates."""
    some = {name: np.array(column) for name, column in found.norms.parameters.items()}

    def at(column: Array, place: int) -> str:
        return "—" if math.isnan(column[place]) else number(float(column[place]))

    columns: dict[str, Sequence[str]] = {
        "parameter": [safe(name) for name in some],
        "first": [at(x, 0) for x in some.values()],
        "largest": [number(float(np.nanmax(x))) if np.any(~np.isnan(x)) else "—" for x in some.values()],
        "last": [at(x, -1) for x in some.values()],
    }

    def strips(size: int) -> tuple[str, list[Text]]:
        return "‖grad‖ over the updates", [_over_updates(x, size) for x in some.values()]

    return table(columns, width, left=["parameter"], drop=["largest", "first"], bar=strips, least=23)


def _over_updates(norms: Array, size: int) -> Text:
    logs = logs_of(norms)
    known = logs[np.isfinite(logs)]
    high = float(known.max()) if known.size else 0.0
    return strip(logs, size, min(float(known.min()) if known.size else 0.0, high - _LEAST), high)
