"""What is fuzzed: the readers of declarations, and the relay's frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import frame_mutation, inputs, mutation, relayed
from tests.fuzz.plants import DECLARATIONS, FRAMES, Plant

#: Another input: (data, the most bytes, a seed, libFuzzer's own way to change bytes) -> data.
Mutated = Callable[[bytes, int, int, Callable[[bytes, int], bytes]], bytes]


@dataclass(frozen=True, slots=True)
class Subject:
    """``check`` raises what is wrong with an input; ``seeds`` are inputs to begin with; ``words`` are libFuzzer's."""

    title: str
    check: Callable[[bytes], None]
    seeds: Mapping[str, bytes]
    mutated: Mutated
    plants: Mapping[str, Plant]
    words: Path | None = None


SUBJECTS = {
    "declarations": Subject(
        "the readers of declarations",
        inputs.check,
        {path.stem: path.read_bytes() for path in sorted(inputs.SEEDS.iterdir())},
        mutation.mutated,
        DECLARATIONS,
        inputs.SEEDS.with_name("words.dict"),
    ),
    "frames": Subject(
        "what both peers may say to the relay", relayed.check, relayed.seeds(), frame_mutation.mutated, FRAMES
    ),
}
