"""The status page in Chromium, as people use it: live, by keyboard, on a phone, with a screen reader, under attack."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from shim.records import DeliveryState, Outcome
from shim.store import FILE
from tests.observe import journals
from tests.observe.bed import Observer, observer
from tests.observe.browser import Browser, browser
from tests.observe.conftest import Node
from tests.observe.forward import forwarded
from tests.support.waiting import until

FOCUS = "const e = document.activeElement; return e.getAttribute('href') ?? e.id ?? e.tagName"


@pytest.fixture(scope="module")
def window(short: Path) -> Iterator[Browser]:
    """One window for all."""
    with browser(short) as made:
        yield made


@pytest.fixture(autouse=True)
def _clean(window: Browser) -> Iterator[None]:
    """Whatever a test does, a page logs no error and asks nobody but its own server."""
    window.size(1000, 900)
    window.complaints()
    window.requested()
    yield
    assert window.complaints() == []
    window.driver.get("about:blank")


def open_page(window: Browser, one: Observer, path: str = "/") -> None:
    """Load it, and wait until it is live."""
    window.driver.get(one.url + path)
    until(lambda: window.text("#connection") == "live", "the page is live")


@contextmanager
def visited(window: Browser, directory: Path, listen: str = "127.0.0.1:0") -> Iterator[Observer]:
    """An observer whose pages are left before it ends."""
    with observer(directory, listen) as one:
        yield one
        window.driver.get("about:blank")


def press(window: Browser, *keys: str) -> None:
    """Keys as they are typed, wherever the focus is."""
    ActionChains(window.driver).send_keys(*keys).perform()


def test_what_happens_is_seen_without_a_reload(window: Browser, short: Path) -> None:
    """The focus and the place on the page stay what they were, and a screen reader is told politely."""
    with closing(journals.Writer(short / "seen")) as writer, visited(window, short / "seen") as one:
        found = journals.morning(writer, time.time())
        open_page(window, one)
        running = f"a[href='/deliveries/{found['running'].id}']"
        window.look(f'window.same = true; document.querySelector("{running}").focus(); scrollTo(0, 300)')
        assert window.text(f"tr:has({running}) .state") == "▶ delivering"
        writer.settle(found["running"], DeliveryState.DELIVERED, time.time(), Outcome(exit_status=0))
        until(lambda: window.text(f"tr:has({running}) .state") == "✓ delivered", "the outcome is shown")
        assert window.look("return window.same") is True
        assert window.look(FOCUS) == f"/deliveries/{found['running'].id}"
        assert window.look("return scrollY") == 300
        assert window.text("#announcer") == "1 pending, 1 failed, 1 missed"
        assert window.look("return document.getElementById('announcer').ariaLive") == "polite"


def test_what_is_typed_is_left_alone_by_updates(window: Browser, short: Path) -> None:
    """A search that is being typed survives what happens meanwhile."""
    with closing(journals.Writer(short / "typed")) as writer, visited(window, short / "typed") as one:
        journals.morning(writer, time.time())
        open_page(window, one)
        window.look("document.getElementById('q').focus()")
        press(window, "queue")
        journals.started(writer, journals.ref("new", "newcomer"), time.time(), journals.exec_("x"))
        until(lambda: "newcomer" in window.text("#results"), "the newcomer is shown")
        assert window.look("return [document.activeElement.id, document.activeElement.value]") == ["q", "queue"]
        press(window, Keys.ENTER)
        until(lambda: window.text("#found").startswith("1 container that match"), "the search is answered")
        assert "queue-0" in window.text("#results")


def test_a_page_that_lost_its_server_says_so_and_comes_back(window: Browser, short: Path) -> None:
    """The daemon and its observer are restarted: the page says that it is not live, and then that it is."""
    with closing(journals.Writer(short / "lost")) as writer:
        journals.morning(writer, time.time())
        with observer(short / "lost") as one:
            open_page(window, one)
            listen = one.url.removeprefix("http://")
        until(lambda: window.text("#connection").startswith("not live"), "it is told")
        journals.started(writer, journals.ref("new", "newcomer"), time.time(), journals.exec_("x"))
        with visited(window, short / "lost", listen):
            until(lambda: window.text("#connection") == "live", "it is live again")
            until(lambda: "newcomer" in window.text("#results"), "what it has missed is shown")
    told = {line.partition(" - ")[0] for line in window.complaints()}
    # The browser asks for the page's icon whenever it likes.
    assert told - {f"http://{listen}/static/icon.svg"} == {f"http://{listen}/events"}


def test_a_page_that_cannot_be_had_comes_when_it_can(window: Browser, short: Path) -> None:
    """A damaged journal is set aside and a new one begun: the page that told of it shows the new one by itself."""
    directory = short / "damaged"
    directory.mkdir()
    (directory / FILE).write_bytes(b"no journal" * 1000)
    with visited(window, directory) as one:
        open_page(window, one)
        assert window.text("h1") == "The journal cannot be read"
        (directory / FILE).unlink()
        journals.write(directory)
        until(lambda: "queue-0" in window.text("#results"), "the page is there")
        assert window.text("h1") == "Hooks of this node"
    assert {"503" in line for line in window.complaints()} == {True}


def test_everything_is_reached_by_keyboard(window: Browser, node: Node, on_port: Observer) -> None:
    """The first key leads past the header; each stop can be seen; links lead where they say, and the form is sent."""
    open_page(window, on_port)
    press(window, Keys.TAB)
    assert window.look(FOCUS) == "#main"
    assert window.look("return document.activeElement.getBoundingClientRect().top >= 0")
    press(window, Keys.ENTER, Keys.TAB)
    assert window.look(FOCUS) == "/?state=open"
    assert window.look("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    stops = []
    for _ in range(14):
        press(window, Keys.TAB)
        stops.append(window.look(FOCUS))
    one = node.found["retrying"].container.id
    assert stops[:9] == [
        *(f"/?state={state}" for state in ("failed", "missed", "delivered", "skipped", "armed")),
        *("q", "state", "hook"),
        "",
    ]
    assert stops[9] == f"/containers/{one}"
    window.look("arguments[0]; document.querySelector(`a[href='/containers/${arguments[0]}']`).focus()", one)
    press(window, Keys.ENTER)
    until(lambda: window.text("h1") == "api", "the container's page")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_a_phone(window: Browser, node: Node, on_port: Observer, scheme: str) -> None:
    """360 pixels, also with what an attacker has named as he likes; nothing is cut off beside it."""
    window.size(360, 740)
    window.scheme("light" if scheme == "light" else "dark")
    for path in ("/", *(f"/{kind}/{key}" for kind, key in shown(node))):
        open_page(window, on_port, path)
        assert window.look("return document.documentElement.scrollWidth") == 360
        wide = "return [...document.querySelectorAll('main *:not(.unseen, .unseen *, svg *)')]"
        beyond = f"{wide}.filter(e => e.getBoundingClientRect().right > 360.5).map(e => e.outerHTML)"
        assert window.look(beyond) == []


def test_a_page_asks_nobody_but_its_own_server(window: Browser, node: Node, on_port: Observer) -> None:
    """No font, script or picture of anybody's."""
    window.requested()
    for path in ("/", *(f"/{kind}/{key}" for kind, key in shown(node))):
        open_page(window, on_port, path)
    asked = window.requested()
    assert f"{on_port.url}/static/page.css" in asked
    assert {address for address in asked if not address.startswith(f"{on_port.url}/")} <= {"about:blank"}


