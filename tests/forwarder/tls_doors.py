"""A forwarder that speaks TLS at every door, as docs/forwarder.md has it configured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from certificates import Pair
from hospital import hospital

from forwarder.service import running
from local.processes import free_port

NOWHERE = "http://127.0.0.1:9"


@contextmanager
def tls_doors(folder: Path, own: Pair, authority: Path) -> Iterator[dict[str, int]]:
    """The ports of DICOM, HL7 and the pages while they are open."""
    ports = {name: free_port() for name in ("dicom", "hl7")}
    values = {
        f"{name}__tls__{key}": value
        for name, port in ports.items()
        for key, value in {
            "port": port,
            "certificate": str(own.certificate),
            "key": str(own.key),
            "ca_file": str(authority),
        }.items()
    }
    pages = {"web__certificate": str(own.certificate), "web__key": str(own.key), "archive__profile": ""}
    place = hospital(folder, NOWHERE, **values, **pages)
    with running(place.config()):
        yield {**ports, "web": int(place.values["page.port"])}
