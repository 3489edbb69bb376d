"""How a change of the rules takes effect in a running daemon: whole, once it is complete, or not at all."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from server.rules import HooksDirectory, RulesError
from shim.actions import RunAction
from tests.support.waiting import until
from tests.unit.rules_bed import RULE, container, hooks_directory, put


def words(hooks: HooksDirectory) -> list[str]:
    """What the rules in force declare for a container, by the commands' words."""
    found = []
    for one in hooks.matching(container()):
        assert isinstance(one.handler.action, RunAction)
        found.append(one.handler.action.command[0].removeprefix("/bin/"))
    return found


def loaded(directory: Path, interval: float = 1.0) -> HooksDirectory:
    """The rules of a directory, as at a daemon's start."""
    hooks = HooksDirectory(directory, interval)
    hooks.load()
    return hooks


async def settle(hooks: HooksDirectory) -> None:
    """Look as often as it takes for a change to count."""
    await hooks.poll()
    await hooks.poll()


@asynccontextmanager
async def watching(hooks: HooksDirectory) -> AsyncIterator[None]:
    """The rules are watched meanwhile."""
    task = asyncio.create_task(hooks.watch())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def test_bad_rules_are_refused_at_start_with_every_problem(tmp_path: Path) -> None:
    """The same strictness as later, when there are no good ones before them to keep."""
    directory = hooks_directory(tmp_path, a="a")
    put(directory / "b.toml", "x").chmod(0o666)
    hooks = HooksDirectory(directory)
    with pytest.raises(RulesError) as refused:
        hooks.load()
    assert str(refused.value).splitlines() == [
        "the node's rules have 2 problems:",
        f"  {directory}/b.toml: expected a file that only its owner may write, found mode 0666",
        (
            f"  {directory}/b.toml: line 1, at the end of the file: expected TOML: "
            "Expected '=' after a key in a key/value pair"
        ),
    ]
    assert (words(hooks), hooks.generation) == ([], 0)


async def test_changed_added_and_removed_files_are_taken_over(tmp_path: Path) -> None:
    """Without a restart; the generation tells the engine to forget what it remembers of containers without hooks."""
    directory = hooks_directory(tmp_path, a="1", b="2")
    hooks = loaded(directory)
    assert (words(hooks), hooks.generation, hooks.reloads) == (["1", "2"], 1, 0)
    put(directory / "a.toml", RULE.format(word="3"))
    await settle(hooks)
    assert (words(hooks), hooks.generation, hooks.reloads) == (["3", "2"], 2, 1)
    put(directory / "c.toml", RULE.format(word="4"))
    (directory / "b.toml").unlink()
    await settle(hooks)
    assert (words(hooks), hooks.generation, hooks.reloads) == (["3", "4"], 3, 2)
    shutil.rmtree(directory)
    await settle(hooks)
    assert (words(hooks), hooks.generation, hooks.reloads) == ([], 4, 3)


async def test_a_directory_that_comes_later_is_taken_over(tmp_path: Path) -> None:
    """A node's first rule needs no restart either."""
    hooks = loaded(tmp_path / "hooks.d")
    assert (words(hooks), hooks.generation) == ([], 0)
    hooks_directory(tmp_path, a="1")
    await settle(hooks)
    assert (words(hooks), hooks.generation) == (["1"], 1)


async def test_files_that_have_not_changed_are_not_read_again(tmp_path: Path) -> None:
    """Looking costs no more than a stat of each; a new time on the same text is no new generation."""
    directory = hooks_directory(tmp_path, a="1")
    hooks = loaded(directory)
    for _ in range(3):
        await settle(hooks)
    assert (hooks.reloads, hooks.generation) == (0, 1)
    put(directory / "a.toml", RULE.format(word="1"))
    await settle(hooks)
    assert (hooks.reloads, hooks.generation) == (1, 1)


async def test_a_file_that_is_still_being_written_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    """A torn file can be valid TOML: with a second handler on its way, nothing counts until the writing stops."""
    directory = hooks_directory(tmp_path, a="1")
    hooks = loaded(directory)
    text = RULE.format(word="2")
    (directory / "a.toml").write_text("")
    for letter in text[:-1]:
        with (directory / "a.toml").open("a") as file:
            file.write(letter)
        await hooks.poll()
        assert words(hooks) == ["1"]
    with (directory / "a.toml").open("a") as file:
        file.write(text[-1] + '[[handlers]]\nrun = { command = ["/bin/3"] }\n')
    await hooks.poll()
    assert (words(hooks), hooks.failures) == (["1"], 0)
    await hooks.poll()
    assert (words(hooks), hooks.failures) == (["2", "3"], 0)


