"""Credentials of the embedded cluster: a session's certificates, in TLS contexts made once. Runs in: kernel and workers."""

from __future__ import annotations

import datetime as dt
import ssl
from typing import Any

from distributed import Security

#: By what a context is made of. A process has one or two: those of its own certificates.
_contexts: dict[tuple[Any, ...], ssl.SSLContext] = {}
#: Contexts kept; a process that starts one cluster after the other has more and more certificates.
MAX_CONTEXTS = 8
#: How long a session's certificate is valid, and how far clocks may be set back meanwhile.
VALID, SKEW = dt.timedelta(days=3650), dt.timedelta(days=1)


class SessionSecurity(Security):
    """As Dask's, which writes the private key into a temporary file for each connection: on a full disk there is none."""

    @classmethod
    def temporary(cls, **options: Any) -> SessionSecurity:
        """As Dask's, with a key on an elliptic curve: an RSA key takes 0.1 s to find, and 1 ms of each connection."""
        from cryptography import x509  # here: 0.1 s
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "dask-internal")])
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - SKEW)
            .not_valid_after(now + VALID)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("dask-internal")]), critical=False)
            .sign(key, hashes.SHA256())
        )
        as_text = serialization.Encoding.PEM
        private = key.private_bytes(as_text, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
        public = certificate.public_bytes(as_text).decode()
        roles = {
            f"tls_{role}_{what}": text
            for role in ("client", "scheduler", "worker")
            for what, text in (("key", private), ("cert", public))
        }
        return cls(require_encryption=True, tls_ca_file=public, **roles, **options)

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
