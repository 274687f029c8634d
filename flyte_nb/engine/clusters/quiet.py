"""Scheduler and worker without an HTTP server: Dask opens one on each, port 8787 first, whether asked or not.

Runs in: kernel process (scheduler); worker processes.
"""

from __future__ import annotations

from typing import Any

import distributed
from distributed.http.routing import RoutingApplication
from tornado.httpserver import HTTPServer


class _NoHttp:
    """Makes the HTTP server that Dask's code refers to, without listening."""

    def start_http_server(self, routes: Any, *_args: Any, **_kwargs: Any) -> None:
        """Called by Dask in place of listening."""
        self.http_application: Any = RoutingApplication(routes)
        server: Any = HTTPServer(self.http_application)
        server.address, server.port = "", 0
        self.http_server = server


class QuietScheduler(_NoHttp, distributed.Scheduler):
    """A scheduler without an HTTP port."""


class QuietWorker(_NoHttp, distributed.Worker):
    """A worker without an HTTP port."""
