"""What one check has found, and how checks are run: all at once, with a deadline, none able to end another.

A node that is ill answers slowly or never (a full disk, a hanging mount, a containerd that is stopped), which is when
a doctor is called: so a check that does not come back is a finding like any other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shim.errors import HookshimError

#: Seconds that the checks may take.
DEADLINE: Final = 8.0


class Verdict(StrEnum):
    """How bad it is: a PROBLEM is one that hooks or containers suffer from, or soon will."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: ``check`` names what was looked at, ``text`` what it is like, ``advice`` what to do (if anything)."""

    check: str
    verdict: Verdict
    text: str
    advice: str = ""


Check = Callable[[], Iterable[Finding]]


def ok(check: str, text: str) -> Finding:
    """It is as it should be."""
    return Finding(check, Verdict.OK, text)


def warning(check: str, text: str, advice: str) -> Finding:
    """It works, and may not for long, or not as one would think."""
    return Finding(check, Verdict.WARNING, text, advice)


def problem(check: str, text: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(check, Verdict.PROBLEM, text, advice)


def run(checks: Sequence[tuple[str, Check]], deadline: float = DEADLINE) -> list[Finding]:
    """The findings of all checks, in their order, after ``deadline`` seconds at most. Raises nothing."""
    over = time.monotonic() + deadline
    running = [_Running(name, check) for name, check in checks]
    return [finding for one in running for finding in one.result(over, deadline)]


class _Running:
    """One check on a thread of its own, which a check that hangs keeps until the process ends."""

    def __init__(self, name: str, check: Check) -> None:
        self._name = name
        self._check = check
        self._findings: list[Finding] = []
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def result(self, over: float, deadline: float) -> list[Finding]:
        self._thread.join(max(0.0, over - time.monotonic()))
        if self._thread.is_alive():
            text = f"no answer within {deadline:g} s"
            return [problem(self._name, text, "a disk, a mount or a process may hang: see dmesg, ps and mount")]
        return self._findings

    def _run(self) -> None:
        try:
            self._findings = list(self._check())
        except PermissionError as error:
            text = f"{error.filename or self._name}: permission denied"
            self._findings = [problem(self._name, text, "run hookshim doctor as root")]
        except (HookshimError, OSError) as error:
            self._findings = [problem(self._name, str(error), "see what it says")]
        except Exception as error:  # noqa: BLE001  # whatever it is, the other checks are to be heard
            text = f"cannot be looked at: {type(error).__name__}: {error}"
            self._findings = [problem(self._name, text, "this is a bug in hookshim: please report it")]
