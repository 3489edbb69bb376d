"""An input: a line with the name of the reader that is to have it, and the text for it."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.promises import READERS

#: Inputs to begin with, one a file.
SEEDS = Path(__file__).with_name("seeds")


def check(data: bytes) -> None:
    """Give an input to its reader; what nobody reads is nothing. A promise that is broken raises."""
    name, _, text = data.partition(b"\n")
    reader = READERS.get(name.decode(errors="replace"))
    if reader is not None:
        # Bytes that are not UTF-8 cannot come by CRI, and may as well mean something here.
        reader(text.decode(errors="surrogateescape"))
