"""What a setting's value may be where a type alone does not say it: paths, sockets, host names and networks.

Each is read from what TOML has and from the one text that a variable or an option is (a list is comma-separated then).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import PlainValidator
from pydantic_core import PydanticCustomError

from server import toml

#: What a kernel takes as a unix socket's path, without the byte that ends it (unix(7), sun_path).
SOCKET_PATH_BYTES: Final = 107

#: The most entries of a list.
MAX_ENTRIES: Final = 1000

#: The type of an error whose message says why a value is not what was expected.
BECAUSE: Final = "because"

#: A DNS name as it is connected to, with a glob's characters.
_HOST: Final = re.compile(r"[A-Za-z0-9_.*?-]{1,253}")

#: An IP address and a port, the address in brackets if it is of version 6.
_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:]+)\]|([0-9.]+)):([0-9]{1,5})")

_MAX_PORT: Final = 65535

Network = IPv4Network | IPv6Network


def _path(value: object) -> Path:
    text = str(value) if isinstance(value, Path) else value
    if not isinstance(text, str):
        raise PydanticCustomError(BECAUSE, "it is not a string")
    if not text.startswith("/"):
        raise PydanticCustomError(BECAUSE, "it does not begin with /")
    if not text.isprintable():
        raise PydanticCustomError(BECAUSE, "it has a character that cannot be seen")
    return Path(text)


def _socket(value: object) -> Path:
    path = _path(value.removeprefix("unix://") if isinstance(value, str) else value)
    size = len(os.fsencode(path))
    if size > SOCKET_PATH_BYTES:
        raise PydanticCustomError(BECAUSE, "it has {size} bytes", {"size": size})
    if str(value).endswith("/"):
        raise PydanticCustomError(BECAUSE, "it names a directory")
    return path


def _list(value: object) -> list[object]:
    # A variable and an option have one text.
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise PydanticCustomError(BECAUSE, "it is not a list")
    if len(value) > MAX_ENTRIES:
        raise PydanticCustomError(BECAUSE, "it has {size} entries, and may have {most}", _sizes(value))
    return list(value)


def _sizes(value: Sequence[object]) -> dict[str, Any]:
    return {"size": len(value), "most": MAX_ENTRIES}


def _hosts(value: object) -> tuple[str, ...]:
    hosts = _list(value)
    for host in hosts:
        if not isinstance(host, str) or not _HOST.fullmatch(host):
            raise PydanticCustomError(BECAUSE, "{entry} is no name", {"entry": toml.found(host)})
    return tuple(str(host) for host in hosts)


def _network(entry: object) -> Network:
    if isinstance(entry, IPv4Network | IPv6Network):
        return entry
    try:
        return ip_network(entry if isinstance(entry, str) else "")
    except ValueError:
        why = "is no network"
        with contextlib.suppress(ValueError):
            why = f"has bits beside the network: it is in {ip_network(str(entry), strict=False)}"
        raise PydanticCustomError(BECAUSE, "{entry} {why}", {"entry": toml.found(entry), "why": why}) from None


def _networks(value: object) -> tuple[Network, ...]:
    return tuple(_network(entry) for entry in _list(value))


def http_address(text: str) -> Path | tuple[str, int] | None:
    """Where ``http.listen`` says that HTTP is served: a unix socket, a loopback address with a port, or nowhere.

    Raises PydanticCustomError with what is wrong with it.
    """
    if not text:
        return None
    if text.startswith(("/", "unix://")):
        return _socket(text)
    if not (match := _ADDRESS.fullmatch(text)):
        raise PydanticCustomError(BECAUSE, "it is neither ADDRESS:PORT nor a path")
    host, port = match[1] or match[2], int(match[3])
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        raise PydanticCustomError(BECAUSE, "{host} is no address", {"host": host}) from None
    if not loopback:
        # There is no login: whoever reaches it reads what runs on the node.
        raise PydanticCustomError(BECAUSE, "{host} can be reached from other machines", {"host": host})
    if port > _MAX_PORT:
        raise PydanticCustomError(BECAUSE, "{port} is no port", {"port": port})
    return host, port


def _http_listen(value: object) -> str:
    if not isinstance(value, str):
        raise PydanticCustomError(BECAUSE, "it is not a string")
    http_address(value)
    return value.removeprefix("unix://")


def _maybe_path(value: object) -> str:
    return "" if value == "" else str(_path(value))


def _maybe_url(value: object) -> str:
    if not isinstance(value, str):
        raise PydanticCustomError(BECAUSE, "it is not a string")
    try:
        url = urlsplit(value)
    except ValueError:
        raise PydanticCustomError(BECAUSE, "it is no URL") from None
    if value and not (url.scheme in ("http", "https") and url.hostname and value.isprintable()):
        raise PydanticCustomError(BECAUSE, "it is no URL")
    if "@" in url.netloc:
        # Settings are shown: by check-config, and in errors.
        raise PydanticCustomError(BECAUSE, "it has a password")
    return value


#: An absolute path.
AbsolutePath = Annotated[Path, PlainValidator(_path)]
#: The path of a unix socket.
SocketPath = Annotated[Path, PlainValidator(_socket)]
SOCKET_TEXT: Final = f"an absolute path of at most {SOCKET_PATH_BYTES} bytes, with or without unix:// before it"
#: Globs for host names.
HostGlobs = Annotated[tuple[str, ...], PlainValidator(_hosts)]
#: IP networks.
Networks = Annotated[tuple[Network, ...], PlainValidator(_networks)]
#: Where HTTP is served, as ``http_address`` reads it.
HttpListen = Annotated[str, PlainValidator(_http_listen)]
#: An absolute path, or an empty text.
MaybePath = Annotated[str, PlainValidator(_maybe_path)]
#: An http or https URL, or an empty text.
MaybeUrl = Annotated[str, PlainValidator(_maybe_url)]
