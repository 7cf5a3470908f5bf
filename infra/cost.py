"""``python -m infra.cost``: what a city costs in a month, beside AWS HealthImaging, from counted requests and dated list prices.

Months 1, 12, 60 and 120 of the same arrivals. Every figure that it starts from is in `counted.json` (counted), `prices.json`
(list prices, with region, date and source) or an option; nothing is measured here, and the bill is AWS's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chalicelib.config import VERSION
from infra import workload
from infra.command_line import UnusableFile, told
from infra.workload import DAYS, Taken, Workload

MONTHS = (1, 12, 60, 120)
MOVED_AFTER_DAYS = 30
"""Days after which instances move to S3 Glacier Instant Retrieval: as infra/city.yaml says, which a test compares."""
SMALLEST_MOVED = 131_072
"""Bytes. A smaller object is billed as one of this size in a colder class."""
ALARMS, METRICS = 21, 6
"""Of one city: what is watched, and what its logs are counted for."""
_MILLION, _THOUSAND, _GB = 1e6, 1e3, 1024**3


@dataclass(frozen=True)
class Bill:
    """USD of one month. `images` is what HealthImaging does too: kept, indexed, read; the rest is what it leaves to others."""

    images: Mapping[str, float]
    rest: Mapping[str, float]

    @property
    def of_images(self) -> float:
        return sum(self.images.values())

    @property
    def total(self) -> float:
        return self.of_images + sum(self.rest.values())


# Storage -----------------------------------------------------------------------------------------------------------------


def kept(arriving: float, month: int, days: float) -> tuple[float, float]:
    """GB-months of month `month` (1 is the first) that are younger and older than `days`, where `arriving` GB come evenly in each
    month."""
    end, start = month * DAYS, (month - 1) * DAYS

    def until(day: float) -> float:  # the integral of what is younger than `days`, from the beginning on
        return day * day / 2 if day <= days else days * days / 2 + (day - days) * days

    everything = (end * end - start * start) / 2
    young = until(end) - until(start)
    return arriving / DAYS * young / DAYS, arriving / DAYS * (everything - young) / DAYS


def storage(load: Workload, month: int, price: Mapping[str, Any], days: float | None) -> dict[str, float]:
    """USD for the bytes of images: by class, by moves, and by what is read of the colder class. `days` None: nothing is moved."""
    small = load.slice_studies * load.slices * load.smallest
    small_gb = small * SMALLEST_MOVED / 2 / _GB
    large_gb, large = load.gigabytes - small_gb, load.instances - small
    if days is None:
        young, old = sum(kept(load.gigabytes, month, 0.0)), 0.0
        return {"S3 Standard": young * price["s3_standard_gb_month"]}
    young, old = kept(large_gb, month, days)
    always = sum(kept(small_gb, month, 0.0))
    moved = min(1.0, max(0.0, month - days / DAYS))  # the share of a month's objects that came to that age in this one
    later = load.read_later if month * DAYS > days else 0.0
    cold_reads = large_gb * later * price["s3_instant_retrieval_gb"]
    cold_gets = large * later / _THOUSAND * price["s3_instant_retrieval_get_per_thousand"]
    return {
        "S3 Standard": (young + always) * price["s3_standard_gb_month"],
        "S3 Instant Retrieval": old * price["s3_instant_retrieval_gb_month"],
        "moves": large * moved / _THOUSAND * price["s3_instant_retrieval_move_per_thousand"],
        "reading the colder": cold_reads + cold_gets,
    }


def tiered(load: Workload, month: int, price: Mapping[str, Any]) -> float:
    """USD by S3 Intelligent-Tiering, to which objects would be put at once, and which watches each of them."""
    young, _ = kept(load.gigabytes, month, 30.0)
    _, older = kept(load.gigabytes, month, 30.0)
    _, oldest = kept(load.gigabytes, month, 90.0)
    watched = sum(kept(float(load.instances), month, 0.0))
    return float(
        young * price["s3_intelligent_frequent_gb_month"]
        + (older - oldest) * price["s3_intelligent_infrequent_gb_month"]
        + oldest * price["s3_intelligent_archive_gb_month"]
        + watched / _THOUSAND * price["s3_intelligent_monitoring_per_thousand_month"]
    )


def pays_after(size: float, price: Mapping[str, Any]) -> float:
    """Months after which moving one object of so many bytes has paid for itself."""
    saved = price["s3_standard_gb_month"] * size - price["s3_instant_retrieval_gb_month"] * max(size, SMALLEST_MOVED)
    moving = price["s3_instant_retrieval_move_per_thousand"] / _THOUSAND
    return float(moving / (saved / _GB)) if saved > 0 else float("inf")


# Everything else ---------------------------------------------------------------------------------------------------------


def requests(taken: Taken, price: Mapping[str, Any], table: str = "dynamodb") -> dict[str, float]:
    """USD for what is asked of the services."""
    return {
        "API": taken.api * (price["api_request_per_million"] + price["lambda_request_per_million"]) / _MILLION,
        "functions": taken.gb_seconds * price["lambda_gb_second_arm"],
        "table, requests": taken.written / _MILLION * price[f"{table}_write_unit_per_million"]
        + taken.read / _MILLION * price[f"{table}_read_unit_per_million"],
        "S3, requests": taken.puts / _THOUSAND * price["s3_put_per_thousand"]
        + taken.gets / _THOUSAND * price["s3_get_per_thousand"],
        "logs": taken.log_bytes / _GB * price["logs_gb"],
    }


def rows_kept(stored: float, month: int, price: Mapping[str, Any], table: str = "dynamodb") -> float:
    """USD for the table's bytes, of which `stored` come each month, and for their recovery to any moment."""
    each = price[f"{table}_gb_month"] + price["dynamodb_recovery_gb_month"]
    return float(sum(kept(stored / _GB, month, 0.0)) * each)


