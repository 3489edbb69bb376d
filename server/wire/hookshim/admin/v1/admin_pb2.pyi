from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("version", "pid", "started_at", "serving", "reason", "listen", "containerd", "state_dir", "containerd_reachable", "containerd_since", "containerd_reason", "journal_ok", "journal_reason", "journals_set_aside", "open_operations")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LISTEN_FIELD_NUMBER: _ClassVar[int]
    CONTAINERD_FIELD_NUMBER: _ClassVar[int]
    STATE_DIR_FIELD_NUMBER: _ClassVar[int]
    CONTAINERD_REACHABLE_FIELD_NUMBER: _ClassVar[int]
    CONTAINERD_SINCE_FIELD_NUMBER: _ClassVar[int]
    CONTAINERD_REASON_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_OK_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_REASON_FIELD_NUMBER: _ClassVar[int]
    JOURNALS_SET_ASIDE_FIELD_NUMBER: _ClassVar[int]
    OPEN_OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    version: str
    pid: int
    started_at: float
    serving: bool
    reason: str
    listen: str
    containerd: str
    state_dir: str
    containerd_reachable: bool
    containerd_since: float
    containerd_reason: str
    journal_ok: bool
    journal_reason: str
    journals_set_aside: int
    open_operations: int
    def __init__(self, version: _Optional[str] = ..., pid: _Optional[int] = ..., started_at: _Optional[float] = ..., serving: _Optional[bool] = ..., reason: _Optional[str] = ..., listen: _Optional[str] = ..., containerd: _Optional[str] = ..., state_dir: _Optional[str] = ..., containerd_reachable: _Optional[bool] = ..., containerd_since: _Optional[float] = ..., containerd_reason: _Optional[str] = ..., journal_ok: _Optional[bool] = ..., journal_reason: _Optional[str] = ..., journals_set_aside: _Optional[int] = ..., open_operations: _Optional[int] = ...) -> None: ...

class HooksRequest(_message.Message):
    __slots__ = ("container_id",)
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    container_id: str
    def __init__(self, container_id: _Optional[str] = ...) -> None: ...

class HooksResponse(_message.Message):
    __slots__ = ("container", "hooks", "none_because", "problem")
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    HOOKS_FIELD_NUMBER: _ClassVar[int]
    NONE_BECAUSE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    container: Container
    hooks: _containers.RepeatedCompositeFieldContainer[Hook]
    none_because: str
    problem: str
    def __init__(self, container: _Optional[_Union[Container, _Mapping]] = ..., hooks: _Optional[_Iterable[_Union[Hook, _Mapping]]] = ..., none_because: _Optional[str] = ..., problem: _Optional[str] = ...) -> None: ...

class Container(_message.Message):
    __slots__ = ("id", "sandbox_id", "name", "pod", "namespace", "uid", "state")
    ID_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    id: str
    sandbox_id: str
    name: str
    pod: str
    namespace: str
    uid: str
    state: str
    def __init__(self, id: _Optional[str] = ..., sandbox_id: _Optional[str] = ..., name: _Optional[str] = ..., pod: _Optional[str] = ..., namespace: _Optional[str] = ..., uid: _Optional[str] = ..., state: _Optional[str] = ...) -> None: ...

class Hook(_message.Message):
    __slots__ = ("hook", "source", "handler", "timeout_seconds", "attempts", "backoff_seconds", "max_backoff_seconds", "on_failure")
    HOOK_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    HANDLER_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_BACKOFF_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ON_FAILURE_FIELD_NUMBER: _ClassVar[int]
    hook: str
    source: str
    handler: str
    timeout_seconds: float
    attempts: int
    backoff_seconds: float
    max_backoff_seconds: float
    on_failure: str
    def __init__(self, hook: _Optional[str] = ..., source: _Optional[str] = ..., handler: _Optional[str] = ..., timeout_seconds: _Optional[float] = ..., attempts: _Optional[int] = ..., backoff_seconds: _Optional[float] = ..., max_backoff_seconds: _Optional[float] = ..., on_failure: _Optional[str] = ...) -> None: ...

class RetryDeliveryRequest(_message.Message):
    __slots__ = ("delivery_id",)
    DELIVERY_ID_FIELD_NUMBER: _ClassVar[int]
    delivery_id: str
    def __init__(self, delivery_id: _Optional[str] = ...) -> None: ...

class RetryDeliveryResponse(_message.Message):
    __slots__ = ("delivery_id", "message")
    DELIVERY_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    delivery_id: str
    message: str
    def __init__(self, delivery_id: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class SkipDeliveryRequest(_message.Message):
    __slots__ = ("delivery_id", "reason")
    DELIVERY_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    delivery_id: str
    reason: str
    def __init__(self, delivery_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class SkipDeliveryResponse(_message.Message):
    __slots__ = ("delivery_id", "message")
    DELIVERY_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    delivery_id: str
    message: str
    def __init__(self, delivery_id: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class MetricsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MetricsResponse(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...
