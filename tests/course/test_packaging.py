"""What is installed is whole: every package, every file of every lesson, nothing else of them."""

from __future__ import annotations

import configparser
from fnmatch import fnmatch
from pathlib import Path

import pytest

from minigrad.course import manifest
from minigrad.course.manifest import FILES, lessons
from tests.course.made import made

ROOT = Path(__file__).parents[2]


@pytest.fixture
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", "utf-8")
    return parser


def test_every_package_is_installed(setup: configparser.ConfigParser) -> None:
    folders = sorted(path.parent for path in (ROOT / "minigrad").rglob("__init__.py"))
    names = [".".join(folder.relative_to(ROOT).parts) for folder in folders]
    assert sorted(setup["options"]["packages"].split()) == sorted([*names, "minigrad.lessons"])
    assert setup["options"]["package_dir"].split() == ["minigrad.lessons", "=", "lessons"]


def test_every_file_of_a_lesson_is_installed_and_no_compiled_one(setup: configparser.ConfigParser) -> None:
    patterns = setup["options.package_data"]["minigrad.lessons"].split()
    for name in FILES:
        assert any(fnmatch(f"01_one_number/{name}", pattern) for pattern in patterns)
    for name in ("01_one_number/__pycache__/check.cpython-311.pyc", "01_one_number/pictures/a.svg"):
        assert not any(fnmatch(name, pattern) for pattern in patterns)


def test_installed_lessons_are_found_inside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(manifest.LESSONS, raising=False)
    package = tmp_path / "site-packages" / "minigrad"
    made(package / "lessons")
    monkeypatch.setattr(manifest, "__file__", str(package / "course" / "manifest.py"))
    assert manifest.root() == package / "lessons"
    assert [lesson.number for lesson in lessons()] == [1, 2, 3]
