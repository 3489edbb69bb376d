"""The files of the node's rules: which count, who may have written them, and whether they are still what was read.

A rule runs as root, so whoever can change one is root: the file, the directory, where a link leads, and every
directory above have to be root's. (If hookshim runs as somebody else, that user's are as good: they rule it anyway.)

Links are followed, since Kubernetes mounts a ConfigMap as links; what they lead to is held to the same rule.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from server import rules_schema
from server.log import printable
from shim.rules import Rule, RuleSet

#: The most files of a directory that are rules.
MAX_FILES: Final = 1000
#: How often files that change while they are read are read anew at once.
_TRIES: Final = 5

#: How much of a mark is without size and times.
_UNTIMED: Final = 4
_SUFFIX: Final = ".toml"
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_KINDS: Final = {stat.S_IFDIR: "a directory", stat.S_IFREG: "a file", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


@dataclass(frozen=True, slots=True)
class Look:
    """What the rules' files are now, without what they say: the same again if none has changed between two looks.

    ``names`` are those of the files that count, in order; ``marks`` tell one state of them from another.
    """

    names: tuple[str, ...] = ()
    marks: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Contents:
    """All rules of a directory as they were at the time of ``look``, or the problems: one of the two is empty."""

    look: Look
    rules: RuleSet = field(default_factory=RuleSet)
    problems: tuple[str, ...] = ()


def look(directory: Path) -> Look:
    """Look at the directory. Never raises OSError."""
    try:
        names = _names(directory)
    except FileNotFoundError:
        return Look()
    except OSError as error:
        return Look(marks=(error.errno,))
    seen: dict[Path, str] = {}
    # Not the directory's times: an editor's hidden file beside the rules is no change of them.
    marks = [(_mark(directory)[:_UNTIMED], _above(directory, seen))]
    for name in names:
        path = directory / name
        # Only a link leads elsewhere.
        marks.append((_mark(path), _above(path, seen) if path.is_symlink() else ""))
    return Look(tuple(names), tuple(marks))


def read(directory: Path) -> Contents | None:
    """Read all rules; None: the files keep changing. A directory that is not there has none. Never raises OSError."""
    for _ in range(_TRIES):
        before = look(directory)
        contents = _read(directory, before)
        if look(directory) == before:
            return contents
    return None


def _read(directory: Path, seen: Look) -> Contents:
    if not seen.marks:
        return Contents(seen)
    rules: list[Rule] = []
    problems = _distrust_directory(directory)
    if len(seen.names) > MAX_FILES:
        problems.append(f"{_shown(directory)}: expected at most {MAX_FILES} rules, found {len(seen.names)}")
    # What is above the directory has been told once.
    told = dict.fromkeys((directory, *directory.parents, _real(directory), *_real(directory).parents), "")
    for name in seen.names[:MAX_FILES]:
        rule, wrong = _rule(directory / name, told)
        problems += wrong
        if rule is not None:
            rules.append(rule)
    return Contents(seen, problems=tuple(problems)) if problems else Contents(seen, RuleSet(rules))


def _names(directory: Path) -> list[str]:
    # What an editor or a package manager leaves behind is hidden, or ends in something else (.dpkg-new, ~).
    names = (path.name for path in directory.iterdir())
    return sorted(name for name in names if name.endswith(_SUFFIX) and not name.startswith("."))


def _mark(path: Path) -> tuple[int | None, ...]:
    try:
        now = path.stat()
    except OSError as error:
        return (error.errno,)
    return now.st_dev, now.st_ino, now.st_mode, now.st_uid, now.st_size, now.st_mtime_ns, now.st_ctime_ns


def _rule(path: Path, told: dict[Path, str]) -> tuple[Rule | None, list[str]]:
    where = _shown(path)
    try:
        # Not waiting: a pipe would have a daemon's start wait for its writer.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        return None, [f"{where}: expected a file, found a link to nothing"]
    except OSError as error:
        return None, [f"{where}: cannot be read: {error.strerror}"]
    try:
        now = os.fstat(fd)
        if not stat.S_ISREG(now.st_mode):
            return None, [f"{where}: expected a file, found {_KINDS.get(stat.S_IFMT(now.st_mode), 'a device')}"]
        with os.fdopen(fd, "rb", closefd=False) as file:
            data = file.read(rules_schema.MAX_BYTES + 1)
    except OSError as error:
        return None, [f"{where}: cannot be read: {error.strerror}"]
    finally:
        os.close(fd)
    problems = [f"{where}: {text}" for text in _distrust(now, "a file")]
    if above := _above(path, told):
        problems.append(f"{where}: {above}")
    rule, wrong = rules_schema.read(where, path.name.removesuffix(_SUFFIX), data)
    return rule, [*problems, *wrong]


def _distrust_directory(directory: Path) -> list[str]:
    where = _shown(directory)
    try:
        now = directory.stat()
        _names(directory)
    except OSError as error:
        return [f"{where}: cannot be read: {error.strerror}"]
    problems = [f"{where}: {text}" for text in _distrust(now, "a directory")]
    if above := _above(directory, {}):
        problems.append(f"{where}: {above}")
    return problems


def _distrust(now: os.stat_result, what: str, *, sticky: bool = False) -> list[str]:
    """What is wrong with an owner and a mode; ``sticky``: nobody may move what is another's there (/tmp)."""
    problems = []
    if now.st_uid not in {0, os.geteuid()}:
        problems.append(f"expected {what} that is root's, found one of uid {now.st_uid}")
    if now.st_mode & _OTHERS_WRITE and not (sticky and now.st_mode & stat.S_ISVTX):
        mode = stat.S_IMODE(now.st_mode)
        problems.append(f"expected {what} that only its owner may write, found mode {mode:04o}")
    return problems


def _above(path: Path, seen: dict[Path, str]) -> str:
    """What lets somebody else exchange the path, or what it leads to, in a directory above; empty if nothing does."""
    for parent in (*path.parents, *_real(path).parents):
        if parent not in seen:
            seen[parent] = _loose(parent)
        if seen[parent]:
            return seen[parent]
    return ""


def _real(path: Path) -> Path:
    # Not Path.resolve, which raises for a link to itself.
    return Path(os.path.realpath(path))


def _loose(directory: Path) -> str:
    try:
        now = directory.stat()
    except OSError:
        # The path leads nowhere, which is told of the file.
        return ""
    wrong = _distrust(now, "a directory", sticky=True)
    return f"it is in {_shown(directory)}: {wrong[0]}" if wrong else ""


def _shown(path: Path) -> str:
    return printable(str(path))
