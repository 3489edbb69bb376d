"""A daemon's metrics, as Prometheus reads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from server.admin.client import AdminClient
from tests.support.hookshimd import Hookshim


class Scrape:
    """What a scrape was answered with."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    @property
    def names(self) -> set[str]:
        """The names of all metrics, of which there need not be a sample yet."""
        return {line.split()[2] for line in self.text.splitlines() if line.startswith("# TYPE ")}

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples with this name and these labels, whatever others they have; 0 if there are none."""
        return sum(self.samples(name, **labels).values())

    def samples(self, name: str, **labels: str) -> dict[tuple[str, ...], float]:
        """Those that are not 0, each by the values of all of its labels in the order of their names."""
        return {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for sample in self._samples
            if sample.value and sample.name == name and labels.items() <= sample.labels.items()
        }


def scrape(daemon: Hookshim) -> Scrape:
    """Ask a daemon, at its admin socket."""
    with AdminClient(daemon.admin) as client:
        return Scrape(client.metrics())


def promtool(*arguments: str | Path, text: str = "") -> str:
    """What promtool says; it must be content."""
    done = subprocess.run(["promtool", *arguments], input=text, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
