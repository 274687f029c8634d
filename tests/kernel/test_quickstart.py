"""The example notebooks run as they are, and what they leave in the file exports as static pictures."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter, MarkdownExporter

from tests.kernel.kernelclient import ROOT

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]


NOTEBOOKS = sorted((ROOT / "example-notebooks").glob("*.ipynb"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_example_notebook_runs_and_exports(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell does what it should; HTML and markdown show the final pictures, and no widget is left in them."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=100, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()

    page = HTMLExporter().from_notebook_node(notebook)[0]
    words = MarkdownExporter().from_notebook_node(notebook)[0]
    views = [
        output.data
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "display_data"
    ]

    assert views
    assert all("text/html" in view and "text/plain" in view for view in views)
    assert not [v for v in views if "application/vnd.jupyter.widget-view+json" in v]
    assert "Succeeded" in page
    assert "Error displaying widget" not in page
    assert "ucceeded" in words


def test_the_debugging_notebook_tells_its_story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of thirty fail, are looked at, replayed, fixed and retried; parked ones are decided over; a hang is explained."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])))
    notebook = nbformat.read(ROOT / "example-notebooks" / "debugging.ipynb", as_version=4)
    NotebookClient(
        notebook, timeout=100, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()

    told = {}
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        parts = [str(o.get("text") or o.get("traceback") or o.get("data", {}).get("text/plain", "")) for o in outputs]
        told[cell.source.splitlines()[0]] = "\n".join(parts)

    assert "could not convert string to float" in told['names = [name for name in table.columns if name != "target"]']
    assert "of 30 failed" in told['names = [name for name in table.columns if name != "target"]']
    assert "astype_nansafe" in told["%flyte logs a4 --traceback"]
    assert "ValueError" in told["%flyte replay a4"]
    assert "replaying.py" not in told["%flyte replay a4"]
    assert "Retrying 3 actions of r1" in told["%flyte retry"]
    assert "30 done" in told["%flyte retry"]
    assert "worst perimeter" in told["run = flyte.last_run()"]
    assert "11.5" in told["run.resume(parked[1], 4.0)"]
    assert "100 of 100 unfinished" in told["%flyte stack"]
