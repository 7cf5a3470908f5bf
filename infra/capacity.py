"""``python -m infra.capacity``: what of AWS's limits a city uses at its busiest, and what breaks first, at what size.

From counted requests (`counted.json`) and a city's month (`infra.workload`): the busiest hour has a tenth of its day, the day a
twenty-second of the month, and the peak that is asked for is ten times that hour. A limit counts as kept when no more than half
of it is used. Limits are AWS's published defaults, each with its source.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

from chalicelib.config import VERSION
from infra import cost, workload
from infra.workload import Workload

WORKING_DAYS = 22
SHARE_OF_THE_BUSIEST_HOUR = 0.1
TIMES = 10
"""The peak: so many times the busiest hour."""
HALF = 0.5

KEY_WRITES, KEY_READS = 1000.0, 3000.0
"""Units a second of one partition key (DynamoDB Developer Guide, "Designing partition keys")."""
TABLE_UNITS = 40_000.0
"""Units a second of one table, on demand, each of reading and writing, before AWS is asked (Service quotas)."""
ITEM_BYTES = 400 * 1024
"""Bytes of one item (Service quotas)."""
CONCURRENT = 1000.0
"""Functions at once of an account and region, which a new account may have to ask for (Lambda quotas)."""
API_RATE, API_BURST = 2500, 1250
"""Requests a second of an account at API Gateway in Milan, and at once (its quotas, "account-level quotas, per Region": a quarter
of what older regions have)."""
STACK_RATE = 500.0
"""What the stack lets through (infra/functions.yaml)."""
PREFIX_PUTS, PREFIX_GETS = 3500.0, 5500.0
"""Requests a second of one prefix of a bucket (S3 User Guide, "Best practices design patterns"), which it divides by itself."""
STREAM_LAG = 300.0
"""Seconds after which `ProjectorAgeAlarm` rings."""
INDEXERS, BATCH = 20, 100
"""Indexers at once, and objects of one batch (infra/functions.yaml, app.py)."""
BATCH_SECONDS = 4.0
"""Of one batch of 100 heads: ranged reads in parallel, and four transactions."""
PROJECTION_SECONDS = 0.15
"""Of one study, read, decided and written."""
LINE_MBIT = 100.0
"""Of one hospital. A faster line is held up by the table for moments: what is throttled is tried again within seconds, and a key
that was idle has five minutes of its limit saved up."""
FACT_UNITS = 5.2
"""Write units of one instance in its study's partition."""
REGISTRATION_BYTES = 420
"""Bytes of one registration in the item that every request reads."""


@dataclass(frozen=True)
class Use:
    """How much of one limit is used at the peak. `raised`: whether AWS, or a setting of the stack, raises it when asked."""

    what: str
    used: float
    limit: float
    unit: str
    raised: str = ""

    @property
    def share(self) -> float:
        return self.used / self.limit


@dataclass(frozen=True)
class Peak:
    """What comes in one second of the peak: instances, studies, calls of the API."""

    load: Workload
    instances: float
    studies: float
    calls: float

    @property
    def of_the_largest(self) -> float:
        """The share of the largest hospital: twice the mean, and all of it where there is one."""
        return min(1.0, 2.0 / self.load.hospitals)


def peak(load: Workload, times: float = TIMES) -> Peak:
    """The peak of a month's load."""
    a_second = SHARE_OF_THE_BUSIEST_HOUR / WORKING_DAYS / 3600 * times
    of_each = workload.counted()
    people = workload.of_people(load, of_each).plus(workload.of_images(load, of_each))
    machines = workload.of_machines(load, of_each).api / workload.SECONDS  # these come evenly, whatever the hour
    return Peak(load, load.instances * a_second, load.studies * a_second, people.api * a_second + machines)


def uses(load: Workload, times: float = TIMES) -> list[Use]:
    """What is used of each limit at the peak."""
    busy, of_each = peak(load, times), workload.counted()
    written = busy.instances * of_each["slice"].written + busy.studies * (
        of_each["question"].written * 2 + of_each["reading"].written * 0.2
    )
    read = (
        busy.instances * of_each["slice"].read
        + busy.studies * (of_each["question"].read * 2 + of_each["reading"].read * 0.2)
        + busy.calls
    )
    registry = load.hospitals * REGISTRATION_BYTES
    batches = busy.instances / BATCH
    largest = busy.of_the_largest
    study_at_once = LINE_MBIT * 1e6 / 8 / load.slice_bytes
    shards = 64
    invocations = busy.calls * 0.12 + batches * BATCH_SECONDS + busy.studies * PROJECTION_SECONDS
    return [
        Use(
            "key F#REGISTRY LATEST: read by every request", (busy.calls + batches) * max(1.0, registry / 4096), KEY_READS, "RU/s"
        ),
        Use("item F#REGISTRY LATEST: all registrations", registry, ITEM_BYTES, "bytes"),
        Use("key F#STUDY: one study that comes as fast as a line lets it", study_at_once * FACT_UNITS, KEY_WRITES, "WU/s"),
        Use("key F#FEED: the feed of the largest hospital", busy.studies * largest * 1.2 * 6, KEY_WRITES, "WU/s"),
        Use("key F#AUDIT: one of 64 chains of the largest hospital", busy.calls * largest / shards * 6, KEY_WRITES, "WU/s"),
        Use("key gsi3 AUDIT#<owner>: what happens to its patients", busy.studies * largest * 3 * 2, KEY_WRITES, "WU/s"),
        Use("key gsi3 D#<viewer>: the list of the largest hospital", busy.studies * largest * 4, KEY_WRITES, "WU/s"),
        Use("key F#FORWARDERS: signs of life", load.hospitals / 60, KEY_WRITES, "WU/s"),
        Use("key F#OFFERED#<hour>: what is announced", busy.instances / 500 * 22 + busy.studies, KEY_WRITES, "WU/s"),
        Use("table: writing", written, TABLE_UNITS, "WU/s", "asked of AWS"),
        Use("table: reading", read, TABLE_UNITS, "RU/s", "asked of AWS"),
        Use(
            "API: requests",
            busy.calls,
            STACK_RATE,
            "a second",
            f"ThrottlingRateLimit of the stack, {API_RATE:,} of the account in Milan (burst {API_BURST:,})",
        ),
        Use("functions at once", invocations, CONCURRENT, "at once", "asked of AWS"),
        Use("indexers at once", batches * BATCH_SECONDS, INDEXERS, "at once", "MaximumConcurrency of the stack"),
        Use("bucket: PUT below instances/", busy.instances, PREFIX_PUTS, "a second", "S3 divides prefixes by itself"),
        Use("bucket: GET below instances/", busy.instances + busy.studies * 20, PREFIX_GETS, "a second", "S3 divides prefixes"),
    ]


