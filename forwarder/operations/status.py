"""`status`: the state of the forwarder in a terminal, refreshed until Ctrl-C."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import urllib3
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from forwarder.alerts import advise, explain, texts
from forwarder.config import Config
from forwarder.operations.snapshot import from_journal
from forwarder.spool.journal import open_read_only


def snapshot(config: Config) -> dict[str, Any]:
    """The state: from the running forwarder's page, or from the journal when it does not run. Raises SpoolError."""
    host = "127.0.0.1" if config.page.address in ("0.0.0.0", "") else config.page.address  # noqa: S104
    try:
        with urllib3.PoolManager(retries=False, timeout=3.0) as http:
            answer = http.request("GET", f"http://{host}:{config.page.port}/status.json")
            if answer.status == 200:
                found: dict[str, Any] = json.loads(answer.data)
                return found
    except (urllib3.exceptions.HTTPError, OSError, ValueError):
        pass  # it does not run: the journal still tells what waits
    connection = open_read_only(Path(config.spool.folder))
    try:
        return {"ae_title": config.dicom.ae_title, "running": False, **from_journal(connection)}
    finally:
        connection.close()


def size(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def age(seconds: float | None) -> str:
    """A duration for people."""
    if seconds is None:
        return "—"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def view(now: dict[str, Any]) -> Group:
    """The state, drawn."""
    counts = Table(box=None, pad_edge=False, show_header=False)
    for trouble in now.get("troubles", ()):
        counts.add_row("trouble", f"[red]{escape(texts('en').get(f'trouble.{trouble}', trouble))}[/] {escape(advise(trouble))}")
    for name in ("received", "indexed", "rejected", "waiting"):
        counts.add_row(name, f"[bold]{now[name]}[/]")
    counts.add_row("", f"received = indexed + rejected + waiting; of these {now['at_archive']} await a verdict")
    counts.add_row("oldest", age(now["oldest_waiting_seconds"]))
    counts.add_row("waiting", size(now["bytes_waiting"]))
    if now["troubled"]:
        counts.add_row("troubled", f"{now['troubled']} failed and are tried later")
    reports = now["reports"]
    if reports["received"]:
        counts.add_row("reports", f"{reports['received']} = {reports['sent']} + {reports['aside']} + {reports['waiting']}")
        counts.add_row("", f"received = sent + put aside + waiting, the oldest for {age(reports['oldest_waiting_seconds'])}")
    for name, number in now.get("issuer_names", {}).items():
        counts.add_row("apart", escape(f"{number} × Issuer of Patient ID {name}: not registered as ours"))
    for reason, number in now["aside"].items():
        counts.add_row("aside", escape(f"{number} × {explain(reason)}. {advise(reason)}"))
    head = Text(f"{now['ae_title']}  ", style="bold")
    if not now["running"]:
        return Group(head.append("not running", style="bold red"), counts)
    line, disk, rates = now["line"], now["disk"], now["rates"]
    head.append(now["archive"], style="dim")
    counts.add_row("in", f"{size(rates.get('bytes_in', 0))}/s, {rates.get('instances_in', 0):.0f} instances/s")
    counts.add_row("out", f"{size(rates.get('bytes_out', 0))}/s, {rates.get('instances_out', 0):.0f} instances/s")
    counts.add_row("saved", f"{size(now['traffic']['bytes_saved'])} by compressing")
    state = "[green]open[/]" if line["open"] else f"[red]{escape(str(line['error']))}[/]" if line["error"] else "not tried yet"
    again = "" if not line["error"] else f" (again in {age(line['again_in_seconds'])})"
    counts.add_row("line", f"{state}{again}; {line['uploads']} of at most {line['window']} uploads")
    counts.add_row("disk", f"{size(disk['free_bytes'])} free")
    if now["certificate_days"] is not None:
        counts.add_row("certificate", f"{now['certificate_days']} days")
    return Group(head, counts)


def watch(config: Config, console: Console, *, once: bool) -> None:
    """Show the state; refresh it each second until Ctrl-C unless `once`, or where this is no terminal."""
    if once or not console.is_terminal:
        console.print(view(snapshot(config)), soft_wrap=True)
        return
    with Live(view(snapshot(config)), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(1.0)
            live.update(view(snapshot(config)), refresh=True)
