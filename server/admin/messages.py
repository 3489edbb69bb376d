"""The admin service's messages, made from records and read back into them: both ends of the socket use this."""

from __future__ import annotations

from pathlib import Path

from server.admin.answers import AppliedHook, ContainerHooks, Status
from server.wire.hookshim.admin.v1 import admin_pb2 as pb

#: The service's full name, in paths and in reflection.
SERVICE = "hookshim.admin.v1.Admin"


def from_status(status: Status) -> pb.StatusResponse:
    """The message for a status."""
    return pb.StatusResponse(
        version=status.version,
        pid=status.pid,
        started_at=status.started_at,
        serving=status.serving,
        reason=status.reason,
        listen=str(status.listen),
        containerd=str(status.containerd),
        state_dir=str(status.state_dir),
        containerd_reachable=status.containerd_reachable,
        containerd_since=status.containerd_since,
        containerd_reason=status.containerd_reason,
        journal_ok=status.journal_ok,
        journal_reason=status.journal_reason,
        journals_set_aside=status.journals_set_aside,
        open_operations=status.open_operations,
    )


def to_status(message: pb.StatusResponse) -> Status:
    """The status that a message says."""
    return Status(
        version=message.version,
        pid=message.pid,
        started_at=message.started_at,
        serving=message.serving,
        reason=message.reason,
        listen=Path(message.listen),
        containerd=Path(message.containerd),
        state_dir=Path(message.state_dir),
        containerd_reachable=message.containerd_reachable,
        containerd_since=message.containerd_since,
        containerd_reason=message.containerd_reason,
        journal_ok=message.journal_ok,
        journal_reason=message.journal_reason,
        journals_set_aside=message.journals_set_aside,
        open_operations=message.open_operations if message.HasField("open_operations") else None,
    )


def from_hooks(answer: ContainerHooks) -> pb.HooksResponse:
    """The message for a container's hooks."""
    container = pb.Container(
        id=answer.id,
        sandbox_id=answer.sandbox_id,
        name=answer.name,
        pod=answer.pod,
        namespace=answer.namespace,
        uid=answer.uid,
        state=answer.state,
    )
    hooks = [
        pb.Hook(
            hook=hook.hook,
            source=hook.source,
            handler=hook.handler,
            timeout_seconds=hook.timeout,
            attempts=hook.attempts,
            backoff_seconds=hook.backoff,
            max_backoff_seconds=hook.max_backoff,
            on_failure=hook.on_failure,
        )
        for hook in answer.hooks
    ]
    none_because, problem = answer.none_because, answer.problem
    return pb.HooksResponse(container=container, hooks=hooks, none_because=none_because, problem=problem)


def to_hooks(message: pb.HooksResponse) -> ContainerHooks:
    """A container's hooks, as a message says."""
    container = message.container
    hooks = tuple(
        AppliedHook(
            hook=hook.hook,
            source=hook.source,
            handler=hook.handler,
            timeout=hook.timeout_seconds if hook.HasField("timeout_seconds") else None,
            attempts=hook.attempts if hook.HasField("attempts") else None,
            backoff=hook.backoff_seconds,
            max_backoff=hook.max_backoff_seconds,
            on_failure=hook.on_failure,
        )
        for hook in message.hooks
    )
    return ContainerHooks(
        id=container.id,
        sandbox_id=container.sandbox_id,
        name=container.name,
        pod=container.pod,
        namespace=container.namespace,
        uid=container.uid,
        state=container.state,
        hooks=hooks,
        none_because=message.none_because,
        problem=message.problem,
    )
