"""One table of ours beside others', in one run, in turns: `python -m bench.peers [--slices 500] [--rounds 3] [--json FILE] [--write]`.

Receiving by C-STORE (our forwarder with fsync; Orthanc and DCMTK's storescp without, their defaults), the way to the other hospital over
100 Mbit/s, metadata, searches and frames by DICOMweb (Orthanc with its plugin and its default index), two films in the viewer beside
stock OHIF alone, where they are installed. Each figure is a median with the least and the greatest. `--write` puts the table into
docs/performance.md, and adds the run to docs/bench.json, for trends.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from bench import browser, dicomweb, forwarder
from tests.harness import running_city

ROOT = Path(__file__).parents[1]
PAGE, FIGURES = ROOT / "docs" / "performance.md", ROOT / "docs" / "bench.json"
BEGIN, END = "<!-- begin: bench.peers -->", "<!-- end: bench.peers -->"
OURS, ORTHANC, STORESCP, STOCK = SIDES = "ours", "Orthanc", "storescp", "stock OHIF"


@dataclass
class Row:
    """One figure of each side, as it was measured each time. `goal` compares medians: (text, whether it is met)."""

    what: str
    unit: str
    values: dict[str, list[float]] = field(default_factory=dict)
    goal: str = ""
    met: bool | None = None

    def median(self, side: str) -> float | None:
        return statistics.median(self.values[side]) if self.values.get(side) else None

    def aims(self, text: str, side: str, factor: float, *, at_least: bool) -> None:
        """The median of ours is to be at least, or at most, `factor` times that of a side."""
        ours, theirs = self.median(OURS), self.median(side)
        if ours is None or theirs is None:
            return
        met = ours >= factor * theirs if at_least else ours <= factor * theirs
        self.goal = "; ".join(filter(None, [self.goal, f"{text} ({ours / theirs:.2f} ×)"]))
        self.met = met if self.met is None else self.met and met

    def aims_at(self, most: float, text: str) -> None:
        """The median of ours is to be `most` at the most, which is `text`."""
        self.goal, self.met = f"≤ {most:.1f} {self.unit}, {text}", (self.median(OURS) or 0) <= most


def receiving(scratch: Path, rounds: int) -> list[Row]:
    """C-STORE of a CT over one association and over four."""
    files = forwarder.ct(scratch / "ct")
    sides: dict[str, Any] = {OURS: forwarder.forwarder}
    if shutil.which("Orthanc"):
        sides[ORTHANC] = forwarder.orthanc
    if Path("/usr/bin/storescp").exists():
        sides[STORESCP] = forwarder.storescp
    rows = []
    for associations in (1, 4):
        row = Row(
            f"C-STORE of {len(files)} CT slices, {associations} association{'s' if associations > 1 else ''}", "instances/s"
        )
        for number in range(rounds):
            for name, side in sides.items():
                folder = scratch / f"{associations}-{number}-{name}"
                with side(folder) as port:
                    row.values.setdefault(name, []).append(len(files) / forwarder.send(port, files, associations))
                shutil.rmtree(folder)
        row.aims("≥ 1.2 × Orthanc", ORTHANC, 1.2, at_least=True)
        row.aims("≥ 0.5 × storescp", STORESCP, 0.5, at_least=True)
        rows.append(row)
        print(_line(row), flush=True)
    if STORESCP in sides:
        alone = forwarder.durable(scratch, files, rounds)
        bound = Row(
            "a storescp that synced its new file and folder and took their SHA-256 before it answers, 1 association (calculated)",
            "instances/s",
        )
        bound.values[STORESCP] = [1000 * alone.bound / alone.storescp]
        rows.append(bound)
        print(_line(bound), flush=True)
    return rows


def over_the_line(scratch: Path) -> list[Row]:
    """From the last C-STORE to visible at the other hospital, over 100 Mbit/s."""
    found = forwarder.line(scratch)
    row = Row("last C-STORE to visible at the other hospital, over 100 Mbit/s", "s", {OURS: [found["visible_after_last"]]})
    alone = found["megabytes_sent"] / 12.5
    row.aims_at(1.3 * alone, f"1.3 × the {alone:.1f} s that the compressed bytes take on the line")
    print(_line(row), flush=True)
    bytes_there = Row(
        "the same, until its last byte is at an archive that costs this machine nothing", "s", {OURS: [found["there_after_last"]]}
    )
    bytes_there.aims_at(1.3 * alone, "the same")
    first = Row("the same, from the first C-STORE on to visible", "s", {OURS: [found["visible_after_first"]]})
    spent = Row("processor that all of it takes, the emulated archive's included", "s", {OURS: [found["processor"]]})
    return [row, bytes_there, first, spent]


def web(slices: int, calls: int) -> list[Row]:
    """Metadata, a search and a frame by DICOMweb."""
    made = list(dicomweb.instances(100, slices))
    rows = []
    with ExitStack() as stack:
        sides = {OURS: stack.enter_context(dicomweb.ours(made, dicomweb._all_there(100)))}
        if shutil.which("Orthanc") and dicomweb.PLUGIN.exists():
            sides[ORTHANC] = stack.enter_context(dicomweb.orthanc(made))
        for name, (path, headers) in dicomweb.calls(100).items():
            row, spent = Row(f"DICOMweb: {name}", "ms"), Row(f"DICOMweb: {name}, processor in the function", "ms")
            for number in range(calls + 3):
                for side, client in sides.items():
                    before, began = client.work(), time.perf_counter()
                    client.get(path, headers).raise_for_status()
                    took, after = (time.perf_counter() - began) * 1000, client.work()
                    if number >= 3:
                        row.values.setdefault(side, []).append(took)
                        if side == OURS:
                            spent.values.setdefault(side, []).append(after["cpu ms"] - before["cpu ms"])
            if "metadata" in name:
                row.what += f" of {slices} slices"
                row.aims("≤ 0.15 × Orthanc", ORTHANC, 0.15, at_least=False)
            if name.startswith("search"):
                spent.aims_at(3, "of processor")
            rows += [row, spent]
            print(_line(row), _line(spent), sep="\n", flush=True)
    alone = Row("of a search's processor, what botocore takes for its four requests", "ms")
    alone.values[OURS] = [dicomweb.requests_alone() for _ in range(5)]
    print(_line(alone), flush=True)
    return [*rows, alone]


def viewers(scratch: Path, runs: int) -> list[Row]:
    """Two films of two hospitals: ours from the link to both in the viewer, clicked at once, stock OHIF opened alone on the two."""
    if browser.EXECUTABLE is None or not browser.OHIF.is_file():
        return []
    rows = {how: Row(f"both films in the viewer, {how}", "s") for how in ("cold", "warm")}
    with running_city(scratch / "viewers") as city, browser.chromium() as opened:
        patient = browser.four_films(city)
        for number in range(runs + 1):  # the first fills the functions' caches, and counts for nothing
            found = browser.measure(opened, city, patient)
            for how, row in rows.items() if number else ():
                row.values.setdefault(OURS, []).append(found[f"{how}.viewer"])
                row.values.setdefault(STOCK, []).append(found[f"{how}.stock"])
    for row in rows.values():
        print(_line(row), flush=True)
    return list(rows.values())


def _line(row: Row) -> str:
    sides = "  ".join(
        f"{side} {statistics.median(found):.1f} ({min(found):.1f}–{max(found):.1f})" for side, found in row.values.items()
    )
    verdict = "" if row.met is None else f"  {'met' if row.met else 'NOT MET'}: {row.goal}"
    return f"  {row.what}: {sides} {row.unit}{verdict}"


def machine() -> dict[str, Any]:
    """What it ran on."""
    names = [
        line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    return {
        "processors": os.cpu_count(),
        "model": names[0] if names else platform.machine(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 1),
    }


def page(found: dict[str, Any]) -> str:
    """The table in docs/performance.md."""
    where = found["machine"]
    lines = [
        BEGIN,
        f"`{found['command']}`, {found['date']}: {where['processors']} processors ({where['model']}), {where['memory_gb']} GB, Python"
        f" {where['python']}; load {where['load_before']} before and {where['load_after']} after. Median (least–greatest). Orthanc and storescp as they",
        "come: without fsync, Orthanc with SQLite and its DICOMweb plugin; OHIF without our page, opened on the two studies. Figures of",
        "each run, and of those before: `docs/bench.json`.",
        "",
        f"| what | unit | {' | '.join(SIDES)} | goal |",
        f"|---|---|{'---|' * len(SIDES)}---|",
    ]
    for row in found["rows"]:
        cells = [
            f"{statistics.median(values):.1f} ({min(values):.1f}–{max(values):.1f})"
            if (values := row["values"].get(side))
            else ""
            for side in SIDES
        ]
        goal = "" if row["met"] is None else f"{'met' if row['met'] else '**not met**'}: {row['goal']}"
        lines.append(f"| {row['what']} | {row['unit']} | {' | '.join(cells)} | {goal} |")
    return "\n".join([*lines, END])


def write(found: dict[str, Any]) -> None:
    """Put the table into the page, and the figures beside it, behind those of the runs before."""
    before = json.loads(FIGURES.read_text(encoding="utf-8"))
    runs = [*(before if isinstance(before, list) else [before]), found]
    FIGURES.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    PAGE.write_text(before + page(found) + rest.partition(END)[2], encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description="Ours beside others', in one run.")
    parser.add_argument("--slices", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=15)
    parser.add_argument("--views", type=int, default=3, help="of the viewers, cold and warm (0: none)")
    parser.add_argument("--json", type=Path, help="the figures, for trends")
    parser.add_argument("--write", action="store_true", help="into docs/performance.md and docs/bench.json")
    chosen = parser.parse_args(arguments)
    where = machine()
    forwarder.SLICES = chosen.slices
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        scratch = Path(folder)
        rows = [*receiving(scratch, chosen.rounds), *over_the_line(scratch), *web(chosen.slices, chosen.calls)]
        rows += viewers(scratch, chosen.views) if chosen.views else []
    where["load_after"] = round(os.getloadavg()[0], 1)
    command = (
        f"python -m bench.peers --slices {chosen.slices} --rounds {chosen.rounds} --calls {chosen.calls} --views {chosen.views}"
    )
    found = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "command": command, "machine": where, "rows": [asdict(row) for row in rows]}
    for row in found["rows"]:  # type: ignore[attr-defined]
        row["values"] = {side: [round(value, 2) for value in values] for side, values in row["values"].items()}
    if chosen.json:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if chosen.write:
        write(found)
    print("\n" + page(found))


if __name__ == "__main__":
    main()
