"""What the documentation shows is what happens: every code block of every page runs, in a real kernel on a real cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import Pages
from tests.kernel.kernelclient import ROOT, Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster, pytest.mark.timeout(100)]

PAGES = sorted(
    path
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if not {"generated", "gallery"} & set(path.parts) and "```python" in path.read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def pages() -> Iterator[Pages]:
    """One kernel for all pages."""
    with Kernel.start() as kernel:
        yield Pages(kernel)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_block_of_the_page_does_what_it_says(pages: Pages, path: Path) -> None:
    """Each is executed after those before it; what is shown below one is what it shows."""
    assert pages.run(path)
