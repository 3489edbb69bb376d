"""The two files that an exec writes into, so that what it said outlives everybody who could have listened.

They are bounded while it runs. Where they cannot be made, or the disk is nearly full, there are none and the hook runs
without: an exec whose output cannot be written hangs as soon as its pipe is full.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from server.native.outcome import OUTPUT_LIMIT

log = structlog.get_logger(__name__)

#: Bytes that one file may have before it is emptied, and that the disk must have free for an exec to be given files.
FILE_LIMIT = 1 << 20
_ROOM = 8 * FILE_LIMIT

#: Seconds between two looks at their sizes.
_LOOK = 0.1

_SUFFIXES = (".out", ".err")


@dataclass(slots=True)
class _File:
    path: Path
    #: What was its end when it was emptied.
    kept: bytes = b""

    def bound(self) -> None:
        """Empty it if it is too long; its writer appends, and goes on at its new end."""
        with contextlib.suppress(OSError):
            if self.path.stat().st_size > FILE_LIMIT:
                self.kept = self._tail()
                os.truncate(self.path, 0)

    def tail(self) -> bytes:
        with contextlib.suppress(OSError):
            return (self.kept + self._tail())[-OUTPUT_LIMIT:]
        return self.kept

    def _tail(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - OUTPUT_LIMIT))
            return file.read(OUTPUT_LIMIT)


@dataclass(slots=True)
class Output:
    """The files of one exec. ``files`` is empty if its output is not kept."""

    files: list[_File] = field(default_factory=list)
    _looking: asyncio.Future[None] | None = field(default=None, init=False)

    @property
    def paths(self) -> list[str]:
        """Those of stdout and stderr, or none."""
        return [str(file.path) for file in self.files]

    @contextlib.asynccontextmanager
    async def bounded(self) -> AsyncIterator[None]:
        """Keep the files short for as long as this lasts."""
        watch = asyncio.create_task(self._watch(), name="bound an exec's output")
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.wait({watch})
            if self._looking:
                await asyncio.wait({self._looking})

    async def _watch(self) -> None:
        while self.files:
            await asyncio.sleep(_LOOK)
            # Not here: a disk that hangs would hold every call of the node.
            self._looking = asyncio.ensure_future(asyncio.to_thread(self._bound))
            await asyncio.wait({self._looking})

    def _bound(self) -> None:
        for file in self.files:
            file.bound()

    def tail(self) -> bytes:
        """The end of stdout followed by stderr, OUTPUT_LIMIT bytes at most."""
        return b"".join(file.tail() for file in self.files)[-OUTPUT_LIMIT:]

    def take(self) -> bytes:
        """``tail``, and remove the files."""
        said = self.tail()
        self.remove()
        return said

    def remove(self) -> None:
        """Remove the files; nothing if they are gone."""
        for file in self.files:
            with contextlib.suppress(OSError):
                file.path.unlink(missing_ok=True)


class Outputs:
    """The directory of these files, root's alone."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def create(self, name: str) -> Output:
        """New empty files. An Output without files if they cannot be had, which is logged.

        They are not synced: whatever loses what the kernel holds has ended the exec, too.
        """
        output = self.known(name)
        try:
            await asyncio.to_thread(self._create, output)
        except OSError as error:
            log.warning("the output of a hook is not kept", exec=name, error=str(error))
            output.remove()
            return Output()
        return output

    def known(self, name: str) -> Output:
        """The files of an exec that was made before."""
        return Output([_File(self._directory / f"{name}{suffix}") for suffix in _SUFFIXES])

    def clear(self, names: Collection[str]) -> None:
        """Remove what belongs to none of these attempts: nobody will ever read it."""
        with contextlib.suppress(OSError):
            for path in self._directory.iterdir():
                # An attempt that was made anew has a number of its own after a dot.
                if path.suffix in _SUFFIXES and path.name.partition(".")[0] not in names:
                    path.unlink(missing_ok=True)

    def _create(self, output: Output) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        room = os.statvfs(self._directory)
        if room.f_bavail * room.f_frsize < _ROOM:
            raise OSError(f"less than {_ROOM >> 20} MiB are free for it in {self._directory}")
        for path in output.paths:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
