"""One server for all browser tests, one browser a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.harness import Browser, JupyterServer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """A Jupyter server with JupyterLab and Notebook 7."""
    with JupyterServer.start(tmp_path_factory.mktemp("jupyter")) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium. Not for the whole session: while Playwright is on, no other event loop runs in this thread."""
    with Browser.start() as browser:
        yield browser


@pytest.fixture(autouse=True)
def _end_kernels(server: JupyterServer) -> Iterator[None]:
    """No test inherits another's kernels."""
    yield
    server.shutdown_kernels()
