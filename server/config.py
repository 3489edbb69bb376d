"""What a node's owner can set, and where each value came from.

A daemon that misreads its settings fails in the middle of somebody's stop, so everything is checked before anything is
done: every problem of every source at once, with the source, the setting, what was expected, and what was found.

A later source wins: the defaults here, the TOML file (``/etc/hookshim/config.toml`` if it exists, or the one that is
named), the environment (``HOOKSHIM_LOG_FORMAT`` sets ``log.format``), the command line (``--log-format``).
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from server.log import LogFormat, LogLevel, printable
from shim.errors import HookshimError

DEFAULT_FILE: Final = Path("/etc/hookshim/config.toml")
FILE_VARIABLE: Final = "HOOKSHIM_CONFIG"

#: What a kernel takes as a unix socket's path, without the byte that ends it (unix(7), sun_path).
SOCKET_PATH_BYTES: Final = 107

_PREFIX: Final = "HOOKSHIM_"

#: Read elsewhere: the file's name by the command line, the failpoints by ``shim.failpoints``.
_OTHER_VARIABLES: Final = (FILE_VARIABLE, "HOOKSHIM_FAILPOINTS")

#: What a kubelet sets in every pod of a namespace that has a Service called hookshim or hookshim-something
#: (kubernetes.io, "Accessing the Service").
_SERVICE_VARIABLE: Final = re.compile(
    r"HOOKSHIM_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)

#: Characters of a value that an error shows.
_SHOWN: Final = 100


class ConfigError(HookshimError):
    """The configuration is refused. ``problems`` has a line for each thing that is wrong; the text has them all."""

    def __init__(self, problems: list[str]) -> None:
        many = f"the configuration has {len(problems)} problems:"
        super().__init__(problems[0] if len(problems) == 1 else "\n  ".join([many, *problems]))
        self.problems = tuple(problems)


def _path(value: object) -> Path:
    text = str(value) if isinstance(value, Path) else value
    if not isinstance(text, str):
        raise PydanticCustomError("path", "it is not a string")
    if not text.startswith("/"):
        raise PydanticCustomError("path", "it does not begin with /")
    if not text.isprintable():
        raise PydanticCustomError("path", "it has a character that cannot be seen")
    return Path(text)


def _socket(value: object) -> Path:
    path = _path(value.removeprefix("unix://") if isinstance(value, str) else value)
    size = len(os.fsencode(path))
    if size > SOCKET_PATH_BYTES:
        raise PydanticCustomError("path", "it has {size} bytes", {"size": size})
    if str(value).endswith("/"):
        raise PydanticCustomError("path", "it names a directory")
    return path


SocketPath = Annotated[Path, PlainValidator(_socket)]
_SOCKET_TEXT = f"an absolute path of at most {SOCKET_PATH_BYTES} bytes, with or without unix:// before it"


def _one_of(literal: object) -> str:
    return "one of " + ", ".join(f'"{value}"' for value in get_args(literal))


ZeroTimeout = Literal["run", "skip"]
OnCorrupt = Literal["replace", "refuse"]


class LogConfig(BaseModel):
    """``[log]``: what is logged and how. ``auto`` is ``console`` on a terminal, else ``json``."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    level: LogLevel = Field(default="info", description=_one_of(LogLevel))
    format: LogFormat = Field(default="auto", description=_one_of(LogFormat))


