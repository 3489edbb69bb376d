#!/usr/bin/python3
"""Stands in for a kubelet, as a service of a node: records its command line, and ends if its runtime is not there."""

import signal
import socket
import sys
from pathlib import Path

#: Each start's command line, a line each; and what this kubelet does not come up with.
RECORD, REFUSED = Path("/var/log/kubelet"), Path("/etc/kubelet-refuses")

with RECORD.open("a") as record:
    record.write(" ".join(sys.argv[1:]) + "\n")
# As with the real one's options: the last counts.
endpoint = [word.partition("=")[2] for word in sys.argv if word.startswith("--container-runtime-endpoint=")][-1]
if REFUSED.exists() and endpoint == REFUSED.read_text():
    sys.exit(f"cannot use {endpoint}")
with socket.socket(socket.AF_UNIX) as runtime:
    runtime.connect(endpoint.removeprefix("unix://"))
    signal.pause()
