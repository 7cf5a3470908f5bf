"""docs/openapi.yaml against the app: every JSON route is described, and nothing that is not there."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_spec_validator import validate

ROOT = Path(__file__).parents[2]
PUBLIC = {"/health"}


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text(encoding="utf-8"))


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
            named = {one["name"] for one in operation.get("parameters", []) if one.get("in") == "path"}
            assert named == set(re.findall(r"{(\w+)}", path)), (method, path)


def test_what_needs_no_signature_is_said(spec: dict[str, Any], routes: dict[tuple[str, str], Any]):
    for (method, path), route in routes.items():
        assert (spec["paths"][path][method].get("security") == []) == (route.authorizer is None), (method, path)
        assert route.authorizer is not None or path in PUBLIC or path.startswith("/view/")
