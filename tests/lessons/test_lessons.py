"""What every lesson must be: whole, readable, solvable, and true for every seed that it names."""

from __future__ import annotations

import ast
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from minigrad.course.manifest import FILES, lesson_in
from minigrad.course.practise import examine
from tests.test_architecture import shared_random_state

ROOT = Path(__file__).parents[2]
CACHES = {"__pycache__", ".mypy_cache"}  # of who checks the types there
FOLDERS = sorted(p for p in (ROOT / "lessons").iterdir() if p.is_dir() and p.name not in CACHES)
EACH = pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
PROGRAMS = ("lesson.py", "exercise.py", "solution.py", "check.py")


def tree(folder: Path, name: str) -> ast.Module:
    return ast.parse((folder / name).read_text("utf-8"), name)


def calls(module: ast.Module, method: str) -> list[ast.Call]:
    """The calls of lesson.METHOD(…)."""
    return [
        node
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method
    ]


# What it consists of


def test_numbers_have_no_gap_and_none_stands_twice() -> None:
    assert [int(p.name[:2]) for p in FOLDERS] == list(range(1, len(FOLDERS) + 1))


@EACH
def test_it_has_its_six_files_and_no_other(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir() if p.name not in CACHES) == sorted(FILES)


@EACH
def test_its_manifest_is_whole(folder: Path) -> None:
    lesson = lesson_in(folder)
    assert 3 <= len(lesson.title) <= 70
    assert 20 <= len(lesson.teaches) <= 320
    assert 1 <= lesson.seconds <= (300 if lesson.slug.startswith("capstone") else 60)
    assert {0, 1, 2} <= set(lesson.seeds)
    assert len(set(lesson.seeds)) == len(lesson.seeds)
    assert 2 <= len(lesson.hints) <= 4
    assert len(set(lesson.hints)) == len(lesson.hints)
    assert all(len(hint) >= 20 for hint in lesson.hints)


@EACH
def test_its_page_asks_its_question_and_names_its_sources(folder: Path) -> None:
    text, lesson = (folder / "README.md").read_text("utf-8"), lesson_in(folder)
    title, _, rest = text.partition("\n")
    assert title == f"# {lesson.number}. {lesson.title}"
    assert "?" in " ".join(rest.splitlines()[:8])
    assert "xercise" in text
    assert re.search(r"Sources?:", text)
    assert re.search(r"\b(1[89]|20)\d\d\b", text.partition("ource")[2])  # with a year
    assert len(text.splitlines()) <= 80
    for name in re.findall(r"\]\((?!https?://)([^)#]+)\)", text):
        assert (folder / name).exists()


@EACH
def test_it_asks_claims_draws_and_answers(folder: Path) -> None:
    program = tree(folder, "lesson.py")
    assert len(calls(program, "question")) == 1
    assert len(calls(program, "answer")) == 1
    assert len(calls(program, "step")) >= 2
    assert len(calls(program, "claim")) >= 2
    assert calls(program, "picture")


@EACH
def test_the_source_that_it_shows_fits_a_terminal(folder: Path) -> None:
    program = tree(folder, "lesson.py")
    shown = {call.args[0].id for call in calls(program, "source") if isinstance(call.args[0], ast.Name)}
    lines = (folder / "lesson.py").read_text("utf-8").splitlines()
    wide = [
        lines[k]
        for node in program.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in shown
        for k in range(node.lineno - 1, node.end_lineno or 0)
        if len(lines[k]) > 80
    ]
    assert wide == []


@EACH
@pytest.mark.parametrize("name", PROGRAMS)
def test_its_programs_import_what_is_declared_and_share_no_random_state(folder: Path, name: str) -> None:
    program = tree(folder, name)
    assert ast.get_docstring(program)
    imported = set[str]()
    for node in ast.walk(program):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add((node.module or "").partition(".")[0])
    assert imported - sys.stdlib_module_names <= {"minigrad", "numpy", "rich"}
    assert shared_random_state(program) == []
    called = {node.func for node in ast.walk(program) if isinstance(node, ast.Call)}
    assert "print" not in {func.id for func in called if isinstance(func, ast.Name)}


# The exercise


def holes(text: str) -> list[tuple[int, int]]:
    """Where, in lines from 0, the statements with a hole stand; those without a line between them are one place."""
    found = list[tuple[int, int]]()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hole":
            around = [
                (s.lineno - 1, s.end_lineno or s.lineno)
                for s in ast.walk(ast.parse(text))
                if isinstance(s, ast.stmt) and s.lineno <= node.lineno and (s.end_lineno or 0) >= (node.end_lineno or 0)
            ]
            found.append(min(around, key=lambda lines: lines[1] - lines[0]))
    places = list[tuple[int, int]]()
    for first, last in sorted(set(found)):
        if places and places[-1][1] == first:
            first = places.pop()[0]
        places.append((first, last))
    return places


