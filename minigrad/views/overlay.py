"""Numbers over a picture: what stands at each step in place of, or beside, the gradients, and in folds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple

from ..bptt.record import Reading
from .painter import Chips, Hidden, Marks, Over
from .palette import PLAIN, SPECIAL, Look, Mark, Scale
from .scene import Card, Pill, Step

__all__ = ["Overlay", "Site", "Track", "legend_of", "marked", "over"]


class Track(NamedTuple):
    """One number a step.

    Attributes:
        title: What it is called, before a row and in a fold.
        place: "box": in the boxes of these keys. "arrow": on the arrows of these lanes into the step. "use": on the
            label of these parameters. "fold": in folds alone, at the height of these lanes.
        keys: States and gates by symbol; parameters by name.
        marks: By input time.
        first: That of the first state.
    """

    title: str
    place: Literal["box", "arrow", "use", "fold"]
    keys: tuple[str, ...]
    marks: Marks
    first: Mark | None = None


class Overlay(NamedTuple):
    """A measure over one walk.

    Attributes:
        title: What the picture shows.
        found: What the numbers come to.
        about: How to read them.
        scales: Each with what its number is, in words.
        tracks: What stands at the steps. In a fold the last one of a lane is shown.
        alone: Whether gradients stand back behind it.
        cuts: The steps into which the value alone goes.
        wanted: Steps to keep unfolded.
        sides: Words before a lane.
        wires: By lane the looks of the arrows that bring the gradient back to each step.
    """

    title: str
    found: str
    about: tuple[str, ...]
    scales: tuple[tuple[str, Scale], ...]
    tracks: tuple[Track, ...]
    alone: bool = True
    cuts: frozenset[int] = frozenset()
    wanted: tuple[int, ...] = ()
    sides: Mapping[str, str] = {}
    wires: Mapping[str, tuple[Look, ...]] = {}


def marked(step: Step, some: Sequence[tuple[Overlay, Site]], uses: Mapping[str, str]) -> Step:
    """A step with the numbers of its measures in its boxes and on its labels.

    Args:
        step: Of the first states, t = -1, the marks of first states count.
        some: Each with the place of its walk.
        uses: By parameter the box that bears its label where the level has none.
    """
    cards, alone = dict(step.cards), any(overlay.alone for overlay, _ in some)
    labels: dict[str, list[tuple[str, Mark | None]]] = {}
    for overlay, site in some:
        for track in overlay.tracks:
            mark = track.first if step.time < 0 else track.marks[step.time]
            if track.place == "box":
                for key in map(site.key_of, track.keys):
                    if key in cards and mark is not None:
                        cards[key] = cards[key]._replace(mark=mark)
            elif track.place == "use" and step.time >= 0:
                (name,) = track.keys
                labels.setdefault(name, []).append((track.title, mark))
    for key, card in cards.items():
        pills = tuple(new for pill in card.pills for new in _labelled(pill, labels.pop(pill.parameter, [])))
        cards[key] = card._replace(pills=pills if alone else card.pills)
    for name, found in labels.items():
        box = uses.get(name)
        if box in cards:
            blank = Pill(found[0][0], name, Reading(0.0, "no path"))
            cards[box] = cards[box]._replace(pills=(*cards[box].pills, *_labelled(blank, found)))
    if alone:
        cards = {key: _plain(card) for key, card in cards.items()}
    return Step(step.time, cards, step.flows, step.carried, step.cut)


def _labelled(pill: Pill, found: Sequence[tuple[str, Mark | None]]) -> list[Pill]:
    """One label a mark, the first on top; without any it stays as a name alone."""
    blank = Mark(math.nan, "", PLAIN, f"{pill.parameter}: no number here")
    labels = [pill._replace(mark=mark or blank, name=title) for title, mark in reversed(found)]
    return labels or [pill._replace(mark=blank)]


def _plain(card: Card) -> Card:
    return card if card.mark is not None else card._replace(plain=True)


class Site(NamedTuple):
    """Where a walk stands in a picture.

    Attributes:
        key_of: What gives a box's key there by that in its walk.
        lanes: The keys of its states.
        output: The one at whose height the numbers of weights stand.
    """

    key_of: Callable[[str], str]
    lanes: tuple[str, ...]
    output: str


def over(some: Sequence[tuple[Overlay, Site]]) -> Over:
    """What stands between the steps of a picture, and in its folds."""
    chips: list[Chips] = []
    hidden: dict[str, Hidden] = {}
    wires: dict[str, tuple[Look, ...]] = {}
    wanted: list[int] = []
    for overlay, site in some:
        for place in ("fold", "box", "arrow", "use"):  # of a lane the first of them
            for track in (track for track in overlay.tracks if track.place == place):
                keys = (site.output,) if place == "use" else tuple(map(site.key_of, track.keys))
                if place == "arrow":
                    chips.append(Chips(keys, track.marks, overlay.cuts))
                if overlay.alone and {*keys} <= {*site.lanes} and not {*keys} & hidden.keys():
                    hidden.update(dict.fromkeys(keys, Hidden(keys, track.marks, partial(_range, track.title))))
        wires.update({site.key_of(key): looks for key, looks in overlay.wires.items()})
        wanted += overlay.wanted
    unique = {row.lanes: row for row in hidden.values()}
    return Over(tuple(chips), tuple(unique.values()), wires, any(o.alone for o, _ in some), tuple(wanted))


def _range(title: str, marks: Sequence[Mark]) -> list[str]:
    """What a number is called, its least and its largest."""
    known = [m for m in marks if not math.isnan(m.value)]
    if not known:
        return []
    ends = (f(known, key=lambda m: m.value).text for f in (min, max))
    least, most = (text.partition("\n")[0].removeprefix(title).strip() for text in ends)
    unit = most.partition(" ")[2]
    words = most if least == most else f"{least.removesuffix(f' {unit}')} … {most}"
    return [title, words] if title else [words]


def legend_of(some: Iterable[Overlay]) -> list[str]:
    """The kinds of what is no number, as far as they occur."""
    looks = {m.look for o in some for track in o.tracks for m in track.marks if m is not None}
    return [kind for kind, found in SPECIAL.items() if found in looks]
