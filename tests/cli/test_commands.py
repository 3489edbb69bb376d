"""The commands that ask the node and the daemon, with nobody there to answer, and what every command has in common."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from server.cli.program import cli
from shim.store import FILE
from tests.cli.bed import compare, hookshim
from tests.cli.node import healthy, kubelet, served
from tests.unit.cli_bed import content


def _commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _commands(below, click.Context(below, context, name, **command.context_settings))


def test_every_help_fits_100_columns_and_explains_each_option() -> None:
    """Also that of commands below commands."""
    helps = dict(_commands(cli, click.Context(cli, None, "hookshim", terminal_width=100, **cli.context_settings)))
    assert {"hookshim", "hookshim deliveries skip", "hookshim hooks show", "hookshim completion"} <= set(helps)
    for name, text in helps.items():
        assert all(len(line) <= 100 for line in text.splitlines()), name
        assert not re.search(r"^  -[^ ]*( [A-Z]+)?$\n  -", text, re.MULTILINE), name


@pytest.mark.parametrize(
    "words",
    [["deliveries", "retry", "a"], ["deliveries", "skip", "a", "--reason", "b"], ["hooks", "show", "a"]],
)
def test_a_daemon_that_does_not_answer_is_exit_3(tmp_path: Path, words: list[str]) -> None:
    """Told from what it refuses, so that a script may wait and ask again; where it was asked is said."""
    done = hookshim(tmp_path, *words, "--admin", tmp_path / "a.sock")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"hookshim: the daemon does not answer at {tmp_path / 'a.sock'}: there is no such ")
    assert len(done.stderr.splitlines()) == 1


def test_a_skip_without_a_reason_is_asked_wrongly(tmp_path: Path) -> None:
    """Whoever reads the journal next year wants to know."""
    done = hookshim(tmp_path, "deliveries", "skip", "a", "--admin", tmp_path / "a.sock")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Missing option '--reason'" in done.stderr


def _doctor(tmp_path: Path, *words: str, columns: int) -> tuple[int, str]:
    places = ["--state-dir", "state", "--listen", "h.sock", "--containerd", "c.sock", "--admin", "a.sock"]
    paths = [word if word.startswith("--") else str(tmp_path / word) for word in [*places, "--hooks-dir", "hooks.d"]]
    done = hookshim(tmp_path, "doctor", "--root", tmp_path / "root", *paths, *words, columns=columns)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_node_without_a_daemon_is_looked_at_and_nothing_is_changed(tmp_path: Path, state_dir: Path) -> None:
    """A line for each check, with what to do; exit 1, since hooks are not delivered here."""
    endpoint = "--container-runtime-endpoint=unix:///run/containerd/containerd.sock"
    kubelet(tmp_path / "root", ["/usr/bin/kubelet", endpoint])
    before = content(state_dir)
    with served(tmp_path / "c.sock", healthy):
        status, printed = _doctor(tmp_path, columns=1000)
    assert status == 1
    assert content(state_dir) == before
    assert not (tmp_path / "hooks.d").exists()
    shown = re.sub(r"^(\w+ +clock +).*$", r"\1IT IS NOW", printed.replace(str(tmp_path), "/node"), flags=re.MULTILINE)
    shown = re.sub(r"^\w+( +clock)", r"SOME   \1", shown, flags=re.MULTILINE)
    shown = re.sub(r"\d+ MiB are", "N MiB are", re.sub(r"\d+ KiB$", "N KiB", shown, flags=re.MULTILINE))
    shown = re.sub(r"\d+ of \d+ settings", "N of N settings", shown)
    shown = re.sub(r"whole, version \d+", "whole, version N", shown)
    shown = re.sub(r"for (\d+ days?, )?[\d:]+,", "for A WHILE,", shown)
    compare("doctor.txt", shown)


def test_what_the_doctor_says_is_also_for_programs_and_fits_a_terminal(tmp_path: Path, state_dir: Path) -> None:
    """The same findings in JSON; without a problem it is exit 0 for neither."""
    kubelet(tmp_path / "root", ["init"])
    status, printed = _doctor(tmp_path, columns=80)
    assert all(len(line) <= 80 and line.isprintable() for line in printed.splitlines())
    json_status, text = _doctor(tmp_path, "--json", columns=80)
    assert (status, json_status) == (1, 1)
    found = json.loads(text)
    assert [set(one) for one in found] == [{"check", "verdict", "text", "advice"}] * len(found)
    lines = [line.split()[0] for line in printed.splitlines() if not line.startswith(" ")]
    assert lines == [one["verdict"] for one in found]
    assert f"{state_dir / FILE} is whole" in text


def test_settings_that_are_wrong_are_what_the_doctor_says_first(tmp_path: Path) -> None:
    """Every problem of them, and nothing guessed about the rest."""
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("colour = 1\ndrain_seconds = -1\n")
    done = hookshim(tmp_path, "doctor", "--config", wrong, "--json")
    assert (done.returncode, done.stderr) == (1, "")
    assert [(one["check"], one["verdict"]) for one in json.loads(done.stdout)] == [("configuration", "problem")] * 2
