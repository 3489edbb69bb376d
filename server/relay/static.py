"""The static table of HPACK (RFC 7541, Appendix A): what the indexes 1 to 61 stand for in every header block."""

from __future__ import annotations

from typing import TypeAlias

#: A name and a value, as they are on the wire.
Field: TypeAlias = tuple[bytes, bytes]

_WITH_VALUES = """
:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
"""

_NAMES = """
    accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control
    content-disposition content-encoding content-language content-length content-location content-range content-type
    cookie date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since
    last-modified link location max-forwards proxy-authenticate proxy-authorization range referer refresh retry-after
    server set-cookie strict-transport-security transfer-encoding user-agent vary via www-authenticate
"""


def _fields() -> tuple[Field, ...]:
    pairs = [line.partition(" ")[::2] for line in _WITH_VALUES.strip().splitlines()]
    pairs += [(name, "") for name in _NAMES.split()]
    return tuple((name.encode(), value.encode()) for name, value in pairs)


#: The fields in the order of their indexes, which begin with 1.
STATIC = _fields()