def ours(
    load: Workload, month: int, price: Mapping[str, Any], of_each: Mapping[str, Taken], *, table: str = "dynamodb_infrequent"
) -> Bill:
    """The bill of a month."""
    counted = dict(of_each)
    images, people = workload.of_images(load, counted), workload.of_people(load, counted)
    machines = workload.of_machines(load, counted)
    metadata = sum(kept(images.metadata_bytes / _GB, month, 0.0)) * price["s3_standard_gb_month"]
    arrivals = requests(replace(images, log_bytes=0.0), price, table)
    reading = load.readings * load.instances / load.studies
    return Bill(
        images={
            **storage(load, month, price, MOVED_AFTER_DAYS),
            **arrivals,
            "table, kept": rows_kept(images.stored, month, price, table),
            "metadata objects": metadata,
            "reading": reading / _THOUSAND * price["s3_get_per_thousand"],
        },
        rest={
            "audit, kept": rows_kept(people.stored, month, price, table),
            "people": sum(requests(people, price, table).values()),
            "signs of life and feeds": sum(requests(machines, price, table).values()),
            "logs of arrivals": images.log_bytes / _GB * price["logs_gb"],
            "alarms, metrics, key": ALARMS * price["alarm_month"] + METRICS * price["metric_month"] + price["key_month"],
        },
    )


def of_institution(counts: Mapping[str, int], price: Mapping[str, Any], of_each: Mapping[str, Taken]) -> float:
    """USD of a month of one institution, from what `operate usage` counts: what came in it lies in Standard, what is older where
    it costs less; instances take what a slice does, recorded requests what a question does, rounded up.
    """
    came, older = counts["bytes"] / _GB, (counts["stored_bytes"] - counts["bytes"]) / _GB
    rows = counts["stored_instances"] * of_each["slice"].stored / _GB
    asked = of_each["slice"].times(counts["instances"]).plus(of_each["question"].times(counts["requests"]))
    return float(
        came * price["s3_standard_gb_month"]
        + older * price["s3_instant_retrieval_gb_month"]
        + rows * (price["dynamodb_infrequent_gb_month"] + price["dynamodb_recovery_gb_month"])
        + sum(requests(asked, price, "dynamodb_infrequent").values())
    )


