"""The command line as a person meets it: each command as a process, what it prints where, and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from server import VERSION
from tests.unit.cli_bed import (
    answer,
    run,
)
from tests.unit.rules_bed import RULE, hooks_directory, put


def test_options_are_taken_before_and_after_the_command_and_the_later_wins(tmp_path: Path, state_dir: Path) -> None:
    """As people type them; between two, the one nearer to the command's own."""
    ways: list[list[str | Path]] = [
        ["--state-dir", state_dir, "deliveries", "--json"],
        ["deliveries", "--json", "--state-dir", state_dir],
        ["--state-dir", tmp_path / "none", "deliveries", "--json", "--state-dir", state_dir],
    ]
    for words in ways:
        assert len(json.loads(answer(tmp_path, *words))) == 3


def test_an_argument_that_is_not_text_is_refused(tmp_path: Path, state_dir: Path) -> None:
    """A shell passes any bytes on; nothing could be looked up or written down by them."""
    refused = run(tmp_path, "deliveries", "show", os.fsdecode(b"\xff"), "--state-dir", state_dir)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "hookshim: the argument '\\udcff' is not UTF-8\n"


def test_check_config_prints_toml_with_every_value_and_its_source(tmp_path: Path) -> None:
    """What it prints can be used as the file, and gives the same values."""
    file = tmp_path / "my config.toml"
    file.write_text('[log]\nformat = "json"\n')
    words: list[str | Path] = ["--config", file, "--listen", "/run/a.sock", "check-config", "--drain-seconds", "3"]
    words += ["--hooks-dir", tmp_path / "hooks.d"]
    lists = {"HOOKSHIM_REACH_HOSTS": "a.example.com, *.b", "HOOKSHIM_REACH_CIDRS": "10.0.0.0/8,192.0.2.1"}
    printed = answer(tmp_path, *words, env={"HOOKSHIM_STATE_DIR": "/srv/h"} | lists)
    assert printed.splitlines() == [
        'state_dir = "/srv/h"  # HOOKSHIM_STATE_DIR',
        'listen = "/run/a.sock"  # --listen',
        'containerd = "/run/containerd/containerd.sock"  # default',
        "drain_seconds = 3.0  # --drain-seconds",
        "default_grace_seconds = 30.0  # default",
        'zero_timeout = "run"  # default',
        'on_corrupt = "replace"  # default',
        "retention_hours = 24.0  # default",
        f'hooks_dir = "{tmp_path}/hooks.d"  # --hooks-dir',
        'kubelet_prestop = "off"  # default',
        'front = "relay"  # default',
        "post_stop_hours = 24.0  # default",
        'admin = "/run/hookshim/admin.sock"  # default',
        "",
        "[reach]",
        'hosts = ["a.example.com", "*.b"]  # HOOKSHIM_REACH_HOSTS',
        'cidrs = ["10.0.0.0/8", "192.0.2.1/32"]  # HOOKSHIM_REACH_CIDRS',
        "",
        "[http]",
        'listen = ""  # default',
        "",
        "[events]",
        'kubeconfig = ""  # default',
        'node_name = ""  # default',
        "containerd = true  # default",
        "",
        "[traces]",
        'endpoint = ""  # default',
        "",
        "[log]",
        'level = "info"  # default',
        f'format = "json"  # {file}',
    ]
    copy = tmp_path / "copy.toml"
    copy.write_text(printed)
    assert tomllib.loads(answer(tmp_path, "check-config", "--config", copy)) == tomllib.loads(printed)


def test_check_config_prints_each_rule_in_its_order_and_still_toml(tmp_path: Path) -> None:
    """A line for each: its hooks, what it is for, and its handlers; as comments, so that it can be used as the file."""
    directory = hooks_directory(tmp_path, **{"20-b": "b", "10-a": "a"})
    put(directory / "30-c.toml", 'match = { labels = { app = "web" } }\n' + RULE.format(word="c"))
    printed = answer(tmp_path, "check-config", "--hooks-dir", directory)
    assert printed.splitlines()[-5:] == [
        "",
        f"# The rules in {directory}, in their order:",
        "# 10-a: preStop of every container: run [/bin/a]",
        "# 20-b: preStop of every container: run [/bin/b]",
        "# 30-c: preStop of label app=web: run [/bin/c]",
    ]
    assert tomllib.loads(printed)["hooks_dir"] == str(directory)


@pytest.mark.parametrize(("command", "status"), [("check-config", 1), ("serve", 2)])
def test_wrong_rules_are_listed_and_nothing_is_done(tmp_path: Path, command: str, status: int) -> None:
    """Every problem of every file a line on stderr; hookshim does not start without a hook that its owner wants."""
    directory = hooks_directory(tmp_path, good="a", bad="b")
    (directory / "bad.toml").chmod(0o666)
    put(directory / "worse.toml", "whn = 1\n" + RULE.format(word="\x7f"))
    state = tmp_path / "state"
    words: list[str | Path] = ["--state-dir", state, "--listen", tmp_path / "h.sock", "--hooks-dir", directory]
    done = run(tmp_path, command, *words)
    assert (done.returncode, done.stdout) == (status, "")
    assert "\x7f" not in done.stderr
    first, *problems = done.stderr.splitlines()
    assert first == "hookshim: the node's rules have 2 problems:"
    assert problems[0] == f"  {directory}/bad.toml: expected a file that only its owner may write, found mode 0666"
    assert problems[1].startswith(f"  {directory}/worse.toml: line 4, column ")
    assert len(problems) == 2
    assert not list(tmp_path.glob("*.sock"))


