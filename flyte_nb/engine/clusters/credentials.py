"""Credentials of the embedded cluster: a session's certificates, in TLS contexts made once. Runs in: kernel and workers."""

from __future__ import annotations

import ssl
from typing import Any

from distributed import Security

#: By what a context is made of. A process has one or two: those of its own certificates.
_contexts: dict[tuple[Any, ...], ssl.SSLContext] = {}
#: Contexts kept; a process that starts one cluster after the other has more and more certificates.
MAX_CONTEXTS = 8


class SessionSecurity(Security):
    """As Dask's, which writes the private key into a temporary file for each connection: on a full disk there is none."""

    def _get_tls_context(self, tls: dict[str, Any], purpose: ssl.Purpose) -> ssl.SSLContext | None:
        key = (purpose, *sorted(tls.items(), key=str))
        if key not in _contexts:
            made: ssl.SSLContext | None = super()._get_tls_context(tls, purpose)
            if made is None:
                return None
            while len(_contexts) >= MAX_CONTEXTS:
                del _contexts[next(iter(_contexts))]
            _contexts[key] = made
        return _contexts[key]
