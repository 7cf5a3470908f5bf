"""Functions that the API invokes: those that decode pixels, put large bodies together, and remove what is no DICOM."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from chalicelib.domain.assembly import Batch, ObjectRange, checksums_event, upload_event
from chalicelib.domain.errors import TryAgain
from chalicelib.domain.json_object import JsonObject
from chalicelib.domain.rfc3339 import iso


class LambdaPixels:
    """Fulfils `domain.ports.PixelDecoder`. `client` is a boto3 Lambda client that does not retry, `function` a name."""

    def __init__(self, client: Any, function: str) -> None:
        self._client = client
        self._function = function

    def run(self, job: Mapping[str, object]) -> str | None:
        """See `ports.PixelDecoder.run`. One invocation. What ended without an answer, a hostile image may have ended."""
        try:
            answer = self._client.invoke(FunctionName=self._function, Payload=json.dumps(job).encode())
            with answer["Payload"] as body:
                result = json.loads(body.read())
        except ReadTimeoutError:
            return "too-slow"
        except (ClientError, BotoCoreError) as error:
            raise TryAgain from error
        if "FunctionError" in answer:
            return "undecodable"
        if result.get("state") == "busy":
            raise TryAgain
        return None if result.get("state") == "done" else str(result.get("reason", "undecodable"))


class LambdaAssembler:
    """Fulfils `domain.assembly.Assembler`. `client` is a boto3 Lambda client, `function` the function's name."""

    def __init__(self, client: Any, function: str) -> None:
        self._client = client
        self._function = function

    def upload(self, batch: Batch) -> list[str]:
        """See `Assembler.upload`. One invocation."""
        return [str(tag) for tag in self._answer(upload_event(batch))]

    def checksums(self, ranges: Sequence[ObjectRange]) -> list[int]:
        """See `Assembler.checksums`. One invocation."""
        return [int(value) for value in self._answer(checksums_event(ranges))]

    def _answer(self, event: JsonObject) -> list[Any]:
        result = _answer(self._client, self._function, event)
        if not isinstance(result, list):
            raise TryAgain
        return result


class LambdaRemover:
    """Fulfils `domain.ports.Remover`. `client` is a boto3 Lambda client, `function` the name of the function of the sweep."""

    def __init__(self, client: Any, function: str) -> None:
        self._client = client
        self._function = function

    def remove(self, institution: str, sha256: str) -> bool:
        """See `ports.Remover.remove`. One invocation, by an event of the shape of those that the clock makes."""
        event = {
            "version": "0", "id": sha256[:32], "detail-type": "Removal", "source": "contenitore", "account": "", "region": "",
            "time": iso(datetime.now(UTC)), "resources": [], "detail": {"institution": institution, "sha256": sha256},
        }  # fmt: skip
        result = _answer(self._client, self._function, event)
        if not isinstance(result, dict) or not isinstance(result.get("removed"), bool):
            raise TryAgain
        return bool(result["removed"])


def _answer(client: Any, function: str, event: Mapping[str, Any]) -> Any:
    """What a function answers. Raises TryAgain when it does not."""
    try:
        answer = client.invoke(FunctionName=function, Payload=json.dumps(event).encode())
    except (ClientError, BotoCoreError) as error:
        raise TryAgain from error
    with answer["Payload"] as body:
        result = json.loads(body.read())
    if "FunctionError" in answer:
        raise TryAgain
    return result
