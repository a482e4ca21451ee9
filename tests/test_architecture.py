"""The house as a whole: who may import whom, and what stands nowhere."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "minigrad"

# A module imports only from groups to the left of its own (a package may import itself).
LAYERS = [
    {"errors"}, {"atomic", "scope"}, {"engine"}, {"archive", "ops", "kernels"}, {"tensor"}, {"gradcheck", "nn", "clip"},
    {"optim"}, {"bptt"}, {"data"}, {"train"}, {"character"}, {"checkpoint"},
]  # fmt: skip
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in sorted(names)}
SHOW_AND_TEACH = {"views", "cli", "course", "terminal"}
CORE = {name for name, rank in RANK.items() if rank < RANK["data"]}

# What few may import, and who they are
FEW = {
    "archive": {"minigrad.checkpoint", "minigrad.bptt.record", "minigrad.bptt.storage"},
    "kernels": {"minigrad.nn.fused"},
    "data": {"minigrad.train", "cli"},
    "train": {"minigrad.character", "cli"},
    "character": {"cli"},
    "checkpoint": {"cli"},
    "terminal": {"__main__", "cli", "course"},
    "views": {"cli", "course"},
    "course": {"cli"},
}

# numpy.random without the state that every caller shares
EXPLICIT_RANDOM = {"Generator", "default_rng", "SeedSequence", "BitGenerator", "PCG64", "MT19937", "Philox", "SFC64"}


def module_name(path, root=ROOT):
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources():
    return {path: ast.parse(path.read_text("utf8"), str(path)) for path in sorted(PACKAGE.rglob("*.py"))}


SOURCES = sources()
MODULES = {module_name(path) for path in SOURCES}


def imports(tree, name, is_package, modules=MODULES):
    """The full name of everything that the module imports, with its line."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = name.split(".")
                above = above[: len(above) - node.level + is_package]
                base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.append((full if full in modules else base, node.lineno))
    return found


@functools.cache
def all_imports():
    """(file, importing module, imported module, line) for the whole package."""
    return [
        (path, module_name(path), imported, line)
        for path, tree in SOURCES.items()
        for imported, line in imports(tree, module_name(path), path.name == "__init__.py")
    ]


def house(name):
    """minigrad.nn.cells -> nn; minigrad itself -> ""."""
    return name.split(".")[1] if name.startswith("minigrad.") else ""


def at(path, line):
    return f"{path.relative_to(ROOT)}:{line}"


# The reader of imports itself


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("import numpy as np", "numpy"),
        ("import rich.table", "rich.table"),
        ("from rich import table", "rich"),
        ("from .engine import grad", "minigrad.nn.engine"),
        ("from ..engine import grad", "minigrad.engine"),
        ("from .. import ops", "minigrad.ops"),
        ("from .. import __version__", "minigrad"),
        ("from . import init", "minigrad.nn.init"),
        ("if True:\n    from ..tensor import Tensor", "minigrad.tensor"),
    ],
)
def test_reader_names_what_a_line_imports(line, expected):
    known = {"minigrad.ops", "minigrad.nn.init"}
    assert [name for name, _ in imports(ast.parse(line), "minigrad.nn.cells", False, known)] == [expected]


def test_reader_counts_dots_from_inside_a_package():
    assert imports(ast.parse("from .cells import LSTMCell"), "minigrad.nn", True, set()) == [("minigrad.nn.cells", 1)]


def test_reader_finds_the_package():
    assert {"minigrad", "minigrad.engine", "minigrad.ops", "minigrad.tensor", "minigrad.nn.cells"} <= MODULES


# Who may import whom


@pytest.mark.parametrize("name", RANK)
def test_module_imports_only_what_stands_before_it(name):
    wrong = [
        f"{at(path, line)} imports {imported}"
        for path, importer, imported, line in all_imports()
        if house(importer) == name
        and imported.split(".")[0] == "minigrad"
        and house(imported) != name
        and RANK.get(house(imported), len(LAYERS)) >= RANK[name]
    ]
    assert wrong == []


@pytest.mark.parametrize("name", FEW)
def test_only_few_import(name):
    importers = {
        importer: at(path, line)
        for path, importer, imported, line in all_imports()
        if house(imported) == name and house(importer) != name
    }
    found = {who if who in FEW[name] else house(who): line for who, line in importers.items()}
    assert {who: line for who, line in found.items() if who not in FEW[name]} == {}
    assert found.keys() == FEW[name]  # a rule that names one who does not is no rule


def test_every_module_but_what_shows_and_teaches_has_its_place():
    assert {house(name) for name in MODULES} - set(RANK) == {"", "__main__"} | SHOW_AND_TEACH


def test_what_trains_and_saves_knows_no_view_and_no_command():
    wrong = [
        f"{at(path, line)} imports {imported}"
        for path, importer, imported, line in all_imports()
        if house(importer) in RANK and house(imported) in SHOW_AND_TEACH
    ]
    assert wrong == []


