"""What the function that decodes pixels makes of an object: made once, kept under `cache/rendered/`, then only read."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from chalicelib.domain import keys
from chalicelib.domain.errors import NotAcceptable, TryAgain
from chalicelib.domain.pixel_facts import DECODER
from chalicelib.domain.ports import Objects, PixelDecoder

Job = Mapping[str, object]
"""What to do to an object (`pixels.handler`), without where to put it."""

_IN_WORDS = {
    "undecodable": "they are broken",
    "too-slow": "it takes too long",
    "not-allowed": "this is not an instance",
}
"""Of the reasons that are no words themselves."""
_AT_ONCE = 8
_SECONDS, _LAST_SECONDS = 18.0, 24.0
"""Until when one request begins jobs, and waits for those it began; what was made until then is kept for the next."""


def target(job: Job) -> str:
    """Under which key the result of a job is kept: its source's key names its content."""
    text = json.dumps([DECODER, dict(job)], sort_keys=True)
    return keys.rendered(hashlib.sha256(text.encode()).hexdigest())


def make(objects: Objects, pixels: PixelDecoder, jobs: Sequence[Job]) -> dict[str, int]:
    """Have every job done that was not done before; answers the size of each result by its key.

    Raises NotAcceptable, and TryAgain as `attempt` does.
    """
    made, reasons = attempt(objects, pixels, jobs)
    if reasons:
        raise NotAcceptable(f"The pixels of this instance cannot be decoded: {_IN_WORDS.get(reasons[0], reasons[0])}.")
    return made


def attempt(objects: Objects, pixels: PixelDecoder, jobs: Sequence[Job]) -> tuple[dict[str, int], list[str]]:
    """(the size of each result by its key, why others could not be made).

    Raises TryAgain when the time is up: the same request then goes on where this one ended.
    """
    wanted = {target(job): job for job in jobs}
    there = objects.sizes(list(wanted))
    missing = [key for key in wanted if key not in there]
    if not missing:
        return there, []
    started = time.monotonic()
    not_yet = TryAgain("This is being decoded. Please send the same request again.", retry_after=1)

    def run(key: str) -> str | None:
        if time.monotonic() > started + _SECONDS:
            raise not_yet
        return pixels.run({**wanted[key], "target": key})

    pool = ThreadPoolExecutor(min(_AT_ONCE, len(missing)))
    try:
        waiting = [pool.submit(run, key) for key in missing]
        answers = [future.result(max(0.0, started + _LAST_SECONDS - time.monotonic())) for future in waiting]
    except TimeoutError as error:
        raise not_yet from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return there | objects.sizes(missing), [reason for reason in answers if reason is not None]
