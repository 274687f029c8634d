"""The example notebooks run as they are, and what they leave in the file exports as static pictures."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter, MarkdownExporter

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

NOTEBOOKS = sorted((Path(__file__).parents[2] / "example-notebooks").glob("*.ipynb"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_example_notebook_runs_and_exports(path: Path, tmp_path: Path) -> None:
    """Every cell succeeds; HTML and markdown show the final pictures, and no widget is left in them."""
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
