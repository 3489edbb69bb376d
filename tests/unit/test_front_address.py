"""The front door's socket: whose it is, who may use it, and what may be in its place."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from grpc import aio

from server.backend import Backend
from server.front import Gate, GrpcFront, ListenError
from server.front.address import MAX_PATH, Address
from tests.unit.front_bed import PATIENCE, VERSION, Bed, Judge, client, running_bed


@pytest_asyncio.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """A front door that serves, and a place for others beside it."""
    async with running_bed(tmp_path) as made:
        yield made


@asynccontextmanager
async def second_front(bed: Bed, path: Path) -> AsyncIterator[GrpcFront]:
    """Another front door before the same runtime, not started."""
    backend = Backend(bed.runtime.path)
    made = GrpcFront(path, backend, Judge(), Gate())
    try:
        yield made
    finally:
        await made.stop(0)
        await backend.close()


async def refusal(bed: Bed, path: Path) -> str:
    """Why another front door does not start at a path."""
    async with second_front(bed, path) as front:
        with pytest.raises(ListenError) as error:
            await front.start()
    return str(error.value)


def names_in(directory: Path) -> set[str]:
    """What is in a directory."""
    return {path.name for path in directory.iterdir()}


async def answers(path: Path) -> bool:
    """Whether a front door serves at a path."""
    channel = client(path)
    version: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(VERSION)
    try:
        return await version(b"x", timeout=PATIENCE) == b"x"
    finally:
        await channel.close()


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """A umask that the process was started with."""
    before = os.umask(request.param)
    yield request.param
    assert os.umask(before) == request.param


async def test_the_socket_is_its_users_and_groups_alone(umask: int, bed: Bed) -> None:
    """The mode is 0660 whatever the umask, which is the same afterwards."""
    found = bed.socket.stat()
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())


def test_the_socket_is_never_open_to_others(tmp_path: Path) -> None:
    """From the instant that it is bound, others have no access; its public name comes later."""
    seen = []

    def bind(path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
        seen.append(stat.S_IMODE(path.stat().st_mode))
        assert not (tmp_path / "s").exists()

    address = Address(tmp_path / "s")
    address.bind(bind)
    address.publish()
    assert [mode & 0o007 for mode in seen] == [0]
    assert names_in(tmp_path) == {"s"}


async def test_nothing_else_is_left_in_the_directory(bed: Bed) -> None:
    """The socket is the only name that a front door makes, and it is gone when the front door has stopped."""
    names = {bed.socket.name, bed.runtime.path.name}
    assert names_in(bed.directory) == names
    await bed.front.stop(0)
    assert names_in(bed.directory) == names - {bed.socket.name}


async def test_a_stale_socket_is_replaced(bed: Bed) -> None:
    """The socket of a daemon that was killed is no obstacle."""
    path = bed.directory / "stale.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    async with second_front(bed, path) as front:
        await front.start()
        assert await answers(path)


async def test_a_living_socket_is_refused_and_goes_on(bed: Bed) -> None:
    """A socket that somebody serves is not taken from them: the error says so, and they keep serving."""
    assert f"another process listens at {bed.socket}" in await refusal(bed, bed.socket)
    assert await answers(bed.socket)


async def test_a_busy_socket_is_living(bed: Bed) -> None:
    """A socket whose queue is full is served by somebody, if slowly."""
    path = bed.directory / "busy.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        assert "another process listens" in await refusal(bed, path)
    assert path.exists()


@pytest.mark.parametrize("kind", ["file", "directory", "link", "fifo"])
async def test_what_is_not_a_socket_is_refused_and_kept(bed: Bed, kind: str) -> None:
    """Nothing but a socket is ever removed; the error says what to do."""
    path = bed.directory / "thing"
    match kind:
        case "file":
            path.write_text("precious")
        case "directory":
            path.mkdir()
        case "link":
            path.symlink_to(bed.directory / "nowhere")
        case _:
            os.mkfifo(path)
    before = path.lstat()
    assert "is not a socket: move it away or choose another path" in await refusal(bed, path)
    assert path.lstat().st_ino == before.st_ino


async def test_a_socket_of_another_kind_is_refused_and_kept(bed: Bed) -> None:
    """A datagram socket, which cannot be tried, may be somebody's."""
    path = bed.directory / "datagrams"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        assert "cannot be tried" in await refusal(bed, path)
    assert path.exists()


async def test_a_missing_directory_is_named(bed: Bed) -> None:
    """The error says which directory to create."""
    assert f"create {bed.directory / 'no'}" in await refusal(bed, bed.directory / "no" / "front.sock")


async def test_a_path_that_is_too_long_is_refused(bed: Bed) -> None:
    """The kernel's limit is said in advance, and a path of just that length works."""
    room = MAX_PATH - len(os.fsencode(bed.directory)) - 1
    assert "too long for a unix socket: at most 107 bytes" in await refusal(bed, bed.directory / ("x" * (room + 1)))
    path = bed.directory / ("x" * room)
    async with second_front(bed, path) as front:
        await front.start()
        assert await answers(path)


async def test_odd_characters_in_a_path_are_no_matter(bed: Bed) -> None:
    """The path is taken as it is, not as a URL."""
    path = bed.directory / "a b%41?#ü.sock"
    async with second_front(bed, path) as front:
        await front.start()
        assert path.is_socket()
        assert await answers(path)


async def test_stopping_leaves_a_successors_socket_alone(bed: Bed) -> None:
    """A daemon that ends late does not take away the socket that another one has made in its place."""
    bed.socket.unlink()
    async with second_front(bed, bed.socket) as successor:
        await successor.start()
        await bed.front.stop(0)
        assert await answers(bed.socket)


async def test_of_two_that_start_at_once_one_serves(bed: Bed) -> None:
    """When two front doors want one path in the same instant, one gets it and the other says why not."""
    path = bed.directory / "wanted.sock"
    async with second_front(bed, path) as one, second_front(bed, path) as other:
        results = await asyncio.gather(one.start(), other.start(), return_exceptions=True)
        assert [type(result) for result in results if result is not None] == [ListenError]
        assert await answers(path)
