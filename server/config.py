"""What a node's owner can set, and where each value came from.

A daemon that misreads its settings fails in the middle of somebody's stop, so everything is checked before anything is
done: every problem of every source at once, with the source, the setting, what was expected, and what was found.

A later source wins: the defaults here, the TOML file (``/etc/hookshim/config.toml`` if it exists, or the one that is
named), the environment (``HOOKSHIM_LOG_FORMAT`` sets ``log.format``), the command line (``--log-format``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from server import toml
from server.log import LogFormat, LogLevel, printable
from server.values import (
    BECAUSE,
    SOCKET_TEXT,
    AbsolutePath,
    HostGlobs,
    HttpListen,
    MaybePath,
    MaybeUrl,
    Networks,
    SocketPath,
)
from shim.errors import HookshimError

DEFAULT_FILE: Final = Path("/etc/hookshim/config.toml")
FILE_VARIABLE: Final = "HOOKSHIM_CONFIG"

_PREFIX: Final = "HOOKSHIM_"

#: The settings that are sockets, each of its own.
_SOCKETS: Final = ("listen", "containerd", "admin")

#: Read elsewhere: the file's name by the command line, the failpoints by ``shim.failpoints``.
_OTHER_VARIABLES: Final = (FILE_VARIABLE, "HOOKSHIM_FAILPOINTS")

#: What a kubelet sets in every pod of a namespace that has a Service called hookshim or hookshim-something
#: (kubernetes.io, "Accessing the Service").
_SERVICE_VARIABLE: Final = re.compile(
    r"HOOKSHIM_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


class ConfigError(HookshimError):
    """The configuration is refused. ``problems`` has a line for each thing that is wrong; the text has them all."""

    def __init__(self, problems: list[str]) -> None:
        many = f"the configuration has {len(problems)} problems:"
        super().__init__(problems[0] if len(problems) == 1 else "\n  ".join([many, *problems]))
        self.problems = tuple(problems)


def _one_of(literal: object) -> str:
    return "one of " + ", ".join(f'"{value}"' for value in get_args(literal))


ZeroTimeout = Literal["run", "skip"]
KubeletPreStop = Literal["off", "ensure"]
Front = Literal["relay", "grpc"]
OnCorrupt = Literal["replace", "refuse"]


class LogConfig(BaseModel):
    """``[log]``: what is logged and how. ``auto`` is ``console`` on a terminal, else ``json``."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    level: LogLevel = Field(default="info", description=_one_of(LogLevel))
    format: LogFormat = Field(default="auto", description=_one_of(LogFormat))


class ReachConfig(BaseModel):
    """``[reach]``: what an annotation's httpGet and tcpSocket may name beside their pod's own address.

    ``hosts`` are globs for names, where ``*`` also takes dots and case does not count; ``cidrs`` are networks.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    hosts: HostGlobs = Field(default=(), description="a list of host names, in which * and ? may stand")
    cidrs: Networks = Field(default=(), description="a list of networks, as 10.0.0.0/8 or fd00::/8")


class HttpConfig(BaseModel):
    """``[http]``: where the status page, the metrics and the health checks are served; empty: nowhere.

    On the node alone, since there is no login; what handlers have said is shown on a socket only.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    listen: HttpListen = Field(
        default="",
        description="a loopback address with a port, as 127.0.0.1:9480, a socket's absolute path, or nothing",
    )


class EventsConfig(BaseModel):
    """``[events]``: whom a failed hook is told to.

    ``kubeconfig``: to Kubernetes, as Events of the pod, by this file; without one to containerd's own event bus, if
    ``containerd`` says so. ``node_name`` is the node's name in Kubernetes; empty: the host's.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    kubeconfig: MaybePath = Field(default="", description="an absolute path, or nothing")
    node_name: str = Field(default="", max_length=253, description="a node's name, or nothing for the host's")
    containerd: bool = Field(default=True, description="true or false")


class TracesConfig(BaseModel):
    """``[traces]``: where spans of calls and hooks go, in OTLP over HTTP; empty: nowhere."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    endpoint: MaybeUrl = Field(default="", description="an http or https URL, or nothing")


