"""Settings that are lists: how each source writes one, and the exact line for what cannot be in it."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from server.config import load
from tests.unit.test_config import problems, toml

HOSTS = "a list of host names, in which * and ? may stand"
NETWORKS = "a list of networks, as 10.0.0.0/8 or fd00::/8"

#: A file's text, and the problem that it has, without the file's name.
BAD_LISTS: list[tuple[str, list[str]]] = [
    ("reach.hosts = 1", [f"reach.hosts: expected {HOSTS}; found 1 (it is not a list)"]),
    ('reach.hosts = ["a", ""]', [f'reach.hosts: expected {HOSTS}; found ["a", ""] ("" is no name)']),
    ('reach.hosts = ["a b"]', [f'reach.hosts: expected {HOSTS}; found ["a b"] ("a b" is no name)']),
    ("reach.hosts = [1]", [f"reach.hosts: expected {HOSTS}; found [1] (1 is no name)"]),
    ("reach.cidrs = [1]", [f"reach.cidrs: expected {NETWORKS}; found [1] (1 is no network)"]),
    ('reach.cidrs = ["*"]', [f'reach.cidrs: expected {NETWORKS}; found ["*"] ("*" is no network)']),
    (
        'reach.cidrs = ["10.0.0.0/8", "10.0.0.1/8"]',
        [
            (
                f'reach.cidrs: expected {NETWORKS}; found ["10.0.0.0/8", "10.0.0.1/8"] '
                '("10.0.0.1/8" has bits beside the network: it is in 10.0.0.0/8)'
            )
        ],
    ),
    (
        f"reach.cidrs = [{'1, ' * 1001}]",
        [
            f"reach.cidrs: expected {NETWORKS}; found [{'1, ' * 33}... (it has 1001 entries, and may have 1000)",
        ],
    ),
]


@pytest.mark.parametrize(("text", "expected"), BAD_LISTS, ids=[text[:40] for text, _ in BAD_LISTS])
def test_a_malformed_list_is_refused_with_the_entry_that_is_wrong(
    tmp_path: Path, text: str, expected: list[str]
) -> None:
    """Whoever has a hundred networks is told which one it is."""
    file = toml(tmp_path, text)
    assert list(problems(tmp_path, file=file)) == [f"{file}: {problem}" for problem in expected]


def test_a_malformed_list_in_a_variable_is_refused_with_its_name(tmp_path: Path) -> None:
    """There it is one text, with commas."""
    (problem,) = problems(tmp_path, environ={"HOOKSHIM_REACH_CIDRS": "10.0.0.0/8, fe80::/x"})
    expected = f'reach.cidrs: expected {NETWORKS}; found "10.0.0.0/8, fe80::/x" ("fe80::/x" is no network)'
    assert problem == f"environment variable HOOKSHIM_REACH_CIDRS: {expected}"


def test_an_empty_variable_makes_a_list_empty(tmp_path: Path) -> None:
    """So that the environment can take away what the file allows; a table's other keys stay as they are."""
    file = toml(tmp_path, '[reach]\nhosts = ["a"]\ncidrs = ["10.0.0.0/8"]')
    loaded = load(file, {"HOOKSHIM_REACH_HOSTS": ""}, {})
    assert (loaded.config.reach.hosts, loaded.config.reach.cidrs) == ((), (IPv4Network("10.0.0.0/8"),))
    assert loaded.sources["reach.hosts"] == "HOOKSHIM_REACH_HOSTS"
    assert loaded.sources["reach.cidrs"] == str(file)
