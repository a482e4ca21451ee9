"""The README is kept true: its Python runs, its commands are two, its pictures and numbers exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_of_the_readme_runs_and_draws(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})  # the README's own code
    pictures = list(tmp_path.glob("*.svg"))
    assert pictures
    assert all(p.read_text("utf8").count("<svg") == 1 for p in pictures)
    assert {p.suffix for p in tmp_path.iterdir()} <= {".svg", ".measure"}


def test_quick_start_is_two_commands_of_one_line_each() -> None:
    quick = README.partition("## Quick start")[2].partition("\n## ")[0]
    commands = re.findall(r"^```bash\n(.*?)^```", quick, re.MULTILINE | re.DOTALL)
    assert [command.count("\n") for command in commands] == [1, 1]
    assert commands == blocks("bash")


def test_pictures_of_the_readme_exist() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert len(pictures) == 3
    assert all((ROOT / picture).read_text("utf8").startswith("<?xml") for picture in pictures)
