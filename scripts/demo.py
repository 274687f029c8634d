"""Run a notebook in a real kernel and tell what happened: `make demo`. Runs in: a terminal."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter

ROOT = Path(__file__).resolve().parents[1]

#: Lines of output shown per cell; the rest is in the files.
MAX_LINES = 25

#: Characters shown per line.
MAX_WIDTH = 140


class Teller:
    """Prints each cell as it starts, and its output as it ends."""

    def __init__(self, notebook: Any) -> None:
        self._total = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in notebook.cells)
        self._number = 0
        self._began = 0.0

    def starts(self, cell: Any, **_: object) -> None:
        """Print the cell's number and its source."""
        if cell.cell_type != "code":
            return
        self._number += 1
        self._began = time.monotonic()
        print(f"\n--- cell {self._number} of {self._total} " + "-" * 60)
        print(_clip(cell.source, prefix="  | "), flush=True)

    def ends(self, cell: Any, **_: object) -> None:
        """Print what the cell put out, as text."""
        for output in cell.get("outputs", ()):
            text = output_text(output)
            if text.strip():
                print(_clip(text, prefix="    "))
        print(f"  ({time.monotonic() - self._began:.2f} s)", flush=True)


def output_text(output: Any) -> str:
    """One output of a cell as text; "" where it has none."""
    match output.output_type:
        case "stream":
            return str(output.text)
        case "error":
            return f"{output.ename}: {output.evalue}"
        case _:
            data = output.data
            if "image/png" in data:
                return "[picture]"
            return str(data.get("text/plain", ""))


def _clip(text: str, *, prefix: str) -> str:
    lines = text.rstrip().splitlines()
    shown = [prefix + line[:MAX_WIDTH] for line in lines[:MAX_LINES]]
    if len(lines) > MAX_LINES:
        shown.append(f"{prefix}... {len(lines) - MAX_LINES} more lines")
    return "\n".join(shown)


def main() -> int:
    """Run the notebook named on the command line; 0 if every cell succeeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", nargs="?", type=Path, default=ROOT / "example-notebooks" / "quickstart.ipynb")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "artifacts" / "demo", help="folder for the executed notebook and the HTML"
    )
    parser.add_argument("--timeout", type=int, default=600, help="seconds that one cell may take")
    options = parser.parse_args()

    notebook = nbformat.read(options.notebook, as_version=4)
    teller = Teller(notebook)
    client = NotebookClient(
        notebook,
        timeout=options.timeout,
        resources={"metadata": {"path": str(options.notebook.parent)}},
        on_cell_execute=teller.starts,
        on_cell_executed=teller.ends,
    )
    began = time.monotonic()
    failure = None
    try:
        client.execute()
    except CellExecutionError as exc:
        failure = exc

    options.out.mkdir(parents=True, exist_ok=True)
    executed = options.out / options.notebook.name
    nbformat.write(notebook, executed)
    page = executed.with_suffix(".html")
    page.write_text(HTMLExporter().from_notebook_node(notebook)[0], encoding="utf-8")
    print(f"\nExecuted in {time.monotonic() - began:.1f} s. Executed notebook: {executed}\nAs a page: {page}")
    print("`make lab` opens it live.")
    if failure is not None:
        print(f"\nA cell failed:\n{failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
