"""Completion in the shell: the scripts, and what they ask hookshim at a press of the key."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.bed import ALL, DB, REFUSED, WAITING, WEB, hookshim


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(tmp_path: Path, shell: str) -> None:
    """One that names the command and asks it; where the shell is installed, it takes the script."""
    done = hookshim(tmp_path, "completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert "_HOOKSHIM_COMPLETE" in done.stdout
    if program := shutil.which(shell):
        taken = subprocess.run([program, "-n"], input=done.stdout, text=True, capture_output=True, check=False)
        assert (taken.returncode, taken.stderr) == (0, "")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("deliveries show ", [one.id for one in reversed(ALL)]),
        (f"deliveries retry {REFUSED.id[:-1]}4", [WAITING.id]),
        (f"hooks show {WEB.id[:4]}", [WEB.id]),
        ("hooks show f", []),
        ("deliveries s", ["show", "skip"]),
        ("deliveries --hook p", ["postStart", "preStop", "postStop"]),
    ],
)
def test_ids_come_from_the_journal(tmp_path: Path, state_dir: Path, typed: str, expected: list[str]) -> None:
    """As bash asks: the newest first, none that does not fit."""
    words = f"hookshim --state-dir {state_dir} {typed}"
    env = {"_HOOKSHIM_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    done = hookshim(tmp_path, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(",")[1] for line in done.stdout.split()] == expected


def test_a_key_that_is_pressed_without_a_journal_says_nothing(tmp_path: Path) -> None:
    """No id, no error, no traceback across what is being typed; nor with a configuration that is wrong."""
    (tmp_path / "wrong.toml").write_text("colour = 1\n")
    words = "hookshim deliveries show "
    for file in ("nothing.toml", "wrong.toml"):
        env = {"_HOOKSHIM_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "3"}
        more = {"HOOKSHIM_STATE_DIR": str(tmp_path / "none"), "HOOKSHIM_CONFIG": str(tmp_path / file)}
        done = hookshim(tmp_path, env=env | more)
        assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_what_is_said_beside_an_id_is_only_text(tmp_path: Path, state_dir: Path) -> None:
    """A container's name comes from whoever may create pods; fish shows it."""
    env = {"_HOOKSHIM_COMPLETE": "fish_complete", "COMP_WORDS": "hookshim hooks show ", "COMP_CWORD": ""}
    done = hookshim(tmp_path, env=env | {"HOOKSHIM_STATE_DIR": str(state_dir)})
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line.isprintable() for line in done.stdout.replace("\t", " ").splitlines())
    assert f"{DB.id}" in done.stdout
