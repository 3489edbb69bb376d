"""Changes to what is said to the relay that keep it nearly HTTP/2: things said more, less, again or elsewhere."""

from __future__ import annotations

from random import Random

from server.relay import frames
from tests.fuzz.mutation import Mutate
from tests.fuzz.relayed import cut

_NUMBERS = (0, 1, 4, 5, 9, 100, 1000, 16383, 16384, 40000, 65535)
_FLAGS = (0, frames.END_STREAM, frames.END_HEADERS, frames.END_STREAM | frames.END_HEADERS, frames.PADDED, 0xFF)

#: The last stream of the inputs that it begins with.
_LAST = 7


def mutated(data: bytes, most: int, seed: int, mutate: Mutate) -> bytes:
    """Another input of at most ``most`` bytes, whose things said are mostly whole."""
    random = Random(seed)
    if random.random() < 0.1:
        return mutate(data, most)
    things = cut(data)
    for _ in range(random.randint(1, 3)):
        at = random.randint(0, len(things))
        match random.randrange(8):
            case 0 if things:
                things.pop(at % len(things))
            case 1 if things:
                things.insert(at, random.choice(things))
            case 2 if things:
                things[at % len(things)] = mutate(things[at % len(things)], 64)
            case _:
                at = at if random.random() < 0.2 else len(things)
                things[at:at] = _more(random, things)
    return b"".join(things)[:most]


def _more(random: Random, things: list[bytes]) -> list[bytes]:
    """What one of the peers may say next, and what belongs to it."""
    made_here = [thing for thing in cut(b"".join(things)) if thing[0] & 3 == 3]
    begun = sorted({thing[3] for thing in made_here if thing[1] == frames.HEADERS} | {_LAST})
    new, known, side = (begun[-1] + 2) & 0xFF, random.choice(begun), random.randrange(2)

    def made(client: int, kind: int, flags: int, stream: int, number: int | None = None) -> bytes:
        said = random.choice(_NUMBERS) if number is None else number
        return bytes([client | 2 | random.choice((0, 3, 15, 63)) << 2, kind, flags, stream]) + said.to_bytes(2)

    whole, end, method = frames.END_HEADERS, random.choice(_FLAGS), random.randrange(4)
    match random.randrange(8):
        case 0:
            return [made(1, frames.HEADERS, whole, new, method)]
        case 1:
            more = [made(1, frames.CONTINUATION, 0, new, random.choice((0, 3, 300)))] * random.randrange(3)
            return [made(1, frames.HEADERS, 0, new, method), *more, made(1, frames.CONTINUATION, whole, new, 0)]
        case 2:
            data = [made(1, frames.DATA, 0, new) for _ in range(random.randint(1, 4))]
            return [made(1, frames.HEADERS, whole, new, method), *data]
        case 3:
            return [made(side, frames.WINDOW_UPDATE, 0, random.choice((0, known)))]
        case 4:
            name = random.choice((1, 4, 5))
            return [made(side, frames.SETTINGS, 0, name), made(1 - side, frames.SETTINGS, frames.ACK, 0)]
        case 5:
            answer = [made(0, frames.HEADERS, whole, known, 4), made(0, frames.DATA, end, known)]
            return [*answer, made(0, frames.HEADERS, whole | frames.END_STREAM, known, 4)]
        case 6:
            return [made(side, random.choice((frames.RST_STREAM, frames.DATA)), end, known)]
        case _:
            return [made(side, random.randrange(11), end, random.choice((0, known, new)))]
