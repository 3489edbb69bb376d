"""The process that is fuzzed: atheris checks every input in it, and ends it with what it has found.

python -m tests.fuzz.target SUBJECT PLANT libFuzzer's arguments...
"""

from __future__ import annotations

import sys

import atheris

#: The modules whose branches guide the fuzzer, by subject; and those that do not.
_GUIDES = {"declarations": (["shim", "server"], ["server.relay"]), "frames": (["server.relay"], [])}

with atheris.instrument_imports(*_GUIDES[sys.argv[1]]):
    from tests.fuzz.plants import planted
    from tests.fuzz.subjects import SUBJECTS


def main(name: str, plant: str, arguments: list[str]) -> None:
    """Fuzz until the time is over or something is found; does not return."""
    subject = SUBJECTS[name]

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        return subject.mutated(data, most, seed, atheris.Mutate)

    with planted(subject.plants, plant or None):
        atheris.Setup([sys.argv[0], *arguments], subject.check, custom_mutator=mutated)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
