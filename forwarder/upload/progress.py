"""What `send` shows: a progress bar on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import TransferSpeedColumn as Speed

from forwarder.alerts import Reason, explain
from forwarder.upload import send as sending


@contextmanager
def shown(console: Console) -> Iterator[Callable[[sending.SendProgress], None]]:
    """A callback for `send`, drawing on `console` while the block runs."""
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        Speed(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("Reading", total=None, note="")
        yield lambda now: _draw(bar, task, now)


def _draw(bar: Progress, task: TaskID, now: sending.SendProgress) -> None:
    doing = "Reading" if now.hashed < now.files and not now.bytes_sent else "Sending"
    if now.hashed == now.files and now.sent + (now.settled - now.sent) >= now.files and now.settled < now.files:
        doing = "Waiting for the archive"
    note = escape(now.waiting_for) or f"{now.settled} of {now.files} done"
    bar.update(task, description=doing, total=max(now.bytes_total, 1), completed=now.bytes_sent, note=note)


def print_summary(console: Console, summary: sending.Summary, limit: int = 50) -> None:
    """One line of counts, and one line for each file that did not get in (the first `limit` files)."""
    counts = ", ".join(f"{count} {state}" for state, count in sorted(summary.counts.items())) or "no files"
    rate = summary.bytes_sent / max(summary.seconds, 0.001) / 1e6
    saved = f"; {summary.bytes_saved / 1e6:.1f} MB saved by compressing" if summary.bytes_saved else ""
    plain = f"; {summary.packing_failures} could not be compressed and went as they are" if summary.packing_failures else ""
    console.print(
        f"{counts}; {summary.bytes_sent / 1e6:.1f} MB sent in {summary.seconds:.1f} s ({rate:.1f} MB/s){saved}{plain}",
        highlight=False,
        soft_wrap=True,
    )
    troubled = [outcome for outcome in summary.outcomes if outcome.state not in ("indexed", "echo")]
    if not troubled:
        return
    for outcome in troubled[:limit]:
        line = f"  {outcome.state}: {outcome.path}: {explain(outcome.reason or outcome.state)}"
        console.print(escape(line), soft_wrap=True, highlight=False)
    if len(troubled) > limit:
        console.print(f"… and {len(troubled) - limit} more")
    junk = [outcome.sha256 for outcome in troubled if outcome.state == "rejected" and outcome.reason == Reason.NOT_DICOM]
    if junk:
        text = f"The archive removes what is no DICOM after a week. At once: rejected remove {' '.join(map(str, junk[:limit]))}"
        console.print(text, soft_wrap=True, highlight=False)
