"""The state directory and the journal in it: whose they are, and whether they are sound."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar

from server.doctor.finding import Finding, ok, problem, warning
from server.doctor.host import Host
from server.reading import ask
from server.report import set_aside, utc
from shim import query
from shim.errors import JournalError
from shim.store import FILE, VERSION, Store

T = TypeVar("T")

#: Bytes of free space below which it is a warning, and a problem: a journal of a busy day, and of a busy hour.
_LITTLE: Final = 256 << 20
_TOO_LITTLE: Final = 32 << 20

#: Seconds after which a hook that is due and has no outcome is worth a look.
_LONG: Final = 3600.0

#: Seconds that a record may lie in the future before the clock is to blame.
_SLACK: Final = 60.0

#: The first second of 2024: no machine that runs this is earlier.
_EARLIEST: Final = 1_704_067_200.0


def directory(state_dir: Path) -> Iterator[Finding]:
    """The directory's owner, mode and file system."""
    name = "state directory"
    try:
        found = state_dir.stat()
    except FileNotFoundError:
        yield ok(name, f"{state_dir} is not there yet: hookshim makes it when it first starts")
        return
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        yield problem(name, f"{state_dir} is no directory", "move it away, or name another (--state-dir)")
    elif found.st_uid != os.geteuid():
        text = f"{state_dir} belongs to user {found.st_uid}, and this is user {os.geteuid()}"
        yield problem(name, text, f"chown root {state_dir}; its owner could change what the journal says")
    elif mode & 0o077:
        text = f"{state_dir} has mode {mode:04o}: others may read what hooks have said"
        yield problem(name, text, f"chmod 0700 {state_dir}")
    elif os.statvfs(state_dir).f_flag & os.ST_RDONLY:
        yield problem(name, f"{state_dir} is on a file system that is read-only", "see dmesg; mount it writable")
    else:
        yield ok(name, f"{state_dir}, mode {mode:04o}")


def space(state_dir: Path) -> Iterator[Finding]:
    """Room for the journal."""
    name = "disk space"
    place = next(path for path in (state_dir, *state_dir.parents) if path.exists())
    found = os.statvfs(place)
    free = found.f_bavail * found.f_frsize
    text = f"{free >> 20} MiB are free for {state_dir}"
    advice = "free some: with a full disk hooks at a stop run unrecorded, and no container with a PostStart is started"
    if found.f_files and not found.f_favail:
        yield problem(name, f"no inode is free for {state_dir}", advice)
    elif free < _TOO_LITTLE:
        yield problem(name, text, advice)
    elif free < _LITTLE:
        yield warning(name, text, advice)
    else:
        yield ok(name, text)


def journal(state_dir: Path) -> Iterator[Finding]:
    """Whether it can be read, and is whole."""
    name, path = "journal", state_dir / FILE
    advice = "see the disk; hookshim sets a damaged journal aside when it starts (on_corrupt), and begins a new one"
    try:
        found = ask(path, lambda store: (query.damage(store), query.file_of(store)))
    except JournalError as error:
        yield problem(name, str(error), advice)
        return
    if found is None:
        yield ok(name, f"{path} is not there yet: hookshim makes it when it first starts")
        return
    damage, file = found
    if damage:
        yield problem(name, f"{path} is damaged: {damage}", advice)
        return
    read = f"version {VERSION}"
    if os.path.realpath(file) != os.path.realpath(path):
        read = f"not of version {VERSION} yet, or without its -shm (read from a copy)"
    yield ok(name, f"{path} is whole, {read}, {path.stat().st_size >> 10} KiB")


def aside(state_dir: Path) -> Iterator[Finding]:
    """Journals that were found damaged and renamed."""
    name = "set-aside journals"
    found = set_aside(state_dir)
    if not found:
        yield ok(name, "none")
        return
    text = f"{len(found)}, the newest is {found[-1]}: what they held was not delivered from there any more"
    yield warning(name, text, "see what went wrong with the disk; then delete them, with their -wal and -shm")


def oldest(state_dir: Path, host: Host) -> Iterator[Finding]:
    """What waits for longest."""
    name = "deliveries"
    found = _ask(state_dir, query.oldest_open)
    if found is None:
        yield ok(name, "none is open")
        return
    key, state, since, again = found
    waits = max(0.0, host.now() - since)
    text = f"the oldest open one is {key}, {state}, for {timedelta(seconds=round(waits))}"
    if again is not None:
        text += f", tried again at {utc(again)}"
    if waits > _LONG:
        advice = f"see hookshim deliveries show {key}; hookshim deliveries skip {key} --reason TEXT ends it"
        yield warning(name, text, advice)
    else:
        yield ok(name, text)


def clock(state_dir: Path, host: Host) -> Iterator[Finding]:
    """Whether the wall clock is one to go by: records carry its times, and retention and postStop follow it."""
    name, now = "clock", host.now()
    ahead = (_ask(state_dir, query.newest_time) or 0.0) - now
    advice = "set the clock, and keep it in step (timedatectl set-ntp true, or chrony)"
    bad = False
    if now < _EARLIEST:
        bad = True
        yield problem(name, f"it says {utc(now)}", advice)
    elif ahead > _SLACK:
        bad = True
        text = f"it says {utc(now)}, and the journal's newest record is {timedelta(seconds=round(ahead))} later"
        yield problem(name, text, advice)
    if host.synchronised() is False:
        yield warning(name, f"it says {utc(now)}, and nothing keeps it in step", advice)
    elif not bad:
        yield ok(name, f"it says {utc(now)}")


def _ask(state_dir: Path, question: Callable[[Store], T]) -> T | None:
    # What is wrong with the journal is said once, by its own check.
    with suppress(JournalError):
        return ask(state_dir / FILE, question)
    return None
