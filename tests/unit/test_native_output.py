"""The files that a hook's output goes to: bounded, private, and never in the way of the hook."""

from __future__ import annotations

import asyncio
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.native.outcome import OUTPUT_LIMIT
from server.native.output import FILE_LIMIT, Output, Outputs
from tests.support.waiting import until


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """It does not exist yet."""
    return tmp_path / "exec"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk with less room than is asked for."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "hookshim-test", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def created(directory: Path) -> Output:
    """New files in there."""
    return asyncio.run(Outputs(directory).create("e1"))


def test_the_files_are_roots_alone(directory: Path) -> None:
    """What a handler says is nobody else's business."""
    output = created(directory)
    assert output.paths == [str(directory / "e1.out"), str(directory / "e1.err")]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [stat.S_IMODE(Path(path).stat().st_mode) for path in output.paths] == [0o600, 0o600]


def test_the_end_of_stdout_then_stderr_is_read(directory: Path) -> None:
    """A file's own end if there is more than is kept."""
    output = created(directory)
    stdout, stderr = map(Path, output.paths)
    stdout.write_bytes(b"o" * 3 * OUTPUT_LIMIT)
    stderr.write_bytes(b"err")
    assert output.tail() == b"o" * (OUTPUT_LIMIT - 3) + b"err"


async def test_a_file_that_grows_is_emptied_and_its_end_is_not_lost(directory: Path) -> None:
    """Its writer appends; what is read in the end is the end of all that it wrote."""
    output = await Outputs(directory).create("e1")
    stdout = Path(output.paths[0])
    async with output.bounded():
        for _ in range(3):
            await asyncio.to_thread(append, stdout, b"x" * FILE_LIMIT + b"more")
            await asyncio.to_thread(until, lambda: stdout.stat().st_size <= FILE_LIMIT, "it is short again")
        await asyncio.to_thread(append, stdout, b"the end")
    assert output.tail() == b"x" * (OUTPUT_LIMIT - 11) + b"more" + b"the end"


def append(path: Path, text: bytes) -> None:
    """As the runtime writes what comes out of a hook."""
    with path.open("ab", buffering=0) as file:
        file.write(text)


async def test_what_is_removed_meanwhile_is_no_output(directory: Path) -> None:
    """A node's owner may clear up; a hook does not fail over it."""
    output = await Outputs(directory).create("e1")
    async with output.bounded():
        output.remove()
        assert output.tail() == b""
    output.remove()


async def test_a_disk_without_room_keeps_no_output(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The hook is to run: its output would hang it. The log says why there is none."""
    output = await Outputs(small / "exec").create("e1")
    assert (output.paths, output.tail()) == ([], b"")
    assert "MiB are free" in capsys.readouterr().out


def test_a_directory_that_cannot_be_made_keeps_no_output(directory: Path) -> None:
    """Nor one that is no directory."""
    directory.touch()
    output = created(directory)
    assert (output.paths, output.tail()) == ([], b"")


def test_what_belongs_to_no_open_attempt_is_cleared(directory: Path) -> None:
    """And nothing else that is in the directory."""
    outputs = Outputs(directory)
    for name in ("hookshim-a-1", "hookshim-a-10", "hookshim-b-1", "hookshim-c-1.2"):
        asyncio.run(outputs.create(name))
    (directory / "README").touch()
    outputs.clear(["hookshim-a-1", "hookshim-c-1"])
    assert sorted(path.name for path in directory.iterdir()) == [
        "README",
        "hookshim-a-1.err",
        "hookshim-a-1.out",
        "hookshim-c-1.2.err",
        "hookshim-c-1.2.out",
    ]


def test_there_may_be_nothing_to_clear(directory: Path) -> None:
    """A first start has no directory."""
    Outputs(directory).clear([])
