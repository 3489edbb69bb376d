"""Chromium as a person on the node uses it: a profile of its own, nothing of its maker's, and its console kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


class Browser:
    """One window. ``driver`` is Selenium's."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def look(self, script: str, *values: object) -> Any:
        """What a script in the page returns."""
        return self.driver.execute_script(script, *values)

    def text(self, selector: str) -> str:
        """What is read at the first element, or nothing if there is none."""
        return str(self.look("return document.querySelector(arguments[0])?.textContent.trim() ?? ''", selector))

    def size(self, width: int, height: int) -> None:
        """Be a screen of this size in CSS pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def scheme(self, scheme: Literal["light", "dark"]) -> None:
        """Prefer these colours."""
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)

    def complaints(self) -> list[str]:
        """What the console has said since the last look: errors, and what the page's policy has refused."""
        return [str(entry["message"]) for entry in self._log("browser")]

    def requested(self) -> set[str]:
        """Every address that was asked for since the last look."""
        entries = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        sent = [one["params"] for one in entries if one["method"] == "Network.requestWillBeSent"]
        return {str(one["request"]["url"]) for one in sent}

    def _log(self, kind: str) -> list[dict[str, Any]]:
        answer = self.driver.execute("getLog", {"type": kind})
        return list(answer["value"])

    def names(self) -> list[tuple[str, str]]:
        """(role, name) of everything that a screen reader is told of, in its order."""
        tree = self.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        told = [node for node in tree if not node["ignored"]]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in told]


@contextmanager
def browser(directory: Path) -> Iterator[Browser]:
    """A window with a profile in ``directory``; ended, with all its processes, at the end."""
    options = Options()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*_FLAGS, f"--user-data-dir={directory / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        driver.set_page_load_timeout(30)
        made = Browser(driver)
        driver.get("about:blank")
        made.complaints()
        made.requested()  # its own start page's
        yield made
    finally:
        driver.quit()
