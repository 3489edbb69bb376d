"""The node's own rules as they are in force, and how a change of their files takes effect while the daemon runs.

All rules are replaced together or not at all: the files are read and checked whole, apart from those in force, and then
exchanged in one step. What is wrong in one file keeps the last good rules of all, since a node with half of its rules
is one that nobody has described.

At start there are no last good rules, and hookshim does not start with bad ones: a container that starts without a hook
that its node's owner wants is silent, a daemon that names the file and the line is not.

A change counts once the files have been still for a moment, so that neither a file that is being written nor the first
of several that belong together is taken for the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from server.rules_files import Contents, Look, look, read
from shim.actions import Declared
from shim.errors import HookshimError
from shim.ports import Container
from shim.rules import Rule, RuleSet

log = structlog.get_logger(__name__)

#: Seconds between two looks at the files; a change takes effect after one to two of them.
INTERVAL: Final = 1.0


class RulesError(HookshimError):
    """The rules are refused. ``problems`` has a line for each thing that is wrong; the text has them all."""

    def __init__(self, problems: Sequence[str]) -> None:
        many = f"the node's rules have {len(problems)} problems:"
        super().__init__(problems[0] if len(problems) == 1 else "\n  ".join([many, *problems]))
        self.problems = tuple(problems)


class HooksDirectory:
    """The rules of one directory; the engine's ``shim.ports.Rules``.

    ``generation`` changes when the rules in force do. ``reloads`` counts how often files were taken over since the
    start, ``failures`` how often changed ones were refused; ``last_error`` is why the files as they are now are
    refused, empty if they are in force.
    """

    def __init__(self, path: Path, interval: float = INTERVAL) -> None:
        self.path = path
        self.generation = 0
        self.reloads = 0
        self.failures = 0
        self.last_error = ""
        self._interval = interval
        self._asked = asyncio.Event()
        self._set = RuleSet()
        self._read: Look | None = None
        self._seen: Look | None = None

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules in force, in their order."""
        return self._set.rules

    def matching(self, container: Container) -> Sequence[Declared]:
        """What the rules in force declare for this container, in their order."""
        return self._set.matching(container)

    def load(self) -> None:
        """Read the rules for the first time. Raises RulesError, and then nothing has changed."""
        contents = read(self.path)
        if contents is None:
            raise RulesError([f"{self.path}: the files change while they are read"])
        if contents.problems:
            raise RulesError(contents.problems)
        self._exchange(contents)

    def ask(self) -> None:
        """Have ``watch`` read the files at once, changed or not (SIGHUP)."""
        self._asked.set()

    async def watch(self) -> None:
        """Take changes over until cancelled. What is refused is logged once, with every problem."""
        log.info("watching the node's rules", directory=str(self.path), rules=self._names())
        while True:
            asked = await self._pause()
            await self.poll(asked=asked)

    async def poll(self, *, asked: bool = False) -> None:
        """Look once: read the files if they have changed and been still since the last look, or if ``asked`` to."""
        now = await asyncio.to_thread(look, self.path)
        still, self._seen = now == self._seen, now
        if asked or (still and now != self._read):
            contents = await asyncio.to_thread(read, self.path)
            if contents is not None:
                self._take(contents)

    async def _pause(self) -> bool:
        try:
            async with asyncio.timeout(self._interval):
                await self._asked.wait()
        except TimeoutError:
            return False
        self._asked.clear()
        return True

    def _take(self, contents: Contents) -> None:
        if contents.problems:
            self._read = contents.look
            self.failures += 1
            self.last_error = str(RulesError(contents.problems))
            log.error(
                "the node's rules have problems: those before stay in force",
                directory=str(self.path),
                problems=list(contents.problems),
                in_force=len(self.rules),
            )
            return
        self._exchange(contents)
        self.reloads += 1
        log.info("the node's rules are taken over", directory=str(self.path), rules=self._names())

    def _names(self) -> list[str]:
        return [rule.name for rule in self.rules]

    def _exchange(self, contents: Contents) -> None:
        self._read = self._seen = contents.look
        self.last_error = ""
        if contents.rules.rules != self.rules:
            self._set = contents.rules
            self.generation += 1
