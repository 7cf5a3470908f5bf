"""What the administrator sees and does: page, metrics, status, check, retry, rejected, watched folder, logs."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest
from certificates import Authority
from fakes import FakeArchive, Reply
from hospital import conserved, hospital, process, store, until
from images import ct_slice, write_ct
from packaging.requirements import Requirement
from pacs import running_pacs
from prometheus_client.parser import text_string_to_metric_families
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from forwarder import build
from forwarder.__main__ import main
from forwarder.alerts import texts
from forwarder.errors import SpoolError
from forwarder.operations import metrics
from forwarder.service import running
from forwarder.spool.watched_folder import Watcher
from local.processes import free_port

CT = "1.2.840.10008.5.1.4.1.1.2"

pytestmark = pytest.mark.usefixtures("credentials")


class TestPage:
    def test_it_shows_the_counts_and_they_agree(self, archive: FakeArchive, tmp_path):
        place = hospital(tmp_path, archive.url)
        with running(place.config()):
            store(place, [ct_slice(n) for n in range(1, 6)])
            until(lambda: place.settled(5))
            page = place.get("/")
            assert page.status == 200
            assert "default-src 'none'" in page.headers["Content-Security-Policy"]
            for path in re.findall(rb'(?:src|href)="([^":]+)"', page.data):
                assert place.get("/" + path.decode()).status == 200

    def test_the_metrics_can_be_read_by_prometheus(self, archive: FakeArchive, tmp_path):
        place = hospital(tmp_path, archive.url)
        with running(place.config()):
            store(place, [ct_slice(1)])
            until(lambda: place.settled(1))
            families = list(text_string_to_metric_families(place.get("/metrics").data.decode()))
        values = {family.name: family.samples[0].value for family in families}
        assert values["forwarder_received"] == values["forwarder_indexed"] == 1
        assert set(metrics.METRICS) - set(values) == {
            "forwarder_oldest_waiting_seconds",
            "forwarder_adt_oldest_waiting_seconds",
            "forwarder_commitments_oldest_seconds",
            "forwarder_deliver_oldest_waiting_seconds",
            "forwarder_reports_oldest_waiting_seconds",
            "forwarder_certificate_days",
            *(name for name in metrics.METRICS if re.fullmatch("forwarder_people_\\w+_oldest_seconds", name)),  # nobody waits
        }

    def test_nothing_else_is_there(self, archive: FakeArchive, tmp_path):
        place = hospital(tmp_path, archive.url)
        with running(place.config()):
            assert place.get("/../config.py").status == 404
            assert place.get("/status.json?x=1").status == 200


class TestStatus:
    def shown(self, path: str, capsys) -> str:
        assert main(["status", "--once", "--config", path]) == 0
        told: str = capsys.readouterr().out
        return told

    def test_running_and_stopped(self, archive: FakeArchive, tmp_path, capsys):
        place = hospital(tmp_path, archive.url)
        path = str(place.write_config())
        archive.before = lambda *_: Reply(503)
        with running(place.config()):
            store(place, [ct_slice(1)])
            out = until(lambda: told if texts("en")["trouble.throttled"] in (told := self.shown(path, capsys)) else None)
            assert re.search(r"received\s+1\b", out) and texts("en")["advice.throttled"] in out
        assert main(["status", "--json", "--config", path]) == 0
        now = json.loads(capsys.readouterr().out)
        conserved(now)
        assert (now["running"], now["waiting"]) == (False, 1)

    def test_what_is_wrong_stands_first_and_what_was_put_aside_with_what_to_do(self, archive: FakeArchive, tmp_path, capsys):
        archive.verdict = lambda sha256, body: ("rejected", "truncated")
        place = hospital(tmp_path, archive.url)
        path = str(place.write_config())
        with running(place.config()):
            store(place, [ct_slice(1)])
            until(lambda: place.settled(1))
            out = " ".join(self.shown(path, capsys).split())
        said = [texts("en")[key] for key in ("trouble.many-aside", "advice.many-aside", "reason.truncated", "advice.truncated")]
        places = [out.find(text) for text in said]
        assert places == sorted(places) and places[0] > 0

    def test_without_a_spool_it_says_so(self, archive: FakeArchive, tmp_path, capsys):
        place = hospital(tmp_path, archive.url)
        assert main(["status", "--once", "--config", str(place.write_config())]) == 2
        assert "There is no spool" in capsys.readouterr().err


class TestCheck:
    def test_everything_right(self, archive: FakeArchive, tmp_path, capsys):
        pacs = AE("PACS")
        pacs.add_supported_context(Verification)
        server = pacs.start_server(("127.0.0.1", 0), block=False)
        authority = Authority(tmp_path / "tls")
        pair = authority.issue("forwarder", days=60)
        place = hospital(
            tmp_path,
            archive.url,
            peers=[{"ae_title": "PACS", "host": "127.0.0.1", "port": server.server_address[1]}],
            dicom__tls__port=free_port(),
            dicom__tls__certificate=str(pair.certificate),
            dicom__tls__key=str(pair.key),
            dicom__tls__ca_file=str(authority.pem),
        )
        place.spool.mkdir()
        assert main(["check", "--config", str(place.write_config())]) == 0
        server.shutdown()
        out = capsys.readouterr().out
        for text in ("answers C-ECHO", "answers signed calls", "agrees", "MB free", "holds for 60 days"):
            assert text in out

    def test_the_certificate_that_is_exchanged_for_credentials_is_looked_at(
        self, archive: FakeArchive, credentials: Path, tmp_path, capsys
    ):
        pair = Authority(tmp_path / "tls").issue("forwarder.san-matteo", days=20)
        helper = f"/bin/false credential-process --certificate {pair.certificate}"
        (credentials / "config").write_text(f"[profile san-matteo]\nregion = eu-south-1\ncredential_process = {helper}\n")
        place = hospital(tmp_path, archive.url)
        place.spool.mkdir()
        assert main(["check", "--config", str(place.write_config())]) == 1
        out = capsys.readouterr().out
        assert re.search(rf"^BAD +certificate, AWS: holds for 20 days \({re.escape(str(pair.certificate))}\)$", out, re.MULTILINE)

    @pytest.mark.parametrize("named", [False, True])
    def test_credentials_beside_the_installed_configuration_are_those_of_the_service(
        self, archive: FakeArchive, credentials: Path, tmp_path, monkeypatch, capsys, named: bool
    ):
        """Who is called at night types the command alone; the unit's environment is not theirs."""
        place = hospital(tmp_path, archive.url)
        place.spool.mkdir()
        (credentials / "config").rename(tmp_path / "aws.ini")
        (credentials / "credentials").rename(tmp_path / "aws-credentials.ini")
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.delenv(name)
        path = str(place.write_config())
        if named:  # a configuration of one's own goes by one's own credentials
            assert main(["check", "--config", path]) == 1
            assert "answers signed calls" not in capsys.readouterr().out
            return
        monkeypatch.setenv("CONTENITORE_FORWARDER_CONFIG", path)
        assert main(["check"]) == 0
        assert "answers signed calls" in capsys.readouterr().out

    def test_everything_wrong_is_named(self, archive: FakeArchive, tmp_path, capsys):
        archive.clock_ahead = 1200
        authority = Authority(tmp_path / "tls")
        pair, short = authority.issue("forwarder", days=3), authority.issue("hl7", days=2)
        place = hospital(
            tmp_path,
            archive.url,
            peers=[{"ae_title": "PACS", "host": "127.0.0.1", "port": free_port()}],
            dicom__tls__port=free_port(),
            dicom__tls__certificate=str(pair.certificate),
            dicom__tls__key=str(pair.key),
            dicom__tls__ca_file=str(authority.pem),
            hl7__tls__port=free_port(),
            hl7__tls__certificate=str(short.certificate),
            hl7__tls__key=str(short.key),
            hl7__tls__ca_file=str(authority.pem),
            spool__reserve_mb=9_000_000,
        )
        place.spool.mkdir()
        assert main(["check", "--config", str(place.write_config())]) == 1
        out = capsys.readouterr().out
        assert out.count("BAD") == 5
        for text in (
            "nobody answers DICOM",
            "certificate, HL7",
            " s behind the archive's",
            "9000000 in reserve",
            "holds for 3 days",
            "holds for 2 days",
        ):
            assert text in out

    def check(self, place, capsys) -> tuple[int, str]:
        place.spool.mkdir(exist_ok=True)
        code = main(["check", "--config", str(place.write_config())])
        return code, capsys.readouterr().out

    @pytest.mark.parametrize(
        ("method", "reply"),
        [
            ("PUT", Reply(403, "<html>Blocked</html>")),
            ("PUT", Reply(403, "")),
            ("PUT", Reply(200, "<html>Log in</html>")),
            ("PUT", Reply(307, "", headers={"Location": "http://login.example.org"})),
            ("PUT", Reply(cut=True)),
            ("GET", Reply(403, "<html>Blocked</html>")),
            ("PUT", Reply(403, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")),
            ("PUT", Reply(404, "<Error><Code>NoSuchBucket</Code></Error>")),
        ],
        ids=str,
    )
    def test_a_store_that_cannot_be_reached_or_takes_nothing_is_found(self, archive, tmp_path, capsys, method, reply):
        archive.before = lambda asked, path, _: reply if asked == method and path.startswith("/objects") else None
        code, out = self.check(hospital(tmp_path, archive.url), capsys)
        assert code == 1 and "good archive" in out and re.search("BAD .* store: ", out)

    def test_trying_the_store_leaves_nothing_in_it(self, archive: FakeArchive, tmp_path, capsys):
        code, out = self.check(hospital(tmp_path, archive.url), capsys)
        assert code == 0 and "good store" in out and not archive.objects

    def test_a_proxy_that_lets_one_host_through_and_not_the_other_is_named_with_the_host(self, archive, tmp_path, capsys):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        place = hospital(tmp_path, archive.url, archive__proxy=f"http://127.0.0.1:{port}")
        code, out = self.check(place, capsys)
        assert code == 1 and "The proxy cannot be reached" in out

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"require_called_aet": True}, "is not called “WRONG”"),
            ({"require_calling_aet": ["OTHER"]}, "does not know the calling AE title “CONTENITORE”"),
            ({"contexts": CT}, "no Verification (C-ECHO)"),
            ({"status": 0x0122}, "answers C-ECHO with 0x0122"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_the_cause_that_a_pacs_gives_is_the_cause_that_is_named(self, archive, tmp_path, capsys, options, text):
        pacs = AE("PACS")
        options = dict(options)
        pacs.add_supported_context(options.pop("contexts", Verification))
        status = options.pop("status", 0)
        handlers = [(evt.EVT_C_ECHO, lambda _: status)]
        for name, value in options.items():
            setattr(pacs, name, value)
        server = pacs.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        peer = {"ae_title": "WRONG", "host": "127.0.0.1", "port": server.server_address[1]}
        code, out = self.check(hospital(tmp_path, archive.url, peers=[peer]), capsys)
        server.shutdown()
        assert code == 1 and text in out and out.count("BAD") == 1

    def test_what_stands_at_the_pacs_port_is_told_from_nobody(self, archive: FakeArchive, tmp_path, capsys):
        port = int(archive.url.rpartition(":")[2])
        peers = [{"ae_title": "WEB", "host": "127.0.0.1", "port": port}, {"ae_title": "DNS", "host": "pacs.invalid", "port": 104}]
        code, out = self.check(hospital(tmp_path, archive.url, peers=peers), capsys)
        assert code == 1
        assert "does not speak DICOM" in out and "pacs.invalid cannot be resolved" in out

    def test_the_pacs_of_deliveries_is_called_and_queried_and_the_mail_server_too(self, archive, tmp_path, capsys):
        with running_pacs() as pacs:
            values = {"pacs__host": "127.0.0.1", "pacs__port": pacs.port}
            code, out = self.check(hospital(tmp_path, archive.url, **values), capsys)
            assert code == 0 and "good PACS PACS: answers C-ECHO" in out and "good PACS PACS, C-FIND: answers" in out
            assert f"to the PACS 127.0.0.1:{pacs.port}" in out
            pacs.aborts_queries = True
            mail = {"mail__host": "127.0.0.1", "mail__port": free_port(), "mail__sender": "a@example.org"}
            place = hospital(tmp_path, archive.url, **values, **mail, web__public_url="https://door.example.org")
            code, out = self.check(place, capsys)
            assert code == 1 and "“CONTENITORE” may not query there" in out
            assert "does not take us: ConnectionRefusedError" in out and "to the mail server 127.0.0.1" in out
        with running_pacs(finds=False) as pacs:
            code, out = self.check(hospital(tmp_path, archive.url, pacs__host="127.0.0.1", pacs__port=pacs.port), capsys)
            assert code == 0 and "answers no query of patients" in out

    def test_what_the_firewall_has_to_let_through_is_printed(self, archive: FakeArchive, tmp_path, capsys):
        peers = [{"ae_title": "PACS", "host": "127.0.0.1", "port": 9}]
        place = hospital(tmp_path, archive.url, peers=peers, hl7__port=2575)
        _, out = self.check(place, capsys)
        host = archive.url.removeprefix("http://")
        assert f"firewall, out: to {host}" in out and "PACS 127.0.0.1:9" in out
        assert f"TCP {place.port} (DICOM)" in out and "TCP 2575 (HL7)" in out

    def test_an_unknown_role_is_named(self, archive: FakeArchive, tmp_path, capsys):
        archive.before = lambda *_: Reply(403, '{"detail": "No institution has registered this role."}')
        place = hospital(tmp_path, archive.url)
        assert main(["check", "--config", str(place.write_config())]) == 1
        assert "No institution has registered this role." in capsys.readouterr().out


class TestAside:
    @pytest.fixture
    def place(self, archive: FakeArchive, tmp_path):
        """A forwarder that runs and has two rejected instances of three."""
        place = hospital(tmp_path, archive.url, send__lossless=False)
        archive.verdict = lambda sha256, body: ("indexed", None) if b"SLICE1" in body else ("rejected", "truncated")
        slices = [ct_slice(n) for n in (1, 2, 3)]
        slices[0].SeriesDescription = "SLICE1"
        path = str(place.write_config())
        with running(place.config()):
            store(place, slices)
            until(lambda: place.settled(3))
            yield place, path

    def digests(self, path: str, capsys) -> list[str]:
        assert main(["rejected", "list", "--config", path]) == 0
        return re.findall(r"^([0-9a-f]{12}) ", capsys.readouterr().out, re.M)

    def test_listed_and_shown_with_the_reason_and_without_names(self, place, capsys):
        place, path = place
        first, _ = self.digests(path, capsys)
        assert main(["rejected", "show", first, "--config", path]) == 0
        out = capsys.readouterr().out
        assert "truncated" in out and "1.2.840.10008.1.2.1" in out and "MODALITY" in out
        assert "Prova" not in out

    def test_discarded_they_are_gone_and_still_counted(self, place, capsys):
        place, path = place
        first, _ = self.digests(path, capsys)
        assert main(["rejected", "discard", first, "--config", path]) == 0
        state = place.state()
        conserved(state)
        assert (state["rejected"], state["discarded"], state["aside"]) == (2, 1, {"truncated": 1})
        assert main(["rejected", "discard", "--all", "--config", path]) == 0
        assert place.state()["aside"] == {}
        assert not [p for p in (place.spool / "instances").rglob("*") if p.is_file()]

    def test_tried_again_they_arrive(self, place, archive, capsys):
        place, path = place
        archive.verdict = lambda sha256, body: ("indexed", None)
        assert main(["retry", "--all", "--config", path]) == 0
        state = until(lambda: place.settled(3) if place.state()["indexed"] == 3 else None)
        assert (state["received"], state["rejected"]) == (3, 0)

    @pytest.mark.parametrize(
        ("state", "shown"), [("superseded", "superseded"), ("quarantined", "quarantined"), ("<b>Bianchi^Prova", "unknown-state")]
    )
    def test_a_state_that_is_not_known_is_put_aside_under_its_name(self, archive, tmp_path, capsys, state, shown):
        place = hospital(tmp_path / "other", archive.url)
        path = str(place.write_config())
        archive.verdict = lambda sha256, body: (state, None)
        with running(place.config()):
            store(place, [ct_slice(9)])
            found = until(lambda: place.settled(1))
            assert (found["rejected"], found["aside"]) == (1, {shown: 1})
            assert main(["rejected", "list", "--config", path]) == 0
            assert shown in capsys.readouterr().out
            asked = archive.calls["POST /uploads/status"]
            store(place, [ct_slice(9)])
            assert place.state()["aside"] == {shown: 1}
            assert archive.calls["POST /uploads/status"] <= asked + 1 and archive.calls["PUT /objects"] == 1
            archive.verdict = lambda sha256, body: ("indexed", None)
            assert main(["retry", "--all", "--config", path]) == 0
            until(lambda: place.state()["indexed"] == 1)

    def test_a_digest_that_does_not_exist_is_named(self, place, capsys):
        _, path = place
        assert main(["rejected", "show", "abcdef", "--config", path]) == 2
        assert "abcdef" in capsys.readouterr().err

    def test_discard_wants_to_know_what(self, place, capsys):
        _, path = place
        assert main(["rejected", "discard", "--config", path]) == 2

    def test_the_archive_removes_what_is_no_dicom_and_nothing_else(self, archive, tmp_path, capsys):
        place = hospital(tmp_path / "junk", archive.url, send__lossless=False)
        path = str(place.write_config())
        archive.verdict = lambda sha256, body: ("rejected", "truncated" if b"SLICE1" in body else "not-dicom")
        slices = [ct_slice(n) for n in (1, 2, 3, 4)]
        slices[0].SeriesDescription = "SLICE1"
        with running(place.config()):
            store(place, slices)
            until(lambda: place.settled(4))
            listed = self.digests(path, capsys)
            kept = [digest for digest in archive.objects if archive.state(digest)["reason"] == "truncated"]
            (first, *_) = [digest for digest in listed if digest != kept[0][:12]]
            assert main(["rejected", "show", first, "--config", path]) == 0
            assert "rejected remove" in capsys.readouterr().out
            assert main(["rejected", "remove", first, "--config", path]) == 0
            assert f"{first}  removed" in capsys.readouterr().out
            assert len(archive.objects) == 3
            assert main(["rejected", "remove", "--all", "--config", path]) == 0
            assert list(archive.objects) == kept
            assert main(["rejected", "remove", kept[0][:12], "--config", path]) == 1
            assert f"{kept[0][:12]}  kept" in capsys.readouterr().out
            assert main(["rejected", "remove", "--config", path]) == 2
            assert self.digests(path, capsys) == listed  # what lies here is let go of by `discard`

    def test_what_was_sent_without_a_spool_is_removed_by_its_whole_digest(self, archive, capsys):
        digest = "ab" * 32
        archive.objects[digest], archive.stored_at[digest] = b"junk", 0.0
        archive.verdict = lambda sha256, body: ("rejected", "not-dicom")
        assert main(["rejected", "remove", digest, "--api", archive.url, "--profile", "san-matteo"]) == 0
        assert archive.objects == {}
        assert main(["rejected", "remove", "0" * 64, "--api", archive.url, "--profile", "san-matteo"]) == 1
        assert "not there" in capsys.readouterr().out


def test_retry_does_not_wait_for_the_pause_to_end(archive: FakeArchive, tmp_path):
    place = hospital(tmp_path, archive.url)
    path = str(place.write_config())
    archive.before = lambda *_: Reply(503, headers={"Retry-After": "800"})
    with running(place.config()):
        store(place, [ct_slice(1)])
        until(lambda: place.state()["line"]["again_in_seconds"] > 100)
        archive.before = lambda *_: None
        assert main(["retry", "--config", path]) == 0
        until(lambda: place.settled(1))


def test_two_forwarders_never_share_a_spool(archive: FakeArchive, tmp_path, capsys):
    place = hospital(tmp_path, archive.url)
    path = place.write_config()
    with running(place.config()):
        done = subprocess.run(
            [sys.executable, "-m", "forwarder", "run", "--config", str(path)],
            capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parents[2],
        )  # fmt: skip
    assert done.returncode == 2
    assert "Another forwarder is using the spool" in done.stderr and "Traceback" not in done.stderr


def test_a_taken_port_is_one_sentence(archive: FakeArchive, tmp_path):
    place = hospital(tmp_path / "one", archive.url)
    other = hospital(tmp_path / "two", archive.url, dicom__port=place.port)
    with running(place.config()):
        done = subprocess.run(
            [sys.executable, "-m", "forwarder", "run", "--config", str(other.write_config())],
            capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parents[2],
        )  # fmt: skip
    assert done.returncode == 2
    assert f"Cannot listen on 127.0.0.1:{place.port}" in done.stderr and "Traceback" not in done.stderr


class TestWatchedFolder:
    def test_what_is_put_there_is_sent_and_removed(self, archive: FakeArchive, tmp_path):
        inbox = tmp_path / "inbox"
        inbox.mkdir()
        place = hospital(
            tmp_path, archive.url, watch__folder=str(inbox), watch__every_seconds=0.1, watch__settled_seconds=0.2,
            send__lossless=False,
        )  # fmt: skip
        with running(place.config()):
            files = {path.read_bytes() for path in write_ct(inbox / "study", 3)}
            until(lambda: place.settled(3))
            until(lambda: not [path for path in inbox.rglob("*") if path.is_file()])
        assert set(archive.objects.values()) == files

    def test_a_file_that_still_grows_is_left_until_it_is_whole(self, archive: FakeArchive, tmp_path):
        inbox = tmp_path / "inbox"
        inbox.mkdir()
        place = hospital(
            tmp_path, archive.url, watch__folder=str(inbox), watch__every_seconds=0.05, watch__settled_seconds=0.6,
            send__lossless=False,
        )  # fmt: skip
        (source,) = write_ct(tmp_path / "source", 1)
        data = source.read_bytes()
        with running(place.config()), (inbox / "growing").open("wb", buffering=0) as file:
            for at in range(0, len(data), 300):
                file.write(data[at : at + 300])
                assert not place.state()["received"]
            until(lambda: place.settled(1))
        assert list(archive.objects.values()) == [data]

    def test_one_file_that_makes_trouble_keeps_no_other_waiting(self, archive: FakeArchive, tmp_path):
        """A name that is no text, a file that cannot be read, one that cannot be removed."""
        inbox = tmp_path / "inbox"
        (inbox / "a").mkdir(parents=True)
        (inbox / "a" / "gone").symlink_to("/proc/self/mem")
        (odd,) = write_ct(tmp_path / "odd", 1)
        odd.rename(os.fsdecode(os.fsencode(inbox) + b"/perch\xe9.dcm"))
        write_ct(inbox / "z", 2)
        place = hospital(
            tmp_path, archive.url, watch__folder=str(inbox), watch__every_seconds=0.05, watch__settled_seconds=0,
            watch__after="keep",
        )  # fmt: skip
        for _ in range(2):
            with running(place.config()):
                until(lambda: place.settled(3))
        assert len(archive.order) == 3

    def test_what_is_no_dicom_or_leads_out_stays_and_is_told_without_its_name(self, archive, tmp_path, caplog):
        inbox = tmp_path / "inbox"
        (inbox / "a").mkdir(parents=True)
        (inbox / "a" / "BIANCHI.zip").write_bytes(b"PK\3\4" + bytes(300))
        (secret,) = write_ct(tmp_path / "outside", 1)
        (inbox / "link").symlink_to(secret)
        os.mkfifo(inbox / "pipe")
        write_ct(inbox / "study", 1, study="1.2.3")
        place = hospital(tmp_path, archive.url, watch__folder=str(inbox), watch__every_seconds=0.05, watch__settled_seconds=0)
        with running(place.config()):
            until(lambda: place.settled(1))
            told = {"not-dicom": 1, "link-out-of-folder": 1, "special-file": 1}
            until(lambda: place.state()["left_in_folder"] == told)
            assert [sender["calling"] for sender in place.state()["senders"]] == ["WATCHED FOLDER"]
            (inbox / "pipe").unlink()
            (inbox / "a" / "BIANCHI.zip").write_bytes(secret.read_bytes())  # it becomes an image: it is taken
            until(lambda: place.settled(2))
            until(lambda: place.state()["left_in_folder"] == {"link-out-of-folder": 1})
        assert "BIANCHI" not in caplog.text
        assert len([record for record in caplog.records if "left where it is" in record.getMessage()]) == 3

    def test_a_journal_that_fails_for_a_moment_does_not_end_the_watching(self, archive: FakeArchive, tmp_path, monkeypatch):
        inbox = tmp_path / "inbox"
        inbox.mkdir()
        place = hospital(
            tmp_path, archive.url, watch__folder=str(inbox), watch__every_seconds=0.05, watch__settled_seconds=0,
            watch__after="keep",
        )  # fmt: skip
        fail = [True]

        def failing(self, path, stamp, honest=Watcher._was_taken):
            if fail:
                fail.clear()
                raise SpoolError("The journal cannot be read: disk I/O error.")
            return honest(self, path, stamp)

        monkeypatch.setattr(Watcher, "_was_taken", failing)
        with running(place.config()):
            write_ct(inbox, 1)
            until(lambda: place.settled(1))
        assert not fail

    def test_kept_files_are_taken_once_restart_or_not(self, archive: FakeArchive, tmp_path):
        inbox = tmp_path / "inbox"
        write_ct(inbox, 2)
        place = hospital(
            tmp_path, archive.url, watch__folder=str(inbox), watch__every_seconds=0.05, watch__settled_seconds=0,
            watch__after="keep",
        )  # fmt: skip
        for _ in range(2):
            with running(place.config()):
                until(lambda: place.settled(2))
        assert len(list(inbox.iterdir())) == 2
        assert len(archive.order) == 2


def test_logs_are_json_lines_and_name_no_patient(archive: FakeArchive, tmp_path):
    place = hospital(tmp_path, archive.url)
    archive.verdict = lambda sha256, body: ("rejected", "truncated")
    with process(place):
        store(place, [ct_slice(n) for n in range(1, 4)], calling="CT1")
        until(lambda: place.settled(3))
    lines = (place.folder / "log").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert {"ready", "not accepted", "stopping"} <= {entry["message"] for entry in entries}
    for secret in ("Prova", "Paziente", "PROVA-1", ct_slice().StudyInstanceUID, "wJalrXUtnFEMI"):
        assert not any(secret in line for line in lines)


def test_the_wheel_has_everything_and_its_pins_are_what_is_tested(tmp_path):
    wheel = build.build(tmp_path)
    names = ZipFile(wheel).namelist()
    package = Path(build.__file__).parent
    for path in package.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert f"forwarder/{path.relative_to(package)}" in names
    assert {"Dockerfile", "contenitore-forwarder.service"} <= {path.name for path in tmp_path.iterdir()}
    for text in build.REQUIRES:
        requirement = Requirement(text)
        assert requirement.specifier.contains(version(requirement.name)), text


def test_the_wheel_runs_away_from_the_repository(tmp_path):
    wheel = build.build(tmp_path / "dist")
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    done = subprocess.run(
        [sys.executable, "-m", "forwarder", "example-config"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert "[archive]" in done.stdout
