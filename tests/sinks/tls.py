"""TLS for the API server's stand-in: one certificate for 127.0.0.1 that is its own authority, and the client's too."""

from __future__ import annotations

import ssl
from pathlib import Path

_KEY = """
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgTNpkp6ynMbX0vCdJ
hbEHIHUN91aEM6qBMNwy1tUr/kChRANCAARNo1EqfQpHbbHtObM+3ufvo3qJQIuw
CPsGdhm3K+VOq1uwPDw+IgHqQCFf5qSJxAYz0Qi9wiLXd67Bd1Jh2fEC
"""
_CERTIFICATE = """
MIIBfDCCASOgAwIBAgIUKwGkIDnJa6Nvh16sBI7XPG3+G6swCgYIKoZIzj0EAwIw
EzERMA8GA1UEAwwIYXBpLnRlc3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEw
MDAwMDBaMBMxETAPBgNVBAMMCGFwaS50ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAETaNRKn0KR22x7TmzPt7n76N6iUCLsAj7BnYZtyvlTqtbsDw8PiIB6kAh
X+akicQGM9EIvcIi13euwXdSYdnxAqNTMFEwDwYDVR0TAQH/BAUwAwEB/zAPBgNV
HREECDAGhwR/AAABMB0GA1UdDgQWBBTHUaPtM6AMYLCEeEZBEdzGx4VuMzAOBgNV
HQ8BAf8EBAMCAoQwCgYIKoZIzj0EAwIDRwAwRAIgPiPhcS7ZFOPMtSg/qFO3luJn
Uc5qsqisBS7+53ghChUCICWrglVpX2/D+wXRgXclQs9U+EuNZgO03dgk3TjV7Ifk
"""

_LABELS = {"PRIVATE KEY": _KEY, "CERTIFICATE": _CERTIFICATE}


def pem(label: str) -> str:
    """One of the two, as its file is written."""
    return f"-----BEGIN {label}-----{_LABELS[label]}-----END {label}-----\n"


def server_context(directory: Path, *, client_certificates: bool) -> ssl.SSLContext:
    """The server's side; with ``client_certificates`` it lets nobody in who has none."""
    both = directory / "server.pem"
    both.write_text(pem("PRIVATE KEY") + pem("CERTIFICATE"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    if client_certificates:
        context.load_verify_locations(cadata=pem("CERTIFICATE"))
        context.verify_mode = ssl.CERT_REQUIRED
    return context
