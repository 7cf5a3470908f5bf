"""All routes, as data: which module answers which, so that a function loads what it needs when it needs it.

Importing `app` is what every cold start of every function pays for, of the indexer and the projector too. So a module of
handlers is imported with the first request for one of its routes. The decorators in those modules say the same; a test holds
the two against each other.
"""

from __future__ import annotations

from collections.abc import Callable

from chalice.app import Chalice, CORSConfig, IAMAuthorizer, Response

from chalicelib.api.dicomweb_resources import RESOURCES
from chalicelib.api.loading import load
from chalicelib.bootstrap import Archive
from chalicelib.domain.json_object import JsonObject

PUBLIC = "public"
"""Mark of a route that the gateway lets in without a signature."""
MACHINES = "machines"
"""Mark of a path that no page in a browser calls: without what browsers ask for first, which is most of a route's template."""

ROUTES: dict[str, tuple[tuple[str, ...], ...]] = {
    "archive": (
        ("GET", "/health", PUBLIC),
        ("POST", "/uploads"),
        ("POST", "/uploads/status"),
        ("DELETE", "/uploads/{sha256}"),
        ("GET", "/studies/{study}/manifest"),
        ("GET", "/institutions"),
        ("PUT", "/institutions/{institution}", MACHINES),
        ("POST", "/institutions/{institution}/confirm", MACHINES),
        ("DELETE", "/institutions/{institution}", MACHINES),
        ("GET", "/procedure-names"),
        ("PUT", "/procedure-names"),
        ("PUT", "/forwarder", MACHINES),
    ),
    "audit": (
        ("GET", "/audit"),
        ("GET", "/patients/{patient}/accesses"),
    ),
    "corrections": (
        ("GET", "/studies/{study}/versions"),
        ("POST", "/studies/{study}/versions/{sha256}/current"),
        ("GET", "/studies/{study}/readings"),
        ("GET", "/studies/{study}/withdrawals"),
        ("DELETE", "/studies/{study}/withdrawals/{withdrawal}"),
    ),
    "dicomweb": tuple(("GET HEAD", resource.signed_path) for resource in RESOURCES),
    "dicomweb_store": (
        ("POST", "/dicomweb/studies"),
        ("POST", "/dicomweb/studies/{study}"),
        ("POST", "/dicomweb/commitment-requests/{transaction}"),
        ("GET HEAD", "/dicomweb/commitment-requests/{transaction}"),
        ("OPTIONS", "/dicomweb"),
    ),
    "erasure": (
        ("GET", "/institutions/{institution}/erasure", MACHINES),
        ("PUT", "/institutions/{institution}/erasure", MACHINES),
        ("DELETE", "/institutions/{institution}/erasure", MACHINES),
        ("POST", "/patients/{patient}/erasures", MACHINES),
        ("DELETE", "/patients/{patient}/erasures/{erasure}", MACHINES),
        ("GET", "/retention", MACHINES),
        ("PUT", "/retention", MACHINES),
    ),
    "patients": (
        ("PUT", "/patients/{patient}"),
        ("GET", "/patients/{patient}/links"),
        ("POST", "/patients/{patient}/links"),
        ("DELETE", "/patients/{patient}/links/{link}"),
        ("GET", "/patients/{patient}/sharing"),
        ("GET", "/patients/{patient}/objections"),
        ("POST", "/patients/{patient}/objections"),
        ("DELETE", "/patients/{patient}/objections/{objection}"),
        ("POST", "/patients/{patient}/protections"),
        ("POST", "/patients/{patient}/consents"),
        ("DELETE", "/patients/{patient}/consents/{consent}"),
        ("POST", "/studies/{study}/withdrawals"),
        ("POST", "/emergency-access"),
        ("GET", "/emergency-access"),
        ("POST", "/emergency-access/{emergency}/review"),
        ("GET", "/changes"),
    ),
    "reports": (
        ("POST", "/studies/{study}/reports"),
        ("GET", "/studies/{study}/reports"),
        ("GET", "/studies/{study}/reports/{sop}"),
    ),
    "sharing": (
        ("POST", "/transfers"),
        ("GET", "/transfers"),
        ("GET", "/transfers/{transfer}"),
        ("PATCH", "/transfers/{transfer}"),
        ("DELETE", "/transfers/{transfer}"),
        ("PUT", "/transfers/{transfer}/receiving-patient"),
        ("DELETE", "/transfers/{transfer}/receiving-patient"),
        ("GET", "/patients/{patient}/timeline"),
    ),
    "view": (
        ("POST", "/links"),
        ("DELETE", "/links/{link}"),
        ("POST", "/view/session", PUBLIC),
        ("DELETE", "/view/session", PUBLIC),
        ("POST", "/view/session/keep", PUBLIC),
        ("GET", "/view/timeline", PUBLIC),
        ("GET", "/view/events", PUBLIC),
        ("POST", "/view/acknowledgements", PUBLIC),
        ("GET", "/view/studies/{study}/images", PUBLIC),
        ("GET", "/view/studies/{study}/priors", PUBLIC),
        ("GET", "/view/studies/{study}/reports/{sop}", PUBLIC),
        ("GET", "/view/{reader}/studies/{study}/reports/{sop}", PUBLIC),
        ("GET", "/studies/{study}/priors"),
        ("GET", "/patients/{patient}/priors"),
    ),
    "view_dicomweb": tuple(("GET", resource.session_path, PUBLIC) for resource in RESOURCES if resource.in_session),
}
"""Module of `chalicelib.api` → (methods, path, marks)."""

_CORS = CORSConfig(
    allow_origin="*",
    allow_headers=[
        "Content-Type",
        "Accept",
        "If-Match",
        "If-None-Match",
        "X-On-Behalf-Of",
        "Idempotency-Key",
        "X-Amz-Content-Sha256",
    ],
    expose_headers=["ETag", "Warning", "Content-Location", "Location"],
    max_age=86400,
)
_IAM = IAMAuthorizer()


def register_routes(app: Chalice, archive: Archive) -> None:
    """Register every route of an app that works with this archive.

    Any content type is let in, since the handler itself answers what it does not take.
    """
    for module, routes in ROUTES.items():
        for methods, path, *marks in routes:
            method, *_ = methods.split()
            options: JsonObject = {"content_types": ["*/*"]} | ({} if PUBLIC in marks else {"authorizer": _IAM})
            # The gateway's own answer to a preflight would stand in the place of a handler of OPTIONS.
            cors = None if method == "OPTIONS" or MACHINES in marks else _CORS
            route = app.route(path, methods=methods.split(), cors=cors, name=f"{method} {path}", **options)
            route(_late(app, archive, module, method, path))


def _late(app: Chalice, archive: Archive, module: str, method: str, path: str) -> Callable[..., Response]:
    """What answers a route, its module imported when it is first asked."""

    def handle(**parameters: str) -> Response:
        load(module)
        respond = load("pipeline").respond
        answered: Response = respond(archive, app.current_request, method, path, parameters)
        return answered

    return handle
