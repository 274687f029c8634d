"""Every contract test runs twice: on the executor in this process, and on a real Dask cluster of two processes."""

from __future__ import annotations

import pytest

import flyte_nb as flyte


@pytest.fixture(scope="session")
def cluster():
    """An embedded cluster for the whole test session."""
    flyte.init(n_workers=2)
    from flyte_nb.kernel.session import Session

    assert Session.current is not None
    Session.current.wait_ready(60)
    yield Session.current
    flyte.shutdown()


@pytest.fixture(params=["local", pytest.param("remote", marks=pytest.mark.cluster)])
def mode(request):
    """Where the program runs."""
    if request.param == "remote":
        request.getfixturevalue("cluster")
    return request.param


@pytest.fixture
def run(mode):
    """Run a task and return its value."""

    def run(task, *args, **kwargs):
        run = flyte.with_runcontext(mode=mode).run(task, *args, **kwargs)
        return run.outputs()[0]

    return run
