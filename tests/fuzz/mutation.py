"""Damage to known inputs: bits, lengths, tokens, pieces of one another; the same for the same seed and number."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Sequence
from types import FrameType

from tests.fuzz.targets import Finding, Target

SECONDS = 2.0
"""Processor time after which an input hangs its reader."""
_LENGTHS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


class Hung(BaseException):
    """A reader did not end in time."""


def mutated(chance: random.Random, corpus: Sequence[bytes], target: Target) -> bytes:
    """One input."""
    data = bytearray(chance.choice(corpus))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5, 8))):
        _damage(chance, data, corpus, target)
    return bytes(data[: target.largest])


def _damage(chance: random.Random, data: bytearray, corpus: Sequence[bytes], target: Target) -> None:
    at = chance.randrange(len(data) + 1)
    kind = chance.randrange(8)
    if kind == 0 and data:
        data[at % len(data)] ^= 1 << chance.randrange(8)
    elif kind == 1 and data:
        data[at % len(data)] = chance.randrange(256)
    elif kind == 2:
        size = chance.choice((1, 2, 4))
        value = chance.choice(_LENGTHS) & ((1 << 8 * size) - 1)
        data[at : at + size] = value.to_bytes(size, chance.choice(("little", "big")))
    elif kind == 3 and target.tokens:
        token = chance.choice(target.tokens)
        data[at : at + chance.choice((0, len(token)))] = token
    elif kind == 4:
        del data[at : at + chance.choice((1, 2, 8, 64, 512))]
    elif kind == 5:
        piece = data[at : at + chance.choice((1, 4, 16, 128))]
        data[at:at] = piece * chance.choice((1, 2, 20))
    elif kind == 6:
        other = chance.choice(corpus)
        start = chance.randrange(len(other) + 1)
        data[at:] = other[start:]
    else:
        data[at:at] = chance.randbytes(chance.choice((1, 2, 4, 8)))


def tried(target: Target, data: bytes) -> Finding | None:
    """What is wrong with how a target reads an input: an error that is not its own, or more than SECONDS."""

    def hang(_signal: int, _frame: FrameType | None) -> None:
        raise Hung

    before = signal.signal(signal.SIGPROF, hang)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        target.read(data)
    except Hung:
        return Finding(target.name, data, f"it did not end within {SECONDS} s of processor time")
    except Exception as error:
        return Finding(target.name, data, f"{type(error).__name__}: {error}"[:300])
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return None


def run(target: Target, seed: int, first: int, seconds: float, most: int) -> tuple[int, Finding | None]:
    """Try inputs number `first` and after, for so long, `most` at the most; how many were tried, and what was found."""
    corpus = target.corpus() or [b""]
    deadline = time.monotonic() + seconds
    count = 0
    while count < most and time.monotonic() < deadline:
        finding = tried(target, mutated(random.Random(f"{seed}/{target.name}/{first + count}"), corpus, target))
        count += 1
        if finding is not None:
            return count, finding
    return count, None
