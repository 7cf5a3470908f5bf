"""docs/openapi.yaml as a judge: whether an answer of the API is one that it describes."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from referencing import Registry
from referencing.jsonschema import DRAFT202012

DOCUMENT = Path(__file__).parents[1] / "docs" / "openapi.yaml"
NOT_DESCRIBED = re.compile(r"/dicomweb(/|$)|/view/[^/]+/(dicomweb|wado)(/|$)")
"""DICOMweb, which docs/conformance.md describes."""
_ROOT = "urn:openapi"


@cache
def document() -> dict[str, Any]:
    """The whole document."""
    found: dict[str, Any] = yaml.load(DOCUMENT.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    return found


@cache
def _registry() -> Registry[Any]:
    return Registry().with_resource(_ROOT, DRAFT202012.create_resource(document()))


@cache
def _templates() -> list[tuple[re.Pattern[str], str]]:
    """Each path as a pattern, those with the fewest placeholders first."""
    paths = sorted(document()["paths"], key=lambda path: path.count("{"))
    return [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), path) for path in paths]


def decoded(body: bytes, headers: Mapping[str, str]) -> bytes:
    """A body without its content coding."""
    coding = {name.lower(): value for name, value in headers.items()}.get("content-encoding")
    return gzip.decompress(body) if coding == "gzip" and body else body


def require_described(method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Raises AssertionError for an answer of the API that docs/openapi.yaml does not describe.

    `path`: as it was asked for, or with placeholders. A path that the document does not have is nobody's, and answered by the
    gateway; that the document has every route is another test's.
    """
    template = next((name for pattern, name in _templates() if pattern.fullmatch(path)), None)
    if template is None or NOT_DESCRIBED.search(path):
        return
    operation = document()["paths"][template].get(method.lower())
    if operation is None:
        return
    where = f"{method} {template} → {status}"
    name = next(
        (declared for declared in (str(status), *(["default"] if status >= 400 else [])) if declared in operation["responses"]),
        None,
    )
    assert name is not None, f"{where} is not described"
    response, place = operation["responses"][name], ("paths", template, method.lower(), "responses", name)
    if "$ref" in response:
        place = tuple(response["$ref"].removeprefix("#/").split("/"))
        response = document()[place[0]][place[1]][place[2]]
    kind = {name.lower(): value for name, value in headers.items()}.get("content-type", "").partition(";")[0].strip()
    content = response.get("content", {})
    if not body:
        assert not content or method == "HEAD", f"{where} has no body"
        return
    assert kind in content, f"{where} is {kind}, not {list(content)}"
    if "schema" not in content[kind]:
        return
    pointer = "/".join(step.replace("~", "~0").replace("/", "~1") for step in (*place, "content", kind, "schema"))
    validator = OAS31Validator({"$ref": f"{_ROOT}#/{pointer}"}, registry=_registry(), format_checker=oas31_format_checker)
    faults = validator.iter_errors(json.loads(body))
    assert [f"{error.json_path}: {error.message[:300]}" for error in faults] == [], where
