"""From error to HTTP: one table (RFC 9457)."""

from __future__ import annotations

import json
from dataclasses import dataclass

from chalice.app import Response

from chalicelib.domain import errors

CONTENT_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Problem:
    """Slug of the type, title, HTTP status."""

    slug: str
    title: str
    status: int


PROBLEMS: dict[type[errors.ContenitoreError], Problem] = {
    errors.BadRequest: Problem("bad-request", "The request cannot be understood", 400),
    errors.UnknownInstitution: Problem("unknown-institution", "This role belongs to no registered institution", 403),
    errors.Forbidden: Problem("forbidden", "This is not yours to do", 403),
    errors.NotFound: Problem("not-found", "Not found", 404),
    errors.NotAcceptable: Problem("not-acceptable", "No representation fits Accept", 406),
    errors.Conflict: Problem("conflict", "This contradicts what is recorded", 409),
    errors.Gone: Problem("gone", "This has ended", 410),
    errors.OpenedElsewhere: Problem("opened-elsewhere", "This was opened in another browser", 410),
    errors.PreconditionFailed: Problem("precondition-failed", "This has changed since", 412),
    errors.TooLarge: Problem("too-large", "Too large", 413),
    errors.UnsupportedMediaType: Problem("unsupported-media-type", "This media type is not taken here", 415),
    errors.TooMany: Problem("too-many", "Too many in so short a time", 429),
    errors.TryAgain: Problem("try-again", "The archive is busy", 503),
}
UNEXPECTED = Problem("internal-error", "Something went wrong on our side", 500)


def to_response(error: errors.ContenitoreError, request_id: str) -> Response:
    """The answer to an expected error. Its body is the same for the same error but for `request_id`."""
    problem = PROBLEMS[type(error)]
    body: dict[str, object] = _body(problem, error.detail, request_id)
    headers = {"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"}
    if isinstance(error, errors.BadRequest) and error.parameter is not None:
        body["parameter"] = error.parameter
    if isinstance(error, errors.Conflict) and error.count is not None:
        body["count"] = error.count
    if isinstance(error, errors.Conflict) and error.stands is not None:
        body["stands"] = error.stands
    if isinstance(error, errors.TryAgain | errors.TooMany):
        headers["Retry-After"] = str(error.retry_after)
    return Response(json.dumps(body).encode(), headers, problem.status)


def unexpected(request_id: str) -> Response:
    """The answer to an error that nobody expected: no details, they are in the log under the request id."""
    body = _body(UNEXPECTED, "The error was recorded. Please quote the request_id.", request_id)
    return Response(
        json.dumps(body).encode(),
        {"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"},
        UNEXPECTED.status,
    )


def _body(problem: Problem, detail: str, request_id: str) -> dict[str, object]:
    return {
        "type": f"urn:contenitore:problem:{problem.slug}",
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "request_id": request_id,
    }
