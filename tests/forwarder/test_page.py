"""What the hospital's staff read on the forwarder's page: every trouble and reason, in Italian and in English."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from certificates import Authority
from fakes import FakeArchive, Reply
from hospital import hospital, store, until
from images import ct_slice
from playwright.sync_api import Page, expect
from starlette.requests import Request

from chalicelib.domain.rejections import REASONS
from forwarder.alerts import Reason, Refusal, Trouble, advise_on_delivery, explain, why_not_delivered
from forwarder.deliver.deliveries import RecallReason
from forwarder.errors import Failure, SpoolError
from forwarder.hl7.adt.acts import ANOTHERS, DISAGREES, TOO_MANY, ActKind
from forwarder.hl7.adt.rules import EventOutcome
from forwarder.service import running
from forwarder.web import queue_page, server
from forwarder.web.app import application
from forwarder.web.pages import language_of
from local.processes import free_port
from tests.browser.chromium import Watch, new_context

pytestmark = pytest.mark.usefixtures("credentials")
WEB = Path(queue_page.__file__).parent
TEXTS = {language: json.loads((WEB / f"{language}.json").read_text()) for language in ("it", "en")}
CAN_BE_WRONG = [*Trouble, *(failure.value for failure in Failure)]
CAN_BE_THE_REASON = [*REASONS, *Reason]
HOLDS_UP = sorted(
    {key.removeprefix("deliver.") for key in TEXTS["en"] if key.startswith("deliver.")} - {*RecallReason, "pacs-status"}
)
EXPIRED = json.dumps(
    {"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "B", "SessionToken": "C", "Expiration": "2020-01-01T00:00:00Z"}
)
"""What a helper gives, by a clock that is ahead of it."""


class TestTexts:
    def test_both_languages_have_the_same_texts_and_none_is_left_untranslated(self):
        assert TEXTS["it"].keys() == TEXTS["en"].keys()
        same = {key for key, text in TEXTS["it"].items() if text == TEXTS["en"][key]}
        assert same == {"title"}

    @pytest.mark.parametrize("language", ["it", "en"])
    def test_whatever_can_be_wrong_has_a_text(self, language: str):
        troubles = {key.removeprefix("trouble.") for key in TEXTS[language] if key.startswith("trouble.")}
        assert troubles == set(CAN_BE_WRONG)

    @pytest.mark.parametrize("language", ["it", "en"])
    def test_whatever_can_be_the_reason_has_a_text(self, language: str):
        reasons = {key.removeprefix("reason.") for key in TEXTS[language] if key.startswith("reason.")}
        assert reasons == {*CAN_BE_THE_REASON, "other"}

    @pytest.mark.parametrize("language", ["it", "en"])
    def test_for_each_reason_and_trouble_stands_what_to_do(self, language: str):
        keys = TEXTS[language]
        advice = {key.removeprefix("advice.") for key in keys if key.startswith("advice.")}
        of_deliveries = {key for key in advice if key.startswith("deliver.")}
        assert advice - of_deliveries == {key.partition(".")[2] for key in keys if key.startswith(("reason.", "trouble."))}
        delivery_reasons = {key for key in keys if key.startswith("deliver.")}
        assert of_deliveries <= delivery_reasons
        of_the_line = {f"deliver.{failure.value}" for failure in Failure}
        assert delivery_reasons - of_deliveries <= of_the_line, "what holds up the line is advised on as a trouble"

    def test_what_holds_up_a_delivery_is_told_with_what_to_do_also_where_the_pacs_says_a_status(self):
        words = TEXTS["en"]
        assert why_not_delivered("pacs-status-a900", words) == f"{words['deliver.pacs-status']} A900"
        assert advise_on_delivery("pacs-status-a900", words) == words["advice.deliver.pacs-status"]
        assert advise_on_delivery("withdrawn", words) == words["advice.deliver.withdrawn"] != words["advice.withdrawn"]
        assert advise_on_delivery("network", words) == words["advice.network"]
        assert (why_not_delivered("new", words), advise_on_delivery("new", words)) == ("new", words["advice.other"])

    @pytest.mark.parametrize("language", ["it", "en"])
    def test_whatever_can_be_refused_has_a_text(self, language: str):
        assert {key.removeprefix("refusal.") for key in TEXTS[language] if key.startswith("refusal.")} == set(Refusal)

    def test_reports_are_put_aside_for_no_other_reasons(self):
        sources = "".join(path.read_text() for path in WEB.parent.glob("hl7_*.py"))
        steps = set(re.findall(r'step\("(report-[a-z-]+)"', sources))
        assert set(re.findall(r"""["'](report-[a-z-]+)["']""", sources)) - steps <= set(Reason)

    def test_every_text_that_the_page_uses_is_there_and_every_one_is_used(self):
        source = (WEB / "page.js").read_text() + (WEB / "index.html").read_text()
        used = set(re.findall(r'(?:text\(|data-text=)"([a-z_.]+)"', source)) | {"received", "waiting", "indexed", "rejected"}
        used |= {"day", "days"}
        assert used - TEXTS["it"].keys() == set()
        of_tables = ("trouble.", "reason.", "refusal.", "advice.", "adt.", "act.", "deliver.", "work.")
        assert {key for key in TEXTS["it"] if not key.startswith(of_tables)} <= used

    @pytest.mark.parametrize("language", ["it", "en"])
    def test_whatever_holds_up_a_delivery_has_a_text(self, language: str):
        said = {key.removeprefix("deliver.") for key in TEXTS[language] if key.startswith("deliver.")}
        sources = "".join(path.read_text() for path in (WEB.parent / "deliver").glob("*.py"))
        aside = set(re.findall(r'(?:NotTaken\(|ASIDE, |put_aside\(task, |TAKES_NONE = |reason = )"([a-z-]+)"', sources))
        aside |= set(re.findall(r"reason = '([a-z-]+)'", sources)) | set(re.findall(r'attempts\), "([a-z-]+)"', sources))
        words = set(
            re.findall(r'PacsError\("([a-z-]+)"\)', sources + (WEB.parent / "retrieve" / "store_association.py").read_text())
        )
        lines = {
            failure.value
            for failure in (Failure.NETWORK, Failure.EXPIRED_URL, Failure.SERVER, Failure.PROTOCOL, Failure.THROTTLED)
        }
        assert len(aside) > 6 and len(words) > 3
        assert said >= aside | {f"pacs-{word}" for word in words} | set(RecallReason) | lines

    @pytest.mark.parametrize("language", ["it", "en"])
    def test_whatever_comes_of_adt_has_a_text(self, language: str):
        said = {key.removeprefix("adt.") for key in TEXTS[language] if key.startswith("adt.")}
        engine = (WEB.parent / "hl7" / "adt" / "engine.py").read_text()
        reasons = set(re.findall(r'"([a-z]+-(?:refused|unknown|otherwise|codes))"', engine))
        assert said == {*EventOutcome, "unreadable", TOO_MANY, DISAGREES, ANOTHERS} | reasons
        assert {key.removeprefix("act.") for key in TEXTS[language] if key.startswith("act.")} == set(ActKind)

    def test_a_reason_that_only_a_newer_archive_knows_stands_for_itself(self):
        assert explain("something-new") == "something-new"


class Everything:
    """A snapshot in which all goes wrong that can."""

    broken = False

    def snapshot(self) -> dict[str, Any]:
        if self.broken:
            raise SpoolError("The journal cannot be read: disk I/O error.")
        return {
            "version": "1", "ae_title": "CONTENITORE", "archive": "https://archive.example.org", "running": True,
            "received": 1234, "waiting": 1, "indexed": 1000, "rejected": 233, "at_archive": 0, "troubled": 0, "refused": 2,
            "commitments": {"open": 4, "oldest_seconds": 5.0},
            "oldest_waiting_seconds": 12.0, "rates": {}, "certificate_days": 1,
            "aside": dict.fromkeys([*CAN_BE_THE_REASON, "something-new"], 1),
            "left_in_folder": {"link-out-of-folder": 2},
            "senders": [{"calling": "CT1", "peer": "10.1.2.3", "last_at": 1.7e9}],
            "refusals": [
                {"reason": str(refusal), "peer": "10.1.2.3", "calling": "CT1", "called": "OTHER", "count": 1, "last_at": 1.7e9,
                 "sop_class": "1.3.12.2.1107.5.9.1", "transfer_syntaxes": ["1.2.3"]} for refusal in Refusal
            ],
            "troubles": [str(trouble) for trouble in CAN_BE_WRONG],
            "queries": {"enabled": True, "found": 4, "matches": 9, "retrieved": 2, "instances": 31, "failed": 1, "refused": 3},
            "deliver": {
                "enabled": True, "announced": 15, "delivered": 8, "there": 1, "aside": 2, "waiting": 4, "unconfirmed": 3,
                "numberless": 1, "not_accepted": 2, "numbers_proposed": 1,
                "waiting_for": dict.fromkeys(HOLDS_UP, 4), "aside_reasons": {"other-person": 2, "pacs-status-a900": 1},
                "recalls": dict.fromkeys(RecallReason, 1),
                "patients": [
                    {"patient": "a1b2c3d4e5f6", "announced": 15, "delivered": 8, "there": 1, "aside": 2, "waiting": 4,
                     "missing": 4, "exams_waiting": 1, "reasons": {"pacs-full": 1}, "waiting_seconds": 40.0,
                     "seconds_left": 20.0},
                ],
            },
            "orders": {"enabled": True, "same": [{"at": 1.7e9, "control_id": "O-9", "hospitals": ["Maugeri"]}]},
            "adt": {
                "enabled": True, "waiting": 1, "proposals": 2, "events": dict.fromkeys([*EventOutcome, "unreadable"], 7),
                "acts": {"openings": {"done": 5}, "acceptances": {"done": 6}},
                "for_a_person": [{"seq": 1, "kind": "opening", "reason": "too-many", "actor": "HL7 ADT^A03 C-7", "since": 1.7e9}],
                "unknown_destinations": [{"code": "XYZ", "count": 3, "last_at": 1.7e9}],
                "unreadable": [{"at": 1.7e9, "event": "A01", "control_id": "C-8", "sender": "ADT@SM",
                                "place": "PID-3", "detail": ""}],
            },
            "traffic": {"bytes_saved": 1, "packing_failures": 0}, "issuer_names": {"ADT1": 12},
            "line": {"trouble": "unknown-name", "host": "archive.example.org:443", "tried": True,
                     "again_in_seconds": 7.0, "uploads": 0, "window": 2, "skew_seconds": 900.5},
            "disk": {"free_bytes": 10**9, "low": True},
            "archive_sees": {"at": "2026-11-30T10:00:00Z", "version": "0.9.9", "waiting": 77, "oldest_waiting_seconds": 9000.0,
                             "troubles": ["disk-low"], "silent_after_seconds": 600},
            "reports": {"received": 9, "sent": 6, "aside": 2, "waiting": 1, "oldest_waiting_seconds": 30.0}, "hl7_refused": 3,
        }  # fmt: skip


class TestInTheBrowser:
    @pytest.fixture
    def everything(self, tmp_path) -> Iterator[tuple[Everything, str]]:
        state, place = Everything(), hospital(tmp_path, "http://127.0.0.1:9")
        with server.serving(place.config(), application(state)):
            yield state, place.page + "/"

    @pytest.fixture
    def shown(self, browser, everything) -> Iterator[Page]:
        context = new_context(browser, locale="it-IT")
        shown = context.new_page()
        watch = Watch(shown)
        watch.expect("503")
        shown.goto(everything[1])
        yield shown
        context.close()
        watch.check()

    def reads(self, shown: Page, language: str, other: str) -> None:
        expect(shown.locator("html")).to_have_attribute("lang", language)
        texts = TEXTS[language]
        for slug in CAN_BE_WRONG:
            expect(shown.locator("#line")).to_contain_text(texts[f"trouble.{slug}"])
            expect(shown.locator("#line")).to_contain_text(texts[f"advice.{slug}"])
        for slug in CAN_BE_THE_REASON:
            expect(shown.locator("#aside")).to_contain_text(texts[f"reason.{slug}"])
            expect(shown.locator("#aside")).to_contain_text(texts[f"advice.{slug}"])
        expect(shown.locator("#aside")).to_contain_text(f"{texts['reason.other']}: something-new")
        expect(shown.locator("#senders")).to_contain_text("CT1, 10.1.2.3")
        for why in Refusal:
            expect(shown.locator("#refusals")).to_contain_text(texts[f"refusal.{why}"])
        expect(shown.locator("#refusals")).to_contain_text("CT1, 10.1.2.3 → OTHER")
        expect(shown.locator("#refusals")).to_contain_text("1.3.12.2.1107.5.9.1")
        for name in EventOutcome:
            expect(shown.locator("#adt_counts")).to_contain_text(texts[f"adt.{name}"])
        expect(shown.locator("#adt_person")).to_contain_text(texts["adt.too-many"])
        for reason in (*RecallReason, *HOLDS_UP):
            expect(shown.locator("#deliver")).to_contain_text(why_not_delivered(reason, texts))
            expect(shown.locator("#deliver")).to_contain_text(advise_on_delivery(reason, texts))
        expect(shown.locator("#deliver_why")).to_contain_text(f"{texts['deliver.pacs-status']} A900")
        assert "pacs-status" not in shown.locator("#deliver").inner_text()
        expect(shown.locator("#deliver_patients")).to_contain_text("a1b2c3d4e5f69 / 15")
        expect(shown.locator("#orders_same")).to_contain_text("O-9")
        expect(shown.locator("#adt_nobody")).to_contain_text("XYZ")
        expect(shown.locator("#adt_unreadable")).to_contain_text("A01 C-8")
        expect(shown.locator("#details")).to_contain_text(f"{texts['reports']}9 = 6 + 2 + 1")
        expect(shown.locator("#details")).to_contain_text(f"{texts['issuer_name']}: ADT112")
        for said in (texts["city_silent"], "0.9.9", "77", texts["trouble.disk-low"]):
            expect(shown.locator("#city")).to_contain_text(said)
        body = shown.locator("body").inner_text()
        foreign = {key for key, text in TEXTS[other].items() if re.search(rf"(?<!\w){re.escape(text)}(?!\w)", body)}
        assert foreign <= {"title", "in", "rejected"}  # “forwarder”, a word of both languages, and the name of a command

    @pytest.mark.parametrize(("locale", "language"), [("it-CH", "it"), ("en-US", "en"), ("fr-FR", "it")])
    def test_a_browser_of_another_language_is_answered_as_on_the_staffs_pages(self, browser, everything, locale, language):
        context = new_context(browser, locale=locale)
        shown = context.new_page()
        shown.goto(everything[1])
        expect(shown.locator("html")).to_have_attribute("lang", language)
        context.close()
        assert (
            language_of(Request({"type": "http", "query_string": b"", "headers": [(b"accept-language", locale.encode())]}))
            == language
        )

    def test_everything_that_can_be_wrong_is_read_in_italian_and_in_english(self, shown: Page):
        self.reads(shown, "it", "en")
        shown.get_by_role("button", name="English").click()
        self.reads(shown, "en", "it")

    def test_a_journal_that_cannot_be_read_and_a_forwarder_that_is_gone_are_told_apart(self, everything, shown: Page):
        state, _ = everything
        expect(shown.locator("#line")).to_contain_text(TEXTS["it"]["trouble.disk-low"])
        state.broken = True
        expect(shown.locator("#line")).to_have_text(TEXTS["it"]["journal"])
        assert "disk I/O" not in shown.locator("body").inner_text()


def test_the_counts_are_read_without_scripts_too():
    state = Everything()
    _, _, body = queue_page.respond(state, "/")
    text = re.sub(r"<[^>]+>", " ", body.decode())
    now = state.snapshot()
    for name in ("received", "waiting", "indexed", "rejected"):
        assert f"{TEXTS['en'][name]}  {now[name]} " in text
    assert TEXTS["en"]["sum"] in text
    state.broken = True
    assert queue_page.respond(state, "/")[0] == 200


def test_a_crowd_that_says_nothing_does_not_use_up_the_threads(monkeypatch, tmp_path):
    monkeypatch.setattr(server, "AT_ONCE", 3)
    place = hospital(tmp_path, "http://127.0.0.1:9")
    port = place.values["page.port"]
    with server.serving(place.config(), application(Everything())):
        before = threading.active_count()
        crowd = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(20)]
        assert [connection.recv(1) for connection in crowd[-5:]] == [b""] * 5
        assert threading.active_count() <= before + 3
        for connection in crowd:
            connection.close()
        url = f"http://127.0.0.1:{port}/status.json"
        until(lambda: answers(url))


