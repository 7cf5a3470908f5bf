"""What waits for a person goes by mail to its role's address: once, without patient data, with the page that leads to it."""

from __future__ import annotations

import hashlib
import smtplib
import sqlite3
import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from email.message import EmailMessage
from email.utils import formatdate
from pathlib import Path

from forwarder.alerts import LANGUAGES, texts
from forwarder.config import Config, MailConfig
from forwarder.logs import log
from forwarder.operations.work_items import PLACES, WorkItem, WorkKind
from forwarder.spool.journal import Journal

SMTP_SECONDS = 30.0
RETRY_SECONDS = 300.0
"""After a mail that the server did not take."""


class Mailer:
    """Hears of each look at what waits, and writes to whom it is new. What was written is noted in the journal."""

    def __init__(self, config: Config, journal: Journal) -> None:
        self._config, self._journal = config.mail, journal
        self._base = config.web.public_url
        self._not_before = 0.0

    def tell(self, items: Sequence[WorkItem]) -> int:
        """Write of what nobody was written of yet, one mail a role; how many mails were sent. Raises SpoolError."""
        if time.monotonic() < self._not_before:
            return 0
        told = self._told()
        gone = told - {(str(item.kind), item.key) for item in items}
        if gone:
            self._journal.note(lambda connection: _forget(connection, sorted(gone)))
        ripe = time.time() - self._config.after_minutes * 60.0
        sent = 0
        for role, addresses in addressees(self._config).items():
            new = [
                item
                for item in items
                if PLACES[item.kind].role == role and item.since <= ripe and (str(item.kind), item.key) not in told
            ]
            if not addresses or not new:
                continue
            try:
                self._send(message(self._config, self._base, addresses, new))
            except (OSError, smtplib.SMTPException, ValueError) as error:
                log.warning("a mail was not sent", role=role, error=type(error).__name__, code=getattr(error, "smtp_code", None))
                self._not_before = time.monotonic() + RETRY_SECONDS
                return sent
            sent += 1
            self._journal.write(lambda connection, new=new: _note(connection, new))  # type: ignore[misc]
            log.info("a mail was sent", role=role, things=len(new))
        return sent

    def _told(self) -> set[tuple[str, str]]:
        with self._journal.read() as connection:
            return {(row[0], row[1]) for row in connection.execute("SELECT kind, key FROM told")}

    def _send(self, mail: EmailMessage) -> None:
        """Raises OSError, SMTPException."""
        with signed_in(self._config) as server:
            server.send_message(mail)


@contextmanager
def signed_in(config: MailConfig) -> Iterator[smtplib.SMTP]:
    """The server, encrypted and signed in to as is configured. Raises OSError, SMTPException."""
    trusted = ssl.create_default_context(cafile=config.ca_file or None)
    if config.tls == "implicit":
        server: smtplib.SMTP = smtplib.SMTP_SSL(config.host, config.port, timeout=SMTP_SECONDS, context=trusted)
    else:
        server = smtplib.SMTP(config.host, config.port, timeout=SMTP_SECONDS)
    with server:
        if config.tls == "starttls":
            server.starttls(context=trusted)
        if config.username:
            server.login(config.username, Path(config.password_file).read_text(encoding="utf-8").strip())
        yield server


def addressees(config: MailConfig) -> dict[str, list[str]]:
    """The addresses of each role."""
    return {"registry": config.registry, "radiology": config.radiology, "privacy": config.privacy, "admin": config.admin}


def message(config: MailConfig, base: str, addresses: Sequence[str], items: Sequence[WorkItem]) -> EmailMessage:
    """The mail: in each language, of each kind how many there are, since when, and where they are done."""
    mail = EmailMessage()
    mail["From"], mail["To"] = config.sender, ", ".join(addresses)
    mail["Subject"] = "Contenitore: " + " / ".join(texts(language)["work.subject"] for language in LANGUAGES)
    mail["Date"] = formatdate(localtime=True)
    digest = hashlib.sha256("\n".join(sorted(f"{item.kind} {item.key}" for item in items)).encode()).hexdigest()[:32]
    mail["Message-ID"] = f"<{digest}@{config.sender.rpartition('@')[2]}>"  # the same where it has to be sent again
    mail["Auto-Submitted"] = "auto-generated"
    lines: list[str] = []
    for language in LANGUAGES:
        words = texts(language)
        lines += [words["work.subject"] + ":", ""]
        for kind in WorkKind:
            of_kind = [item for item in items if item.kind is kind]
            if of_kind:
                since = datetime.fromtimestamp(min(item.since for item in of_kind)).strftime("%d/%m/%Y %H:%M")
                lines += [
                    f"  {words[f'work.{kind}']}: {len(of_kind)} ({words['work.since']} {since})",
                    f"  {base}{PLACES[kind].path}",
                ]
        lines += ["", ""]
    mail.set_content("\n".join(lines))
    return mail


def _note(connection: sqlite3.Connection, items: Sequence[WorkItem]) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO told (kind, key, told_at) VALUES (?, ?, ?)",
        [(str(item.kind), item.key, time.time()) for item in items],
    )


def _forget(connection: sqlite3.Connection, keys: Sequence[tuple[str, str]]) -> None:
    connection.executemany("DELETE FROM told WHERE kind = ? AND key = ?", keys)
