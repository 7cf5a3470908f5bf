"""Storing by STOW-RS (PS3.18 10.5) what is larger than one request to the archive may be: by the contract's way for large things.

The body is taken apart on the disk as it comes; each instance goes to the store by its presigned address, as this person's; the
answer comes when the archive has judged them, and is what the archive answers to what is smaller. So a workstation stores as it
is used to, and needs no way to the store.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from forwarder.archive.client import BATCH, PENDING, Archive, Upload
from forwarder.errors import ArchiveError, Failure, SpoolError
from forwarder.header import is_uid
from forwarder.logs import log
from forwarder.web.identity import RefusedError
from forwarder.web.media_types import LONGEST_PARAMETER, StoreBody, holds_metadata, negotiated, store_body
from forwarder.web.store_answer import StoreOutcome, store_answer
from forwarder.web.store_body import InstanceFiles, StoredPart, instance_files

ARCHIVE_TAKES = 4_000_000
"""Bytes of a body that the archive itself takes, with something to spare."""
LARGEST = 8 * 1024**3
PIECE_SECONDS = 60.0
VERDICT_SECONDS = 120.0
LOOK_SECONDS = 0.3
AT_ONCE, PUTS, TRIES = 2, 4, 3
GOOD = frozenset({"indexed", "echo"})
_STORE = re.compile(r"/dicomweb/studies(?:/([^/]+))?/?")


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
        stores = request.method == "POST" and _STORE.fullmatch(request.scope["path"]) is not None
        return stores and not small and not holds_metadata(request.headers.get("content-type", ""))

    async def answer(self, request: Request, person: str, service: str) -> Response:
        """200 where all is stored, 202 where some is, 409 where nothing is. Raises RefusedError, ArchiveError."""
        study, media_type, body = _asked_for(request)
        async with self._room:
            try:
                self._folder.mkdir(exist_ok=True)
                with tempfile.TemporaryDirectory(dir=self._folder) as name:
                    files = instance_files(body, Path(name))
                    parts = await self._received(request, files)
                    verdicts = await anyio.to_thread.run_sync(self._stored, parts, person, study)
            except ClientDisconnect:
                raise RefusedError(408, "body-too-slow") from None
            except OSError as error:
                log.error("a large body cannot be kept", detail=str(error.strerror or error))
                raise RefusedError(503, "busy") from error
        outcomes = [
            _outcome(part, _wrong(part, study) or verdicts.get(part.sha256, "processing-failure"), service) for part in parts
        ]
        return store_answer(outcomes + [StoreOutcome(reason="unsupported-media-type")] * files.foreign, media_type)

    async def _received(self, request: Request, files: InstanceFiles) -> list[StoredPart]:
        size = 0
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

    def _keep(self, files: InstanceFiles, piece: bytes) -> None:
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


def _asked_for(request: Request) -> tuple[str | None, str, StoreBody]:
    """The study in the path, the media type of the answer, and what comes. Raises RefusedError, in the archive's order."""
    matched = _STORE.fullmatch(request.scope["path"])
    study = matched[1] if matched else None
    if study is not None and not is_uid(study):
        raise RefusedError(400, "bad-uid")
    accepted = request.query_params.getlist("accept")
    if len(accepted) > 1 or any(len(text) > LONGEST_PARAMETER for text in accepted):
        raise RefusedError(400, "bad-accept")
    media_type = negotiated(request.headers.get("accept"), accepted[0] if accepted else None)
    if (request.headers.get("content-encoding") or "identity").strip().lower() != "identity":
        raise RefusedError(415, "content-encoding")
    return study, media_type, store_body(request.headers.get("content-type", ""))


def _wrong(part: StoredPart, study: str | None) -> str | None:
    """Why a part is not sent to the archive."""
    if part.size == 0 or part.header is None:
        return "not-dicom"
    if study is None or part.header.study_instance_uid == study:
        return None
    return "study-mismatch" if part.is_dicom else "not-dicom"


def _outcome(part: StoredPart, verdict: str, service: str) -> StoreOutcome:
    """What the answer says of an instance, by the archive's verdict or by why it was not sent there."""
    header = part.header
    sop_class, sop_instance = (header.sop_class_uid or "", header.sop_instance_uid or "") if header else ("", "")
    if header is None or verdict not in GOOD:
        return StoreOutcome(sop_class, sop_instance, verdict)
    study = f"{service}/studies/{header.study_instance_uid}"
    url = f"{study}/series/{header.text((0x0020, 0x000E)) or ''}/instances/{sop_instance}"
    return StoreOutcome(sop_class, sop_instance, None, study, url)