def alike(text: str) -> str:
    """Without what exercise and solution need not share: what it is, and the import of hole."""
    text = re.sub(r"^(from minigrad\.course import )hole, ", r"\1", text, flags=re.MULTILINE)
    return re.sub(r'\A""".*?"""', '"""…"""', text, flags=re.DOTALL)


def fillings(exercise: str, solution: str) -> list[str] | None:
    """What stands in the solution in place of each hole; None if the rest is not the same text."""
    exercise, solution, end = alike(exercise), alike(solution), 0
    lines, parts = exercise.splitlines(keepends=True), list[str]()
    for first, last in holes(exercise):
        parts.append("".join(lines[end:first]))
        end = last
    pattern = r"((?:.*\n)+?)".join(re.escape(part) for part in [*parts, "".join(lines[end:])])
    found = re.fullmatch(pattern, solution)
    return list(found.groups()) if found else None


def test_a_filled_hole_is_found_and_another_text_is_none() -> None:
    exercise = '"""Exercise 1: a."""\nx = 1\ny = hole(\n    "two"\n)\nz = 0\nu = hole("3")\nv = hole("4")\nw = 4\n'
    solution = '"""Solution 1: b."""\nx = 1\n# why\ny = 2\nz = 0\nu = 3\nv = 4\nw = 4\n'
    assert fillings(exercise, solution) == ["# why\ny = 2\n", "u = 3\nv = 4\n"]
    assert fillings(exercise, solution.replace("w = 4", "w = 5")) is None
    assert fillings(exercise, solution.replace("x = 1\n", "")) is None


@EACH
def test_its_solution_is_the_exercise_with_the_holes_filled_and_says_why(folder: Path) -> None:
    exercise, solution = ((folder / name).read_text("utf-8") for name in ("exercise.py", "solution.py"))
    assert exercise.startswith('"""Exercise ')
    assert solution.startswith('"""Solution ')
    assert exercise.endswith('\n\n\nif __name__ == "__main__":\n    practise(__file__)\n')
    assert 1 <= exercise.count("hole(") <= 6
    found = fillings(exercise, solution)
    assert found is not None
    assert all("#" in filling for filling in found)


@EACH
def test_its_solution_passes_its_check(folder: Path) -> None:
    outcome = examine(lesson_in(folder), folder / "solution.py")
    assert (outcome.problem, outcome.details) == ("", ())
    assert outcome.solved
    assert outcome.passed


@EACH
def test_its_check_fails_at_every_hole_that_is_left(folder: Path, tmp_path: Path) -> None:
    exercise, solution = (alike((folder / name).read_text("utf-8")) for name in ("exercise.py", "solution.py"))
    lines, places, found = exercise.splitlines(keepends=True), holes(exercise), fillings(exercise, solution)
    assert found is not None
    whole = examine(lesson_in(folder), folder / "exercise.py")
    assert not whole.solved
    assert "hole" in whole.problem
    for left in range(len(places)):
        text, end = list[str](), 0
        for k, (first, last) in enumerate(places):
            text += [*lines[end:first], "".join(lines[first:last]) if k == left else found[k]]
            end = last
        file = tmp_path / f"exercise{left}.py"
        course = "from minigrad.course import "
        source = "".join([*text, *lines[end:]]).replace(course, f"{course}hole, ")
        file.write_text(source, "utf-8")
        outcome = examine(lesson_in(folder), file)
        assert not outcome.solved
        assert f"of {file.name} is still a hole" in outcome.problem


# What it does


def told(folder: Path, seed: int, here: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    words = ["--no-pause", "--seed", str(seed), "--pictures", str(here / "seen")]
    return subprocess.run(
        [sys.executable, "-W", "error", str(folder / "lesson.py"), *words], cwd=here, env=environment,
        capture_output=True, text=True, encoding="utf-8", timeout=1800, check=False,  # it hangs
    )  # fmt: skip


def processor_time() -> float:
    """Of all programs that have been run here, in seconds: what else the machine does at that time is not in it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow
@EACH
def test_it_keeps_to_its_time_its_folder_and_80_columns(folder: Path, tmp_path: Path) -> None:
    before, busy = sorted(folder.iterdir()), processor_time()
    done = told(folder, 0, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert processor_time() - busy <= lesson_in(folder).seconds
    assert [line for line in done.stdout.splitlines() if len(line) > 80 and not line.startswith("picture ")] == []
    assert done.stdout.count("✓") >= 2
    assert list(tmp_path.iterdir()) == [tmp_path / "seen"]
    assert all(path.stat().st_size > 0 for path in (tmp_path / "seen").iterdir())
    assert any(path.suffix == ".svg" for path in (tmp_path / "seen").iterdir())
    assert sorted(folder.iterdir()) == before


SEEDS = [(p, seed) for p in FOLDERS for seed in (1, 2)]  # a manifest may name more: those were tried once


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "seed"), SEEDS, ids=[f"{folder.name}-{seed}" for folder, seed in SEEDS])
def test_its_claims_hold_for_its_other_seeds(folder: Path, seed: int, tmp_path: Path) -> None:
    done = told(folder, seed, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
