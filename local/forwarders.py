"""One forwarder for each hospital, a process of its own, started again when it dies, as systemd would do."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from forwarder.config import example as config_example
from local.processes import STOP_SECONDS, end_orphan, remembered_ports
from local.web.demo_staff import DemoStaff

ROOT = Path(__file__).resolve().parent.parent
_READY_SECONDS = 30.0
_AGAIN_SECONDS = 1.0
_log = logging.getLogger("city.forwarders")


@dataclass
class Forwarder:
    """A hospital's forwarder: where it listens, and the process that is it now."""

    institution: str
    aet: str
    dicom_port: int
    page_port: int
    hl7_port: int
    staff_port: int
    file: Path
    process: subprocess.Popen[bytes] | None = None

    def shown(self) -> dict[str, Any]:
        """Its entry in `endpoints.json`."""
        return {
            "aet": self.aet,
            "dicom": f"127.0.0.1:{self.dicom_port}",
            "page": f"http://127.0.0.1:{self.page_port}",
            "dicomweb": f"http://127.0.0.1:{self.page_port}/dicomweb",
            "hl7": f"127.0.0.1:{self.hl7_port}",
            "staff": f"http://127.0.0.1:{self.staff_port}",
            "pid": self.process.pid if self.process else None,
            "config": str(self.file),
        }

    def runs(self) -> bool:
        """Whether its process has not ended, as it does at a configuration that is wrong."""
        return self.process is not None and self.process.poll() is None

    def answers(self) -> bool:
        """Whether its page says that it is up."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.page_port}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


class Forwarders:
    """All of them. `start` returns when each answers; from then on one that dies is started again."""

    def __init__(
        self, directory: Path, endpoints: dict[str, Any], pacs: dict[str, tuple[str, str, int]], *, adt: bool = False
    ) -> None:
        """`pacs`: those that there are, by institution: AE title, host, port. `adt`: whether registrations of this machine tell
        of admissions and discharges, each under its institution's id as assigning authority and as code of destination."""
        self._directory, self._endpoints, self._pacs, self._adt = directory, endpoints, pacs, adt
        self._institutions: list[str] = []
        self._all: list[Forwarder] = []
        self._staff: list[DemoStaff] = []
        self._stopping = threading.Event()
        self._logs: list[IO[bytes]] = []

    def start(self, titles: dict[str, str]) -> dict[str, dict[str, Any]]:
        """Start one for each institution (id → AE title); their entries for `endpoints.json`."""
        self._institutions = list(titles)
        for institution, title in titles.items():
            forwarder = self._prepare(institution, title)
            self._spawn(forwarder)
            self._all.append(forwarder)
            self._staff.append(DemoStaff(institution, forwarder.staff_port, forwarder.page_port))
            self._staff[-1].start()
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline and not all(forwarder.answers() for forwarder in self._all if forwarder.runs()):
            time.sleep(0.05)
        threading.Thread(target=self._watch, daemon=True, name="forwarders").start()
        return self.shown()

    def shown(self) -> dict[str, dict[str, Any]]:
        """Their entries in `endpoints.json`, as they are now."""
        return {forwarder.institution: forwarder.shown() for forwarder in self._all}

    def stop(self) -> None:
        """End all of them; what they have not sent yet stays in their spools."""
        self._stopping.set()
        for staff in self._staff:
            staff.shutdown()
            staff.server_close()
        for forwarder in self._all:
            if forwarder.process is not None:
                forwarder.process.terminate()
        for forwarder in self._all:
            if forwarder.process is not None:
                try:
                    forwarder.process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    forwarder.process.kill()
        for log in self._logs:
            log.close()

    def _prepare(self, institution: str, title: str) -> Forwarder:
        """Its folder, with ports that stay the same from one start to the next, and a configuration written anew."""
        folder = self._directory / "forwarders" / institution
        folder.mkdir(parents=True, exist_ok=True)
        dicom_port, page_port, hl7_port, staff_port = remembered_ports(folder / "ports.json", 4)
        file = folder / "forwarder.toml"
        end_orphan(folder / "pid", file)
        values: dict[str, object] = {
            "archive.api": self._endpoints["api"],
            "archive.profile": institution,
            "archive.feed_seconds": 1,
            "archive.region": self._endpoints["region"],
            "spool.folder": str(folder / "spool"),
            "spool.reserve_mb": 64,
            "dicom.ae_title": title,
            "dicom.address": "127.0.0.1",
            "dicom.port": dicom_port,
            "hl7.address": "127.0.0.1",
            "hl7.port": hl7_port,
            "page.port": page_port,
            "identity.header": "X-Remote-User",
            "identity.trusted": ["127.0.0.1"],
            "identity.roles_header": "X-Remote-Roles",
        }
        pacs = self._pacs.get(institution)
        if pacs is not None:
            node = dict(zip(("ae_title", "host", "port"), pacs, strict=True))
            values |= {f"pacs.{name}": value for name, value in node.items()}
            values |= {"deliver.enabled": True, "deliver.mark": "[{hospital}]", "peers": [node]}
        if self._adt:
            values |= {
                "hl7.allowed_addresses": ["127.0.0.1"],
                "hl7.patient_authority": institution,
                "hl7.adt.enabled": True,
                "hl7.adt.destinations": {other: other for other in self._institutions},
                "hl7.orders.enabled": True,
            }
        file.write_text(config_example.example(values), encoding="utf-8")
        return Forwarder(institution, title, dicom_port, page_port, hl7_port, staff_port, file)

    def _spawn(self, forwarder: Forwarder) -> None:
        environment = os.environ | {
            "AWS_CONFIG_FILE": self._endpoints["aws_config_file"],
            "AWS_SHARED_CREDENTIALS_FILE": self._endpoints["aws_shared_credentials_file"],
        }
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
            environment.pop(name, None)
        log = (self._directory / "logs" / f"forwarder-{forwarder.institution}.log").open("ab")
        self._logs.append(log)
        forwarder.process = subprocess.Popen(
            [sys.executable, "-m", "forwarder", "run", "--config", str(forwarder.file)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        (forwarder.file.parent / "pid").write_text(str(forwarder.process.pid))

    def _watch(self) -> None:
        """Start again what died, and write `endpoints.json` anew with its pid."""
        while not self._stopping.wait(0.2):
            for forwarder in self._all:
                if forwarder.process is not None and forwarder.process.poll() is not None:
                    _log.warning(
                        "the forwarder of %s ended with %s; starting it again",
                        forwarder.institution,
                        forwarder.process.returncode,
                    )
                    if self._stopping.wait(_AGAIN_SECONDS):
                        return
                    self._spawn(forwarder)
                    self._publish()

    def _publish(self) -> None:
        file = self._directory / "endpoints.json"
        if not file.exists():
            return  # the city is not whole yet, and will write it with the pids of then
        content = {**self._endpoints, "forwarders": self.shown()}
        written = file.with_suffix(".new")
        written.write_text(json.dumps(content, indent=2))
        written.replace(file)
