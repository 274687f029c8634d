"""Dask clients of a session's cluster: what `flyte_nb.dask_client` gives. Runs in: the user's process.

Not the engine's own client: that lives on the engine's loop, and a user who closes it, or has it compute for minutes, must not
end or delay anything else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import distributed

from flyte_nb.engine import dask_values


class DaskClients:
    """Those of one session.

    Args:
        target: What `init` was given.
        own: Gives the engine's client, once there is a cluster.
    """

    def __init__(self, target: Any, own: Callable[[], Any]) -> None:
        self._target = target
        self._own = own
        self._client: Any = None
        self._undo = dask_values.install(self.client)

    def client(self) -> Any:
        """One with a loop of its own, which is Dask's default from then on; or the one that `init` was given."""
        target = self._target
        if isinstance(target, distributed.Client) and not target.asynchronous and target.status == "running":
            return target
        if self._client is None or self._client.status != "running":
            self._client = self.connected()
        return self._client

    def connected(self, *, asynchronous: bool = False) -> Any:
        """A new one; for the running loop, if it is asynchronous: to be awaited."""
        own = self._own()
        return distributed.Client(
            own.scheduler.address, security=own.security, asynchronous=asynchronous, set_as_default=not asynchronous,
        )  # fmt: skip

    def close(self) -> None:
        """Close the client, and leave Dask as it was."""
        self._undo.close()
        if self._client is not None:
            with contextlib.suppress(Exception):  # its cluster may be gone
                self._client.close(timeout=1)

    def __repr__(self) -> str:
        return f"<DaskClients {self._client!r}>"
