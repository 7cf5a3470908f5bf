"""A hospital takes its own with it: every instance that it owns, as it was sent, with a DICOMDIR; its transfers and its audit.

Started again it goes on where it stopped: a file stands under its name only when its SHA-256 was compared.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from forwarder.archive.changes import ask, ask_all
from forwarder.archive.client import Archive
from forwarder.errors import ArchiveError, Failure, SpoolError
from forwarder.retrieve.dicomdir import READ, Directory
from forwarder.retrieve.instances import Instance, Instances

_PAGE = 200
_PASSES = 3
"""Times that the list of studies is read: while it is, it may change."""
_TRIES = 3
_PARALLEL = 4
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
REPORT = "export.json"


@dataclass
class Exported:
    """What was exported. `missing`: what could not be, each with why."""

    institution: str = ""
    studies: int = 0
    instances: int = 0
    bytes: int = 0
    transfers: int = 0
    audit: int = 0
    missing: list[dict[str, str]] = field(default_factory=list)


def export(archive: Archive, folder: Path, on_study: Callable[[Exported], None] = lambda _: None) -> Exported:
    """Bring all that is ours into a folder. Raises ArchiveError where the archive cannot be asked, SpoolError for the folder."""
    instances = Instances(archive)
    own = instances.ourselves().id
    summary, directory = Exported(own), Directory()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for study in _studies(archive, own):
            _export_study(instances, own, study, folder, directory, summary)
            on_study(summary)
        directory.write(folder / "DICOMDIR")
        summary.transfers = _lines(folder / "transfers.jsonl", _transfers(archive))
        summary.audit = _lines(folder / "audit.jsonl", _audit(archive))
        _write(folder / REPORT, json.dumps(vars(summary), indent=2) + "\n")
    except OSError as error:
        raise SpoolError(f"The folder “{folder}” cannot be written: {error.strerror or error}.") from error
    return summary


def _studies(archive: Archive, own: str) -> Iterator[str]:
    """The Study Instance UIDs of what we own, as a search finds it."""
    known: set[str] = set()
    for _ in range(_PASSES):
        before, offset, page = len(known), 0, _PAGE
        while page == _PAGE:
            listed = ask(archive, f"/dicomweb/studies?limit={_PAGE}&offset={offset}", "application/dicom+json")
            page = len(listed)
            offset += page
            for found in listed:
                uid = str(found["0020000D"]["Value"][0])
                owner = parse_qs(urlsplit(str(found["00081190"]["Value"][0])).query).get("owner", [own])[0]
                if owner == own and uid not in known:
                    known.add(uid)
                    yield uid
        if len(known) == before:
            return


def _export_study(instances: Instances, own: str, study: str, folder: Path, directory: Directory, summary: Exported) -> None:
    cursor: str | None = ""
    summary.studies += 1
    while cursor is not None:
        page = instances.manifest_page(study, own, cursor)
        if page is None:
            summary.missing.append({"study_instance_uid": study, "why": "it was withdrawn meanwhile"})
            return
        wanted, following = page
        failed = _download(instances, study, wanted, folder)
        for _ in range(_TRIES):
            if not failed:
                break
            again = instances.manifest_page(study, own, cursor)  # addresses that are good for the next minutes
            failed = (
                _download(instances, study, [instance for instance in again[0] if instance.sha256 in failed], folder)
                if again
                else failed
            )
        for instance in wanted:
            if why := failed.get(instance.sha256):
                named = {"study_instance_uid": study, "sop_instance_uid": instance.sop_instance}
                summary.missing.append({**named, "sha256": instance.sha256, "why": why})
                continue
            _listed(instance, study, folder, directory, summary)
        cursor = following


def _download(instances: Instances, study: str, wanted: list[Instance], folder: Path) -> dict[str, str]:
    """Have these on the disk; why one is not, by SHA-256. Raises ArchiveError for what is no single one's failure."""
    failed: dict[str, str] = {}

    def fetch(instance: Instance) -> None:
        target = folder.joinpath(*_place(study, instance))
        if target.is_file() and target.stat().st_size == instance.size:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        try:
            instances.download(instance, part)
        except ArchiveError as error:
            if error.failure not in (Failure.EXPIRED_URL, Failure.NETWORK, Failure.PROTOCOL, Failure.SERVER):
                raise
            failed[instance.sha256] = error.failure.value
            return
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)

    with ThreadPoolExecutor(_PARALLEL) as pool:
        list(pool.map(fetch, wanted))
    return failed


def _listed(instance: Instance, study: str, folder: Path, directory: Directory, summary: Exported) -> None:
    place = _place(study, instance)
    path = folder.joinpath(*place)
    summary.instances += 1
    summary.bytes += instance.size
    try:
        file = dcmread(path, specific_tags=["SpecificCharacterSet", *READ], stop_before_pixels=True)
        file.decode()
        directory.add(file, place)
    except (InvalidDicomError, ValueError, TypeError, AttributeError, KeyError, LookupError) as error:
        why = f"it is there, and DICOMDIR cannot name it ({type(error).__name__})"
        summary.missing.append({"study_instance_uid": study, "sop_instance_uid": instance.sop_instance, "why": why})


def _place(study: str, instance: Instance) -> tuple[str, ...]:
    """The components of a File ID (PS3.10 8.2): of one instance always the same, of other bytes another."""
    return (
        _name("S", study.encode()),
        _name("E", instance.series.encode()),
        _name("I", bytes.fromhex(instance.sha256)),
    )


def _name(letter: str, text: bytes) -> str:
    number = int.from_bytes(hashlib.sha256(text).digest()[:8])
    digits = ""
    for _ in range(7):
        number, digit = divmod(number, len(_ALPHABET))
        digits += _ALPHABET[digit]
    return letter + digits


def _transfers(archive: Archive) -> Iterator[Any]:
    for direction in ("outgoing", "incoming"):
        yield from ask_all(archive, f"/transfers?direction={direction}", "transfers")


def _audit(archive: Archive) -> Iterator[Any]:
    """The audit of our patients, as FHIR AuditEvents."""
    for page in _bundles(archive):
        yield from (entry["resource"] for entry in page.get("entry", []))


def _bundles(archive: Archive) -> Iterator[dict[str, Any]]:
    path: str | None = "/audit"
    while path is not None:
        page = ask(archive, path, "application/fhir+json")
        yield page
        following = [str(link["url"]) for link in page.get("link", []) if link.get("relation") == "next"]
        path = f"/audit?{urlsplit(following[0]).query}" if following else None


def _lines(path: Path, every: Iterator[Any]) -> int:
    """One JSON object a line; how many."""
    count, part = 0, path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as out:
        for record in every:
            out.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    part.replace(path)
    return count


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
