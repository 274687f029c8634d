"""The example notebooks run as they are, and what they leave in the file exports as static pictures."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import nbformat
import papermill
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter, MarkdownExporter, SlidesExporter
from nbconvert.preprocessors import ExecutePreprocessor

from tests.kernel.kernelclient import ROOT

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]


NOTEBOOKS = sorted((ROOT / "example-notebooks").glob("*.ipynb"))


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook, executed by one of those that do so without a person: nbclient, `nbconvert --execute`, papermill."""
    if path.stem == "simulation":
        out = str(folder / "out.ipynb")
        papermill.execute_notebook(str(path), out, kernel_name="python3", cwd=str(folder), progress_bar=False)
        return nbformat.read(out, as_version=4)
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    if path.stem == "images":
        ExecutePreprocessor(timeout=100, kernel_name="python3").preprocess(notebook, resources)
    else:
        NotebookClient(notebook, timeout=100, kernel_name="python3", resources=resources).execute()
    return notebook


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_example_notebook_runs_and_exports(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell does what it should; all forms show the final pictures, that of the last cell too, and no widget."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])))
    notebook = executed(path, tmp_path)

    page = HTMLExporter().from_notebook_node(notebook)[0]
    slides = SlidesExporter().from_notebook_node(notebook)[0]
    words = MarkdownExporter().from_notebook_node(notebook)[0]
    views = [
        output.data
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "display_data" and "image/png" not in output.data
    ]

    assert views
    assert all("text/html" in view and "text/plain" in view for view in views)
    assert not [v for v in views if "application/vnd.jupyter.widget-view+json" in v]
    assert not [v["text/plain"] for v in views if " not ended at " in v["text/plain"]]
    assert "Succeeded" in page
    assert "Succeeded" in slides
    assert "Error displaying widget" not in page
    assert "ucceeded" in words
    STORIES.get(path.stem, lambda told: None)(told_by(notebook))


def told_by(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """What cells put out as text, by their first lines."""
    told = {}
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        parts = [str(o.get("text") or o.get("traceback") or o.get("data", {}).get("text/plain", "")) for o in outputs]
        told[cell.source.splitlines()[0]] = "\n".join(parts)
    return told


def debugging(told: dict[str, str]) -> None:
    """Three of thirty fail, are looked at, replayed, fixed and retried; parked ones are decided over; a hang is explained."""
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


def sweep(told: dict[str, str]) -> None:
    """What has been fitted is found again."""
    assert (
        "48 of 64 were found" in told["more = list(itertools.product((4, 8, 16, 24), (10, 40), (0.1, 0.4), range(4)))"]
    )


def nested_cv(told: dict[str, str]) -> None:
    """What had succeeded in the run that failed is not computed again."""
    assert "what happens after an hour" in told["splits = list(KFold(5, shuffle=True, random_state=0).split(data))"]
    assert "24 recovered, 6 executed" in told["run = flyte.last_run()"]  # five times `outer`, and one score


def crawler(told: dict[str, str]) -> None:
    """All pages, the broken ones by name, and no more requests at once than is polite."""
    assert "197 pages, broken: ['50', '100', '150'], at most" in "\n".join(told.values())


def etl(told: dict[str, str]) -> None:
    """The empty file is named, and the others are in the table."""
    assert "failed: [('day-13.csv', 'No columns to parse from file')]" in "\n".join(told.values())


#: What each says that it does, beside running.
STORIES: dict[str, Callable[[dict[str, str]], None]] = {
    "debugging": debugging, "sweep": sweep, "nested-cv": nested_cv, "crawler": crawler, "etl": etl,
}  # fmt: skip
