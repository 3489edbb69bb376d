"""What a daemon does once with all that it has loaded, before it serves: it is there to stay.

Python's collector would look through some 60,000 objects again and again, tens of milliseconds in which no call goes
on, and find nothing: they are taken out of its sight. What the loading has left free goes back to the system.
"""

from __future__ import annotations

import ctypes
import gc


def settle() -> None:
    """Tidy up after loading. To be called once; takes some tens of milliseconds."""
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        # glibc's own, malloc_trim(3); another C library has none, and gives back by itself or not at all.
        trim(0)
