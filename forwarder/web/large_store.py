"""Storing by STOW-RS (PS3.18 10.5) what is larger than one request to the archive may be: by the contract's way for large things.

The body is taken apart on the disk as it comes; each instance goes to the store by its presigned address, as this person's; the
answer comes when the archive has judged them. So a workstation stores as it is used to, and needs no way to the store.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from forwarder.archive.client import BATCH, PENDING, Archive, Upload
from forwarder.errors import ArchiveError, Failure, SpoolError
from forwarder.header import Header, head_of
from forwarder.logs import log
from forwarder.web.identity import RefusedError

ARCHIVE_TAKES = 4_000_000
"""Bytes of a body that the archive itself takes, with something to spare."""
LARGEST = 8 * 1024**3
LARGEST_HEADERS = 8192
PIECE_SECONDS = 60.0
VERDICT_SECONDS = 120.0
LOOK_SECONDS = 0.3
AT_ONCE, PUTS, TRIES = 2, 4, 3
MOST_INSTANCES = 5000
GOOD = frozenset({"indexed", "echo"})
REASONS: Mapping[str, int] = {
    "not-dicom": 0xC000, "truncated": 0xC001, "unreadable": 0xC002, "too-deep": 0xC003, "too-large-header": 0xC004,
    "deflate-too-large": 0xC005, "executable-preamble": 0xC006, "unsupported-media-type": 0xC007,
    "too-many-references": 0xC008, "ambiguous-identifier": 0xA900, "study-mismatch": 0xA901, "missing-uid": 0xA902,
    "invalid-uid": 0xA903, "meta-mismatch": 0xA904, "invalid-patient-id": 0xA905, "withdrawn": 0xA907,
    "pixels-not-compared": 0xA908, "too-many-corrections": 0xA909, "superseded": 0xA90A, "dicomdir": 0x0122,
    "conflict": 0x0111, "conflicting-patient": 0xA90B,
}  # fmt: skip
"""Failure Reasons (PS3.18 table I.2-2) as the archive tells them (docs/conformance.md); every other verdict is 0110."""
PROCESSING_FAILURE = 0x0110
_STORE = re.compile(r"/dicomweb/studies(?:/([0-9.]{1,64}))?/?")


@dataclass(slots=True)
class StoredPart:
    """An instance of a request, on the disk: its SHA-256 (hex), size, and what its head says."""

    path: Path
    digest: Any = field(default_factory=hashlib.sha256)
    size: int = 0
    media_type: str = ""
    header: Header | None = None

    @property
    def sha256(self) -> str:
        return str(self.digest.hexdigest())


class MultipartFiles:
    """A multipart body (RFC 2046 5.1), written into files as it comes. `feed` and `end` raise RefusedError, OSError."""

    def __init__(self, boundary: bytes, folder: Path) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._folder = folder
        self._buffer = bytearray(b"\r\n")  # so that the first delimiter is like the others
        self._in_headers = self._ended = False
        self._file: BinaryIO | None = None
        self.parts: list[StoredPart] = []

    def feed(self, piece: bytes) -> None:
        """What came next; what comes after the end (RFC 2046's epilogue) is let go of."""
        if self._ended:
            return
        self._buffer += piece
        while not self._ended and (self._headers() if self._in_headers else self._content()):
            pass

    def end(self) -> list[StoredPart]:
        """All of it came: its parts."""
        if not self._ended or self._file is not None:
            raise RefusedError(400, "bad-multipart")
        return self.parts

    def close(self) -> None:
        """Nothing more comes."""
        if self._file is not None:
            self._file.close()

    def _content(self) -> bool:
        """Take content up to the next delimiter; whether there may be more to take."""
        at = self._buffer.find(self._delimiter)
        if at < 0:
            keep = len(self._delimiter) - 1
            self._write(bytes(self._buffer[:-keep]))
            del self._buffer[:-keep]
            return False
        line_at = at + len(self._delimiter)
        if len(self._buffer) < line_at + 2:
            return False
        self._write(bytes(self._buffer[:at]))
        self._finish()
        self._ended = self._buffer[line_at : line_at + 2] == b"--"
        self._in_headers = True
        del self._buffer[:line_at]
        return not self._ended

    def _headers(self) -> bool:
        at = self._buffer.find(b"\r\n\r\n")
        if at < 0:
            if len(self._buffer) > LARGEST_HEADERS:
                raise RefusedError(400, "bad-multipart")
            return False
        if len(self.parts) >= MOST_INSTANCES:
            raise RefusedError(413, "body-too-large")
        part = StoredPart(self._folder / str(len(self.parts)))
        for line in bytes(self._buffer[:at]).decode("latin-1").split("\r\n"):
            name, _, value = line.partition(":")
            if name.strip().lower() == "content-type":
                part.media_type = value.partition(";")[0].strip().lower()
        self.parts.append(part)
        self._file = part.path.open("wb")
        self._in_headers = False
        del self._buffer[: at + 4]
        return True

    def _write(self, content: bytes) -> None:
        if self._file is not None and content:
            self._file.write(content)
            self.parts[-1].digest.update(content)
            self.parts[-1].size += len(content)

    def _finish(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            with self.parts[-1].path.open("rb") as file:
                self.parts[-1].header = head_of(file)


class LargeStore:
    """Takes what is too large for one request. `reserve` bytes of the disk stay free."""

    def __init__(self, archive: Archive, folder: Path, reserve: int) -> None:
        self._archive, self._folder, self._reserve = archive, folder, reserve
        shutil.rmtree(folder, ignore_errors=True)  # of a forwarder that was killed
        self._room = asyncio.Semaphore(AT_ONCE)

    @staticmethod
    def takes(request: Request) -> bool:
        """Whether a request stores instances as they are, and is larger than the archive takes, or may be."""
        length = request.headers.get("content-length", "")
        small = length.isdigit() and int(length) <= ARCHIVE_TAKES
        stores = request.method == "POST" and _STORE.fullmatch(request.url.path) is not None
        return stores and not small and _boundary(request.headers.get("content-type", "")) is not None

    async def answer(self, request: Request, person: str, service: str) -> Response:
        """200 where all is stored, 202 where some is, 409 where nothing is. Raises RefusedError, ArchiveError."""
        accept = request.headers.get("accept", "*/*")
        if not any(kind in accept for kind in ("*/*", "application/*", "json")):
            raise RefusedError(406, "not-acceptable")
        boundary = _boundary(request.headers.get("content-type", "")) or b""
        matched = _STORE.fullmatch(request.url.path)
        study = matched[1] if matched else None
        async with self._room:
            try:
                self._folder.mkdir(exist_ok=True)
                with tempfile.TemporaryDirectory(dir=self._folder) as name:
                    parts = await self._received(request, boundary, Path(name))
                    verdicts = await anyio.to_thread.run_sync(self._stored, parts, person, study)
            except ClientDisconnect:
                raise RefusedError(408, "body-too-slow") from None
            except OSError as error:
                log.error("a large body cannot be kept", detail=str(error.strerror or error))
                raise RefusedError(503, "busy") from error
        return _response(parts, verdicts, study, service)

    async def _received(self, request: Request, boundary: bytes, folder: Path) -> list[StoredPart]:
        files, size = MultipartFiles(boundary, folder), 0
        try:
            stream = aiter(request.stream())
            while True:
                async with asyncio.timeout(PIECE_SECONDS):
                    piece = await anext(stream, None)
                if piece is None:
                    return await anyio.to_thread.run_sync(files.end)
                size += len(piece)
                if size > LARGEST:
                    raise RefusedError(413, "body-too-large")
                await anyio.to_thread.run_sync(self._keep, files, piece)
        except TimeoutError as error:
            raise RefusedError(408, "body-too-slow") from error
        finally:
            files.close()

    def _keep(self, files: MultipartFiles, piece: bytes) -> None:
        if shutil.disk_usage(self._folder).free < self._reserve:
            raise RefusedError(503, "busy")
        files.feed(piece)

    def _stored(self, parts: Sequence[StoredPart], person: str, study: str | None) -> dict[str, str]:
        """By SHA-256 the state of each, or the reason why it is not stored. Raises ArchiveError."""
        wanted = {part.sha256: part for part in parts if _wrong(part, study) is None}
        verdicts: dict[str, str] = {}
        hashes = list(wanted)
        for start in range(0, len(hashes), BATCH):
            batch = hashes[start : start + BATCH]
            self._uploaded(batch, wanted, person)
            verdicts |= self._judged(batch, person)
        return verdicts

    def _uploaded(self, batch: Sequence[str], wanted: Mapping[str, StoredPart], person: str) -> None:
        """Put what the archive lacks; by new addresses where those it gave have ended, or the line broke. Raises ArchiveError."""
        body = {"instances": [{"sha256": sha256, "size": wanted[sha256].size} for sha256 in batch]}
        for left in reversed(range(TRIES)):
            entries = self._asked("/uploads", body, person)
            absent = [entry for entry in entries if entry["state"] == "absent"]
            try:
                with ThreadPoolExecutor(PUTS, "stow") as pool:
                    list(pool.map(lambda entry: self._put(entry, wanted), absent))
                return
            except ArchiveError as error:
                if not left or error.failure not in (Failure.EXPIRED_URL, Failure.NETWORK):
                    raise

    def _put(self, entry: Mapping[str, Any], wanted: Mapping[str, StoredPart]) -> None:
        part, upload = wanted[str(entry["sha256"])], entry["upload"]
        with part.path.open("rb") as file:
            try:
                self._archive.put(Upload(str(upload["url"]), upload["headers"]), file, part.size)
            except SpoolError as error:
                raise OSError(str(error)) from error

    def _judged(self, batch: Sequence[str], person: str) -> dict[str, str]:
        deadline = time.monotonic() + VERDICT_SECONDS
        while True:
            entries = self._asked("/uploads/status", {"sha256": list(batch)}, person)
            if time.monotonic() > deadline or not any(entry["state"] in PENDING for entry in entries):
                return {
                    str(entry["sha256"]): str(entry["state"] if entry["state"] in GOOD else entry.get("reason") or entry["state"])
                    for entry in entries
                }
            time.sleep(LOOK_SECONDS)

    def _asked(self, path: str, body: Mapping[str, Any], person: str) -> list[dict[str, Any]]:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "X-On-Behalf-Of": person}
        answer = self._archive.call("POST", path, json.dumps(body).encode(), headers)
        try:
            entries = json.loads(answer.data)["instances"]
            if len(entries) != len(next(iter(body.values()))) or not all("state" in entry for entry in entries):
                raise ValueError
        except (ValueError, KeyError, TypeError) as error:
            raise ArchiveError(f"The archive's answer to POST {path} is not what the contract says.", Failure.PROTOCOL) from error
        found: list[dict[str, Any]] = entries
        return found


def _boundary(content_type: str) -> bytes | None:
    """The boundary of a multipart body of instances; None where it is anything else."""
    kind, _, parameters = content_type.partition(";")
    values = dict(re.findall(r'([a-zA-Z]+)\s*=\s*("[^"]*"|[^;\s]+)', parameters))
    of_what = values.get("type", "application/dicom").strip('"').lower()
    boundary = values.get("boundary", "").strip('"')
    fits = kind.strip().lower() == "multipart/related" and of_what == "application/dicom" and 0 < len(boundary) <= 70
    return boundary.encode("latin-1", "replace") if fits else None


def _wrong(part: StoredPart, study: str | None) -> str | None:
    """Why a part is not sent to the archive."""
    if part.media_type not in ("application/dicom", ""):
        return "unsupported-media-type"
    if part.size == 0 or part.header is None:
        return "not-dicom"
    return "study-mismatch" if study is not None and part.header.study_instance_uid != study else None


def _response(parts: Sequence[StoredPart], verdicts: Mapping[str, str], study: str | None, service: str) -> Response:
    """The Store Instances Response Module (PS3.18 10.5.3.2, annex I), as the archive answers what is smaller.

    Both UIDs of a failed instance are type 1: what has not both is among Other Failures.
    """
    stored: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    studies: set[str] = set()
    for part in parts:
        verdict, header = _wrong(part, study) or verdicts.get(part.sha256, "processing-failure"), part.header
        sop_class, sop_instance = (header.sop_class_uid, header.sop_instance_uid) if header else (None, None)
        item = {"00081150": _element("UI", sop_class or ""), "00081155": _element("UI", sop_instance or "")}
        reason = {"00081197": _element("US", REASONS.get(verdict, PROCESSING_FAILURE))}
        if verdict in GOOD and header is not None:
            whole = f"{service}/studies/{header.study_instance_uid}"
            address = f"{whole}/series/{header.text((0x0020, 0x000E)) or ''}/instances/{sop_instance}"
            stored.append(item | {"00081190": _element("UR", address)})
            studies.add(whole)
        elif sop_class and sop_instance:
            failed.append(item | reason)
        else:
            others.append(reason)
    found = {"00081190": _element("UR", studies.pop() if len(studies) == 1 else "")}
    sequences = {"00081198": failed, "00081199": stored, "0008119A": others}
    found |= {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items}
    status = 409 if not stored else 202 if failed or others else 200
    return Response(json.dumps(found).encode(), status, {"Cache-Control": "no-store"}, "application/dicom+json")


def _element(vr: str, value: object) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]} if value != "" else {"vr": vr}
