"""What the administrator does to a spool from the command line, whether the forwarder runs or not."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forwarder.alerts import Reason, advise, explain
from forwarder.deliver import ledger
from forwarder.errors import ConfigError, SpoolError
from forwarder.header import head_of
from forwarder.hl7.waiting import DROP
from forwarder.spool.journal import connect, shorten
from forwarder.spool.spool import NUDGE

WHOLE = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Aside:
    """An instance that was put aside, or a report (`modality` “report”). Times are seconds since the epoch."""

    digest: str
    state: str
    reason: str
    size: int
    modality: str | None
    calling: str | None
    received_at: float
    settled_at: float


@contextmanager
def _journal(folder: Path) -> Iterator[sqlite3.Connection]:
    path = folder / "journal.sqlite3"
    if not path.exists():
        raise SpoolError(f"There is no spool in “{folder}”.")
    connection = connect(path)
    try:
        yield connection
    except sqlite3.Error as error:
        raise SpoolError(f"The journal cannot be used: {error}.") from error
    finally:
        connection.close()


def rejected(folder: Path) -> list[Aside]:
    """What was put aside, the oldest first. Raises SpoolError."""
    with _journal(folder) as connection:
        rows = connection.execute(
            "SELECT digest, state, reason, size, modality, calling, received_at, settled_at FROM instances"
            " WHERE state IN ('rejected', 'conflict')"
            " UNION ALL SELECT digest, state, reason, size, 'report', sender, received_at, settled_at FROM reports"
            " WHERE state = 'aside' ORDER BY settled_at"
        ).fetchall()
    return [Aside(*row) for row in rows]


def recalls(folder: Path) -> list[ledger.Recall]:
    """What is in the PACS and should not stand there unseen, the gravest first. Raises SpoolError."""
    with _journal(folder) as connection:
        return ledger.recalls(connection)


def removable(folder: Path, digests: Sequence[str], *, everything: bool = False) -> list[str]:
    """The digests that are meant: of all that was put aside as no DICOM, or of those named.

    One that is whole need not be of this spool: it may have been sent by `send`. Raises ConfigError, SpoolError.
    """
    if everything:
        return [one.digest for one in rejected(folder) if one.reason == Reason.NOT_DICOM and one.modality != "report"]
    return [digest if WHOLE.fullmatch(digest) else find(folder, digest).digest for digest in digests]


def find(folder: Path, prefix: str) -> Aside:
    """The one instance put aside whose digest begins with `prefix`. Raises ConfigError if it is none or several."""
    found = [one for one in rejected(folder) if prefix and one.digest.startswith(prefix)]
    if len(found) != 1:
        which = "None" if not found else "More than one"
        raise ConfigError(f"{which} of the rejected instances begins with “{prefix}”.")
    return found[0]


def show(folder: Path, prefix: str) -> dict[str, str]:
    """What is known of one instance put aside, its technical header included, in the order to print. No names."""
    one = find(folder, prefix)
    path = folder / "instances" / one.digest[:2] / one.digest
    shown = {"digest": one.digest, "state": one.state, "reason": explain(one.reason), "to do": advise(one.reason)}
    shown |= {"size": str(one.size), "from": one.calling or ""}
    if one.modality == "report":
        with _journal(folder) as connection:
            row = connection.execute(
                "SELECT study, accession, media_type FROM reports WHERE digest = ?", (one.digest,)
            ).fetchone()
        return shown | {"kind": row["media_type"], "study": row["study"], "accession": row["accession"]}
    shown["file"] = str(path)
    try:
        with path.open("rb") as file:
            header = head_of(file)
    except OSError:
        return shown | {"file": f"{path} (missing)"}
    if header is not None:
        shown |= {
            "transfer syntax": header.transfer_syntax_uid,
            "SOP class": header.sop_class_uid or "",
            "SOP instance": header.sop_instance_uid or "",
            "study": header.study_instance_uid or "",
            "modality": header.modality or "",
        }
    return shown


def discard(folder: Path, prefixes: Sequence[str]) -> int:
    """Let go of instances put aside: their bytes are deleted, the count stays. Returns how many.

    What has begun to wait again meanwhile keeps its bytes: deciding and deleting are one transaction.
    """
    chosen = [find(folder, prefix).digest for prefix in prefixes] or [one.digest for one in rejected(folder)]
    with _journal(folder) as connection:
        count = 0
        for digest in chosen:
            connection.execute("BEGIN IMMEDIATE")
            instances = connection.execute(
                "UPDATE instances SET state = 'discarded', settled_at = ? WHERE digest = ? AND state IN ('rejected', 'conflict')",
                (time.time(), digest),
            ).rowcount
            reports = connection.execute(
                f"UPDATE reports SET state = 'discarded', {DROP}, settled_at = ? WHERE digest = ? AND state = 'aside'",  # noqa: S608
                (time.time(), digest),
            ).rowcount
            for form in ("instances", "packed") if instances else ():
                (folder / form / digest[:2] / digest).unlink(missing_ok=True)
            connection.execute("COMMIT")
            count += instances + reports
        shorten(connection)
    return count


def retry(folder: Path, prefixes: Sequence[str] = (), *, everything: bool = False) -> int:
    """Try again at once what is postponed, and of what was put aside those named (or everything).

    Returns how many instances are tried again. A running forwarder hears of it within a second.
    """
    chosen = [one.digest for one in rejected(folder) if everything]
    chosen += [find(folder, prefix).digest for prefix in prefixes if not everything]
    with _journal(folder) as connection:
        count = sum(
            connection.execute(
                f"UPDATE {table} SET not_before = 0, attempts = 0 WHERE state = 'waiting' AND not_before > 0"  # noqa: S608
            ).rowcount
            for table in ("instances", "reports")
        )
        for digest in chosen:
            count += connection.execute(
                "UPDATE instances SET state = 'waiting', reason = NULL, attempts = 0, not_before = 0,"
                " packing = 'todo', packed_digest = NULL, packed_size = NULL, stored_at = NULL, settled_at = NULL"
                " WHERE digest = ? AND state IN ('rejected', 'conflict')",
                (digest,),
            ).rowcount
            count += connection.execute(
                "UPDATE reports SET state = 'waiting', reason = NULL, attempts = 0, not_before = 0, settled_at = NULL"
                " WHERE digest = ? AND state = 'aside' AND content IS NOT NULL",
                (digest,),
            ).rowcount
        count += ledger.retry(connection, everything=everything)
    (folder / NUDGE).touch()
    return count
