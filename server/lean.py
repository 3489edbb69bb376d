"""Loads structlog without rich, which it would have draw tracebacks: 4 MB of a daemon's memory that nothing uses.

It asks for rich once, when it is loaded, and takes it that there may be none. What wants rich itself loads it later.
"""

from __future__ import annotations

import importlib
import sys

if "structlog" not in sys.modules and "rich" not in sys.modules:
    # Python's own way to have an import fail (its reference, "The module cache").
    sys.modules["rich"] = None  # type: ignore[assignment]
    importlib.import_module("structlog")
    del sys.modules["rich"]
