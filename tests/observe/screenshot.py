"""Draws the picture of the status page for the README: ``python -m tests.observe.screenshot docs/status-page.png``."""

from __future__ import annotations

import base64
import sys
import tempfile
import time
from pathlib import Path

from tests.observe import journals
from tests.observe.bed import observer
from tests.observe.browser import browser
from tests.observe.stand_in import admin
from tests.support.waiting import until

#: CSS pixels, and how many of the picture's make one.
WIDTH, HEIGHT, SCALE = 960, 1010, 1.5


def main(target: Path) -> None:
    """Write the picture."""
    with (
        tempfile.TemporaryDirectory(prefix="hookshim-s-") as name,
        admin(Path(name) / "a.sock"),
        observer(Path(name), events={"node_name": "node-17"}) as one,
        browser(Path(name)) as window,
    ):
        journals.write(Path(name), time.time() - 6)
        window.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": SCALE, "mobile": False},
        )
        window.scheme("light")
        window.driver.get(one.url)
        until(lambda: window.text("#connection") == "live", "the page is live")
        shot = window.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "optimizeForSpeed": False})
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
