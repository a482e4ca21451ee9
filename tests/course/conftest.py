"""The small course, and a learner's copy of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from minigrad.course.manifest import LESSONS
from minigrad.course.workbook import Workbook, prepare
from tests.course.made import made


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(LESSONS, str(made(tmp_path / "lessons")))
    return tmp_path / "lessons"


@pytest.fixture
def book(course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workbook:
    prepare(tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    found = Workbook.found()
    assert found is not None
    return found
