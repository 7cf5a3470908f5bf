"""What waits for a person: on the page by role, in the metrics, and by mail, once, to a real SMTP server."""

from __future__ import annotations

import email
import email.policy
import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs

import pytest
import requests
from aiosmtpd.controller import Controller

from forwarder import config as configuration
from forwarder.alerts import texts
from forwarder.archive.client import archive_of
from forwarder.archive.link import Link
from forwarder.config import Config, MailConfig, WebConfig
from forwarder.deliver.deliveries import RecallReason
from forwarder.errors import ConfigError
from forwarder.operations.mail import Mailer
from forwarder.operations.work_items import WorkItem, WorkKind, WorkList
from forwarder.spool.journal import Journal
from forwarder.web.work_page import piles_of
from local.processes import free_port
from tests.integration.door.doors import MAUGERI, Doors, Patient

BASE = "https://contenitore.maugeri.example"


class Mailbox:
    """Takes what comes; `refuses` while the server is to refuse it."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.refuses = False

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
        if self.refuses:
            return "451 not now"
        content = envelope.content  # type: ignore[attr-defined]
        self.mails.append(email.message_from_bytes(content, EmailMessage, policy=email.policy.default))  # type: ignore[arg-type]
        return "250 taken"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    box = Mailbox()
    server = Controller(box, hostname="127.0.0.1", port=free_port())
    server.start()
    try:
        yield box, server.port
    finally:
        server.stop()


def mailing(port: int, **more: object) -> Config:
    mail = MailConfig(
        host="127.0.0.1", port=port, tls="none", sender="contenitore@maugeri.example", registry=["accettazione@maugeri.example"],
        privacy=[], admin=["pacs@maugeri.example"], **{"after_minutes": 0, **more},
    )  # fmt: skip
    return Config(mail=mail, web=WebConfig(public_url=BASE))


def test_a_transfer_that_waits_is_told_on_the_page_in_the_metrics_and_once_by_mail(
    doors: Doors, patient: Patient, mailbox: tuple[Mailbox, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box, port = mailbox
    for name, key in (("AWS_CONFIG_FILE", "aws_config_file"), ("AWS_SHARED_CREDENTIALS_FILE", "aws_shared_credentials_file")):
        monkeypatch.setenv(name, doors.city.endpoints[key])
    patient.arrives()
    transfer = patient.transferred()
    theirs = configuration.load(Path(doors.endpoints(MAUGERI)["config"]))
    journal = Journal(tmp_path / "journal.sqlite3")
    work = WorkList(journal, archive_of(theirs), Link(), asks=True)
    assert WorkKind.ACCEPTANCE in {item.kind for item in work.look() if item.key == transfer}

    for language, words in (("it", "Trasferimenti da accettare"), ("en", "Transfers to accept")):
        page = doors.staff(MAUGERI, "anna", "registry").get("/waiting", headers={"Accept-Language": language}).text
        assert words in page and 'href="/transfers#waiting"' in page and "min" in page and patient.number not in page
    assert words not in doors.staff(MAUGERI, "luca", "admin").get("/waiting", headers={"Accept-Language": "en"}).text
    assert doors.staff(MAUGERI, "nobody").get("/waiting").status_code == 403
    metrics = requests.get(doors.endpoints(MAUGERI)["page"] + "/metrics", timeout=60).text
    told = re.search(r"^forwarder_people_acceptance (\S+)$", metrics, re.M)
    assert told and float(told[1]) >= 1 and "forwarder_people_acceptance_oldest_seconds" in metrics

    patient_mailer = Mailer(mailing(port, after_minutes=60), journal)
    assert patient_mailer.tell(work.items) == 0  # it may be done soon
    mailer = Mailer(mailing(port), journal)
    assert [mailer.tell(work.look()) for _ in range(3)] == [1, 0, 0]
    (mail,) = box.mails
    assert (mail["To"], mail["Auto-Submitted"]) == ("accettazione@maugeri.example", "auto-generated")
    text = mail.get_content()
    assert f"{BASE}/transfers#waiting" in text and "Trasferimenti da accettare" in text and "Transfers to accept" in text
    assert not any(
        secret in mail.as_string() + text for secret in (patient.number, "BIANCHI", "Bianchi", transfer, "riabilitazione")
    )
    assert [Mailer(mailing(port), journal).tell(work.items) for _ in range(2)] == [0, 0]  # also after a restart

    doors.city.client(MAUGERI).put(f"/transfers/{transfer}/receiving-patient", json={"id": patient.elsewhere})
    assert transfer not in {item.key for item in work.look()}
    journal.close()


class ListingArchive:
    """Answers a list of so many transfers that wait, the newest first, a hundred a page; and of no emergency."""

    def __init__(self, count: int) -> None:
        began = datetime(2026, 3, 31, tzinfo=UTC)
        self.transfers = [{"id": f"{n:032x}", "opened_at": (began - timedelta(hours=n)).isoformat()} for n in range(count)]

    def call(self, method: str, address: str, *_: object) -> SimpleNamespace:
        path, _, query = address.partition("?")
        start = int(parse_qs(query).get("cursor", ["0"])[0])
        shown = self.transfers[start : start + 100]
        more = {"next": str(start + 100)} if start + 100 < len(self.transfers) else {}
        answer = {"transfers": shown} | more if path == "/transfers" else {"reviews": []}
        return SimpleNamespace(data=json.dumps(answer).encode())


def test_however_many_wait_all_are_counted_and_the_oldest_is_told(tmp_path: Path) -> None:
    journal, archive = Journal(tmp_path / "journal.sqlite3"), ListingArchive(350)
    items = WorkList(journal, archive, Link(), asks=True).look()  # type: ignore[arg-type]
    assert [item.key for item in items] == [transfer["id"] for transfer in reversed(archive.transfers)]
    (pile,) = piles_of(items, "registry", texts("en"))
    assert (len(pile.since), pile.since[0]) == (350, datetime.fromisoformat(archive.transfers[-1]["opened_at"]).timestamp())
    journal.close()


def test_a_mail_that_the_server_does_not_take_is_sent_later_and_only_what_is_new_stands_in_the_next(
    mailbox: tuple[Mailbox, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box, port = mailbox
    journal = Journal(tmp_path / "journal.sqlite3")
    now = time.time()
    journal.write(
        lambda c: c.execute(
            "INSERT INTO deliver_recalls (study, owner, reason, since) VALUES ('1.2.3', 'san-matteo', ?, ?)",
            (RecallReason.CORRECTED, now),
        )
    )
    work = WorkList(journal, None, Link(), asks=False)  # type: ignore[arg-type]
    items = work.look()
    assert [(item.kind, item.since) for item in items] == [(WorkKind.RECALL, now)]
    mailer = Mailer(mailing(port), journal)
    box.refuses = True
    assert mailer.tell(items) == 0
    box.refuses = False
    assert mailer.tell(items) == 0  # not at once
    monkeypatch.setattr(mailer, "_not_before", 0.0)
    assert mailer.tell(items) == 1
    more = [WorkItem(WorkKind.PUT_ASIDE, "a" * 64, now), WorkItem(WorkKind.PUT_ASIDE, "b" * 64, now)]
    assert mailer.tell([*items, *more]) == 1
    recall, aside = (mail.get_content() for mail in box.mails)
    assert f"{BASE}/queue#recalls" in recall and "1.2.3" not in recall
    assert f"{BASE}/queue#aside" in aside and ": 2 (" in aside and "#recalls" not in aside
    assert mailer.tell(more) == 0  # the recall is done
    assert mailer.tell([*items, *more]) == 1  # and is one again
    journal.close()


def test_mail_without_an_address_that_leads_to_the_page_does_not_start() -> None:
    with pytest.raises(ConfigError, match=r"web\.public_url"):
        configuration.parse(
            '[archive]\napi = "https://archive.example.org"\n[spool]\nfolder = "/tmp/x"\n'
            '[mail]\nhost = "mail.example.org"\nsender = "a@example.org"\n'
        )
