"""How a training run stands: the loss beside its yardsticks, the gradient's norm and clipping, a sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..bptt.record import Reading
from .palette import number
from .report import colour, safe

__all__ = ["Standing", "header", "line", "panel", "strips"]

_BLOCKS = "▁▂▃▄▅▆▇█"
_LEAST = 2.0  # decades that a strip shows at least: a steady gradient looks steady


class Standing(NamedTuple):
    """Where a run stands.

    Attributes:
        title: What is trained.
        update, updates: How far it is, and how far it goes.
        loss: The mean of the last updates, nats a character.
        held_out: On text that is not trained on; None without one.
        yardsticks: What models without a network reach on the held-out text, by name.
        before, after: The gradient's norm around clipping, of the last update.
        clips: What clips it, in words; empty: nothing.
        fired, fired_ever: In which share of the last updates, and of all, clipping changed the gradient.
        rate: The learning rate.
        readings: ‖dL/dh_t‖ over the last chunk, for each sequence of the model.
        sample: What the model writes.
    """

    title: str
    update: int
    updates: int
    loss: float
    held_out: float | None
    yardsticks: Mapping[str, float]
    before: float
    after: float
    clips: str
    fired: float
    fired_ever: float
    rate: float
    readings: Mapping[str, Sequence[Reading]]
    sample: str


def panel(standing: Standing, width: int) -> RenderableType:
    """All of it, for a terminal of this width."""
    s, table = standing, Table.grid(padding=(0, 1, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("loss", Text(_loss(s)))
    for row in _bars(s, max(10, min(50, width - 30))):
        table.add_row("", row)
    table.add_row("gradient", Text(_gradient(s)))
    for k, (name, readings) in enumerate(s.readings.items()):
        strip = _strip(name if len(s.readings) > 1 else "", readings, width - 11)
        table.add_row("" if k else "‖dL/dh_t‖", strip)
    if s.sample:
        table.add_row("sample", Text("\n".join(safe(x) if x.strip() else "" for x in s.sample.split("\n")[:4])))
    return Group(Text(safe(s.title), "bold"), table)


def header(standing: Standing) -> str:
    """What stands above every `line`."""
    return "  ".join(_aligned(name, name, wide) for name, _, wide in _columns(standing)).rstrip()


def line(standing: Standing) -> str:
    """The numbers in one line, for a pipe or a log; at most 80 columns up to 99,999 updates."""
    return "  ".join(_aligned(name, shown, wide) for name, shown, wide in _columns(standing)).rstrip()


def strips(standing: Standing, width: int) -> RenderableType:
    """‖dL/dh_t‖ over the last chunk, one row a sequence."""
    many = len(standing.readings) > 1
    return Group(*(_strip(name if many else "", r, width) for name, r in standing.readings.items()))


def _columns(s: Standing) -> list[tuple[str, str, int]]:
    """Name, content and width of each column of a line."""
    done = f"{s.update:>{len(str(s.updates))}}/{s.updates}"
    columns = [("update", done, max(6, 2 * len(str(s.updates)) + 1)), ("training", f"{s.loss:.3f}", 8)]
    if s.held_out is not None:
        columns += [("held-out", f"{s.held_out:.3f}", 8), ("beats", _beaten(s), 20)]
    columns.append(("gradient", _norms(s), 10))
    if s.clips:
        columns += [("clipped", _percent(s.fired), 7), ("ever", _percent(s.fired_ever), 4)]
    return columns


def _aligned(name: str, shown: str, wide: int) -> str:
    return f"{shown:<{wide}}" if name == "beats" else f"{shown:>{wide}}"


def _beaten(s: Standing) -> str:
    """Where the held-out loss stands among the yardsticks: the best one it beats, and the next one."""
    own = math.inf if s.held_out is None or math.isnan(s.held_out) else s.held_out
    ordered = sorted(s.yardsticks.items(), key=lambda item: -item[1])
    beaten = [name for name, loss in ordered if own < loss]
    ahead = [name for name, loss in ordered if own >= loss]
    if not beaten:
        return "none yet"
    return f"{beaten[-1]}, not {ahead[0]}" if ahead else "all of them"


def _loss(s: Standing) -> str:
    held_out = "" if s.held_out is None else f", held-out {s.held_out:.3f} beats {_beaten(s)}"
    return f"training {s.loss:.3f}{held_out}"


def _gradient(s: Standing) -> str:
    clipped = f"; clipped {s.clips} in {_percent(s.fired)} of late updates, {_percent(s.fired_ever)} of all"
    return f"norm {_norms(s)}{clipped * bool(s.clips)}"


def _norms(s: Standing) -> str:
    """The norm before clipping, and after it where clipping fired."""
    return number(s.before) + (f"→{number(s.after)}" if s.after != s.before else "")


def _percent(x: float) -> str:
    return "—" if math.isnan(x) else "<1%" if 0 < x < 0.005 else f"{100 * x:.0f}%"


def _bars(s: Standing, size: int) -> list[Text]:
    """The yardsticks and the model on one scale from 0, worst first."""
    own = "this model"
    entries = {**s.yardsticks, own: s.loss if s.held_out is None else s.held_out}
    longest = max((loss for loss in entries.values() if math.isfinite(loss)), default=0.0) or 1.0
    rows = []
    for name, loss in sorted(entries.items(), key=lambda item: -item[1] if item[1] == item[1] else -math.inf):
        filled = "█" * (round(size * loss / longest) if math.isfinite(loss) else size)
        styles = ("bold", "green") if name == own else ("", "dim")
        rows.append(Text.assemble((f"{name:10} {loss:6.3f} ", styles[0]), (filled, styles[1])))
    return rows


def _strip(name: str, readings: Sequence[Reading], width: int) -> Text:
    """A tile a step, or a tile for several: their largest; its height is the logarithm, over two decades at least."""
    sizes = [r.norm for r in readings if r.kind == "value"]
    if not sizes:
        return Text(f"{name} {readings[-1].kind if readings else ''}".strip())
    high = math.log10(max(sizes))
    low = min(math.log10(min(sizes)), high - _LEAST)
    ends = f"{number(min(sizes))}…{number(max(sizes))}"
    text = Text(f"{name + ' ' if name else ''}t=1 ")
    room = max(8, width - len(text) - len(ends) - len(f" t={len(readings)}  "))
    per = -(-len(readings) // room)
    for k in range(0, len(readings), per):
        part = max(readings[k : k + per], key=lambda r: math.inf if r.kind == "not finite" else r.norm)
        if part.kind == "value":
            text.append(_BLOCKS[round((math.log10(part.norm) - low) / (high - low) * 7)], colour(part))
        else:
            text.append("!" if part.kind == "not finite" else "·", colour(part))
    text.append(f" t={len(readings)}  {ends}")
    return text
