"""The function that decodes pixels, invoked. Fulfils `domain.ports.Pixels`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from chalicelib.domain.errors import TryAgain


class LambdaPixels:
    """`client` is a boto3 Lambda client that does not retry, `function` the function's name."""

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