class Settings(BaseModel):
    """The settings, each checked alone. A field's description is what an error says was expected.

    ``drain_seconds``: how long SIGTERM lets hooks and calls in flight go on. ``default_grace_seconds``: a hook's
    budget at a stop with timeout 0, if the pod has no termination grace annotation. ``zero_timeout``: what PreStop
    does at such a stop. ``on_corrupt``: a damaged journal is set aside and a new one begun, or the daemon does not
    start. ``retention_hours``: how long what has ended stays in the journal.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    state_dir: Annotated[Path, PlainValidator(_path)] = Field(
        default=Path("/var/lib/hookshim"), description="an absolute path"
    )
    listen: SocketPath = Field(default=Path("/run/hookshim/hookshim.sock"), description=_SOCKET_TEXT)
    containerd: SocketPath = Field(default=Path("/run/containerd/containerd.sock"), description=_SOCKET_TEXT)
    drain_seconds: float = Field(default=10.0, ge=0, allow_inf_nan=False, description="a number of seconds, 0 or more")
    default_grace_seconds: float = Field(
        default=30.0, gt=0, allow_inf_nan=False, description="a number of seconds, more than 0"
    )
    zero_timeout: ZeroTimeout = Field(default="run", description=_one_of(ZeroTimeout))
    on_corrupt: OnCorrupt = Field(default="replace", description=_one_of(OnCorrupt))
    retention_hours: float = Field(
        default=24.0, gt=0, allow_inf_nan=False, description="a number of hours, more than 0"
    )
    log: LogConfig = Field(default=LogConfig(), description="a table, [log]")


class Config(Settings):
    """The settings of a daemon, checked also against each other."""

    @model_validator(mode="after")
    def _two_sockets(self) -> Self:
        # Also by another name (/var/run): in front of itself hookshim would replace containerd's socket.
        if os.path.realpath(self.listen) == os.path.realpath(self.containerd):
            raise PydanticCustomError("one_socket", "listen and containerd are the same socket")
        return self


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and, for each setting's path (``log.format``), the source of its value."""

    config: Config
    sources: dict[str, str]

    def settings(self) -> Iterator[tuple[str, str | float, str]]:
        """Each setting's path, value (paths as text) and source, the top level first."""
        for path, source in self.sources.items():
            value: Any = self.config
            for name in path.split("."):
                value = getattr(value, name)
            yield path, value if isinstance(value, float) else str(value), source


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
        merged |= values | {"log": merged.get("log", {}) | values.get("log", {})}
        sources |= {path: names[path] for path in SETTINGS if _has(values, path)}
    try:
        config = Config.model_validate(merged)
    except ValidationError:
        # Every value was checked alone: what is left is the two sockets.
        which = ", ".join(f"{path} from {sources[path]}" for path in ("listen", "containerd"))
        found_text = _found(str(merged.get("listen", Config.model_fields["listen"].default)))
        problems.append(f"listen and containerd are the same socket, {found_text} ({which}); expected two")
    if problems:
        raise ConfigError(problems)
    return Loaded(config, sources)


def _read(file: Path, problems: list[str], *, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_bytes().decode())
    except FileNotFoundError:
        if required:
            problems.append(f"{file}: there is no such file")
    except OSError as error:
        problems.append(f"{file}: cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problems.append(f"{file}: line {line}: expected UTF-8; found byte 0x{error.object[error.start]:02x}")
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, and what a number or a nesting too large causes
        problems.append(f"{file}: {_toml_text(str(error), file)}")
    return {}


def _toml_text(error: str, file: Path) -> str:
    place = re.fullmatch(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", error)
    if place is None:
        return f"expected TOML: {printable(error)}"
    if place["line"] is None:
        last = len(file.read_text().splitlines())
        return f"line {last}, at the end of the file: expected TOML: {printable(place['what'])}"
    return f"line {place['line']}, column {place['column']}: expected TOML: {printable(place['what'])}"


def _nested(flat: Mapping[str, str]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *tables, name = path.split(".")
        table = nested
        for part in tables:
            table = table.setdefault(part, {})
        table[name] = value
    return nested


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
        return f"{printable(path)}: unknown key; {_suggestion(path, SETTINGS)}"
    expected = SETTINGS.get(path) or str(Settings.model_fields[path].description)
    because = f" ({error['msg']})" if error["type"] == "path" else ""
    return f"{path}: expected {expected}; found {_found(error['input'])}{because}"


def _found(value: object) -> str:
    text = printable(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _unknown_variables(environ: Mapping[str, str], variables: Mapping[str, str]) -> Iterator[str]:
    known = (*variables.values(), *_OTHER_VARIABLES)
    for name in sorted(environ):
        if name.startswith(_PREFIX) and name not in known and not _SERVICE_VARIABLE.fullmatch(name):
            yield f"environment variable {printable(name)}: unknown variable; {_suggestion(name, known)}"


def _suggestion(word: str, known: Iterable[str]) -> str:
    # Punctuation and case do not count.
    spellings = {re.sub(r"\W", "_", name).lower(): name for name in known}
    near = difflib.get_close_matches(re.sub(r"\W", "_", word).lower(), spellings, n=1)
    return f"did you mean {spellings[near[0]]}?" if near else "known are " + ", ".join(spellings.values())
