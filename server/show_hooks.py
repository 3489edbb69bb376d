"""The hooks of one container as people read them: a line for each, in the order in which those of one moment run."""

from __future__ import annotations

from server.admin.answers import AppliedHook, ContainerHooks
from server.log import printable

_SOURCES = {
    "container": "the container's annotation",
    "pod": "its pod's annotation",
    "kubelet": "the kubelet's lifecycle.preStop",
}


def text(found: ContainerHooks) -> str:
    """As lines to read, all of them printable."""
    lines = [
        ("container", f"{found.name} ({found.id})"),
        ("pod", f"{found.namespace}/{found.pod} (uid {found.uid})"),
        ("state", found.state.removeprefix("CONTAINER_").lower()),
        *([("problem", found.problem)] if found.problem else []),
        *([("no hooks", found.none_because)] if found.none_because else []),
    ]
    shown = [f"{name:<10} {printable(value)}" for name, value in lines]
    for hook in found.hooks:
        shown.append(printable(f"{hook.hook:<10} {hook.handler}"))
        shown.append(printable(f"{'':<12}{', '.join([f'from: {_source(hook.source)}', *_policy(hook)])}"))
    return "\n".join(shown)


def _source(source: str) -> str:
    return _SOURCES.get(source, source)


def _policy(hook: AppliedHook) -> list[str]:
    parts = []
    if hook.timeout is not None:
        parts.append(f"at most {hook.timeout:g} s")
    if hook.attempts is None:
        parts.append(f"tried until its time is over, every {hook.backoff:g} to {hook.max_backoff:g} s")
    elif hook.attempts > 1:
        parts.append(f"tried {hook.attempts} times, {hook.backoff:g} to {hook.max_backoff:g} s apart")
    if hook.on_failure == "ignore":
        parts.append("a failure is ignored")
    return parts
