"""A session with a cluster that has started, and its end. Runs in: tests of the engine, and `bench/chaos`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psutil

import flyte_nb as flyte
from flyte_nb.kernel.session import Session


@contextlib.contextmanager
def started(cluster: Any = None, **options: Any) -> Iterator[Session]:
    """What `flyte_nb.init` makes of these arguments, once its workers are there."""
    flyte.init(cluster, **options)
    try:
        assert Session.current is not None
        Session.current.wait_ready(60)
        yield Session.current
    finally:
        flyte.shutdown()


def worker_processes(session: Session) -> list[psutil.Process]:
    """Those of the embedded cluster's workers that are alive."""
    handle = session.engine.network.handle
    assert handle is not None
    found = [nanny.pid for nanny in list(handle.cluster.workers.values())]
    return [psutil.Process(pid) for pid in found if pid is not None and psutil.pid_exists(pid)]
