"""Notes in standard MIDI files: the bytes that every player of music understands, written and read."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..atomic import replacing
from ..errors import DataError

__all__ = ["Note", "midi_bytes", "read_notes", "write_notes"]

_TICKS = 480  # of a quarter: divisible by 2 to the fifth, by 3 and by 5
_NOTE_OFF, _NOTE_ON, _META, _END, _TEMPO = 0x80, 0x90, 0xFF, 0x2F, 0x51
_DATA_BYTES = {0x80: 2, 0x90: 2, 0xA0: 2, 0xB0: 2, 0xC0: 1, 0xD0: 1, 0xE0: 2}  # of each kind of channel message


class Note(NamedTuple):
    """One note.

    Attributes:
        start: When it begins, in quarters.
        duration: In quarters, above 0.
        pitch: 60 is middle C, a semitone is 1; from 0 to 127.
        velocity: How hard the key is struck, from 1 to 127.
    """

    start: float
    duration: float
    pitch: int
    velocity: int = 80


def midi_bytes(notes: Sequence[Note], *, tempo: float = 90.0) -> bytes:
    """A standard MIDI file of format 0: one track, one channel, 480 ticks a quarter.

    Times are rounded to ticks. Where a note begins while its own pitch still sounds, the older one
    ends; of those that begin together, the longest is written.

    Args:
        notes: In any order; there may be none.
        tempo: Quarters a minute, from 4 to 60,000,000.
    Raises:
        DataError: A note or the tempo is outside its range, or the music is longer than a file can hold.

    Source: MIDI Manufacturers Association, Standard MIDI Files 1.0 (RP-001).
    """
    if not 4 <= tempo <= 6e7:
        raise DataError(f"MIDI: {tempo} quarters a minute.\n  Give a tempo from 4 to 60,000,000.")
    keys: dict[int, list[tuple[int, int, int]]] = {}  # of each pitch: start and end in ticks, velocity
    for note in sorted(notes):
        if not (note.start >= 0 and note.duration > 0 and note.start + note.duration < 2**28 / _TICKS):
            raise DataError(f"MIDI: {note} has no time.\n  Give a start from 0 and a positive duration, in quarters.")
        if not (0 <= note.pitch <= 127 and 1 <= note.velocity <= 127):
            raise DataError(f"MIDI: {note} is no key.\n  Give a pitch from 0 to 127 and a velocity from 1 to 127.")
        start = round(note.start * _TICKS)
        end = max(round((note.start + note.duration) * _TICKS), start + 1)
        key = keys.setdefault(note.pitch, [])
        if key and key[-1][1] > start:
            began, _, velocity = key.pop()
            if began < start:
                key.append((began, start, velocity))
        key.append((start, end, note.velocity))
    messages = [(end, _NOTE_OFF, pitch, 0) for pitch, key in keys.items() for _, end, _ in key]
    messages += [(start, _NOTE_ON, pitch, velocity) for pitch, key in keys.items() for start, _, velocity in key]
    track = bytearray([0, _META, _TEMPO, 3]) + round(6e7 / tempo).to_bytes(3, "big")
    now = 0
    for tick, kind, pitch, velocity in sorted(messages):  # an end before a beginning
        track += _quantity(tick - now) + bytes([kind, pitch, velocity])
        now = tick
    track += bytes([0, _META, _END, 0])
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, _TICKS) + b"MTrk" + struct.pack(">I", len(track)) + bytes(track)


def write_notes(path: str | os.PathLike[str], notes: Sequence[Note], *, tempo: float = 90.0) -> None:
    """Write a standard MIDI file, whole or not at all: see `midi_bytes`.

    Raises:
        DataError: As `midi_bytes`.
        OSError: The file cannot be written.
    """
    content = midi_bytes(notes, tempo=tempo)
    with replacing(Path(path)) as file:
        file.write(content)


def read_notes(content: bytes) -> list[Note]:
    """The notes of a standard MIDI file of any format, all tracks together, by start and pitch.

    What is no note (instruments, pedals, tempo) is passed over. A note that never ends, ends with its track.

    Raises:
        DataError: This is no such file, it is cut short, or it counts time in frames of film.
    """
    try:
        kind, size, _, tracks, ticks = struct.unpack_from(">4sIHHH", content)
        if kind != b"MThd" or size < 6 or not 0 < ticks < 0x8000:
            raise ValueError("a header that is not in order" if ticks < 0x8000 else "times in frames of film")
        position, notes = 8 + size, []
        for _ in range(tracks):
            kind, size = struct.unpack_from(">4sI", content, position)
            track = content[position + 8 : position + 8 + size]
            if len(track) < size:
                raise ValueError("a track that is cut short")
            if kind == b"MTrk":  # others are to be passed over
                notes += _notes_of(track, ticks)
            position += 8 + size
    except (struct.error, IndexError, ValueError) as error:
        raise DataError(f"read MIDI: no standard MIDI file ({error}).\n  Give the bytes of a .mid file.") from None
    return sorted(notes, key=lambda note: (note.start, note.pitch, note.duration))


def _notes_of(track: bytes, ticks: int) -> list[Note]:
    notes = []
    begun: dict[tuple[int, int], tuple[int, int]] = {}  # channel and pitch: tick and velocity
    now = position = status = 0

    def end(channel: int, pitch: int) -> None:
        start, velocity = begun.pop((channel, pitch), (now, 0))
        if now > start:
            notes.append(Note(start / ticks, (now - start) / ticks, pitch, velocity))

    while position < len(track):
        delta, position = _read_quantity(track, position)
        now += delta
        if track[position] >= 0x80:
            status, position = track[position], position + 1
        if status == _META:
            what = track[position]
            size, position = _read_quantity(track, position + 1)
            position += size
            if what == _END:
                break
        elif status in (0xF0, 0xF7):  # exclusive to a maker
            size, position = _read_quantity(track, position)
            position += size
        elif status & 0xF0 in _DATA_BYTES:
            size = _DATA_BYTES[status & 0xF0]
            pitch, velocity = track[position], track[position + size - 1]
            position += size
            if status & 0xF0 in (_NOTE_ON, _NOTE_OFF):
                end(status & 0x0F, pitch)
                if status & 0xF0 == _NOTE_ON and velocity:
                    begun[status & 0x0F, pitch] = now, velocity
        else:
            raise ValueError(f"byte 0x{status:02x} where a message begins")
    for channel, pitch in [*begun]:
        end(channel, pitch)
    return notes


def _quantity(number: int) -> bytes:
    """Seven bits a byte, the high bit set on all but the last.

    >>> [_quantity(n).hex() for n in (0, 0x40, 0x7F, 0x80, 0x2000, 0x3FFF, 0x100000, 0x0FFFFFFF)]
    ['00', '40', '7f', '8100', 'c000', 'ff7f', 'c08000', 'ffffff7f']
    """
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(number & 0x7F | 0x80)
    return bytes(reversed(digits))


def _read_quantity(track: bytes, position: int) -> tuple[int, int]:
    """The number that begins there, and where it has ended."""
    number = 0
    for k in range(4):
        digit = track[position + k]
        number = number << 7 | digit & 0x7F
        if digit < 0x80:
            return number, position + k + 1
    raise ValueError("a number of more than four bytes")
