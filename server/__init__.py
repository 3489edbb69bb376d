"""The edges of hookshim: the CRI front door, containerd, the handlers, and the command line."""

from importlib.metadata import version

import server.lean as _lean  # noqa: F401 - before anything loads structlog

VERSION = version("hookshim")
