"""Run the quickstart notebook in a real kernel on the embedded cluster, and say what happened. Runs in: `make demo`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "example-notebooks" / "quickstart.ipynb"
OUT = ROOT / "artifacts" / "demo"


def main() -> int:
    """Execute, print each cell's text, save the executed notebook and its HTML."""
    OUT.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(OUT)}})
    started = time.perf_counter()
    try:
        client.execute()
    except CellExecutionError as exc:
        print(exc, file=sys.stderr)
        return 1
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        print(f"\nIn [{cell.execution_count}]: {cell.source.splitlines()[0] if cell.source else ''}")
        for output in cell.outputs:
            text = output.get("text") or output.get("data", {}).get("text/plain", "")
            print("    " + text.rstrip().replace("\n", "\n    "))
    executed = OUT / "quickstart.ipynb"
    nbformat.write(notebook, executed)
    page = OUT / "quickstart.html"
    page.write_text(HTMLExporter().from_notebook_node(notebook)[0])
    print(f"\nDone in {time.perf_counter() - started:.1f} s. Executed notebook: {executed}\nAs a page: {page}\n`make lab` opens it live.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
