"""The alerts and the dashboard that come with hookshim: promtool's verdict, and that no query is about nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import MakeHookshim
from tests.support.containerd import PrivateContainerd
from tests.support.metrics import Scrape, promtool, scrape

DEPLOY = Path(__file__).parents[2] / "hack" / "deploy"
ALERTS = DEPLOY / "prometheus-alerts.yml"
DASHBOARD = DEPLOY / "grafana-dashboard.json"

#: What Grafana puts in for its own variables.
VARIABLES = {"$__rate_interval": "5m", "$__range": "6h", "$instance": ".*"}

#: A metric in a query: a name with nothing before it that makes it a label, and no call.
METRIC = re.compile(r"\b(?:hookshim|process)_[a-z_]+\b(?!\()")


def alerts() -> list[dict[str, Any]]:
    """The alerts, as they are written."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> Iterator[dict[str, Any]]:
    """The dashboard's panels."""
    yield from json.loads(DASHBOARD.read_text())["panels"]


def queries() -> list[str]:
    """The dashboard's queries, as Grafana asks them."""
    found = [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    for variable, value in VARIABLES.items():
        found = [query.replace(variable, value) for query in found]
    return found


def metrics_of(query: str) -> set[str]:
    """The metrics that a query is about; of a histogram, its own name."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in METRIC.findall(query)}


def test_promtool_finds_the_alerts_valid_and_each_fires_when_it_should() -> None:
    """By the tests beside them, of which there is at least one for every alert."""
    promtool("check", "rules", ALERTS)
    tests = DEPLOY / "prometheus-alerts-test.yml"
    promtool("test", "rules", tests)
    fires = [rule["alert"] for rule in alerts() if f'alertname="{rule["alert"]}"' not in tests.read_text()]
    assert fires == []


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    """A sentence that names the node, what follows from it, and the first step on the node."""
    assert rule["labels"]["severity"] in ("critical", "warning")
    notes = rule["annotations"]
    assert notes.keys() == {"summary", "description", "runbook"}
    assert "{{ $labels.instance }}" in notes["summary"]
    assert "On the node: " in notes["runbook"]


def test_every_query_of_the_dashboard_is_valid(tmp_path: Path) -> None:
    """Promtool reads them as rules."""
    asked = queries()
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(asked)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(asked)} rules found" in promtool("check", "rules", file)
    assert [query for query in asked if "$" in query] == []


def test_the_dashboard_can_be_imported_anywhere() -> None:
    """Its data source is a variable, no panel lies on another, and no two have an id or a title in common."""
    shown = list(panels())
    sources = [
        source["uid"]
        for panel in shown
        for source in (panel.get("datasource"), *(target["datasource"] for target in panel.get("targets", [])))
        if source
    ]
    assert set(sources) == {"${datasource}"}
    assert len({panel["id"] for panel in shown}) == len({panel["title"] for panel in shown}) == len(shown)
    cells = [
        (x, y)
        for where in (panel["gridPos"] for panel in shown)
        for x in range(where["x"], where["x"] + where["w"])
        for y in range(where["y"], where["y"] + where["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


@pytest.fixture
def scraped(hookshim: MakeHookshim, containerd: PrivateContainerd) -> Scrape:
    """A scrape of a daemon that has done nothing yet."""
    return scrape(hookshim(containerd))


def test_every_metric_that_alerts_and_dashboard_name_is_in_a_live_scrape(scraped: Scrape) -> None:
    """And every one of hookshim's own is looked at by one of them."""
    named = set().union(*(metrics_of(query) for query in [*queries(), *(rule["expr"] for rule in alerts())]))
    assert named - scraped.names == set()
    own = {name for name in scraped.names if name.startswith("hookshim_")}
    assert own - named == set()


def test_what_alerts_ask_for_is_there_before_anything_has_happened(scraped: Scrape) -> None:
    """A counter that begins with 1 has never increased: those that alerts look at begin with 0."""
    for outcome in ("delivered", "failed", "missed"):
        for hook in ("postStart", "preStop", "postStop"):
            line = f'hookshim_deliveries_total{{handler="exec",hook="{hook}",outcome="{outcome}"}} 0.0'
            assert line in scraped.text.splitlines()
