"""The door of the function: one object in, its picture, text or decoded form out, under the key that the caller names.

    {"op": "render" | "report" | "transcode" | "frame", "source": "instances/…", "target": "cache/rendered/…", …}
    → {"state": "done", "size": bytes} or {"state": "refused", "reason": "…"}

An object that cannot be decoded is refused, whatever is wrong with it; nothing of its content is told or logged.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pydicom.config

from pixels import codecs, render, report, transcode
from pixels.frames import head_of

MOST_BYTES = 1024 * 1024 * 1024
_log = logging.getLogger("pixels")

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
codecs.register()


class Refused(Exception):
    """Not to be done; the text is the reason that is told."""


def handler(event: Mapping[str, Any], context: object = None) -> dict[str, Any]:
    """What Lambda calls."""
    del context
    source, target = str(event["source"]), str(event["target"])
    if not source.startswith("instances/") or not target.startswith("cache/rendered/"):
        return {"state": "refused", "reason": "not-allowed"}
    with tempfile.TemporaryDirectory(prefix="pixels-") as folder:
        path, made = Path(folder) / "source", Path(folder) / "target"
        try:
            _fetch(source, path)
            kind = _OPERATIONS[str(event["op"])](event, path, made)
        except Refused as refused:
            return {"state": "refused", "reason": str(refused)}
        except Exception as error:  # whatever a stranger's file does to a decoder
            _log.warning("refused: %s in %s", type(error).__name__, event["op"])
            return {"state": "refused", "reason": "undecodable"}
        with made.open("rb") as body:
            _s3().put_object(Bucket=_bucket(), Key=target, Body=body, ContentType=kind)
        return {"state": "done", "size": made.stat().st_size}


@cache
def _s3() -> Any:
    return boto3.client("s3")


def _bucket() -> str:
    return os.environ["BUCKET_NAME"]


def _fetch(key: str, path: Path) -> None:
    found = _s3().get_object(Bucket=_bucket(), Key=key)
    if found["ContentLength"] > MOST_BYTES:
        raise Refused("too-large")
    with path.open("wb") as file:
        for chunk in found["Body"].iter_chunks(1 << 20):
            file.write(chunk)


def _render(event: Mapping[str, Any], path: Path, made: Path) -> str:
    wanted = render.job(event)
    made.write_bytes(render.render(path, head_of(path), wanted))
    return wanted.media_type


def _report(event: Mapping[str, Any], path: Path, made: Path) -> str:
    kind = str(event["media_type"])
    made.write_bytes(report.to_text(head_of(path)) if kind == "text/plain" else report.to_html(head_of(path)))
    return f"{kind}; charset=utf-8"


def _transcode(event: Mapping[str, Any], path: Path, made: Path) -> str:
    del event
    transcode.to_explicit_little_endian(path, made)
    return "application/dicom"


def _frame(event: Mapping[str, Any], path: Path, made: Path) -> str:
    made.write_bytes(transcode.frame(path, head_of(path), int(event["frame"]) - 1))
    return "application/octet-stream"


_OPERATIONS: dict[str, Callable[[Mapping[str, Any], Path, Path], str]] = {
    "render": _render,
    "report": _report,
    "transcode": _transcode,
    "frame": _frame,
}
