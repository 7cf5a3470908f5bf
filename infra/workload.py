"""What a city does in a month, and what one of each takes of AWS: the figures that cost and capacity are computed from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from infra.command_line import UnusableFile, json_file

COUNTED = Path(__file__).with_name("counted.json")
PRICES = Path(__file__).with_name("prices.json")
DAYS = 365.25 / 12
"""Of a month."""
SECONDS = DAYS * 86400


@dataclass(frozen=True)
class Taken:
    """What something takes: calls of the API, requests of S3, request units of the table, bytes that stay in it, function time
    (GB s), bytes of metadata objects and of logs."""

    api: float = 0.0
    puts: float = 0.0
    gets: float = 0.0
    written: float = 0.0
    read: float = 0.0
    stored: float = 0.0
    gb_seconds: float = 0.0
    metadata_bytes: float = 0.0
    log_bytes: float = 0.0

    def times(self, count: float) -> Taken:
        """So many of it."""
        return Taken(*(getattr(self, field.name) * count for field in fields(self)))

    def plus(self, other: Taken) -> Taken:
        """Both together."""
        return Taken(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


@dataclass(frozen=True)
class Workload:
    """A city's month. Shares are of the month's studies; `pace` is how long (s) a forwarder waits between two questions of the
    feed, `slice_bytes` and `film_bytes` are those of an instance as it is stored (compressed losslessly)."""

    name: str
    hospitals: int
    slice_studies: int
    film_studies: int
    slices: int = 500
    films: int = 2
    slice_bytes: int = 240_000
    film_bytes: int = 4_200_000
    transferred: float = 0.05
    read_fresh: float = 0.10
    read_later: float = 0.10
    questions_each_study: float = 2.0
    pace: float = 10.0
    smallest: float = 0.02
    """The share of slices that are under 128 KB (localizers, reduced matrices, reports), which no colder class is cheaper for."""

    @property
    def studies(self) -> int:
        """All studies of a month."""
        return self.slice_studies + self.film_studies

    @property
    def instances(self) -> int:
        """All instances of a month."""
        return self.slice_studies * self.slices + self.film_studies * self.films

    @property
    def gigabytes(self) -> float:
        """GB (2^30) that come in a month."""
        sliced = self.slice_studies * self.slices * self.slice_bytes
        return (sliced + self.film_studies * self.films * self.film_bytes) / 1024**3

    @property
    def readings(self) -> float:
        """How often a study is opened by another hospital in a month."""
        return self.studies * (self.read_fresh + self.read_later)


PAVIA = Workload("Pavia", 10, 3_200, 12_000)
LOMBARDY = Workload("Lombardy", 200, 64_000, 240_000)
CITIES = {"pavia": PAVIA, "lombardy": LOMBARDY}


def counted(path: Path = COUNTED) -> dict[str, Taken]:
    """What one of each takes, by name."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return {name: Taken(**figures) for name, figures in found.items() if isinstance(figures, dict)}


def prices(path: Path = PRICES, *, with_peer: bool = False) -> dict[str, Any]:
    """A price list: USD, by what is sold, with its region, date and source; `with_peer`: AWS HealthImaging's, too. Raises
    UnusableFile, OSError."""
    found = json_file(path, "a list of prices as infra/prices.json")
    ours = json.loads(PRICES.read_text(encoding="utf-8"))
    lacking = [name for name in _lacking(found, ours) if with_peer or "." not in name]
    if lacking:
        raise UnusableFile(f"{path} is not a list of prices as infra/prices.json: it lacks {lacking[0]}")
    return found


def _lacking(found: Mapping[str, Any], ours: Mapping[str, Any]) -> Iterator[str]:
    """What stands in our list, as a text or a number, and not in the one that was found; `block.name` in a block."""
    for name, value in ours.items():
        said = found.get(name)
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in _lacking(said if isinstance(said, dict) else {}, value))
        elif name != "what" and not isinstance(said, str if isinstance(value, str) else int | float):
            yield name


def of_images(load: Workload, of_each: dict[str, Taken]) -> Taken:
    """What a month's arrivals take: stored, checked, indexed, findable."""
    return of_each["slice"].times(load.slice_studies * load.slices).plus(of_each["film_study"].times(load.film_studies))


def of_people(load: Workload, of_each: dict[str, Taken]) -> Taken:
    """What transfers, questions and readings take, with the audit of each."""
    asked = of_each["question"].times(load.studies * load.questions_each_study)
    return asked.plus(of_each["reading"].times(load.readings)).plus(of_each["transfer"].times(load.studies * load.transferred))


def of_machines(load: Workload, of_each: dict[str, Taken]) -> Taken:
    """What forwarders take of themselves: a sign of life a minute, and the feed."""
    return of_each["sign"].times(load.hospitals * SECONDS / 60).plus(of_each["poll"].times(load.hospitals * SECONDS / load.pace))
