"""What the administrator does to a spool from the command line, whether the forwarder runs or not."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from forwarder.alerts import Reason, advise, explain
from forwarder.config import Hl7Config
from forwarder.deliver import account, ledger
from forwarder.errors import ConfigError, SpoolError
from forwarder.header import head_of
from forwarder.hl7 import trial, waiting
from forwarder.hl7.adt import standing as adt
from forwarder.spool import instances
from forwarder.spool.instances import Aside
from forwarder.spool.journal import connect, open_read_only, shorten
from forwarder.spool.spool import NUDGE

WHOLE = re.compile(r"[0-9a-f]{64}")


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
        reports = [Aside(*row) for row in waiting.aside(connection)]
        return sorted([*instances.put_aside(connection), *reports], key=lambda entry: entry.settled_at)


def recalls(folder: Path) -> list[account.Recall]:
    """What is in the PACS and should not stand there unseen, the gravest first. Raises SpoolError."""
    with _journal(folder) as connection:
        return account.recalls(connection)


def deliveries_aside(folder: Path) -> dict[str, int]:
    """Why instances of other hospitals are not in the PACS though they should be, and how many. Raises SpoolError."""
    with _journal(folder) as connection:
        found: dict[str, int] = account.summary(connection)["aside_reasons"]
        return found


def deliveries(folder: Path) -> tuple[list[account.PatientAccount], list[account.NumberlessTransfer]]:
    """Patient by patient what is in the PACS and what is missing, and transfers without a number of ours. Raises SpoolError."""
    with _journal(folder) as connection:
        return account.patients(connection), account.numberless(connection)


def try_messages(folder: Path, content: bytes, config: Hl7Config) -> list[str]:
    """What HL7 messages would do here, in lines to print; nothing is done. Raises SpoolError."""
    if not (folder / "journal.sqlite3").exists():
        return list(trial.try_messages(content, config, None))
    with closing(open_read_only(folder)) as connection:
        return list(trial.try_messages(content, config, connection))


def adt_waiting(folder: Path) -> list[dict[str, Any]]:
    """What of ADT waits for a person, the oldest first. Raises SpoolError."""
    with _journal(folder) as connection:
        return adt.waiting_for_a_person(connection)


def adt_release(folder: Path, acts: Collection[int]) -> int:
    """Let these acts of ADT go on, or all; how many. A running forwarder hears of it within a second. Raises SpoolError."""
    with _journal(folder) as connection:
        count = adt.release(connection, acts)
    (folder / NUDGE).touch()
    return count


def adt_discard(folder: Path, acts: Collection[int]) -> int:
    """Have these acts of ADT, or all that wait for a person, done by nobody; how many. Raises SpoolError."""
    with _journal(folder) as connection:
        return adt.discard(connection, acts)


def removable(folder: Path, digests: Sequence[str], *, everything: bool = False) -> list[str]:
    """The digests that are meant: of all that was put aside as no DICOM, or of those named.

    One that is whole need not be of this spool: it may have been sent by `send`. Raises ConfigError, SpoolError.
    """
    if everything:
        return [aside.digest for aside in rejected(folder) if aside.reason == Reason.NOT_DICOM and aside.modality != "report"]
    return [digest if WHOLE.fullmatch(digest) else find(folder, digest).digest for digest in digests]


def find(folder: Path, prefix: str) -> Aside:
    """The one instance put aside whose digest begins with `prefix`. Raises ConfigError if it is none or several."""
    found = [aside for aside in rejected(folder) if prefix and aside.digest.startswith(prefix)]
    if len(found) != 1:
        which = "None" if not found else "More than one"
        raise ConfigError(f"{which} of the rejected instances begins with “{prefix}”.")
    return found[0]


def show(folder: Path, prefix: str) -> dict[str, str]:
    """What is known of one instance put aside, its technical header included, in the order to print. No names."""
    entry = find(folder, prefix)
    path = folder / "instances" / entry.digest[:2] / entry.digest
    shown = {"digest": entry.digest, "state": entry.state, "reason": explain(entry.reason), "to do": advise(entry.reason)}
    shown |= {"size": str(entry.size), "from": entry.calling or ""}
    if entry.modality == "report":
        with _journal(folder) as connection:
            return shown | waiting.described(connection, entry.digest)
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
    chosen = [find(folder, prefix).digest for prefix in prefixes] or [aside.digest for aside in rejected(folder)]
    with _journal(folder) as connection:
        count = 0
        for digest in chosen:
            connection.execute("BEGIN IMMEDIATE")
            instance = instances.discard(connection, digest)
            report = waiting.discard(connection, digest)
            for form in ("instances", "packed") if instance else ():
                (folder / form / digest[:2] / digest).unlink(missing_ok=True)
            connection.execute("COMMIT")
            count += instance + report
        shorten(connection)
    return count


def retry(folder: Path, prefixes: Sequence[str] = (), *, everything: bool = False) -> int:
    """Try again at once what is postponed, and of what was put aside those named (or everything).

    Returns how many instances are tried again. A running forwarder hears of it within a second.
    """
    chosen = [aside.digest for aside in rejected(folder) if everything]
    chosen += [find(folder, prefix).digest for prefix in prefixes if not everything]
    with _journal(folder) as connection:
        count = instances.hurry(connection) + waiting.hurry(connection)
        for digest in chosen:
            count += instances.send_anew(connection, digest) + waiting.send_anew(connection, digest)
        count += ledger.retry(connection, everything=everything)
    (folder / NUDGE).touch()
    return count
