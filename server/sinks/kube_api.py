"""The two calls to the API server, and what its answers mean for an event: taken, not now, or never.

By the official client, which is synchronous: these methods block, for seconds, and belong into a thread. The kubeconfig
is read again and again, since what it holds or names (a service account's token) is changed under way.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import yaml
from kubernetes import client, config
from urllib3.exceptions import HTTPError

from server.sinks.courier import NotNowError, RefusedError

#: Seconds for a connection, and for the server's next byte.
_CONNECT, _ANSWER = 5.0, 10.0

#: Seconds after which the kubeconfig is read again, as client-go does with a token's file.
_FRESH: Final = 60.0

#: The longest Retry-After that is believed, in seconds.
_LONGEST: Final = 300.0

#: What is wrong with the event or with what may be done about it, and is so the next time.
_FINAL: Final = frozenset({400, 403, 404, 405, 413, 415, 422})

#: The client's own for what TLS refuses, and the server's.
_NO_TLS, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _CONFLICT = 0, 401, 403, 404, 409


class EventsApi:
    """Events of one cluster. Its methods raise NotNowError and RefusedError."""

    def __init__(self, kubeconfig: Path, scratch: Path) -> None:
        """``scratch``: a directory of its own for the credentials that the client wants in files."""
        self._kubeconfig = kubeconfig
        self._scratch = scratch
        self._api: client.CoreV1Api | None = None
        self._read_at = 0.0
        self._stale = False

    def create(self, namespace: str, event: dict[str, Any]) -> None:
        """POST an Event; one that is there already was posted by us (its name is the journal row's)."""
        try:
            self._call(lambda api: api.create_namespaced_event(namespace, event, _request_timeout=(_CONNECT, _ANSWER)))
        except client.ApiException as error:
            if error.status != _CONFLICT:
                raise self._meaning(error, namespace) from error

    def patch(self, namespace: str, name: str, change: dict[str, Any]) -> bool:
        """PATCH an Event by a strategic merge; False if it is gone, as Events go after an hour."""
        timeout = (_CONNECT, _ANSWER)
        try:
            self._call(lambda api: api.patch_namespaced_event(name, namespace, change, _request_timeout=timeout))
        except client.ApiException as error:
            if error.status == _NOT_FOUND:
                return False
            raise self._meaning(error, namespace) from error
        return True

    def _call(self, call: Callable[[client.CoreV1Api], object]) -> None:
        try:
            call(self._client())
        except HTTPError as error:
            self._stale = True
            raise NotNowError(f"{self._where()} does not answer: {error}") from error
        except client.ApiException as error:
            # Its address, its certificate or our credentials may have changed.
            self._stale = error.status in (_NO_TLS, _UNAUTHORIZED)
            raise
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            if isinstance(error.__context__, client.ApiException):
                # What TLS refuses has no body, and the client stumbles over that.
                self._stale = True
                raise error.__context__ from error
            raise NotNowError(f"the answer of {self._where()} is no Event: {error}") from error

    def _client(self) -> client.CoreV1Api:
        now = time.monotonic()
        if self._api is None or self._stale or now - self._read_at > _FRESH:
            if self._api is not None:
                self._api.api_client.close()
            self._api = None
            self._api, self._read_at, self._stale = self._read(), now, False
        return self._api

    def _read(self) -> client.CoreV1Api:
        configuration = client.Configuration()
        try:
            self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            config.load_kube_config(
                str(self._kubeconfig),
                client_configuration=configuration,
                persist_config=False,
                temp_file_path=str(self._scratch),
            )
            # One try is one try: waiting is the courier's.
            configuration.retries = False
            return client.CoreV1Api(client.ApiClient(configuration))
        except (config.ConfigException, OSError, yaml.YAMLError, HTTPError, ValueError, TypeError, KeyError) as error:
            raise NotNowError(
                f"the kubeconfig {self._kubeconfig} cannot be used: {error}; see [events] kubeconfig"
            ) from error

    def clear(self) -> None:
        """Remove the credentials that an earlier process has left in files."""
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _where(self) -> str:
        host = self._api.api_client.configuration.host if self._api else "the API server"
        return f"{host} (kubeconfig {self._kubeconfig})"

    def _meaning(self, error: client.ApiException, namespace: str) -> NotNowError | RefusedError:
        if error.status == _NO_TLS:
            why = " ".join(str(error.reason).split())
            return NotNowError(f"{self._where()} cannot be trusted: {why}; see certificate-authority in the kubeconfig")
        said = f"{self._where()} answers {error.status} {error.reason}: {_said(error)}"
        if error.status not in _FINAL:
            advice = "; are its credentials still good?" if error.status == _UNAUTHORIZED else ""
            return NotNowError(said + advice, _retry_after(error))
        if error.status == _FORBIDDEN:
            advice = f'; its user needs the verbs create and patch for events in namespace "{namespace}" (RBAC)'
        elif error.status == _NOT_FOUND:
            advice = f'; the namespace "{namespace}" is gone'
        else:
            advice = ""
        return RefusedError(f"{error.status} {error.reason}", said + advice)


def _said(error: client.ApiException) -> str:
    """The beginning of the answer's body, a Status as JSON."""
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body or "")
    return body[:500].strip()


def _retry_after(error: client.ApiException) -> float:
    """Seconds that the server asks for; 0 if it does not, or gives a date (the API server never does)."""
    with suppress(ValueError, TypeError):
        return min(_LONGEST, max(0.0, float((error.headers or {}).get("Retry-After") or 0)))
    return 0.0
