"""A city that is deployed, as its operator reaches it: the stack's outputs, its functions, its API."""

import json
import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.registry import RegistryClient

_PLACE = ("stage", "institution", "after")
"""What says how far a job is, as the function answers it."""
_PATIENT = Config(connect_timeout=5, read_timeout=330, retries={"total_max_attempts": 1})


class OperationFailed(Exception):
    """A job could not be done; the message says which and why."""


class JobRefused(OperationFailed):
    """A job that the function does not take as it was asked for; the message says why."""


@dataclass(frozen=True)
class DeployedCity:
    """A session of the operator's, and the outputs of the city's stack."""

    session: Any
    outputs: dict[str, str]
    stack: str

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """One call of the function that does jobs. Raises Failed."""
        client = self.session.client("lambda", config=_PATIENT)
        answer = client.invoke(FunctionName=f"{self.stack}-operate", Payload=json.dumps(job).encode())
        text: dict[str, Any] = json.loads(answer["Payload"].read())
        if answer.get("FunctionError"):
            raise OperationFailed(
                f"{job['job']}: the function failed: {text.get('errorType', 'it was stopped')}; its log says why"
            )
        if "error" in text:
            raise JobRefused(f"{job['job']}: {text['error']}")
        return text

    def tick(self, function: str) -> None:
        """Call a function as the clock does, before it does."""
        event = {"version": "0", "id": "operator", "detail-type": "Scheduled Event", "source": "aws.events", "account": "",
                 "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "region": "", "resources": [], "detail": {}}  # fmt: skip
        client = self.session.client("lambda", config=_PATIENT)
        answer = client.invoke(FunctionName=f"{self.stack}-{function}", Payload=json.dumps(event).encode())
        if answer.get("FunctionError"):
            raise OperationFailed(f"{function}: the function failed; its log says why")

    def registry(self, api: str | None) -> RegistryClient:
        """The API, called with the operator's own signature, by which it knows who asks and who confirms."""
        address = api or self.outputs.get("ApiUrl")
        credentials = self.session.get_credentials()
        if not address or credentials is None:
            raise OperationFailed("the API's address or the profile's credentials are not known: --api, --profile")
        return RegistryClient(address, credentials.get_frozen_credentials(), self.session.region_name)

    def through(self, job: dict[str, Any], told: Callable[[dict[str, Any]], None], start: str | None = None) -> Counter[str]:
        """All calls of a job, one after the other, from where `start` says; what was counted. Each answer is told as it comes.

        Raises OperationFailed, which says where to go on, also when somebody stops it.
        """
        counted: Counter[str] = Counter()
        progress = dict(zip(_PLACE, start.split(":", 2), strict=True)) if start else None
        while True:
            try:
                answer = self.run({**job, "progress": progress} if progress else job)
                told(answer)
            except JobRefused:
                raise
            except (OperationFailed, BotoCoreError, ClientError, KeyboardInterrupt, BrokenPipeError) as error:
                if progress is None:
                    raise
                place = ":".join(str(progress[name]) for name in _PLACE)
                why = "nobody reads what it says" if isinstance(error, BrokenPipeError) else str(error) or "stopped"
                raise OperationFailed(f"{why}; it goes on with --from {shlex.quote(place)}") from error
            counted.update({"objects": answer["objects"], "studies": answer["studies"]})
            progress = answer["progress"]
            if progress is None:
                return counted
