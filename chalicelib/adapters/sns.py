"""Alerts by SNS. Fulfils `domain.ports.Alerts`."""

from __future__ import annotations

import json
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.domain.errors import TryAgain


class SnsAlerts:
    """`client` is a boto3 SNS client, `topic` the topic's ARN; without one (None) alerts are in the change feed only."""

    def __init__(self, client: Any, topic: str | None) -> None:
        self._client = client
        self._topic = topic

    def alert(self, kind: str, content: dict[str, str]) -> None:
        """See `ports.Alerts.alert`."""
        if self._topic is None:
            return
        attributes = {"kind": {"DataType": "String", "StringValue": kind}}
        if "owner" in content:
            attributes["owner"] = {"DataType": "String", "StringValue": content["owner"]}
        message = json.dumps({"kind": kind, **content}, sort_keys=True)
        try:
            self._client.publish(TopicArn=self._topic, Message=message, Subject=kind, MessageAttributes=attributes)
        except (BotoCoreError, ClientError) as error:
            raise TryAgain from error