def answers(url: str) -> bool:
    try:
        with urllib3.PoolManager(retries=False, timeout=60) as http:
            return http.request("GET", url).status == 200
    except urllib3.exceptions.HTTPError:
        return False


class TestTroubles:
    """What is wrong stands in the status as long as it is."""

    def test_nothing_is_wrong(self, archive: FakeArchive, tmp_path):
        place = hospital(tmp_path, archive.url)
        with running(place.config()):
            store(place, [ct_slice(1)])
            assert until(lambda: place.settled(1))["troubles"] == []

    @pytest.mark.parametrize(
        ("reply", "trouble"),
        [
            (
                Reply(403, '{"type": "urn:contenitore:problem:unknown-institution", "detail": "No such role."}'),
                "unknown-institution",
            ),
            (Reply(403, '{"message": "Forbidden"}'), "refused"),
            (Reply(503), "throttled"),
            (Reply(cut=True), "line-broke"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_the_line(self, archive: FakeArchive, tmp_path, reply: Reply, trouble: str):
        place = hospital(tmp_path, archive.url)
        archive.before = lambda *_: reply
        with running(place.config()):
            store(place, [ct_slice(1)])
            until(lambda: place.state()["troubles"] == [trouble])
            archive.before = lambda *_: None
            until(lambda: place.state()["troubles"] == [])

    def test_a_store_that_is_blocked_is_told_though_the_archive_answers(self, archive, tmp_path):
        place = hospital(tmp_path, archive.url)
        archive.before = lambda method, *_: Reply(403, "<html>Blocked</html>") if method == "PUT" else None
        with running(place.config()) as state:
            assert (place.state()["line"]["open"], place.state()["line"]["tried"]) == (False, False)
            store(place, [ct_slice(1)])
            found = until(lambda: place.state() if place.state()["troubles"] else None)
            assert (found["troubles"], found["line"]["open"]) == (["store-blocked"], False)
            assert found["line"]["host"] == archive.url.removeprefix("http://")
            archive.before = lambda *_: None
            state._outbox.try_now()
            until(lambda: place.settled(1))
            assert (place.state()["troubles"], place.state()["line"]["open"]) == ([], True)

    def test_a_third_that_is_put_aside_is_told(self, archive: FakeArchive, tmp_path):
        place = hospital(tmp_path, archive.url, send__lossless=False)
        archive.verdict = lambda sha256, body: ("rejected", "truncated") if b"SLICE1" in body else ("indexed", None)
        bad = ct_slice(1)
        bad.SeriesDescription = "SLICE1"
        with running(place.config()):
            store(place, [bad, ct_slice(2), ct_slice(3)])
            assert until(lambda: place.settled(3))["troubles"] == ["many-aside"]
            store(place, [ct_slice(4)])
            assert until(lambda: place.settled(4))["troubles"] == []

    def test_who_sent_last_and_when_is_told_also_after_a_restart(self, archive: FakeArchive, tmp_path):
        place = hospital(tmp_path, archive.url)
        with running(place.config()):
            store(place, [ct_slice(1)], calling="CT1")
            store(place, [ct_slice(2)], calling="CT2")
            until(lambda: [sender["calling"] for sender in place.state()["senders"]] == ["CT2", "CT1"])
            assert {sender["peer"] for sender in place.state()["senders"]} == {"127.0.0.1"}
        with running(place.config()):
            senders = until(lambda: place.state()["senders"])
        assert {sender["calling"] for sender in senders} == {"CT1", "CT2"}
        assert all(abs(sender["last_at"] - time.time()) < 300 for sender in senders)

    @pytest.mark.parametrize(
        "program", ["/does/not/exist", "/bin/echo no json", "/bin/false", "/bin/echo {}", f"/bin/echo '{EXPIRED}'"]
    )
    def test_credentials_that_cannot_be_had_are_told_and_taken_once_they_can(self, archive, credentials, tmp_path, program: str):
        """As with Roles Anywhere, when a machine starts while the line is down: it receives, and sends later."""
        place = hospital(tmp_path, archive.url)
        good = (credentials / "credentials").read_text()
        (credentials / "credentials").unlink()
        (credentials / "config").write_text(f"[profile san-matteo]\nregion = eu-south-1\ncredential_process = {program}\n")
        with running(place.config()):
            assert store(place, [ct_slice(1)]) == [0x0000]
            until(lambda: place.state()["troubles"] == ["credentials-not-renewed"])
            (credentials / "credentials").write_text(good)
            until(lambda: place.settled(1))
            assert place.state()["troubles"] == []

    @pytest.mark.parametrize(
        ("api", "trouble"), [("http://127.0.0.1:9", "connection-refused"), ("http://archive.invalid", "unknown-name")]
    )
    def test_no_way_to_the_archive(self, tmp_path, api: str, trouble: str):
        place = hospital(tmp_path, api)
        with running(place.config()):
            store(place, [ct_slice(1)])
            until(lambda: place.state()["troubles"] == [trouble])

    def test_a_certificate_that_vanished_or_ends_is_told_and_everything_else_still_shown(self, tmp_path):
        authority = Authority(tmp_path / "tls")
        pair = authority.issue("forwarder", days=3)
        place = hospital(
            tmp_path, "http://127.0.0.1:9", dicom__tls__port=free_port(), dicom__tls__certificate=str(pair.certificate),
            dicom__tls__key=str(pair.key), dicom__tls__ca_file=str(authority.pem),
        )  # fmt: skip
        with running(place.config()):
            assert place.state()["troubles"] == ["certificate-ends"]
            Path(pair.certificate).unlink()
            assert place.get("/health").status == 200
            assert place.state()["troubles"] == ["certificate-unreadable"]

    @pytest.mark.parametrize("option", ["--certificate {0}", "--certificate={0}"])
    def test_the_certificate_that_is_exchanged_for_credentials_is_told_before_it_ends(self, credentials, tmp_path, option: str):
        """That of Roles Anywhere, which only AWS's helper reads: without it nothing is sent any more."""
        pair = Authority(tmp_path / "tls").issue("forwarder.san-matteo", days=20)
        (credentials / "credentials").unlink()
        helper = f"/bin/false credential-process --with-proxy {option.format(pair.certificate)} --private-key {pair.key}"
        (credentials / "config").write_text(
            "[profile own-account]\nrole_arn = arn:aws:iam::111122223333:role/forwarder\nsource_profile = san-matteo\n"
            f"[profile san-matteo]\nregion = eu-south-1\ncredential_process = {helper}\n"
        )
        for profile in ("san-matteo", "own-account"):
            place = hospital(tmp_path / profile, "http://127.0.0.1:9", archive__profile=profile)
            with running(place.config()):
                state = place.state()
                assert (state["troubles"][-1], state["certificate_days"]) == ("certificate-ends", 20)

    def test_the_disk_and_the_clock_and_the_watched_folder(self, archive: FakeArchive, tmp_path):
        inbox = tmp_path / "inbox"
        inbox.mkdir()
        archive.clock_ahead = 1200
        place = hospital(tmp_path, archive.url, watch__folder=str(inbox), watch__every_seconds=0.05)
        with running(place.config()) as state:
            store(place, [ct_slice(1)])
            until(lambda: place.settled(1))
            assert place.state()["troubles"] == ["clock-wrong"]
            inbox.rmdir()
            until(lambda: place.state()["troubles"] == ["watch-fails", "clock-wrong"])
            state._spool.reserve_bytes = 1 << 60
            assert place.state()["troubles"] == ["disk-low", "watch-fails", "clock-wrong"]

    def test_names_that_keep_images_apart_are_counted(self, archive: FakeArchive, tmp_path):
        archive.issuer_name = "ADT1"
        place = hospital(tmp_path, archive.url)
        with running(place.config()):
            store(place, [ct_slice(number) for number in (1, 2)])
            until(lambda: (now := place.settled(2)) and now["issuer_names"] == {"ADT1": 2})
            archive.issuer_name = None
            store(place, [ct_slice(3)])
            assert until(lambda: place.settled(3))["issuer_names"] == {"ADT1": 2}
