"""The process that is fuzzed: atheris calls every reader in it, and ends it with what it has found.

python -m tests.fuzz.target PLANT libFuzzer's arguments...
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["shim", "server"]):
    from tests.fuzz.inputs import check
    from tests.fuzz.mutation import mutated
    from tests.fuzz.plants import planted


def _mutated(data: bytes, most: int, seed: int) -> bytes:
    return mutated(data, most, seed, atheris.Mutate)


def main(plant: str, arguments: list[str]) -> None:
    """Fuzz until the time is over or something is found; does not return."""
    with planted(plant or None):
        atheris.Setup([sys.argv[0], *arguments], check, custom_mutator=_mutated)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
