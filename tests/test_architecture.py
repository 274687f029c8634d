"""The architecture, enforced: imports point one way, and importing the package is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent / "flyte_nb"

#: What each folder may import of the package, itself included.
MAY = {
    "core": {"core"},
    "io": {"core", "io"},
    "engine": {"core", "engine"},
    "worker": {"core", "engine", "worker"},
    "views": {"core", "views"},
    "kernel": {"core", "engine", "worker", "views", "kernel"},
}
#: The one arrow that points back: the engine names the worker's entry points in what it submits to Dask.
ENTRY_POINTS = {("engine", "worker", "flyte_nb.worker.entry")}


def imports_of(path: Path) -> set[str]:
    """Modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_imports_point_one_way():
    """No file imports from a folder that its own may not know."""
    wrong = []
    for folder, allowed in MAY.items():
        for path in (ROOT / folder).rglob("*.py"):
            for module in imports_of(path):
                parts = module.split(".")
                if parts[0] != "flyte_nb" or len(parts) < 2 or parts[1] not in MAY:
                    continue
                if parts[1] not in allowed and (folder, parts[1], module) not in ENTRY_POINTS:
                    wrong.append(f"{path.relative_to(ROOT)} imports {module}")

    assert [] == wrong


def test_core_knows_neither_dask_nor_jupyter():
    """The core imports the standard library and cloudpickle only."""
    foreign = {"distributed", "dask", "IPython", "ipykernel", "anywidget", "rich", "tornado", "traitlets"}
    wrong = [
        f"{path.name}: {module}"
        for path in (ROOT / "core").rglob("*.py")
        for module in imports_of(path)
        if module.split(".")[0] in foreign
    ]

    assert [] == wrong


def test_importing_the_package_imports_no_heavy_library():
    """`import flyte_nb` starts nothing and leaves Dask, IPython and the views alone."""
    code = (
        "import sys, flyte_nb; "
        "print([m for m in ('distributed', 'dask', 'IPython', 'anywidget', 'rich', 'tornado') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.strip()
