"""docs/openapi.yaml against the app: every JSON route is described with what it answers, and nothing that is not there."""

import http
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from chalicelib.api import registry
from chalicelib.api.loading import load
from chalicelib.api.routes import ROUTES as routes_by_module
from forwarder.web.dicomweb import methods
from tests import described

ROOT = Path(__file__).parents[2]
PUBLIC = {"/health"}


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    return described.document()


@pytest.fixture(scope="module")
def routes() -> dict[tuple[str, str], Any]:
    import app

    return {
        (method.lower(), path): route
        for path, methods in app.app.routes.items()
        for method, route in methods.items()
        if "/dicomweb" not in path and path != "/view/{reader}/wado" and method != "HEAD"
    }


def test_it_is_openapi_3_1(spec: dict[str, Any]):
    assert spec["openapi"].startswith("3.1")
    validate(spec)


def test_every_json_route_is_described_and_no_other(spec: dict[str, Any], routes: dict[tuple[str, str], Any]):
    described = {(method, path) for path, item in spec["paths"].items() for method in item}
    assert described == set(routes)


def test_every_parameter_of_a_path_is_described(spec: dict[str, Any]):
    for path, item in spec["paths"].items():
        for method, operation in item.items():
            named = {parameter["name"] for parameter in operation.get("parameters", []) if parameter.get("in") == "path"}
            assert named == set(re.findall(r"{(\w+)}", path)), (method, path)


def test_what_needs_no_signature_is_said(spec: dict[str, Any], routes: dict[tuple[str, str], Any]):
    for (method, path), route in routes.items():
        assert (spec["paths"][path][method].get("security") == []) == (route.authorizer is None), (method, path)
        assert route.authorizer is not None or path in PUBLIC or path.startswith("/view/")


def test_every_status_that_a_handler_names_is_described_and_no_other(spec: dict[str, Any]):
    """Others may be answered to anything: who is nobody's (403), a busy archive (503); `default` has them."""
    known = {str(int(status)) for status in http.HTTPStatus}
    for module in routes_by_module:
        load(module)
    for (method, path), handle in registry.HANDLERS.items():
        if path not in spec["paths"]:
            continue
        said = set(re.findall(r"\b[2-5]\d\d\b", inspect.getdoc(inspect.unwrap(handle)) or "")) & known
        described = set(spec["paths"][path][method.lower()]["responses"]) - {"default"}
        assert said == described, (method, path)


def test_the_hospitals_door_lets_every_resource_of_dicomweb_through_and_no_other():
    import app

    below = {path: set(routes) for path, routes in app.app.routes.items() if path.split("/")[1] == "dicomweb"}
    for path, expected in below.items():
        resource = re.sub(r"\{\w+\}", "1.2", path).removeprefix("/dicomweb").lstrip("/")
        assert set(methods(resource)) == expected, path
        for more in ("x", "1.2"):
            beyond = any(re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", other), f"{path}/{more}") for other in below)
            assert bool(methods(f"{resource}/{more}".lstrip("/"))) == beyond, f"{path}/{more}"
