"""The observer's process by itself: when it ends, what it logs, and how it gets its address."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.observe import journals
from tests.observe.bed import SERVED, Observer, observer
from tests.observe.client import ask
from tests.support.waiting import until


def test_it_ends_when_the_daemon_does(tmp_path: Path) -> None:
    """The end of its stdin is the daemon's: also while a page is open."""
    with observer(tmp_path) as one, socket.create_connection(_address(one)) as page:
        page.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert page.recv(8) == b"HTTP/1.1"
        assert one.abandon() == 0


def test_it_ends_at_sigterm(tmp_path: Path) -> None:
    """With 0, and nothing that looks like trouble in its log."""
    with observer(tmp_path) as one:
        assert one.terminate() == 0
        assert {line["level"] for line in one.lines()} == {"info"}


def test_its_log_lines_say_whose_they_are_and_it_steps_back(tmp_path: Path) -> None:
    """In the daemon's format, beside the daemon's lines; the daemon comes first when the node is short of anything."""
    with observer(tmp_path) as one:
        assert all(line["process"] == "observer" for line in one.lines())
        assert os.getpriority(os.PRIO_PROCESS, one.pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
        assert int(Path(f"/proc/{one.pid}/oom_score_adj").read_text()) == 900


async def test_a_port_that_is_taken_is_told_of_and_had_when_it_is_free(tmp_path: Path) -> None:
    """What is wrong and what to do, once; then it serves by itself."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with Observer(tmp_path, listen) as one:
            trouble = until(lambda: [line for line in one.lines() if line["level"] == "error"], "it is logged")
            taken.close()
            until(lambda: [line for line in one.lines() if line["event"] == SERVED], "it serves")
            assert (await ask(one, "/")).status == 200
    assert [line["listen"] for line in trouble] == [listen]
    assert "Address already in use" in trouble[0]["reason"]
    assert "choose another port ([http] listen)" in trouble[0]["reason"]


async def test_a_socket_that_was_left_behind_is_taken_and_one_that_is_served_is_not(short: Path) -> None:
    """As with the daemon's own sockets: what a killed process left is replaced, somebody else's is never."""
    path = short / "taken.sock"
    with observer(short / "one", str(path)), Observer(short / "two", str(path)) as two:
        trouble = until(lambda: [line for line in two.lines() if line["level"] == "error"], "it is logged")
        assert "another process listens at " in trouble[0]["reason"]
    assert path.is_socket()
    with observer(short / "three", str(path)) as three:
        assert (await ask(three, "/")).status == 200
        assert three.terminate() == 0
    assert not path.exists()


@pytest.mark.parametrize("listen", ["[::1]:0"])
async def test_it_serves_on_ipv6_too(tmp_path: Path, listen: str) -> None:
    """Loopback has two addresses."""
    with observer(tmp_path, listen) as one:
        assert one.url.startswith("http://[::1]:")
        assert (await ask(one, "/")).status == 200


def _address(one: Observer) -> tuple[str, int]:
    host, _, port = one.url.removeprefix("http://").rpartition(":")
    return host, int(port)


async def test_a_sink_in_trouble_takes_no_page_with_it(tmp_path: Path) -> None:
    """A kubeconfig that is not there is told of, HTTP is served meanwhile, and both end when they are to."""
    with observer(tmp_path, events={"kubeconfig": str(tmp_path / "kubeconfig")}) as one:
        journals.write(tmp_path)
        until(lambda: [line for line in one.lines() if line["level"] in ("warning", "error")], "it is told of")
        assert (await ask(one, "/")).status == 200
        assert one.terminate() == 0
