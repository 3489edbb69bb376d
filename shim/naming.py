"""Whom a log line is about: bound where work on a container or an attempt begins, and so on all that comes of it.

Tasks take over what is bound where they are made; a line that names a container itself has the same key, ``container``,
with the whole id.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from inspect import iscoroutinefunction
from typing import Concatenate, ParamSpec, TypeVar, cast

from structlog.contextvars import bind_contextvars, reset_contextvars

from shim.ports import Attempt, Container
from shim.records import ContainerRef

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


def about(method: Callable[Concatenate[S, Container, P], T]) -> Callable[Concatenate[S, Container, P], T]:
    """Bind the container that a method is given, plain or async, while it runs and in the tasks that it makes."""
    if iscoroutinefunction(method):

        @wraps(method)
        async def run(self: S, container: Container, /, *args: P.args, **kwargs: P.kwargs) -> object:
            with of(container.ref):
                return await cast("Awaitable[object]", method(self, container, *args, **kwargs))

        return cast("Callable[Concatenate[S, Container, P], T]", run)

    @wraps(method)
    def call(self: S, container: Container, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with of(container.ref):
            return method(self, container, *args, **kwargs)

    return call


def of(ref: ContainerRef) -> AbstractContextManager[None]:
    """Bind a container in a block."""
    return _bound(_names(ref))


def attempting(attempt: Attempt) -> AbstractContextManager[None]:
    """Bind an attempt, with its container, in a block."""
    return _bound(_names_of_attempt(attempt))


def bind_attempt(attempt: Attempt) -> None:
    """Bind an attempt, with its container, to the end of a context that is made for it."""
    bind_contextvars(**_names_of_attempt(attempt))


@contextmanager
def _bound(names: dict[str, str | int]) -> Iterator[None]:
    # structlog's own bound_contextvars looks through all that is bound, several times for each container.
    tokens = bind_contextvars(**names)
    try:
        yield
    finally:
        reset_contextvars(**tokens)


def _names_of_attempt(attempt: Attempt) -> dict[str, str | int]:
    names = _names(attempt.container.ref)
    return {**names, "hook": attempt.hook, "delivery": attempt.delivery_id, "attempt": attempt.number}


def _names(ref: ContainerRef) -> dict[str, str | int]:
    return {"container": ref.id, "container_name": ref.name, "pod": ref.pod, "namespace": ref.namespace}
