"""The door of the function: one object in, its picture, text or decoded form out, under the key that the caller names.

    {"op": "render" | "report" | "transcode" | "frame", "source": "instances/…", "target": "cache/rendered/…", …}
    → {"state": "done", "size": bytes}, {"state": "refused", "reason": "…"} or {"state": "busy"}

An object that cannot be decoded is refused, whatever is wrong with it; nothing of its content is told or logged. What is not the
object's fault, but its store's or the disk's, is busy: the same job may be done another time.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pydicom.config
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.dicom.header import DEFAULT_LIMITS
from chalicelib.domain.rejections import Rejected
from pixels import render, report, transcode
from pixels.errors import Undecodable, Unrenderable
from pixels.instance import OpenInstance
from pixels.report import head_of

MOST_BYTES = 1024 * 1024 * 1024
"""Of an object that is read as a whole. Of those that are drawn, or of which frames are decoded, only their bytes are read."""
_CLIENT = Config(connect_timeout=2, read_timeout=8, retries={"mode": "standard", "total_max_attempts": 2})
"""Gives up before the function's own time is over (24 s), which would not say whose fault it was."""
_PREFIX = "pixels-"
"""Of the folder in which a job is done."""
_log = logging.getLogger("pixels")

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE


class DecoderRefusal(Exception):
    """Not to be done; the text is the reason that is told."""


def handler(event: Mapping[str, Any], context: object = None) -> dict[str, Any]:
    """What Lambda calls."""
    del context
    source, target = str(event["source"]), str(event["target"])
    if not source.startswith("instances/") or not target.startswith("cache/rendered/"):
        return {"state": "refused", "reason": "not-allowed"}
    try:
        with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder:
            path, made = Path(folder) / "source", Path(folder) / "target"
            try:
                kind = _OPERATIONS[str(event["op"])](event, source, path, made)
            except OSError as error:
                if error.errno == errno.ENOSPC and _fills_by_itself(Path(folder)):
                    raise DecoderRefusal("it is too large to be written anew") from error
                raise
            with made.open("rb") as body:
                _s3().put_object(Bucket=_bucket(), Key=target, Body=body, ContentType=kind)
            return {"state": "done", "size": made.stat().st_size}
    except (DecoderRefusal, Undecodable, Unrenderable) as refused:
        return {"state": "refused", "reason": str(refused)}
    except Rejected as rejected:
        return {"state": "refused", "reason": f"the instance cannot be read: {rejected.reason}"}
    except Exception as error:  # whatever a stranger's file does to a decoder
        if _is_passing(error):
            _log.warning("busy: %s in %s", type(error).__name__, event["op"])
            return {"state": "busy"}
        _log.warning("refused: %s in %s", type(error).__name__, event["op"])
        return {"state": "refused", "reason": "undecodable"}


def _is_passing(error: Exception) -> bool:
    """Whether it says nothing of the object: a fault of S3 or of its key, or a full disk.

    What is not there, and a range beyond an object's end, are the object's own.
    """
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return error.operation_name != "GetObject" or status not in (404, 416)
    return isinstance(error, BotoCoreError) or (isinstance(error, OSError) and error.errno == errno.ENOSPC)


def _clear() -> None:
    """Remove what runs that were killed left, in Lambda alone, where one job has the folder for itself.

    A reset does not clear /tmp before the function is initialised again (Lambda Developer Guide, "Understanding the Lambda
    execution environment lifecycle"). Elsewhere others are at work there.
    """
    if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
        for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)


def _fills_by_itself(folder: Path) -> bool:
    """Whether what one object takes is most of the disk: the same job would fill it again."""
    return sum(file.stat().st_size for file in folder.iterdir()) > shutil.disk_usage(folder).total / 2


@cache
def _s3() -> Any:
    return boto3.client("s3", config=_CLIENT)


def _bucket() -> str:
    return os.environ["BUCKET_NAME"]


def _fetch(key: str, path: Path) -> None:
    found = _s3().get_object(Bucket=_bucket(), Key=key)
    if found["ContentLength"] > MOST_BYTES:
        raise DecoderRefusal("it is too large to be written anew")
    with path.open("wb") as file:
        for chunk in found["Body"].iter_chunks(1 << 20):
            file.write(chunk)


def _open(key: str) -> OpenInstance:
    """The object, of which only what is needed is read."""

    def fetch(start: int, length: int) -> bytes:
        if length <= 0:
            return b""
        found = _s3().get_object(Bucket=_bucket(), Key=key, Range=f"bytes={start}-{start + length - 1}")
        return bytes(found["Body"].read())

    first = _s3().get_object(Bucket=_bucket(), Key=key, Range=f"bytes=0-{DEFAULT_LIMITS.first_range - 1}")
    begin = first["Body"].read()
    size = int(first["ContentRange"].rpartition("/")[2])
    return OpenInstance(
        lambda start, length: begin[start : start + length] if start + length <= len(begin) else fetch(start, length), size
    )


def _render(event: Mapping[str, Any], key: str, path: Path, made: Path) -> str:
    del path
    wanted = render.job(event)
    made.write_bytes(render.render(_open(key), wanted))
    return wanted.media_type


def _report(event: Mapping[str, Any], key: str, path: Path, made: Path) -> str:
    _fetch(key, path)
    kind = str(event["media_type"])
    made.write_bytes(report.to_text(head_of(path)) if kind == "text/plain" else report.to_html(head_of(path)))
    return f"{kind}; charset=utf-8"


def _transcode(event: Mapping[str, Any], key: str, path: Path, made: Path) -> str:
    del event
    _fetch(key, path)
    transcode.to_explicit_little_endian(path, made)
    return "application/dicom"


def _frame(event: Mapping[str, Any], key: str, path: Path, made: Path) -> str:
    del path
    made.write_bytes(transcode.frame(_open(key), int(event["frame"]) - 1))
    return "application/octet-stream"


_OPERATIONS: dict[str, Callable[[Mapping[str, Any], str, Path, Path], str]] = {
    "render": _render,
    "report": _report,
    "transcode": _transcode,
    "frame": _frame,
}

_clear()
