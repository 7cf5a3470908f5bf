"""The archive's Lambda functions, run in this process: their environment, their context, their limits.

Environment and event sources are read from the templates in `infra/`, so that what runs here is what would be
deployed.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import botocore.session
from botocore.credentials import Credentials, ReadOnlyCredentials

from local import faults
from local.emulation.moto_patches import ACCOUNT, REGION
from local.iam.identities import RoleSession
from local.lambda_runtime import meter

PAYLOAD_LIMIT_BYTES = 6_291_556
"""Request and response of a synchronous invocation (Lambda quotas: 6 MB)."""

Handler = Callable[[dict[str, Any], Any], Any]
_log = logging.getLogger("city.functions")


class PayloadTooLarge(Exception):
    """An event or an answer is over Lambda's 6 MB; `part` says which."""

    def __init__(self, part: str, size: int) -> None:
        super().__init__(f"{part} of {size} bytes")
        self.part = part


@dataclass(frozen=True)
class LambdaContext:
    """What Lambda hands to a handler beside the event."""

    function_name: str
    memory_limit_in_mb: int
    deadline: float
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    function_version: str = "$LATEST"
    log_group_name: str = ""
    log_stream_name: str = ""
    identity: None = None
    client_context: None = None

    @property
    def invoked_function_arn(self) -> str:
        return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self.function_name}"

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.deadline - time.monotonic()) * 1000))


@dataclass(frozen=True)
class Function:
    """A handler with its limits: `timeout` in seconds, `memory` in MB."""

    name: str
    handler: Handler
    timeout: float
    memory: int

    def invoke(self, event: dict[str, Any]) -> Any:
        """Run the handler as Lambda would: event and answer pass through JSON. Raises what the handler
        raises, and FunctionDied where it is made to die.

        A handler that goes on after its timeout is not stopped, as a thread cannot be; it is logged.
        """
        payload = json.dumps(event)
        if len(payload) > PAYLOAD_LIMIT_BYTES:
            raise PayloadTooLarge("event", len(payload))
        started = time.monotonic()
        context = LambdaContext(self.name, self.memory, started + self.timeout)
        with meter.running(self.name), faults.invocation():
            answer = self.handler(json.loads(payload), context)
        took = time.monotonic() - started
        if took > self.timeout:
            _log.error("%s ran for %.1f s, Lambda would have ended it after %g s", self.name, took, self.timeout)
        text = json.dumps(answer)
        if len(text) > PAYLOAD_LIMIT_BYTES:
            raise PayloadTooLarge("answer", len(text))
        return answer


class _OfTheRunningFunction(Credentials):  # type: ignore[misc]
    """In Lambda each function has credentials of its own in its own process; here the process is shared."""

    def __init__(self, identities: Mapping[str, RoleSession]) -> None:
        self._frozen = {
            name: ReadOnlyCredentials(identity.access_key, identity.secret, identity.token, None)
            for name, identity in identities.items()
        }
        super().__init__(*self.get_frozen_credentials()[:3])

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return self._frozen.get(meter.running_function(), self._frozen[""])


def use_session(identities: Mapping[str, RoleSession], send: Callable[..., Any]) -> None:
    """Let boto3's default session sign as the function that runs, and hand its requests to `send` (botocore's event
    `before-send`). Outside of any function it signs as the identity named "", which may do nothing."""
    meter.let_threads_inherit()
    core = botocore.session.get_session()
    core.register("before-send", send)
    core._credentials = _OfTheRunningFunction(identities)
    boto3.setup_default_session(botocore_session=core)


def set_environment(identity: RoleSession, endpoint: str, variables: Mapping[str, str]) -> None:
    """Everything that boto3 and the functions read from the environment; before the app is imported."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(
        AWS_ACCESS_KEY_ID=identity.access_key,
        AWS_SECRET_ACCESS_KEY=identity.secret,
        AWS_SESSION_TOKEN=identity.token,
        AWS_REGION=REGION,
        AWS_DEFAULT_REGION=REGION,
        AWS_ENDPOINT_URL=endpoint,
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
        AWS_LAMBDA_FUNCTION_NAME="contenitore",
        POWERTOOLS_SERVICE_NAME="contenitore",
        POWERTOOLS_TRACE_DISABLED="true",
    )
    os.environ.setdefault("POWERTOOLS_LOG_LEVEL", "INFO")
    os.environ.update({name: str(value) for name, value in variables.items()})


def load(module_name: str, limits: FunctionLimits) -> tuple[Any, dict[str, Function]]:
    """The Chalice app, and its functions by name; the API is called `api_handler`.

    One process serves many requests at once here, Lambda one: what Chalice keeps on the app during a request
    is kept for each thread.
    """
    app = importlib.import_module(module_name).app
    app.__class__ = type("LocalApp", (_PerThread, app.__class__), {})
    functions = {"api_handler": limits.function("api_handler", app)}
    for name, handler in app.handler_map.items():
        functions[name] = limits.function(name, handler)
    return app, functions


class _PerThread:
    _local = threading.local()

    @property
    def current_request(self) -> Any:
        return getattr(self._local, "request", None)

    @current_request.setter
    def current_request(self, value: Any) -> None:
        self._local.request = value

    @property
    def lambda_context(self) -> Any:
        return getattr(self._local, "context", None)

    @lambda_context.setter
    def lambda_context(self, value: Any) -> None:
        self._local.context = value


class FunctionLimits:
    """What `.chalice/config.json` sets for a function: its own value, then the stage's, the app's, Chalice's default."""

    def __init__(self, config: Path) -> None:
        self._folder = config.parent
        self._app: dict[str, Any] = json.loads(config.read_text(encoding="utf-8"))
        self._stage: dict[str, Any] = next(iter(self._app.get("stages", {}).values()), {})

    def names(self) -> list[str]:
        """The functions that have settings of their own."""
        return list(self._app.get("lambda_functions", {}))

    def _value(self, name: str, key: str, default: Any) -> Any:
        for level in (self._stage, self._app):
            own = level.get("lambda_functions", {}).get(name, {})
            if key in own:
                return own[key]
        return self._stage.get(key, self._app.get(key, default))

    def function(self, name: str, handler: Handler) -> Function:
        timeout = float(self._value(name, "lambda_timeout", 60))
        return Function(name, handler, timeout, int(self._value(name, "lambda_memory_size", 128)))

    def policy_file(self, name: str) -> Path | None:
        file = self._value(name, "iam_policy_file", None)
        return self._folder / file if file else None