def health_imaging(load: Workload, month: int, price: Mapping[str, Any]) -> float:
    """USD of HealthImaging: bytes by tier, of which the month's readings bring some back to the dearer one, and its calls.

    Nothing is counted for what it does not have: whose study it is, sharing, audit, a way in from a PACS.
    """
    theirs = price["health_imaging"]
    study_mb = load.films * load.film_bytes / 1e6
    padded = max(study_mb, theirs["smallest_image_set_mb"]) / study_mb
    films = load.film_studies * load.films * load.film_bytes / _GB
    arriving = load.gigabytes - films + films * padded
    young, old = kept(arriving, month, theirs["archive_after_days_unread"])
    woken = min(old, arriving * load.read_later)
    calls = load.readings * (load.instances / load.studies + 2)
    return float(
        (young + woken) * theirs["frequent_gb_month"]
        + (old - woken) * theirs["archive_gb_month"]
        + calls / _THOUSAND * theirs["api_request_per_thousand"]
    )


# The command -------------------------------------------------------------------------------------------------------------


def table(load: Workload, price: Mapping[str, Any], of_each: Mapping[str, Taken]) -> list[str]:
    """The comparison, as Markdown."""
    lines = [
        "| month | kept, TB | ours, images | ours, all of it | HealthImaging, images only | a study | a hospital | smallest |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for month in MONTHS:
        bill, theirs = ours(load, month, price, of_each), health_imaging(load, month, price)
        smallest = "ours, all of it" if bill.total < theirs else "ours, images" if bill.of_images < theirs else "HealthImaging"
        lines.append(
            f"| {month} | {load.gigabytes * month / 1024:.1f} | {bill.of_images:.0f} | {bill.total:.0f} | {theirs:.0f} "
            f"| {bill.total / load.studies:.4f} | {bill.total / load.hospitals:.2f} | {smallest} |"
        )
    return lines


def classes(load: Workload, price: Mapping[str, Any]) -> list[str]:
    """What the bytes of images cost by where they lie, as Markdown."""
    lines = ["| month | Standard for ever | Intelligent-Tiering | Instant Retrieval after 30 days | after 90 | after 180 |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for month in MONTHS:
        moved = [sum(storage(load, month, price, days).values()) for days in (30, 90, 180)]
        lines.append(
            f"| {month} | {sum(storage(load, month, price, None).values()):.0f} | {tiered(load, month, price):.0f} | "
            + " | ".join(f"{count:.0f}" for count in moved)
            + " |"
        )
    return lines


def parts(load: Workload, price: Mapping[str, Any], of_each: Mapping[str, Taken]) -> list[str]:
    """Each part of the bill in these months, as Markdown."""
    bills = [ours(load, month, price, of_each) for month in MONTHS]
    lines = [f"| USD of month | {' | '.join(map(str, MONTHS))} |", "|---|" + "---|" * len(MONTHS)]
    for name in bills[0].images:
        lines.append(f"| {name} | " + " | ".join(f"{bill.images[name]:.2f}" for bill in bills) + " |")
    for name in bills[0].rest:
        lines.append(f"| *{name}* | " + " | ".join(f"{bill.rest[name]:.2f}" for bill in bills) + " |")
    return lines


def by_the_object(bill: Bill) -> float:
    """USD of what is paid for each instance, whatever its size: HealthImaging has no such price."""
    return sum(bill.images[name] for name in ("moves", "table, requests", "table, kept", "S3, requests"))


def smaller_from(load: Workload, month: int, price: Mapping[str, Any], of_each: Mapping[str, Taken]) -> int | None:
    """The size of a slice (KB) from which on ours, for images, is the smaller number of a month; None above 4 MB."""
    for kilobytes in range(20, 4000, 10):
        larger = replace(load, slice_bytes=kilobytes * 1000)
        if ours(larger, month, price, of_each).of_images < health_imaging(larger, month, price):
            return kilobytes
    return None


def reasons(load: Workload, price: Mapping[str, Any], of_each: Mapping[str, Taken]) -> list[str]:
    """Why ours is not the smallest number, row by row."""
    told = []
    for month in MONTHS:
        bill, theirs = ours(load, month, price, of_each), health_imaging(load, month, price)
        if bill.total >= theirs:
            size = smaller_from(load, month, price, of_each)
            paid = by_the_object(bill)
            told.append(
                f"* Month {month}: {paid:.0f} of our {bill.of_images:.0f} USD for images are paid by the object (moves, rows and"
                f" requests of {load.instances:,} instances), which HealthImaging does not bill; "
                + (f"ours is the smaller from slices of {size} KB on." if size else "ours is the larger at any size.")
            )
    return told


def report(load: Workload, price: Mapping[str, Any], of_each: Mapping[str, Taken]) -> str:
    """All that the command prints."""
    theirs = price["health_imaging"]
    sign = sum(requests(of_each["sign"].times(workload.SECONDS / 60), price).values())
    waiting = sum(requests(of_each["waiting_second"].times(workload.SECONDS), price).values())
    asking = sum(requests(of_each["poll"].times(workload.SECONDS / load.pace), price).values())
    smallest, slice_, film = (pays_after(size, price) for size in (SMALLEST_MOVED, load.slice_bytes, load.film_bytes))
    sizes = f"{load.slice_bytes // 1000} KB", f"{load.film_bytes / 1e6:.1f} MB"
    return "\n".join(
        [
            f"{load.name}: {load.hospitals} hospitals, {load.studies:,} studies a month: {load.slice_studies:,} of {load.slices}"
            f" slices ({sizes[0]}), {load.film_studies:,} of {load.films} films ({sizes[1]}); {load.gigabytes:.0f} GB.",
            f"USD, list prices of {price['region']} of {price['date']}: {price['source']}.",
            f"HealthImaging: {theirs['region']}, {theirs['date']}, {theirs['source']}. It is not offered in eu-south-1.",
            "",
            *table(load, price, of_each),
            "",
            *reasons(load, price, of_each),
            "",
            "The parts; in italics what HealthImaging leaves to others: sharing, audit, ways in and out, watching.",
            "",
            *parts(load, price, of_each),
            "",
            "Where the bytes of images lie:",
            "",
            *classes(load, price),
            "",
            f"Moving an object has paid for itself after {smallest:.1f} months at 128 KB, {slice_:.1f} for a slice, {film:.1f}"
            " for a film. What is smaller is billed as 128 KB there, and stays in Standard.",
            f"Of one hospital in a month: signs of life {sign:.2f}; its feed, asked every {load.pace:g} s, {asking:.2f}, where"
            f" waiting for it in a function would be {waiting:.2f}.",
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    """The command. 0 where ours, with all of it, is the smallest number of each row, else 1; 2 without a list of prices."""
    parser = argparse.ArgumentParser(prog="python -m infra.cost", description=__doc__)
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("--city", choices=sorted(workload.CITIES), default="pavia")
    parser.add_argument("--prices", type=Path, default=workload.PRICES, metavar="FILE", help="prices as in infra/prices.json")
    parser.add_argument("--read", type=float, metavar="SHARE", help="of a month's studies, how many others open fresh, and later")
    options = parser.parse_args(arguments)
    load, of_each = workload.CITIES[options.city], workload.counted()
    try:
        price = workload.prices(options.prices, with_peer=True)
    except (UnusableFile, OSError) as error:
        print(f"cost: {told(error)}", file=sys.stderr)
        return 2
    if options.read is not None:
        load = replace(load, read_fresh=options.read, read_later=options.read)
    print(report(load, price, of_each))
    return 0 if all(ours(load, month, price, of_each).total < health_imaging(load, month, price) for month in MONTHS) else 1


if __name__ == "__main__":
    sys.exit(main())
