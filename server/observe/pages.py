"""The pages as HTML, made here whole: scripts only ask for them again.

Every text goes through ``_shown`` on its way into a page, besides Jinja's escaping: what pods and handlers say can then
neither be markup nor reorder, hide or forge what stands beside it.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from server import VERSION
from server.admin.answers import Status
from server.admin.client import AdminError
from server.clock import SystemClock
from server.config import Config
from server.log import printable
from server.observe import figure, words
from server.observe.core import Core
from server.observe.feed import Feed
from server.observe.reader import Reader
from server.observe.shared import Shared
from shim.records import Hook
from shim.timeline import MOST, Detail, Track, Wanted

#: Containers on a page.
PAGE: Final = 20

#: The most pages that can be turned to, and characters of a search.
_PAGES, _SEARCH = 10_000, 200

#: Seconds that a page is the same while nothing changes: bars of what runs grow.
_FRESH: Final = 1.0

#: The most lines of what a handler said that are shown.
_LINES: Final = 400


@dataclass(frozen=True, slots=True)
class Asked:
    """What a page's address asks for; what is no filter is any."""

    text: str = ""
    state: str = ""
    hook: str = ""
    page: int = 1

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Self:
        """From the parameters ``q``, ``state``, ``hook`` and ``page``."""
        state, hook, page = query.get("state", ""), query.get("hook", ""), query.get("page", "")
        return cls(
            text=query.get("q", "").strip()[:_SEARCH],
            state=state if state in words.FILTERS else "",
            hook=hook if hook in set(Hook) else "",
            page=min(_PAGES, max(1, int(page)))
            if page.isascii() and page.isdigit() and len(page) < len("100000")
            else 1,
        )

    @property
    def wanted(self) -> Wanted:
        """The question to the journal."""
        states = words.FILTERS.get(self.state, ())
        return Wanted(self.text, states, self.hook, PAGE, (self.page - 1) * PAGE)

    def link(self, **changed: str | int) -> str:
        """The address of the same page with other parameters."""
        other = replace(self, **changed)  # type: ignore[arg-type]  # each is given in its own type
        values = {"q": other.text, "state": other.state, "hook": other.hook, "page": other.page}
        given = {name: value for name, value in values.items() if value and (name, value) != ("page", 1)}
        return f"/?{urlencode(given)}" if given else "/"


@dataclass(frozen=True, slots=True)
class _Pod:
    """The containers of one pod that a page shows."""

    namespace: str
    name: str
    tracks: tuple[Track, ...]


class Pages:
    """Renders pages; ``None`` where there is no such thing."""

    def __init__(self, config: Config, reader: Reader, core: Core, feed: Feed) -> None:
        self._reader = reader
        self._core = core
        self._feed = feed
        self._clock = SystemClock()
        self._shared: Shared[str | None] = Shared(_FRESH)
        self._templates = Environment(
            loader=PackageLoader("server.observe"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_shown,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals |= {
            "words": words,
            "figure": figure,
            "hooks": list(Hook),
            "most": MOST,
            "node": config.events.node_name or platform.node(),
            "hookshim": VERSION,
            "output_shown": reader.output,
            "now": self._now,
            "lines": _lines,
        }

    async def index(self, asked: Asked) -> str | None:
        """The page of all pods."""

        async def make(version: str) -> str:
            found = await self._reader.overview(asked.wanted)
            pods = _by_pod(found.tracks if found else ())
            return await self._render("index.html", version, asked=asked, found=found, pods=pods, page_size=PAGE)

        return await self._page(asked, make)

    async def container(self, container_id: str) -> str | None:
        """The page of one container."""

        async def make(version: str) -> str | None:
            found = await self._reader.container(container_id)
            return await self._render("container.html", version, found=found) if found else None

        return await self._page(("container", container_id), make)

    async def delivery(self, delivery_id: str) -> str | None:
        """The page of one delivery."""

        async def make(version: str) -> str | None:
            found = await self._reader.delivery(delivery_id)
            values = _about(found, delivery_id) if found else {}
            return await self._render("delivery.html", version, found=found, **values) if values else None

        return await self._page(("delivery", delivery_id), make)

    async def problem(self, title: str, text: str) -> str:
        """A page that says why there is none."""
        return await self._render("problem.html", "", title=title, text=text)

    async def _page(self, key: Hashable, make: Callable[[str], Awaitable[str | None]]) -> str | None:
        version = await self._feed.version()
        return await self._shared.get((version, key), lambda: make(version))

    async def _render(self, template: str, version: str, **values: object) -> str:
        status = await self._core.status()
        known = status if isinstance(status, Status) else None
        why = str(status) if isinstance(status, AdminError) else ""
        made = self._templates.get_template(template)
        return made.render(version=version, status=known, unanswered=why, **values)

    def _now(self) -> figure.Now:
        return figure.Now(time.time(), self._clock.boottime(), self._clock.boot_id)


def _shown(value: object) -> object:
    """What a template writes: markup that it has made itself as it is, every other text in visible characters."""
    if value is None:
        return ""
    return value if hasattr(value, "__html__") else printable(str(value))


def _lines(output: bytes) -> list[str]:
    return output.decode(errors="replace").splitlines()[-_LINES:]


def _by_pod(tracks: Sequence[Track]) -> list[_Pod]:
    pods: dict[str, list[Track]] = {}
    for track in tracks:
        pods.setdefault(track.container.sandbox_id, []).append(track)
    return [_Pod(of[0].container.namespace, of[0].container.pod, tuple(of)) for of in pods.values()]


def _about(found: Detail, delivery_id: str) -> dict[str, object]:
    """The delivery itself, its operation if it is shown, and its events; nothing if it is not among what is shown."""
    track = found.track
    delivery = next((one for one in track.deliveries if one.id == delivery_id), None)
    if delivery is None:
        return {}
    return {
        "delivery": delivery,
        "operation": next((one for one in track.operations if one.id == delivery.operation_id), None),
        "attempts": track.attempts[delivery_id],
        "events": [event for event in found.events if event.delivery_id == delivery_id],
    }