def lags(load: Workload, times: float = TIMES) -> tuple[float, float]:
    """(seconds that an object waits in the queue, seconds that a fact waits in the stream) after an hour of the peak."""
    busy = peak(load, times)
    can = INDEXERS * BATCH / BATCH_SECONDS
    queue = BATCH_SECONDS + 1 + max(0.0, (busy.instances - can) * 3600 / can)
    written = busy.instances * workload.counted()["slice"].written
    shards = max(4.0, written / KEY_WRITES)  # a table on demand begins with four partitions, and each has a shard
    touched = busy.studies + busy.instances / 50  # a study is projected once for each batch of its instances
    stream = 1 + max(0.0, (touched / shards * PROJECTION_SECONDS - 1) * 3600)
    return queue, stream


def breaks(load: Workload, which: Callable[[Use], bool] = lambda _: True, share: float = 1.0) -> tuple[float, Use]:
    """(at how many times this city's size, what) breaks first of those limits: the whole of one is used at its peak."""
    low, high = 0.001, 1_000_000.0
    for _ in range(80):
        middle = (low * high) ** 0.5
        low, high = (
            (low, middle) if any(which(use) and use.share > share for use in uses(_larger(load, middle))) else (middle, high)
        )
    first = max((use for use in uses(_larger(load, high)) if which(use)), key=lambda use: use.share)
    return high, first


def _larger(load: Workload, times: float) -> Workload:
    grown = replace(load, slice_studies=round(load.slice_studies * times), film_studies=round(load.film_studies * times))
    return replace(grown, hospitals=max(1, round(load.hospitals * times)))


def report(loads: list[Workload]) -> str:
    """All that the command prints, as Markdown."""
    lines: list[str] = []
    for load in loads:
        lines += [
            f"### {load.name}: {load.hospitals} hospitals, {load.studies:,} studies and {load.gigabytes:,.0f} GB a month",
            "",
            _at_the_peak(load),
            "",
            "| limit | used | of | share | half kept | raised by |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {use.what} | {use.used:,.1f} | {use.limit:,.0f} {use.unit} | {use.share:.1%} "
            f"| {'yes' if use.share <= HALF else '**no**'} | {use.raised or 'nobody'} |"
            for use in sorted(uses(load), key=lambda use: -use.share)
        ]
        lines.append("")
    size, what = breaks(workload.PAVIA)
    hard, fixed = breaks(workload.PAVIA, lambda use: not use.raised)
    pavia = workload.PAVIA.hospitals
    lines += [
        f"**What breaks first**: *{what.what}*, at {size:.1f} times Pavia ({size * pavia:.0f} hospitals)"
        f"{'; ' + what.raised + ' raises it' if what.raised else ''}.",
        f"Of what nobody raises: *{fixed.what}*, at {hard:.1f} times Pavia ({hard * pavia:.0f} hospitals).",
    ]
    return "\n".join(lines)


def _at_the_peak(load: Workload) -> str:
    busy, (queue, stream) = peak(load), lags(load)
    bills = [cost.ours(load, month, workload.prices(), workload.counted()).total for month in cost.MONTHS]
    rate = busy.instances * load.slice_bytes * 8 / 1e6
    return (
        f"The peak, ten times the busiest hour: {busy.instances:.1f} instances, {busy.studies:.2f} studies and"
        f" {busy.calls:.0f} calls a second; {rate:.0f} Mbit/s by presigned addresses, through no function. An object then"
        f" waits {queue:.0f} s to be indexed, a fact {stream:.0f} s to be projected. After ten years"
        f" {load.gigabytes * 120 / 1024:,.0f} TB in {load.instances * 120 / 1e6:,.0f} million objects, and"
        f" {_rows(load) * 120 / 1024:,.1f} TB in the table, which have no limit of their own."
        f" USD of month 1, 12, 60, 120: {', '.join(f'{bill:,.0f}' for bill in bills)}."
    )


def _rows(load: Workload) -> float:
    of_each = workload.counted()
    return (workload.of_images(load, of_each).stored + workload.of_people(load, of_each).stored) / 1024**3


def main(arguments: list[str] | None = None) -> int:
    """The command. 0 where no limit that nobody raises is used by more than half at the peak, else 1."""
    parser = argparse.ArgumentParser(prog="python -m infra.capacity", description=__doc__)
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("--city", choices=sorted(workload.CITIES), action="append", help="default: all")
    options = parser.parse_args(arguments)
    loads = [workload.CITIES[name] for name in options.city or ("pavia", "lombardy")]
    print(report(loads))
    return 1 if any(use.share > HALF and not use.raised for load in loads for use in uses(load)) else 0


if __name__ == "__main__":
    sys.exit(main())
