"""The settings file that is installed: all keys, each explained, with the defaults that hold without it."""

from __future__ import annotations

import re
from pathlib import Path

from server.config import SETTINGS, Config, load
from server.toml import parse

FILE = Path(__file__).parents[2] / "hack/deploy/config.toml"

#: A setting at its default, commented out: no space behind the #, as behind that of an explanation.
_COMMENTED = re.compile(r"^#(?=[a-z_]+ = )", re.MULTILINE)


def test_every_setting_stands_there_with_its_default(tmp_path: Path) -> None:
    """None is missing, none is unknown, and none says another value than what holds."""
    text = _COMMENTED.sub("", FILE.read_text())
    (tmp_path / "config.toml").write_text(text)
    loaded = load(tmp_path / "config.toml", {}, {})
    assert {path for path, source in loaded.sources.items() if source == "default"} == set()
    assert set(loaded.sources) == set(SETTINGS)
    assert loaded.config == Config()


def test_it_changes_nothing_until_somebody_edits_it() -> None:
    """All is commented out: a later version's defaults hold for whoever has set nothing."""
    table = parse(FILE.read_bytes())
    assert all(value == {} for value in table.values())
    assert load(FILE, {}, {}).config == Config()


def test_every_setting_is_explained() -> None:
    """There is a sentence right above it."""
    lines = FILE.read_text().splitlines()
    for number, line in enumerate(lines):
        if _COMMENTED.match(line):
            above = next(other for other in reversed(lines[:number]) if not other.startswith("["))
            assert above.startswith("# "), line
