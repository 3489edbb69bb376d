"""What containerd's goroutines wait for: at SIGUSR1 it writes their stacks to a file, and which one to its log."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from pathlib import Path

from tests.support.waiting import until

#: Seconds within which containerd writes them, or is held up itself.
_WITHIN = 3.0

#: What it says when they are written (its ``cmd/containerd/command/main.go``).
_WRITTEN = re.compile(rb"goroutine stack dump written to (/[^\s\"\\]+)")

#: The functions that say what a goroutine is about: CRI's own, and the tasks' behind it.
_TELLING = re.compile(
    r"^[\w./-]*(?:/cri/|/services/tasks|/runtime/v2|/runtime/task)[\w./-]*\.([\w().*]+)\(", re.MULTILINE
)

#: What a goroutine begins with: its number, its state, and how many minutes it has been in it.
_HEAD = re.compile(r"^goroutine \d+ \[(.+?)\]:", re.MULTILINE)


def dumped(pid: int, log: Path) -> str:
    """All stacks of the containerd of that pid. Raises TimeoutError if it does not write them, and OSError."""
    seen = log.stat().st_size

    def written() -> Path | None:
        found = _WRITTEN.search(log.read_bytes()[seen:])
        return Path(os.fsdecode(found[1])) if found else None

    os.kill(pid, signal.SIGUSR1)
    file = until(written, f"containerd (pid {pid}) has written its goroutines' stacks", _WITHIN)
    return file.read_text(errors="replace")


def clear(log: Path) -> None:
    """Remove all files that this containerd has written them to, also those that came late."""
    for found in _WRITTEN.finditer(log.read_bytes()):
        Path(os.fsdecode(found[1])).unlink(missing_ok=True)


def telling(stacks: str) -> list[str]:
    """The goroutines that are about containers, those that are alike in one line, innermost function first."""
    heads = list(_HEAD.finditer(stacks))
    ends = [head.start() for head in heads[1:]] + [len(stacks)]
    alike = Counter[str]()
    for head, end in zip(heads, ends, strict=False):
        if functions := [found[1] for found in _TELLING.finditer(stacks, head.end(), end)]:
            alike[f"[{head[1]}] {' < '.join(functions)}"] += 1
    return [f"{count} x {text}" for text, count in sorted(alike.items())]
