# ruff: noqa: T201 - a command prints
"""``hack/fuzz``: begin the process that is fuzzed, wait for it, and say what came of it."""

from __future__ import annotations

import argparse
import os
import re
import secrets
import subprocess
import sys
import traceback
from pathlib import Path

from tests.fuzz.plants import planted
from tests.fuzz.subjects import SUBJECTS

#: Seconds for one input, far above the milliseconds that a large one takes; and for the process to begin and to end.
_ONE_INPUT = 10
_GRACE = 60
_MAX_BYTES = 8192
_MEMORY_MIB = 1024


def main() -> int:
    """The command line; the exit status is 1 for a finding, 2 for a fuzzer that does not run."""
    parser = argparse.ArgumentParser(prog="hack/fuzz", description=__doc__)
    parser.add_argument("seconds", nargs="?", type=int, default=60, help="for each that is fuzzed")
    parser.add_argument("--of", choices=list(SUBJECTS), help="what is fuzzed (all, one after the other)")
    parser.add_argument("--seed", type=int, help="make the same changes again")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="check one input; needs --of")
    parser.add_argument("--plant", metavar="NAME", help="with this bug put in, to see that it is found; needs --of")
    parser.add_argument("--place", type=Path, default=Path(".cache/fuzz"), help="where inputs are kept")
    given = parser.parse_args()
    if given.of is None and (given.replay is not None or given.plant is not None):
        parser.error("--replay and --plant need --of")
    if given.plant is not None and given.plant not in SUBJECTS[given.of].plants:
        parser.error(f"--plant is one of {', '.join(SUBJECTS[given.of].plants)}")
    if given.replay is not None:
        return replay(given.of, given.replay, given.plant)
    seed = given.seed or secrets.randbelow(2**31 - 1) + 1
    names = list(SUBJECTS) if given.of is None else [given.of]
    return max(fuzz(name, given.seconds, seed, given.place / name, given.plant) for name in names)


def replay(name: str, path: Path, plant: str | None) -> int:
    """Check one input, in this process, and say what came of it."""
    subject = SUBJECTS[name]
    try:
        with planted(subject.plants, plant):
            subject.check(path.read_bytes())
    except Exception:  # noqa: BLE001 - whatever it is, it is the finding
        # The finding may be that something gets to a terminal as it is.
        for line in traceback.format_exc().splitlines():
            print("".join(char if char.isprintable() else ascii(char)[1:-1] for char in line))
        return 1
    print(f"{path}: every promise is kept")
    return 0


def fuzz(name: str, seconds: int, seed: int, place: Path, plant: str | None) -> int:
    """Fuzz for so long, and print what came of it."""
    subject = SUBJECTS[name]
    corpus, found, seeds = place / "corpus", place / "found", place / "seeds"
    for directory in (corpus, found, seeds):
        directory.mkdir(parents=True, exist_ok=True)
    for title, data in subject.seeds.items():
        (seeds / title).write_bytes(data)
    before = set(found.iterdir())
    print(f"fuzzing {subject.title} for {seconds} s, seed {seed}", flush=True)
    command = [
        sys.executable, "-m", "tests.fuzz.target", name, plant or "", f"-max_total_time={seconds}", f"-seed={seed}",
        f"-timeout={_ONE_INPUT}", f"-max_len={_MAX_BYTES}", f"-rss_limit_mb={_MEMORY_MIB}",
        f"-artifact_prefix={found}/", "-print_final_stats=1",
        *([f"-dict={subject.words}"] if subject.words else []), str(corpus), str(seeds),
    ]  # fmt: skip
    try:
        ran = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds + _GRACE,
            check=False,
            # with it, a seed makes the same inputs again
            env=os.environ | {"PYTHONHASHSEED": "0"},
        )
    except subprocess.TimeoutExpired as error:
        print(f"the fuzzer did not end by itself:\n{_tail(error.stderr or b'')}")
        return 2
    findings = sorted(set(found.iterdir()) - before)
    if not findings and ran.returncode == 0:
        return _summary(ran.stderr, len(subject.seeds))
    if not findings:
        print(f"the fuzzer ended with {ran.returncode} and no finding:\n{_tail(ran.stderr)}")
        return 2
    for path in findings:
        kind = path.name.partition("-")[0]
        if kind == "crash":
            replay(name, path, plant)
        else:
            print(_tail(ran.stderr))
        option = f" --plant {plant}" if plant else ""
        print(f"FOUND a {kind}: {path.read_bytes()!r}\nagain: hack/fuzz --of {name} --replay {path}{option}")
    return 1


def _summary(output: str, seeds: int) -> int:
    runs = re.search(r"stat::number_of_executed_units: *(\d+)", output)
    done = re.findall(r"#\d+\s+\w+ +cov: (\d+) ft: \d+ corp: (\d+)", output)
    if runs is None or not done or int(runs[1]) <= seeds:
        print(f"the fuzzer tried nothing:\n{_tail(output)}")
        return 2
    print(f"{runs[1]} inputs, {done[-1][1]} of them kept for the {done[-1][0]} branches they reach; nothing found")
    return 0


def _tail(output: str | bytes) -> str:
    text = output if isinstance(output, str) else output.decode(errors="replace")
    return "\n".join(text.splitlines()[-40:])


if __name__ == "__main__":
    sys.exit(main())
