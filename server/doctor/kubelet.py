"""The kubelet of this node, if one runs here: whether it calls hookshim, and waits as long as hooks take."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from server.config import Config
from server.doctor.finding import Finding, ok, problem, warning
from server.doctor.host import Host, Process
from server.reading import ask
from server.rules import HooksDirectory, RulesError
from shim import query
from shim.errors import DeclarationError, JournalError
from shim.lifecycle import describe, handler_from_json
from shim.records import Hook
from shim.store import FILE

#: Programs that are a kubelet, or have one inside.
_KUBELETS: Final = frozenset({"kubelet", "kubelite", "k3s"})

#: Seconds that a kubelet waits for an answer if nothing else is said (``runtimeRequestTimeout``).
_TIMEOUT: Final = 120.0

#: PostStart declarations of the journal that are looked at.
_LOOKED_AT: Final = 1000

_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"([0-9.]+)(ns|us|µs|ms|s|m|h)")


@dataclass(frozen=True, slots=True)
class Kubelet:
    """What one kubelet was told: ``endpoint`` empty if nothing, ``timeout`` in seconds, ``files`` that it has read."""

    pid: int
    endpoint: str
    timeout: float
    files: tuple[Path, ...]


def kubelet(config: Config, host: Host) -> Iterator[Finding]:
    """Whether each kubelet calls hookshim, and its patience."""
    name = "kubelet"
    found = [process for process in host.processes() if Path(process.argv[0]).name in _KUBELETS]
    if not found:
        yield ok(name, "none runs here")
    for process in found:
        try:
            told = read(process, host)
        except (OSError, ValueError, yaml.YAMLError) as error:
            text = f"the settings of pid {process.pid} cannot be read: {' '.join(str(error).split())}"
            yield warning(name, text, "see the file that its --config names; run hookshim doctor on the node itself")
            continue
        yield _endpoint(told, config)
        yield _timeout(told, config)


def read(process: Process, host: Host) -> Kubelet:
    """What a kubelet goes by: its flags, else the files of --config-dir, else --config. Raises OSError, ValueError."""
    settings: dict[str, Any] = {}
    files = []
    if file := _flag(process.argv, "config"):
        files.append(Path(file))
    if directory := _flag(process.argv, "config-dir"):
        files += host.files(Path(directory), ".conf")
    for path in files:
        loaded = yaml.safe_load(host.text(path))
        if not isinstance(loaded, dict):
            raise ValueError(f"{path} is no KubeletConfiguration")  # noqa: TRY004  # the file's content is the value
        settings |= loaded
    endpoint = _flag(process.argv, "container-runtime-endpoint") or settings.get("containerRuntimeEndpoint") or ""
    timeout = _flag(process.argv, "runtime-request-timeout") or settings.get("runtimeRequestTimeout") or ""
    return Kubelet(process.pid, str(endpoint), seconds(str(timeout)) or _TIMEOUT, tuple(files))


def seconds(text: str) -> float:
    """A Go duration (``2m0s``) in seconds; 0 if there is none. Raises ValueError."""
    parts = _DURATION.findall(text)
    if "".join(number + unit for number, unit in parts) != text.removeprefix("+"):
        if text == "0":
            return 0.0
        raise ValueError(f"{text!r} is no duration")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _flag(argv: Sequence[str], name: str) -> str:
    """The value of ``--NAME VALUE`` or ``--NAME=VALUE``; the last one wins, as in Go."""
    value = ""
    for index, word in enumerate(argv):
        flag, equals, given = word.partition("=")
        if flag in (f"--{name}", f"-{name}"):
            value = given if equals else next(iter(argv[index + 1 : index + 2]), "")
    return value


def _endpoint(told: Kubelet, config: Config) -> Finding:
    name = "kubelet"
    path = Path(told.endpoint.removeprefix("unix://") or "/")
    set_it = f"set containerRuntimeEndpoint: unix://{config.listen} (or its flag), and restart it: pods run on"
    with suppress(OSError):
        if path.resolve() == config.listen.resolve():
            return ok(name, f"pid {told.pid} calls hookshim at {config.listen}")
    if told.endpoint:
        return warning(name, f"pid {told.pid} calls {told.endpoint}: pods' hooks are not delivered here", set_it)
    text = f"pid {told.pid} names no container runtime endpoint, so it does not call hookshim"
    return warning(name, text, set_it)


def _timeout(told: Kubelet, config: Config) -> Finding:
    name = "kubelet timeouts"
    longer = [f"{what} ({timeout:g} s)" for what, timeout in _post_starts(config) if timeout >= told.timeout]
    text = f"pid {told.pid} waits {told.timeout:g} s for an answer (runtimeRequestTimeout)"
    if not longer:
        return ok(name, text)
    advice = "give these hooks a shorter timeoutSeconds, or the kubelet a longer runtimeRequestTimeout"
    return warning(name, f"{text}, and a PostStart may take longer: {', '.join(longer[:5])}", advice)


def _post_starts(config: Config) -> Iterator[tuple[str, float]]:
    """The PostStart hooks with a bound of their own: those of the rules, and those that the journal has seen."""
    rules = HooksDirectory(config.hooks_dir)
    with suppress(RulesError):
        rules.load()
    for rule in rules.rules:
        for one in rule.hooks:
            if one.hook is Hook.POST_START and one.handler.timeout is not None:
                yield f"rule {rule.name}", one.handler.timeout
    seen: list[str] = []
    with suppress(JournalError):
        seen = ask(config.state_dir / FILE, lambda store: query.start_handlers(store, _LOOKED_AT)) or []
    for text in seen:
        with suppress(DeclarationError):
            handler = handler_from_json(text)
            if handler.timeout is not None:
                yield describe(handler.action), handler.timeout


def rules(config: Config) -> Iterator[Finding]:
    """Whether the node's own rules can be taken over as they are."""
    name, directory = "rules", HooksDirectory(config.hooks_dir)
    try:
        directory.load()
    except RulesError as error:
        for text in error.problems:
            yield problem(name, text, "mend it: until then the rules before stay in force, and no restart succeeds")
        return
    count = len(directory.rules)
    names = ", ".join(rule.name for rule in directory.rules[:10])
    yield ok(name, f"{count} in {config.hooks_dir}" + (f": {names}" if count else ""))