def test_ordered_modules_exist():
    assert {house(name) for name in MODULES} >= set(RANK)


def test_core_knows_no_view_no_command_and_no_data_or_training():
    wrong = [
        f"{at(path, line)} imports {imported}"
        for path, importer, imported, line in all_imports()
        if house(importer) in CORE and house(imported) in SHOW_AND_TEACH | {"data", "train", "character", "checkpoint"}
    ]
    assert wrong == []


def test_nothing_imports_the_command_line():
    wrong = [
        f"{at(path, line)} imports {imported}"
        for path, importer, imported, line in all_imports()
        if house(imported) == "cli" and house(importer) not in {"cli", "__main__"}
    ]
    assert wrong == []


@pytest.mark.parametrize("library", ["graphviz", "rich"])
def test_only_views_and_what_prints_import_what_draws(library):
    wrong = [
        at(path, line)
        for path, importer, imported, line in all_imports()
        if imported.split(".")[0] == library and house(importer) not in SHOW_AND_TEACH | {"__main__"}
    ]
    assert wrong == []


def test_third_party_libraries_are_the_declared_ones():
    declared = {"numpy", "graphviz", "rich", "minigrad"}
    wrong = {
        imported.split(".")[0]: at(path, line)
        for path, _, imported, line in all_imports()
        if imported.split(".")[0] not in declared | sys.stdlib_module_names
    }
    assert wrong == {}


def imports_inside_functions(tree):
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return sorted(
        {n.lineno for function in functions for n in ast.walk(function) if isinstance(n, (ast.Import, ast.ImportFrom))}
    )


def test_reader_finds_an_import_inside_a_function():
    assert imports_inside_functions(ast.parse("import a\ndef f():\n    if True:\n        import b")) == [4]


def test_no_import_stands_inside_a_function():
    wrong = [at(path, line) for path, tree in SOURCES.items() for line in imports_inside_functions(tree)]
    assert wrong == []


def test_import_minigrad_loads_numpy_and_the_standard_library_only():
    program = (
        "import sys, numpy, numpy.random; before = set(sys.modules); import minigrad;"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert loaded & {"graphviz", "rich", "torch"} == set()
    assert loaded - sys.stdlib_module_names - {"numpy"} == {"minigrad"}


# What stands nowhere


def calls_of(tree, name):
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
    ]


def test_reader_finds_a_call():
    assert calls_of(ast.parse('x = 1\nprint(x)\n"print(y)"'), "print") == [2]


def test_only_the_command_line_and_lessons_print():
    wrong = [
        at(path, line)
        for path, tree in SOURCES.items()
        if house(module_name(path)) not in {"cli", "course", "__main__"}
        for line in calls_of(tree, "print")
    ]
    assert wrong == []


@pytest.mark.parametrize("name", ["eval", "exec", "breakpoint"])
def test_nothing_calls(name):
    assert [at(path, line) for path, tree in SOURCES.items() for line in calls_of(tree, name)] == []


def test_nothing_is_pickled():
    picklers = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "copyreg"}
    wrong = [at(path, line) for path, _, imported, line in all_imports() if imported.split(".")[0] in picklers]
    wrong += [
        at(path, node.value.lineno)
        for path, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and getattr(node.value, "value", True)
    ]
    assert wrong == []


def shared_random_state(tree):
    """The lines that use np.random.seed, np.random.rand, … or the module `random`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "random":
            base = node.value.value
            if isinstance(base, ast.Name) and base.id in {"np", "numpy"} and node.attr not in EXPLICIT_RANDOM:
                found.append(node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.module == "numpy.random":
            found += [node.lineno for alias in node.names if alias.name not in EXPLICIT_RANDOM]
        elif isinstance(node, ast.Import) and any(alias.name == "random" for alias in node.names):
            found.append(node.lineno)
    return found


def test_reader_finds_shared_random_state():
    source = "np.random.seed(0)\nnp.random.default_rng(0)\nimport random\nfrom numpy.random import rand"
    assert sorted(shared_random_state(ast.parse(source))) == [1, 3, 4]


def test_random_numbers_come_from_an_explicit_generator():
    everywhere = {**SOURCES, **{p: ast.parse(p.read_text("utf8")) for p in sorted((ROOT / "tests").rglob("*.py"))}}
    assert [at(path, line) for path, tree in everywhere.items() for line in shared_random_state(tree)] == []


def test_every_module_says_what_it_is():
    assert [module_name(path) for path, tree in SOURCES.items() if tree.body and not ast.get_docstring(tree)] == []


def test_the_engine_is_read_in_one_sitting():
    """Code, docstrings and comments; blank lines are not read."""
    lines = {
        name: sum(bool(line.strip()) for line in (PACKAGE / f"{name}.py").read_text("utf8").splitlines())
        for name in ("scope", "engine", "ops", "tensor")
    }
    assert sum(lines.values()) <= 1000, lines
