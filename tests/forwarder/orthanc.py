"""Orthanc, where it is installed (Debian: orthanc; its DICOMweb plug-in: orthanc-dicomweb), driven by its REST API."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from local.processes import free_port
from tests.harness import wait_until

DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


class Orthanc:
    """Its REST API."""

    def __init__(self, http: int) -> None:
        self._address = f"http://127.0.0.1:{http}"

    def ask(self, path: str, body: object = None) -> Any:
        """What it answers; bytes are sent as they are, anything else as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        with urllib.request.urlopen(self._address + path, data, timeout=60) as answer:
            return json.load(answer)

    def is_up(self) -> bool:
        with suppress(OSError):
            return bool(self.ask("/system"))
        return False


@contextmanager
def running_orthanc(folder: Path, port: int, **settings: Any) -> Iterator[Orthanc]:
    """One of its own; `port` is for DICOM, `settings` what stands in its configuration beside the usual."""
    folder.mkdir()
    http = free_port()
    usual = {
        "StorageDirectory": str(folder), "IndexDirectory": str(folder), "DicomPort": port, "HttpPort": http, "DicomAet": "PACS",
        "RemoteAccessAllowed": False, "Plugins": [], "LuaScripts": [],
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(usual | settings))
    process = subprocess.Popen(
        [str(shutil.which("Orthanc")), str(folder / "orthanc.json")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        orthanc = Orthanc(http)
        wait_until(orthanc.is_up)
        yield orthanc
    finally:
        process.terminate()
        process.wait(60)
