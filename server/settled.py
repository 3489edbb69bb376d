"""What a daemon does once with all that it has loaded, before it serves: it is there to stay.

Python's collector would look through some 60,000 objects again and again, tens of milliseconds in which no call goes
on, and find nothing: they are taken out of its sight. What the loading has left free goes back to the system; after it,
as much as large answers come to stays here, where each one of them would else be asked for and given back again: the
kernel takes longer to clear its pages than the answer takes to pass.
"""

from __future__ import annotations

import ctypes
import gc

#: glibc's M_TRIM_THRESHOLD: the bytes that stay. And its M_MMAP_THRESHOLD: larger pieces are the system's (mallopt(3)).
_STAYS, _LARGE = (-1, 4 << 20), (-3, 2 << 20)


def settle() -> None:
    """Tidy up after loading. To be called once; takes some tens of milliseconds."""
    gc.collect()
    gc.freeze()
    # Both are glibc's own: another C library gives back by itself or not at all.
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
    if hasattr(library, "mallopt"):
        for option in (_STAYS, _LARGE):
            library.mallopt(*option)
