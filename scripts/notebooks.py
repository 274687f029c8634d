"""Execute the example notebooks and keep what they show, for readers without a kernel: `python scripts/notebooks.py`.

Outputs are saved into the files as nbclient gets them: static pictures of the runs, figures, text. Runs in: a terminal.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
#: Seconds that one cell may take.
CELL_WITHIN = 150


def execute(path: Path) -> float:
    """Execute a notebook in a fresh kernel, save it in place, and return the seconds it took."""
    notebook = nbformat.read(path, as_version=4)
    began = time.monotonic()
    client = NotebookClient(notebook, timeout=CELL_WITHIN, kernel_name="python3", store_widget_state=False)
    client.execute(env={**os.environ, "FLYTE_NB_HISTORY": "off"})
    took = time.monotonic() - began
    for cell in notebook.cells:
        cell.metadata.pop(
            "execution", None
        )  # times of this execution: a difference each time, and of no use to a reader
    for key in ("language_info", "widgets"):
        notebook.metadata.pop(key, None)
    # Tracebacks name files: no reader has this machine's folders.
    text = nbformat.writes(notebook).replace(sys.prefix, "/venv").replace(str(ROOT), "/checkout")
    path.write_text(f"{text}\n", encoding="utf-8")
    return took


def main() -> None:
    """Those that are named, or all."""
    named = [Path(name) for name in sys.argv[1:]] or sorted((ROOT / "example-notebooks").glob("*.ipynb"))
    for path in named:
        print(f"{path.name}: {execute(path):.1f} s, {path.stat().st_size / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