@pytest.mark.parametrize(("command", "status"), [("check-config", 1), ("serve", 2), ("deliveries", 2), ("events", 2)])
def test_a_wrong_configuration_is_listed_and_nothing_is_done(tmp_path: Path, command: str, status: int) -> None:
    """Every problem a line on stderr, no traceback; check-config's exit code is an answer, the others' a refusal."""
    file = tmp_path / "config.toml"
    file.write_text('drain_seconds = "x"\ncolour = 1\nstate_dir = "STATE"'.replace("STATE", str(tmp_path / "state")))
    done = run(tmp_path, "--config", file, command)
    assert (done.returncode, done.stdout) == (status, "")
    first, *problems = done.stderr.splitlines()
    assert first == "hookshim: the configuration has 2 problems:"
    assert problems[0] == f'  {file}: drain_seconds: expected a number of seconds, 0 or more; found "x"'
    assert problems[1].startswith(f"  {file}: colour: unknown key; known are state_dir, ")
    assert len(problems) == 2
    assert not (tmp_path / "state").exists()


def test_a_control_character_in_what_was_typed_is_shown_as_an_escape(tmp_path: Path) -> None:
    """Also where the text comes from is not the terminal's business."""
    done = run(tmp_path, "deliveries", "--state-dir", "/\x1b[31m")
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert "\\u001b[31m" in done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["deliveriez"], "No such command 'deliveriez'"),
        (["deliveries", "--jsom"], "No such option"),
        (["deliveries", "--limit", "0"], "Invalid value for '--limit'"),
        (["deliveries", "--limit", "x"], "Invalid value for '--limit'"),
        (["serve", "now"], "Got unexpected extra argument (now)"),
        (["--state-dir"], "Option '--state-dir' requires an argument"),
    ],
)
def test_wrong_usage_is_exit_2_and_says_what_is_wrong(tmp_path: Path, words: list[str], expected: str) -> None:
    """On stderr, without a traceback."""
    done = run(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_version_tells_hookshims_and_pythons(tmp_path: Path) -> None:
    """As text, as JSON, and as the option that people try first."""
    python = ".".join(map(str, sys.version_info[:3]))
    assert answer(tmp_path, "version") == f"hookshim {VERSION} (Python {python})\n"
    assert json.loads(answer(tmp_path, "version", "--json")) == {"hookshim": VERSION, "python": python}
    assert answer(tmp_path, "--version") == f"hookshim {VERSION}\n"


@pytest.mark.parametrize("command", ["serve", "deliveries", "events", "check-config", "doctor", "version"])
def test_every_command_explains_itself_and_its_defaults(tmp_path: Path, command: str) -> None:
    """--help and -h; each setting with its variable and default."""
    text = answer(tmp_path, command, "--help")
    assert text == answer(tmp_path, command, "-h")
    unwrapped = " ".join(text.split())
    if command != "version":
        assert "[HOOKSHIM_STATE_DIR; default: /var/lib/hookshim]" in unwrapped
    if command in ("serve", "check-config"):
        assert "[HOOKSHIM_DRAIN_SECONDS; default: 10]" in unwrapped
        assert "[HOOKSHIM_HOOKS_DIR; default: /etc/hookshim/hooks.d]" in unwrapped
    assert f"  {command} " in answer(tmp_path, "--help")


def test_serve_says_in_one_line_why_it_cannot_begin(tmp_path: Path) -> None:
    """A state directory in use: who has it, and exit 1."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from server.lock import StateLock\n"
        "with StateLock(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "s"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        done = run(tmp_path, "serve", "--state-dir", tmp_path / "s", "--listen", tmp_path / "h.sock")
        other.communicate(b"")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"hookshim: the state directory {tmp_path / 's'} is in use by pid {other.pid} (")
    assert (done.returncode, done.stdout) == (1, "")


def test_a_bug_in_the_daemon_is_logged_with_its_traceback_and_exit_1(tmp_path: Path) -> None:
    """As one structured line, where the rest of the log is; this is what a report of the bug needs."""
    script = (
        "import sys, server.daemon\n"
        "def run(config): raise KeyError('oops')\n"
        "server.daemon.run = run\n"
        "from server import cli\n"
        "sys.argv = ['hookshim', 'serve', '--state-dir', sys.argv[1]]\n"
        "cli.main()\n"
    )
    env = {**os.environ, "HOOKSHIM_CONFIG": os.devnull}
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False, env=env
    )
    record: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    assert (record["level"], record["exception"][0]["exc_type"]) == ("critical", "KeyError")
    assert done.returncode == 1
