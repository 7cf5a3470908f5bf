"""A PACS for each of the demo's hospitals: Orthanc where it is installed (Debian: orthanc), else a small one of our own."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.processes import STOP_SECONDS, end_orphan, remembered_ports
from local.small_pacs import SmallPacs

ORTHANC = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
MODALITY = "DEMO"
"""The AE title that stores into it and asks it, beside its hospital's forwarder."""
SMALL, SMALL_FILES = "a small one in place of Orthanc", "files"
_READY_SECONDS = 20.0
_log = logging.getLogger("city.pacs")


@dataclass
class Pacs:
    """A hospital's PACS: where it listens, and what it is."""

    institution: str
    aet: str
    folder: Path
    dicom_port: int
    http_port: int
    kind: str = ""
    process: subprocess.Popen[bytes] | None = None
    small: SmallPacs | None = field(default=None, repr=False)

    def shown(self) -> dict[str, Any]:
        """Its entry in `endpoints.json`."""
        entry: dict[str, Any] = {"aet": self.aet, "dicom": f"127.0.0.1:{self.dicom_port}", "kind": self.kind}
        return entry | ({"http": f"http://127.0.0.1:{self.http_port}"} if self.process else {})

    def answers(self) -> bool:
        """Whether it listens at each of its ports: Orthanc opens the one for DICOM first, and that for HTTP only then."""
        return all(_listens(port) for port in (self.dicom_port, *([self.http_port] if self.process else [])))


class HospitalsPacs:
    """All of them. The ports are known from the beginning, so that forwarders can be told of them; `start` returns when each
    answers."""

    def __init__(self, directory: Path, titles: dict[str, str]) -> None:
        self.all = [_prepared(directory / "pacs" / institution, institution, title) for institution, title in titles.items()]
        self._logs = directory / "logs"

    def start(self, forwarders: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Start them, each knowing its hospital's forwarder; their entries for `endpoints.json`."""
        nodes = {}
        for pacs in self.all:
            forwarder = forwarders[pacs.institution]
            host, _, port = str(forwarder["dicom"]).partition(":")
            nodes[pacs.institution] = {str(forwarder["aet"]): (host, int(port))}
            if Path(ORTHANC).exists() and not (pacs.folder / SMALL_FILES).exists():  # what it has is not left behind
                self._begin_orthanc(pacs, nodes[pacs.institution])
        for pacs in self.all:
            if not self._orthanc_answers(pacs):
                pacs.kind = SMALL
                pacs.small = SmallPacs(pacs.aet, pacs.dicom_port, pacs.folder / SMALL_FILES, nodes[pacs.institution])
                pacs.small.start()
        return {pacs.institution: pacs.shown() for pacs in self.all}

    def stop(self) -> None:
        """End all of them."""
        for pacs in self.all:
            if pacs.small is not None:
                pacs.small.stop()
            if pacs.process is not None:
                pacs.process.terminate()
        for pacs in self.all:
            if pacs.process is not None:
                try:
                    pacs.process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    pacs.process.kill()

    def _begin_orthanc(self, pacs: Pacs, nodes: dict[str, tuple[str, int]]) -> None:
        file = pacs.folder / "orthanc.json"
        end_orphan(pacs.folder / "pid", file)
        file.write_text(json.dumps(_configuration(pacs, nodes), indent=2))
        with (self._logs / f"pacs-{pacs.institution}.log").open("ab") as log:
            pacs.process = subprocess.Popen(
                [ORTHANC, str(file)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        (pacs.folder / "pid").write_text(str(pacs.process.pid))

    def _orthanc_answers(self, pacs: Pacs) -> bool:
        """Whether it was begun, and answers. One that does not is ended, and said in the log."""
        if pacs.process is None:
            return False
        deadline = time.monotonic() + _READY_SECONDS
        while pacs.process.poll() is None and time.monotonic() < deadline:
            if pacs.answers():
                pacs.kind = "Orthanc"
                return True
            time.sleep(0.05)
        _log.warning("Orthanc of %s does not answer; a small PACS takes its place", pacs.institution)
        pacs.process.kill()
        pacs.process.wait()
        pacs.process = None
        return False


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _prepared(folder: Path, institution: str, title: str) -> Pacs:
    folder.mkdir(parents=True, exist_ok=True)
    dicom_port, http_port = remembered_ports(folder / "ports.json", 2)
    return Pacs(institution, title, folder, dicom_port, http_port)


def _configuration(pacs: Pacs, nodes: dict[str, tuple[str, int]]) -> dict[str, Any]:
    """Orthanc's. Its DICOM port is open to the network: it knows nodes of this machine only, by title and address."""
    return {
        "Name": pacs.aet,
        "StorageDirectory": str(pacs.folder / "storage"),
        "IndexDirectory": str(pacs.folder / "storage"),
        "Plugins": [],
        "HttpPort": pacs.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": pacs.aet,
        "DicomPort": pacs.dicom_port,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": False,
        "DicomCheckModalityHost": True,
        "UnknownSopClassAccepted": True,
        "OverwriteInstances": False,
        "StorageCompression": False,
        "DicomModalities": {name: [name, host, port] for name, (host, port) in {**nodes, MODALITY: ("127.0.0.1", 104)}.items()},
    }