async def test_a_bad_file_keeps_the_last_good_rules_of_all_and_is_logged_once(tmp_path: Path) -> None:
    """Neither the good change beside it nor anything else is half applied; each problem is in one line of the log."""
    directory = hooks_directory(tmp_path, a="1", b="2")
    hooks = loaded(directory)
    put(directory / "a.toml", RULE.format(word="3"))
    put(directory / "b.toml", "whn = 1\nx = 2\n" + RULE.format(word="4"))
    with capture_logs() as logs:
        for _ in range(3):
            await settle(hooks)
    (entry,) = logs
    assert (entry["log_level"], entry["directory"], entry["in_force"]) == ("error", str(directory), 2)
    assert [line.partition("the unknown field ")[2] for line in entry["problems"]] == [
        '"whn"; did you mean when?',
        '"x"',
    ]
    assert (words(hooks), hooks.generation, hooks.reloads, hooks.failures) == (["1", "2"], 1, 0, 1)
    assert hooks.last_error == "the node's rules have 2 problems:\n  " + "\n  ".join(entry["problems"])

    put(directory / "b.toml", RULE.format(word="4"))
    with capture_logs() as logs:
        await settle(hooks)
    assert [(entry["log_level"], entry["rules"]) for entry in logs] == [("info", ["a", "b"])]
    assert (words(hooks), hooks.generation, hooks.failures, hooks.last_error) == (["3", "4"], 2, 1, "")


async def test_files_that_others_may_write_keep_the_last_good_rules(tmp_path: Path) -> None:
    """Also if only the mode has changed, and also if it is that of a directory above; mending it is seen too."""
    directory = hooks_directory(tmp_path, a="1")
    hooks = loaded(directory)
    for path, bad, good in ((directory / "a.toml", 0o666, 0o644), (directory, 0o777, 0o755), (tmp_path, 0o777, 0o700)):
        path.chmod(bad)
        failures = hooks.failures
        await settle(hooks)
        assert (words(hooks), hooks.failures) == (["1"], failures + 1)
        assert f"found mode {bad:04o}" in hooks.last_error
        path.chmod(good)
        await settle(hooks)
        assert hooks.last_error == ""


async def test_asking_reads_the_files_at_once(tmp_path: Path) -> None:
    """SIGHUP: without waiting for the files to be still, and the answer is in the log also if nothing has changed."""
    directory = hooks_directory(tmp_path, a="1")
    hooks = loaded(directory, interval=3600)
    async with watching(hooks):
        put(directory / "a.toml", RULE.format(word="2"))
        hooks.ask()
        await asyncio.to_thread(until, lambda: hooks.reloads == 1, "the rules are read")
        assert words(hooks) == ["2"]
        hooks.ask()
        await asyncio.to_thread(until, lambda: hooks.reloads == 2, "the rules are read again")
        put(directory / "a.toml", "x")
        hooks.ask()
        await asyncio.to_thread(until, lambda: hooks.failures == 1, "the rules are refused")
        hooks.ask()
        await asyncio.to_thread(until, lambda: hooks.failures == 2, "the rules are refused again")
    assert words(hooks) == ["2"]


async def test_no_match_ever_sees_a_mix_of_two_sets(tmp_path: Path) -> None:
    """All files are exchanged again and again under a stream of matches, from the loop and from another thread."""
    names = [str(number) for number in range(10)]
    for word in ("x", "y"):
        (tmp_path / word).mkdir()
        hooks_directory(tmp_path / word, **dict.fromkeys(names, word))
    link = tmp_path / "link"
    link.symlink_to("x/hooks.d")
    hooks = loaded(link, interval=0.01)
    seen: set[tuple[str, ...]] = set()
    done = asyncio.Event()

    async def match() -> None:
        while not done.is_set():
            seen.add(tuple(words(hooks)))
            await asyncio.sleep(0)

    def match_elsewhere() -> None:
        while not done.is_set():
            seen.add(tuple(words(hooks)))

    async with watching(hooks), asyncio.TaskGroup() as group:
        group.create_task(match())
        group.create_task(asyncio.to_thread(match_elsewhere))
        try:
            for generation in range(2, 10):
                (tmp_path / "new").symlink_to(f"{'xy'[generation % 2 == 0]}/hooks.d")
                (tmp_path / "new").rename(link)
                reached = lambda wanted=generation: hooks.generation == wanted  # noqa: E731  # shorter than a def
                await asyncio.to_thread(until, reached, f"generation {generation}")
        finally:
            done.set()
    assert seen == {("x",) * 10, ("y",) * 10}
    assert hooks.failures == 0


async def test_the_watch_ends_when_it_is_cancelled(tmp_path: Path) -> None:
    """It holds up no shutdown."""
    task = asyncio.create_task(loaded(tmp_path / "none", interval=0.001).watch())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
