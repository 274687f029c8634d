"""The architecture, enforced: which package may import which, no circles between files, and a cheap ``import flyte_nb``.

Every import counts: at the top of a file, inside a function, for types only, and by name (``importlib.import_module("...")``).
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "flyte_nb"

#: The rooms of `flyte_nb/core`, from the ground up. Each may import those before it; `CORE_MAY` says which it does.
CORE = (
    "values", "transport", "history", "failures", "settings", "interface", "control", "cache", "tasks", "streams", "steps",
    "attempts", "runs", "results", "journal",
)  # fmt: skip
CORE_MAY = {
    "values": "errors",
    "transport": "errors values",
    "history": "errors values transport import_alias",
    "failures": "errors values transport history",
    "settings": "errors values history notify",
    "interface": "errors values",
    "control": "errors values transport history failures settings interface",
    "cache": "errors values transport history settings interface control",
    "tasks": "errors values transport history settings interface control cache",
    "streams": "errors values transport interface control tasks",
    "steps": "errors values transport history settings control tasks",
    "attempts": "errors values transport history failures settings control tasks streams",
    "runs": "errors values transport history failures settings interface control cache tasks streams steps attempts import_alias",
    "results": "errors values transport history control tasks runs",
    "journal": "errors values transport history settings control cache tasks runs",
}
#: Every other package: those that it may import.
MAY = {
    "errors": "core.values",
    "import_alias": "",
    "notify": "core.history",
    "io": "core errors",
    "engine": "core errors",
    "worker": "core errors engine import_alias",
    "views": "core errors",
    "kernel": "core errors engine worker views public",
    "public": "core errors import_alias notify io kernel",
}
#: Circles between files that stay, each with its reason. Three at most.
CIRCLES: dict[frozenset[str], str] = {}
#: Most files in one folder, `__init__` aside; most lines of one file.
MAX_FILES, MAX_LINES = 13, 480


def module_of(path: Path) -> str:
    """Dotted name of a file's module."""
    return ".".join(("flyte_nb", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


FILES = {module_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports_of(path: Path) -> Iterator[tuple[str, int]]:
    """Modules of any package that a file imports, anywhere in it and in any way, with the line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner if inner in FILES else node.module), node.lineno
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in FILES:
            yield node.value, node.lineno


def room_of(module: str) -> str:
    """The package whose rules a module is under: "core.values", "engine", or "public" for Flyte's own submodules."""
    parts = module.split(".")[1:]
    if parts[:1] == ["core"]:
        return ".".join(parts[:2])
    return parts[0] if parts and parts[0] in MAY else "public"


def allowed(room: str) -> set[str]:
    """Rooms that a room may import, itself included."""
    if room.startswith("core."):
        name = room.removeprefix("core.")
        return {room, *(f"core.{each}" if each in CORE else each for each in CORE_MAY[name].split())}
    found = {room, *MAY[room].split()}
    return found | {f"core.{each}" for each in CORE} if "core" in found else found


def test_imports_point_one_way():
    """No file imports from a room that its own may not know."""
    wrong = []
    for module, path in FILES.items():
        room = room_of(module)
        if room == "core":
            continue
        for found, line in imports_of(path):
            if found.partition(".")[0] == "flyte_nb" and found in FILES and found != "flyte_nb":
                other = room_of(found)
                if other not in allowed(room):
                    wrong.append(f"{path.relative_to(ROOT)}:{line} ({room}) imports {found} ({other})")

    assert [] == wrong


def test_rooms_of_core_know_only_those_below_them():
    """`CORE_MAY` itself points one way, and core holds these packages and nothing else."""
    for place, name in enumerate(CORE):
        assert set(CORE_MAY[name].split()) & set(CORE) <= set(CORE[:place]), name

    entries = {entry.name for entry in (ROOT / "core").iterdir() if entry.name != "__pycache__"}
    assert {*CORE, "__init__.py"} == entries


def test_no_circles_between_files():
    """Following imports from a file never leads back to it."""
    circles = {frozenset(each) for each in _circles({m: {i for i, _ in imports_of(p)} for m, p in FILES.items()})}

    assert set(CIRCLES) == circles
    assert len(CIRCLES) <= 3


def _circles(arrows: dict[str, set[str]]) -> list[set[str]]:
    """Strongly connected components of more than one file (Tarjan's algorithm); packages' ``__init__`` files aside."""
    arrows = {
        module: {i for i in found if i in FILES and FILES[i].name != "__init__.py"}
        for module, found in arrows.items()
        if FILES[module].name != "__init__.py"
    }
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in arrows[module]:
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            circle = set(stack[stack.index(module) :])
            del stack[stack.index(module) :]
            if len(circle) > 1:
                found.append(circle)

    for module in arrows:
        if module not in index:
            visit(module)
    return found


def test_rooms_have_a_purpose_and_are_no_halls():
    """Each package says in a sentence what it is for, and holds a number of files that one can look over."""
    for init in ROOT.rglob("__init__.py"):
        assert (ast.get_docstring(ast.parse(init.read_text())) or "").strip(), init
        if init.parent != ROOT:
            files = [path for path in init.parent.glob("*.py") if path.name != "__init__.py"]
            assert len(files) <= MAX_FILES, f"{init.parent}: {len(files)} files"

    assert [] == [f"{path}: {n}" for path in FILES.values() if (n := path.read_text().count("\n")) > MAX_LINES]


def test_core_knows_neither_dask_nor_jupyter():
    """The core imports the standard library and cloudpickle only."""
    foreign = {"distributed", "dask", "IPython", "ipykernel", "anywidget", "rich", "tornado", "traitlets"}
    wrong = [
        f"{path.name}: {module}"
        for path in (ROOT / "core").rglob("*.py")
        for module, _ in imports_of(path)
        if module.split(".")[0] in foreign
    ]

    assert [] == wrong


def test_a_circle_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of circles sees one, whichever way its imports are written."""
    arrows = {"flyte_nb.errors": {"flyte_nb.notify"}, "flyte_nb.notify": {"flyte_nb.errors"}}

    assert [{"flyte_nb.errors", "flyte_nb.notify"}] == _circles(arrows)


def test_importing_the_package_imports_no_heavy_library():
    """`import flyte_nb` starts nothing and leaves Dask, IPython and the views alone."""
    code = (
        "import sys, flyte_nb; "
        "print([m for m in ('distributed', 'dask', 'IPython', 'anywidget', 'rich', 'tornado') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.strip()
