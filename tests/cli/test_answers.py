"""What the reading commands print, to the last character: tables on two widths, and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shim.store import FILE
from tests.cli.bed import REFUSED, WAITING, compare, hookshim
from tests.unit.cli_bed import content


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("deliveries", ["deliveries"]),
        ("events", ["events"]),
        ("deliveries-chosen", ["deliveries", "--state", "open", "--state", "failed", "--limit", "2"]),
    ],
)
@pytest.mark.parametrize("columns", [80, 160])
def test_a_table_is_as_a_person_sees_it(
    tmp_path: Path, state_dir: Path, name: str, words: list[str], columns: int
) -> None:
    """At both widths; nothing that a pod's author has chosen is more than text, and nothing secret is there."""
    done = hookshim(tmp_path, *words, "--state-dir", state_dir, columns=columns)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line.isprintable() and len(line) <= columns for line in done.stdout.splitlines())
    assert "sesame" not in done.stdout
    compare(f"{name}-{columns}.txt", done.stdout)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("deliveries", ["deliveries", "--namespace", "production", "--hook", "postStop"]),
        ("events", ["events"]),
    ],
)
def test_json_is_what_programs_rely_on(tmp_path: Path, state_dir: Path, name: str, words: list[str]) -> None:
    """Field by field; without output, headers and commands."""
    done = hookshim(tmp_path, *words, "--json", "--state-dir", state_dir)
    assert (done.returncode, done.stderr) == (0, "")
    assert "sesame" not in done.stdout
    compare(f"{name}.json", done.stdout)


@pytest.mark.parametrize(("name", "key"), [("show-failed", REFUSED.id), ("show-waiting", WAITING.id)])
@pytest.mark.parametrize("form", ["txt", "json"])
def test_one_delivery_is_shown_in_full(tmp_path: Path, state_dir: Path, name: str, key: str, form: str) -> None:
    """Its operation, what is next, every attempt with what was said, its events; no header, no query of a URL."""
    words = ["--json"] if form == "json" else []
    done = hookshim(tmp_path, "deliveries", "show", key, "--state-dir", state_dir, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "sesame" not in done.stdout
    compare(f"{name}.{form}", done.stdout)


def test_what_was_chosen_and_is_not_there_is_told_from_an_empty_journal(tmp_path: Path, state_dir: Path) -> None:
    """A typing mistake in a name looks like one; a program gets the empty array; nothing on the disk has changed."""
    before = content(state_dir)
    done = hookshim(tmp_path, "deliveries", "--pod", "production/wbe", "--json", "--state-dir", state_dir)
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
    assert done.stderr == f"no such deliveries in {state_dir / FILE}\n"
    assert content(state_dir) == before


def test_a_choice_that_is_none_is_asked_wrongly(tmp_path: Path) -> None:
    """Exit 2, and what was expected instead."""
    done = hookshim(tmp_path, "events", "--since", "yesterday")
    assert (done.returncode, done.stdout) == (2, "")
    expected = "a time ago, as 90s, 30m, 2h or 1d, or a time with its zone, as 2026-11-21T08:00:00Z"
    assert f"Invalid value for '--since': 'yesterday': expected {expected}" in done.stderr