def test_nothing_that_was_chosen_elsewhere_runs_as_a_script(
    window: Browser, node: Node, on_socket: Observer, on_port: Observer
) -> None:
    """Names, handlers, errors and outputs that try to: they are read as they are written."""
    one = node.found["hostile"]
    for path in ("/", f"/deliveries/{one.id}", f"/containers/{one.container.id}", f"/?q={journals.SCRIPT}"):
        open_page(window, on_port, path)
        assert window.look("return window.owned ?? null") is None
        assert window.look("return document.querySelectorAll('main img, main script').length") == 0
    open_page(window, on_port, f"/deliveries/{one.id}")
    assert journals.SCRIPT in window.text("h1")
    with forwarded(Path(on_socket.url.removeprefix("http://"))) as url:
        window.driver.get(f"{url}/deliveries/{one.id}")
        assert f"</pre>{journals.SCRIPT}" in window.text("pre.output")
        assert window.look("return window.owned ?? null") is None
        window.driver.get("about:blank")


def test_a_screen_reader_is_told_all_of_it(window: Browser, node: Node, on_port: Observer) -> None:
    """Landmarks, headings, tables with captions, and the timeline in sentences: states are words, not colours."""
    open_page(window, on_port, f"/containers/{node.found['failed'].container.id}")
    told = window.names()
    roles = {role for role, _ in told}
    assert {"banner", "main", "contentinfo", "heading", "table", "columnheader", "rowheader", "status"} <= roles
    assert not [role for role, name in told if role in ("link", "button", "image", "table", "textbox") and not name]
    [stop] = [name for role, name in told if role == "image" and name.startswith("Stop by StopContainer")]
    [text] = window.look(
        "return [...document.querySelectorAll('svg desc')].map(e => e.textContent).filter(t => t.includes('preStop'))"
    )
    assert stop.endswith(text)
    assert "grace period · 20 s." in text
    assert "✕ preStop failed, 4 attempts · httpGet http://:8080/drain." in text
    assert "stop sent to the runtime +14.2 s. not running +15.1 s." in text
    assert ("table", "Hooks of container api") in told
    open_page(window, on_port)
    told = window.names()
    assert {("searchbox", "Search"), ("combobox", "State"), ("combobox", "Hook"), ("button", "Search")} <= set(told)
    assert ("navigation", "Hooks by state") in told
    levels = window.look("return [...document.querySelectorAll('h1,h2,h3,h4')].map(e => Number(e.tagName[1]))")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_timeline_is_drawn_to_scale(window: Browser, node: Node, on_port: Observer) -> None:
    """As wide as the time it took: the third attempt of 4 s is more than three times the first of 1.2 s."""
    open_page(window, on_port, f"/deliveries/{node.found['failed'].id}")
    bars = window.look(
        "return [...document.querySelectorAll('.panel rect')].map(e => [e.getAttribute('class'), "
        "e.getBBox().x, e.getBBox().width, e.querySelector('title').textContent])"
    )
    attempts = [bar for bar in bars if bar[0] == "bad"]
    [grace] = [bar for bar in bars if bar[0] == "grace"]
    assert [bar[3] for bar in attempts] == [
        "attempt 1: failed, 1.2 s",
        "attempt 2: failed, 1.4 s",
        "attempt 3: HTTP status 503, 4 s",
        "attempt 4: HTTP status 503, 1.1 s",
    ]
    second = grace[2] / 20
    assert [round((bar[1] - grace[1]) / second, 1) for bar in attempts] == pytest.approx([0, 3.1, 7, 13], abs=0.11)
    assert [bar[2] / second for bar in attempts] == pytest.approx([1.2, 1.4, 4.0, 1.1], abs=0.05)


def test_a_hidden_page_is_paused(window: Browser, on_port: Observer) -> None:
    """It asks nothing while nobody looks, and is current as soon as somebody does."""
    open_page(window, on_port)
    first = window.driver.current_window_handle
    window.driver.switch_to.new_window("tab")
    try:
        window.driver.switch_to.window(first)
        window.look(
            "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        assert window.text("#connection") == "paused"
        window.look("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        until(lambda: window.text("#connection") == "live", "it is live again")
    finally:
        other = next(handle for handle in window.driver.window_handles if handle != first)
        window.driver.switch_to.window(other)
        window.driver.close()
        window.driver.switch_to.window(first)


def shown(node: Node) -> list[tuple[str, str]]:
    """A page of each kind, of what is ordinary and of the attack."""
    ordinary, attack = node.found["failed"], node.found["hostile"]
    return [
        ("deliveries", ordinary.id),
        ("deliveries", attack.id),
        ("containers", ordinary.container.id),
        ("containers", attack.container.id),
    ]
