"""pytest plugin: a cluster for the tests that ask for one. Runs in: a test session.

Named in a project's ``conftest.py``: ``pytest_plugins = ["flyte_nb.pytest_plugin"]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

import flyte_nb


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what a project may set."""
    parser.addini("flyte_workers", "worker processes of the fixture flyte_cluster", default="2")


@pytest.fixture(scope="session")
def flyte_cluster(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """An embedded cluster for all tests of the session that ask for it, started by the first one; gives ``flyte_nb``.

    The ini option ``flyte_workers`` says how many worker processes it has, of one thread each: 2 by default, whatever the
    machine. Results that are kept (``cache="auto"``) are kept for the session.

    Example:
        >>> def test_it(flyte_cluster):
        ...     assert flyte_cluster.run(main, n=1).outputs()[0] == 2
    """
    workers = pytestconfig.getini("flyte_workers")
    if not workers.isdecimal() or not int(workers):
        raise pytest.UsageError(f"flyte_workers is a number of processes from 1 on, not {workers!r}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLYTE_NB_CACHE_DIR", str(tmp_path_factory.mktemp("flyte_cache")))
        flyte_nb.init(n_workers=int(workers), threads_per_worker=1)
        yield flyte_nb
        flyte_nb.shutdown()