class Settings(BaseModel):
    """The settings, each checked alone. A field's description is what an error says was expected.

    ``drain_seconds``: how long SIGTERM lets hooks and calls in flight go on. ``default_grace_seconds``: a hook's
    budget at a stop with timeout 0, if the pod has no termination grace annotation. ``zero_timeout``: what PreStop
    does at such a stop. ``on_corrupt``: a damaged journal is set aside and a new one begun, or the daemon does not
    start. ``retention_hours``: how long what has ended stays in the journal. ``hooks_dir``: where the node's own rules
    are. ``kubelet_prestop``: whether a preStop that the kubelet owes is run at a stop. ``front``: which front door
    serves, gRPC's own server or the relay. ``post_stop_hours``: how long a postStop is tried. ``admin``: the socket
    that the other commands ask; root's alone.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    state_dir: AbsolutePath = Field(default=Path("/var/lib/hookshim"), description="an absolute path")
    listen: SocketPath = Field(default=Path("/run/hookshim/hookshim.sock"), description=SOCKET_TEXT)
    containerd: SocketPath = Field(default=Path("/run/containerd/containerd.sock"), description=SOCKET_TEXT)
    drain_seconds: float = Field(default=10.0, ge=0, allow_inf_nan=False, description="a number of seconds, 0 or more")
    default_grace_seconds: float = Field(
        default=30.0, gt=0, allow_inf_nan=False, description="a number of seconds, more than 0"
    )
    zero_timeout: ZeroTimeout = Field(default="run", description=_one_of(ZeroTimeout))
    on_corrupt: OnCorrupt = Field(default="replace", description=_one_of(OnCorrupt))
    retention_hours: float = Field(
        default=24.0, gt=0, allow_inf_nan=False, description="a number of hours, more than 0"
    )
    hooks_dir: AbsolutePath = Field(default=Path("/etc/hookshim/hooks.d"), description="an absolute path")
    kubelet_prestop: KubeletPreStop = Field(default="off", description=_one_of(KubeletPreStop))
    front: Front = Field(default="relay", description=_one_of(Front))
    post_stop_hours: float = Field(
        default=24.0, gt=0, allow_inf_nan=False, description="a number of hours, more than 0"
    )
    admin: SocketPath = Field(default=Path("/run/hookshim/admin.sock"), description=SOCKET_TEXT)
    reach: ReachConfig = Field(default=ReachConfig(), description="a table, [reach]")
    http: HttpConfig = Field(default=HttpConfig(), description="a table, [http]")
    events: EventsConfig = Field(default=EventsConfig(), description="a table, [events]")
    traces: TracesConfig = Field(default=TracesConfig(), description="a table, [traces]")
    log: LogConfig = Field(default=LogConfig(), description="a table, [log]")


class Config(Settings):
    """The settings of a daemon, checked also against each other."""

    @model_validator(mode="after")
    def _sockets_of_their_own(self) -> Self:
        if pair := _same(_sockets(self.model_dump())):
            raise PydanticCustomError("one_socket", "{pair} are the same socket", {"pair": " and ".join(pair)})
        return self


def _sockets(values: Mapping[str, Any]) -> dict[str, Path]:
    """Every setting of ``values`` that is a socket, by its path; defaults for what is not there."""
    found = {name: Path(values.get(name, Config.model_fields[name].default)) for name in _SOCKETS}
    http = values.get("http", {}).get("listen", "")
    return found | ({"http.listen": Path(http)} if http.startswith("/") else {})


def _same(sockets: Mapping[str, Path]) -> tuple[str, str] | None:
    """Which two are one, also by another name (/var/run).

    In front of itself hookshim would replace containerd's socket.
    """
    for (name, path), (other, other_path) in combinations(sockets.items(), 2):
        if os.path.realpath(path) == os.path.realpath(other_path):
            return name, other
    return None


#: A value as TOML can have it.
Plain = str | float


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and, for each setting's path (``log.format``), the source of its value."""

    config: Config
    sources: dict[str, str]

    def settings(self) -> Iterator[tuple[str, Plain | list[Plain], str]]:
        """Each setting's path, value (what is no number as text) and source, the top level first."""
        for path, source in self.sources.items():
            value: Any = self.config
            for name in path.split("."):
                value = getattr(value, name)
            yield path, [_plain(one) for one in value] if isinstance(value, tuple) else _plain(value), source


def _plain(value: object) -> Plain:
    return value if isinstance(value, float | int) else str(value)


