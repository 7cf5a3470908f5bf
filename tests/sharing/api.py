"""The real Chalice app in this process, over a city in memory, called with events as API Gateway makes them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from chalicelib.api.routes import register_routes
from chalicelib.bootstrap import Archive
from chalicelib.config import Config
from chalicelib.services.ingest import removals
from chalicelib.services.ingest.instance_items import StoredObject
from chalicelib.services.ingest.summaries import begins_as_dicom, read_summary
from tests.described import decoded, require_described
from tests.fakes import MemoryObjects, MemoryVersions
from tests.world import A, B, C, World

OPERATOR, UNREGISTERED = "operator", "unregistered"
VIEWER = "https://viewer.test"


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Decoder:
    """Stands for the function that decodes pixels: whatever is asked for is made."""

    def __init__(self, objects: MemoryObjects) -> None:
        self._objects = objects

    def run(self, job: Mapping[str, object]) -> str | None:
        self._objects.write(str(job["target"]), b"decoded", "image/png")
        return None


class Sweep:
    """Stands for the function that removes what is no DICOM."""

    def __init__(self, world: World) -> None:
        self._world = world

    def remove(self, institution: str, sha256: str) -> bool:
        table, versions = self._world.table, MemoryVersions(self._world.objects)
        stored, now = StoredObject(institution, sha256, 0), datetime.now(UTC)
        return removals.remove(table, versions, begins_as_dicom, stored, now, lambda writes, *_: table.transact(writes))


class Nobody:
    """Stands for the queue of S3's events: nobody listens."""

    def announce(self, sizes: Mapping[str, int]) -> None:
        pass


class Api:
    """The app over a `World`."""

    def __init__(self, app: Any, world: World, archive: Archive) -> None:
        self.app, self.world, self.archive = app, world, archive
        self._serial = 0

    def call(
        self,
        who: str | None,
        method: str,
        route: str,
        query: Sequence[tuple[str, str]] = (),
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        **parameters: str,
    ) -> Answer:
        """`who`: an institution, `operator`, `unregistered`, or None for an unsigned request. `route`: with placeholders."""
        self._serial += 1
        path, encoded = route, {name: quote(value, safe="") for name, value in parameters.items()}
        for name, value in encoded.items():
            path = path.replace("{" + name + "}", value)
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        values: dict[str, list[str]] = {}
        for name, value in query:
            values.setdefault(name, []).append(value)
        arn = None if who is None else f"arn:aws:sts::123456789012:assumed-role/contenitore-{who}/{who}"
        sent = {"Content-Type": "application/json", "Host": "archive.test", "X-Forwarded-Proto": "https", **(headers or {})}
        event = {
            "resource": route, "path": path, "httpMethod": method, "headers": sent,
            "multiValueHeaders": {name: [value] for name, value in sent.items()},
            "queryStringParameters": {name: found[-1] for name, found in values.items()} or None,
            "multiValueQueryStringParameters": values or None, "pathParameters": encoded or None, "stageVariables": None,
            "body": base64.b64encode(content).decode(), "isBase64Encoded": True,
            "requestContext": {
                "resourcePath": route, "path": path, "httpMethod": method, "requestId": f"request-{self._serial}",
                "identity": {"userArn": arn, "sourceIp": "127.0.0.1"}, "stage": "api",
            },
        }  # fmt: skip
        table = self.world.table
        if method == "POST" and route.startswith("/dicomweb/studies"):
            table.deliver_at_once = self.world.settle  # who stores waits for the projector
        try:
            answer = self.app(event, None)
        finally:
            table.deliver_at_once = None
        text = answer.get("body") or ""
        raw = base64.b64decode(text) if answer.get("isBase64Encoded") else text.encode()
        single = {name.lower(): str(value) for name, value in (answer.get("headers") or {}).items()}
        single |= {name.lower(): str(found[-1]) for name, found in (answer.get("multiValueHeaders") or {}).items()}
        require_described(method, route, int(answer["statusCode"]), single, decoded(raw, single))
        return Answer(int(answer["statusCode"]), single, raw)


@contextmanager
def api_over(world: World | None = None, institutions: Sequence[str] = (A, B, C), **given: object) -> Iterator[Api]:
    """The API over `world`, or over a new one to which DICOM files are sent and whose clock is the real one.

    `given`: parts of the archive in place of the usual ones.
    """
    if world is None:
        world = World(institutions, read_summary)
        world.now = datetime.now(UTC)
    import app

    config = Config("archive", "images", f"arn:aws:iam::123456789012:role/contenitore-{OPERATOR}", None, viewer_base_url=VIEWER)
    parts = {"config": config, "announcer": Nobody(), "pixels": Decoder(world.objects), "remover": Sweep(world)}
    archive = Archive(parts | {name: getattr(world, name) for name in ("table", "objects", "alerts", "trail")} | given)
    served = app.Contenitore("contenitore", configure_logs=False, env={})  # else each lengthens this process's environment
    served.api.binary_types = ["*/*"]
    register_routes(served, archive)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POWERTOOLS_LOG_LEVEL", "CRITICAL")
        yield Api(served, world, archive)
