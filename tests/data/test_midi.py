"""MIDI files: known bytes, and every piece back as it was written."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.data.midi import Note, midi_bytes, read_notes, write_notes
from minigrad.errors import DataError

HEADER = b"MThd" + bytes.fromhex("00000006 0000 0001 01e0")

# The example of the specification (Standard MIDI Files 1.0, page 11), format 0: three notes on three channels, of
# which the first two are held for four quarters by running status.
SPECIFICATION = bytes.fromhex(
    "4d54 6864 0000 0006 0000 0001 0060"
    "4d54 726b 0000 003b"
    "00 ff58 0404 0218 08"  # time signature
    "00 ff51 0307 a120"  # tempo
    "00 c005 00 c12e 00 c246"  # three instruments
    "00 9230 60 00 3c60"  # channel 2, running status
    "60 9143 40 60 904c 20"
    "8140 8230 40 00 3c40"
    "00 8143 40 00 804c 40"
    "00 ff2f 00"
)


def test_one_middle_c_is_these_bytes() -> None:
    track = bytes.fromhex("00 ff 51 03 07a120  00 90 3c 50  8360 80 3c 00  00 ff 2f 00")
    assert midi_bytes([Note(0, 1, 60)], tempo=120) == HEADER + b"MTrk" + struct.pack(">I", len(track)) + track


def test_silence_is_a_file_too() -> None:
    assert midi_bytes([], tempo=120).endswith(bytes.fromhex("0000000b 00ff510307a120 00ff2f00"))
    assert read_notes(midi_bytes([])) == []


def test_the_specifications_own_example_is_read() -> None:
    assert read_notes(SPECIFICATION) == [
        Note(0, 4, 48, 96), Note(0, 4, 60, 96), Note(1, 3, 67, 64), Note(2, 2, 76, 32),
    ]  # fmt: skip


PITCHES = st.integers(0, 127)
NOTES = st.builds(
    Note, st.integers(0, 4000).map(lambda k: k / 480), st.integers(1, 4000).map(lambda k: k / 480), PITCHES,
    st.integers(1, 127),
)  # fmt: skip


@given(st.lists(NOTES, max_size=12, unique_by=lambda note: note.pitch))
def test_notes_on_different_keys_come_back(notes: list[Note]) -> None:
    assert read_notes(midi_bytes(notes)) == sorted(notes, key=lambda note: (note.start, note.pitch))


@given(st.lists(NOTES, max_size=12))
def test_on_one_key_the_older_note_ends_where_the_newer_begins(notes: list[Note]) -> None:
    one = [note._replace(pitch=60) for note in notes]
    found = read_notes(midi_bytes(one))
    last = {note.start: note for note in sorted(one)}  # of those that begin together, the longest
    starts = sorted(last)
    assert [note.start for note in found] == starts
    for note, following in zip(found, [*starts[1:], np.inf]):
        end = min(last[note.start].start + last[note.start].duration, following)
        assert note.start + note.duration == pytest.approx(end, abs=1e-9)
        assert note.velocity == last[note.start].velocity


@pytest.mark.parametrize("start", [0, 127, 128, 16383, 16384, 2_097_151, 2_097_152, 200_000_000])
def test_every_length_of_a_pause_is_written(start: int) -> None:
    (note,) = read_notes(midi_bytes([Note(start / 480, 1, 60)]))
    assert note.start == start / 480


def test_a_duration_that_rounds_to_nothing_is_one_tick() -> None:
    assert read_notes(midi_bytes([Note(0, 1e-9, 60)])) == [Note(0, 1 / 480, 60)]


def test_formats_of_several_tracks_are_read_together() -> None:
    def track(content: str) -> bytes:
        return b"MTrk" + struct.pack(">I", len(bytes.fromhex(content))) + bytes.fromhex(content)

    content = b"MThd" + bytes.fromhex("00000008 0001 0003 0002 ffff")  # a longer header is to be passed over
    content += track("00 903c40 02 903c00 02 ff2f00") + b"XFIH" + bytes.fromhex("00000002 abcd")
    content += track("01 f003414243 00 b04007 00 e00040 00 d010 01 904830 00 ff0103414243 04 ff2f00 00 903c40")
    assert read_notes(content) == [Note(0, 1, 60, 64), Note(1, 2, 72, 48)]  # the second never ends, but its track does


@pytest.mark.parametrize(
    "note",
    [Note(-1, 1, 60), Note(0, 0, 60), Note(0, -1, 60), Note(np.nan, 1, 60), Note(0, np.nan, 60), Note(0, np.inf, 60),
     Note(0, 1, -1), Note(0, 1, 128), Note(0, 1, 60, 0), Note(0, 1, 60, 128), Note(1e6, 1, 60)],
)  # fmt: skip
def test_notes_that_are_none_are_refused(note: Note) -> None:
    with pytest.raises(DataError, match=r"^MIDI: Note.*\n  Give "):
        midi_bytes([note])


@pytest.mark.parametrize("tempo", [0, -1, 3.5, 1e9, np.nan])
def test_tempos_that_are_none_are_refused(tempo: float) -> None:
    with pytest.raises(DataError, match="quarters a minute"):
        midi_bytes([], tempo=tempo)


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    write_notes(tmp_path / "a.mid", [Note(0, 1, 60)], tempo=60)
    assert read_notes((tmp_path / "a.mid").read_bytes()) == [Note(0, 1, 60)]
    with pytest.raises(DataError):
        write_notes(tmp_path / "a.mid", [Note(0, 1, 999)])
    assert read_notes((tmp_path / "a.mid").read_bytes()) == [Note(0, 1, 60)]
    assert len([*tmp_path.iterdir()]) == 1


def test_a_damaged_file_is_read_or_refused_in_one_way() -> None:
    whole = midi_bytes([Note(0, 1, 60), Note(0.5, 200, 72)])
    cases = [whole[:k] for k in range(len(whole))]
    cases += [whole[:k] + bytes([whole[k] ^ x]) + whole[k + 1 :] for k in range(len(whole)) for x in (1, 0x80, 0xFF)]
    cases += [b"", b"RIFF" + whole, SPECIFICATION[:40], HEADER[:12] + b"\xe7\x28" + whole[14:], HEADER]
    refusals = 0
    for case in cases:
        try:
            read_notes(case)
        except DataError as error:
            refusals += str(error).startswith("read MIDI: no standard MIDI file") and str(error).count("\n") == 1
    assert refusals >= len(whole)
