"""Functions that the API invokes: the one that decodes pixels, and the one that puts large bodies together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from chalicelib.domain.assembly import Extract, Load, checksums_event, upload_event
from chalicelib.domain.errors import TryAgain


class LambdaPixels:
    """Fulfils `domain.ports.Pixels`. `client` is a boto3 Lambda client that does not retry, `function` the function's name."""

    def __init__(self, client: Any, function: str) -> None:
        self._client = client
        self._function = function

    def run(self, job: Mapping[str, object]) -> str | None:
        """See `ports.Pixels.run`. One invocation."""
        try:
            answer = self._client.invoke(FunctionName=self._function, Payload=json.dumps(job).encode())
        except ReadTimeoutError:
            return "too-slow"
        except (ClientError, BotoCoreError) as error:
            raise TryAgain from error
        if "FunctionError" in answer:
            return "undecodable"
        with answer["Payload"] as body:
            result = json.loads(body.read())
        return None if result.get("state") == "done" else str(result.get("reason", "undecodable"))


class LambdaCarrier:
    """Fulfils `domain.assembly.Carrier`. `client` is a boto3 Lambda client, `function` the function's name."""

    def __init__(self, client: Any, function: str) -> None:
        self._client = client
        self._function = function

    def upload(self, load: Load) -> list[str]:
        """See `Carrier.upload`. One invocation."""
        return [str(tag) for tag in self._answer(upload_event(load))]

    def checksums(self, ranges: Sequence[Extract]) -> list[int]:
        """See `Carrier.checksums`. One invocation."""
        return [int(value) for value in self._answer(checksums_event(ranges))]

    def _answer(self, event: dict[str, Any]) -> list[Any]:
        try:
            answer = self._client.invoke(FunctionName=self._function, Payload=json.dumps(event).encode())
        except (ClientError, BotoCoreError) as error:
            raise TryAgain from error
        with answer["Payload"] as body:
            result = json.loads(body.read())
        if "FunctionError" in answer or not isinstance(result, list):
            raise TryAgain
        return result
