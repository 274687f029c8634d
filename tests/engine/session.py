"""A session with a cluster that has started, and its end. Runs in: tests of the engine, and `bench/chaos`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

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
