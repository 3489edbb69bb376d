"""The fuzzer runs, finds nothing today, and is one that finds what is there."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.inputs import SEEDS, check
from tests.fuzz.plants import planted
from tests.fuzz.promises import READERS
from tests.fuzz.relayed import outcome
from tests.fuzz.subjects import SUBJECTS

ROOT = Path(__file__).resolve().parents[2]

#: Where atheris has wheels, which is where pyproject.toml asks for it.
HAS_ATHERIS = sys.platform == "linux" and platform.machine() == "x86_64" and sys.version_info < (3, 14)
needs_atheris = pytest.mark.skipif(not HAS_ATHERIS, reason="atheris has no wheel for this platform and Python")


def fuzz(*arguments: str) -> tuple[int, str]:
    """Run what ``hack/fuzz`` runs: its exit status and all that it printed."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return ran.returncode, ran.stdout + ran.stderr


@needs_atheris
@pytest.mark.parametrize(("name", "seconds", "least"), [("declarations", "12", 1000), ("frames", "10", 300)])
def test_a_short_run_finds_nothing(tmp_path: Path, name: str, seconds: str, least: int) -> None:
    """Some thousand inputs that nobody thought of come to what was promised; even a loaded machine does so many."""
    status, printed = fuzz(seconds, "--of", name, "--place", str(tmp_path))
    assert status == 0, printed
    tried = re.search(r"^(\d+) inputs, (\d+) of them kept .* nothing found$", printed, re.MULTILINE)
    assert tried is not None, printed
    assert int(tried[1]) > least
    assert int(tried[2]) > len(SUBJECTS[name].seeds)


@needs_atheris
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("name", "plant"), [(name, plant) for name, subject in SUBJECTS.items() for plant in subject.plants]
)
def test_a_planted_bug_is_found_and_can_be_shown_again(name: str, plant: str, tmp_path: Path) -> None:
    """What no seed shows is found, printed with the input, and its replay fails as long as the bug is there."""
    subject = SUBJECTS[name]
    with planted(subject.plants, plant):
        for seed in subject.seeds.values():
            subject.check(seed)
    status, printed = fuzz("120", "--of", name, "--seed", "1", "--place", str(tmp_path), "--plant", plant)
    assert status == 1, printed
    assert "Traceback (most recent call last):" in printed
    assert re.search(r"^FOUND a crash: b['\"]", printed, re.MULTILINE)
    again = re.search(r"^again: hack/fuzz (--of (\w+) --replay (\S+) --plant (\S+))$", printed, re.MULTILINE)
    assert again is not None, printed
    assert (again[2], again[4]) == (name, plant)
    assert fuzz(*again[1].split())[0] == 1
    status, printed = fuzz("--of", name, "--replay", again[3])
    assert (status, printed) == (0, f"{again[3]}: every promise is kept\n")


@pytest.mark.parametrize("name", SUBJECTS["frames"].seeds)
def test_each_seed_of_the_relay_is_said_to_its_end(name: str) -> None:
    """A seed that breaks the rules would end the connection before most of it was said."""
    seed = SUBJECTS["frames"].seeds[name]
    SUBJECTS["frames"].check(seed)
    found = outcome(seed, whole=True)
    assert (found.code, bool(found.client), bool(found.backend)) == ("", True, True)


@pytest.mark.parametrize("seed", sorted(SEEDS.iterdir()), ids=lambda path: path.stem)
def test_each_seed_is_for_a_reader_and_keeps_the_promises(seed: Path) -> None:
    """A seed that nobody reads would be none."""
    assert seed.read_text().partition("\n")[0] in READERS
    check(seed.read_bytes())
