"""The way of every request: called, answered, recorded, compressed, logged."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from chalice.app import Request, Response

from chalicelib.api import paths, problems, recording
from chalicelib.api.call import Call
from chalicelib.api.compression import compress
from chalicelib.api.registry import HANDLERS, Handler
from chalicelib.bootstrap import Archive
from chalicelib.deadline import begin_request
from chalicelib.domain.errors import ContenitoreError
from chalicelib.telemetry import log_unexpected, logger


def respond(archive: Archive, request: Request, method: str, path: str, parameters: dict[str, str]) -> Response:
    """The handler's answer, recorded and logged; `parameters` as they stand in the path. Never raises."""
    handle, route = HANDLERS[method, path], f"{method} {path}"
    started = time.perf_counter()
    begin_request()
    request_id = str(request.context.get("requestId", ""))
    call = Call(archive, request, datetime.now(UTC), route)
    try:
        response = _recorded(call, handle, paths.decoded(parameters))
    except ContenitoreError as error:
        response = problems.to_response(error, request_id)
    except Exception as error:  # nothing is above this: logged by kind and place, answered without details
        log_unexpected(error, route=route, request_id=request_id)
        response = problems.unexpected(request_id)
    compress(call, response)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "no-referrer")
    logger().info(
        "request",
        extra={
            "route": route,
            "status": response.status_code,
            "request_id": request_id,
            "institution": _institution(call),
            "milliseconds": round((time.perf_counter() - started) * 1000, 1),
        },
    )
    return response


def _recorded(call: Call, handle: Handler, parameters: dict[str, str]) -> Response:
    """The handler's answer, once what it did is recorded. A refusal is recorded too. Raises TryAgain when it cannot be."""
    try:
        response = handle(call, **parameters)
    except ContenitoreError as error:
        caller = call.__dict__.get("caller")
        context = recording.context(call.request, call.now, call.route, caller)
        refused = recording.refusal(error, parameters, dict(call.query).get("issuer"), caller)
        if refused is not None and (caller is not None or context.session):  # nobody knows whom an unsigned request is for
            call.archive.trail.append(context, [refused])
        raise
    if call.entries:
        call.archive.trail.append(call.context, call.entries)
    elif not call.acted and call.route not in recording.UNRECORDED:
        raise RuntimeError(f"{call.route} did not say what to record: see Call.record")
    return response


def _institution(call: Call) -> str | None:
    caller = call.__dict__.get("caller")
    if caller is None:
        return None
    return caller.institution.id if caller.institution else "operator"