def _descriptions(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _descriptions(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(field.description)


#: Every setting's path and what its value has to be.
SETTINGS: Final = dict(_descriptions(Config))


def variable(path: str) -> str:
    """The environment variable of a setting: ``log.format`` is ``HOOKSHIM_LOG_FORMAT``."""
    return _PREFIX + path.upper().replace(".", "_")


def option(path: str) -> str:
    """The command-line option of a setting: ``log.format`` is ``--log-format``."""
    return "--" + path.replace(".", "-").replace("_", "-")


def load(
    file: Path | None,
    environ: Mapping[str, str],
    options: Mapping[str, str],
    default_file: Path = DEFAULT_FILE,
) -> Loaded:
    """Read every source, check all of it, and put it together.

    ``file`` is the one that the command line names; without it HOOKSHIM_CONFIG's, else ``default_file`` if there is
    one. ``options`` has settings' paths and their values as typed. Raises ConfigError with every problem found.
    """
    problems: list[str] = []
    named = file or (Path(environ[FILE_VARIABLE]) if FILE_VARIABLE in environ else None)
    place = named or default_file
    table, errors = _check(_read(place, problems, required=named is not None), strings=False)
    problems += [f"{place}: {_problem(error)}" for error in errors]
    layers = [(table, dict.fromkeys(SETTINGS, str(place)))]

    variables = {path: variable(path) for path in SETTINGS}
    problems += _unknown_variables(environ, variables)
    found = {path: environ[name] for path, name in variables.items() if name in environ}
    for kind, texts, names in (
        ("environment variable", found, variables),
        ("option", options, {path: option(path) for path in SETTINGS}),
    ):
        values, errors = _check(_nested(texts), strings=True)
        problems += [f"{kind} {names[_path_of(error)]}: {_problem(error)}" for error in errors]
        layers.append((values, names))

    merged: dict[str, Any] = {}
    sources = dict.fromkeys(SETTINGS, "default")
    for values, names in layers:
        merged = _over(merged, values)
        sources |= {path: names[path] for path in SETTINGS if _has(values, path)}
    try:
        config = Config.model_validate(merged)
    except ValidationError:
        # Every value was checked alone: what is left is the sockets.
        paths = _sockets(merged)
        pair = _same(paths) or _SOCKETS[:2]
        which = ", ".join(f"{name} from {sources[name]}" for name in pair)
        found_text = toml.found(str(paths[pair[0]]))
        problems.append(f"{pair[0]} and {pair[1]} are the same socket, {found_text} ({which}); expected two")
    if problems:
        raise ConfigError(problems)
    return Loaded(config, sources)


def _read(file: Path, problems: list[str], *, required: bool) -> dict[str, Any]:
    try:
        return toml.parse(file.read_bytes())
    except FileNotFoundError:
        if required:
            problems.append(f"{file}: there is no such file")
    except OSError as error:
        problems.append(f"{file}: cannot be read: {error.strerror}")
    except toml.TomlError as error:
        problems.append(f"{file}: {error}")
    return {}


def _nested(flat: Mapping[str, str]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *tables, name = path.split(".")
        table = nested
        for part in tables:
            table = table.setdefault(part, {})
        table[name] = value
    return nested


def _over(below: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Two sources together: what ``values`` has wins, also inside a table."""
    return {
        **below,
        **{name: _over(below.get(name, {}), one) if isinstance(one, dict) else one for name, one in values.items()},
    }


def _has(nested: Mapping[str, Any], path: str) -> bool:
    value: Any = nested
    for name in path.split("."):
        if name not in value:
            return False
        value = value[name]
    return True


def _check(values: dict[str, Any], *, strings: bool) -> tuple[dict[str, Any], list[ErrorDetails]]:
    """One source's good values, and what is wrong with the others."""
    validate = Settings.model_validate_strings if strings else Settings.model_validate
    errors: list[ErrorDetails] = []
    try:
        validate(values)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    for wrong in errors:
        *tables, name = wrong["loc"]
        table = values
        for part in tables:
            table = table[str(part)]
        table.pop(str(name))
    return validate(values).model_dump(exclude_unset=True), errors


def _path_of(error: ErrorDetails) -> str:
    return ".".join(str(part) for part in error["loc"])


def _problem(error: ErrorDetails) -> str:
    path = _path_of(error)
    if error["type"] == "extra_forbidden":
        return f"{printable(path)}: unknown key; {toml.suggestion(path, SETTINGS)}"
    expected = SETTINGS.get(path) or str(Settings.model_fields[path].description)
    because = f" ({error['msg']})" if error["type"] == BECAUSE else ""
    return f"{path}: expected {expected}; found {toml.found(error['input'])}{because}"


def _unknown_variables(environ: Mapping[str, str], variables: Mapping[str, str]) -> Iterator[str]:
    known = (*variables.values(), *_OTHER_VARIABLES)
    for name in sorted(environ):
        if name.startswith(_PREFIX) and name not in known and not _SERVICE_VARIABLE.fullmatch(name):
            yield f"environment variable {printable(name)}: unknown variable; {toml.suggestion(name, known)}"
