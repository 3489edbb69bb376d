"""Stopping things where a test wants them: hookshim at a failpoint, containerd inside a StartContainer."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from shim.failpoints import Failpoint
from tests.support.waiting import INTERVAL, until

#: A runc that waits before it starts a container, or afterwards, for as long as a file is there.
_RUNC = """\
#!/bin/sh
held() {{
    [ ! -e "{hold}" ] || : >"{hold}.seen"
    while [ -e "{hold}" ]; do sleep 0.02; done
}}
for word do
    [ "$word" = start ] || continue
    if [ -e "{hold}.after" ]; then
        "{runc}" "$@"
        status=$?
        held
        exit "$status"
    fi
    held
done
exec "{runc}" "$@"
"""


class Hold:
    """Holds a daemon at ``point``: start it with ``env``. A context manager, so that nothing stays held."""

    def __init__(self, point: Failpoint, directory: Path) -> None:
        self._file = directory / f"hold-{point}"
        self.env = {"HOOKSHIM_FAILPOINTS": f"{point}=hold({self._file})"}
        self._over = threading.Event()
        self._remover: threading.Thread | None = None

    def wait(self) -> None:
        """Wait until the daemon is there. Raises TimeoutError."""
        until(self._file.exists, f"hookshim comes to {self._file.name}")

    def release(self) -> None:
        """Let it go on, and through at every later pass."""
        if self._remover is None:
            self._remover = threading.Thread(target=self._remove, name=f"release {self._file.name}")
            self._remover.start()

    def _remove(self) -> None:
        while True:
            self._file.unlink(missing_ok=True)
            if self._over.wait(INTERVAL):
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Hold nothing any more."""
        self.release()
        self._over.set()
        if self._remover is not None:
            self._remover.join()


class SlowRunc:
    """A directory for ``PrivateContainerd(unpacked=…)``, whose runc can be held inside StartContainer."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._hold = directory / "hold"
        runc = shutil.which("runc", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        if runc is None:
            raise FileNotFoundError("runc is missing: hack/test installs it (Debian's runc)")
        programs = directory / "usr/bin"
        programs.mkdir(parents=True)
        script = programs / "runc"
        script.write_text(_RUNC.format(hold=self._hold, runc=runc))
        script.chmod(0o755)

    @contextmanager
    def held(self, *, after: bool = False) -> Iterator[None]:
        """Hold every start that begins inside, until ``release`` or the end; ``after``: when its process runs."""
        for left in (self._seen, self._after):
            left.unlink(missing_ok=True)
        if after:
            self._after.touch()
        self._hold.touch()
        try:
            yield
        finally:
            self.release()
            self._after.unlink(missing_ok=True)

    def wait(self) -> None:
        """Wait until a start is held. Raises TimeoutError."""
        until(self._seen.exists, "runc is asked to start a container")

    def release(self) -> None:
        """Let the starts go on."""
        self._hold.unlink(missing_ok=True)

    @property
    def _seen(self) -> Path:
        return self._hold.with_name("hold.seen")

    @property
    def _after(self) -> Path:
        return self._hold.with_name("hold.after")
