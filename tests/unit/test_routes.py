"""The table of routes says what the handlers say of themselves, and the table of resources leads to functions that take them."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from chalicelib.api import registry, routes
from chalicelib.api.dicomweb_resources import RESOURCES, DicomwebResource

API = Path(routes.__file__).parent
OF_RESOURCES = {"dicomweb", "view_dicomweb"}


def decorators() -> list[tuple[str, str, dict[str, Any], ast.FunctionDef]]:
    """(module, method, keywords, handler) of every `@handler(…)`."""
    found = []
    for path in sorted(API.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else []:
                if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "handler":
                    assert isinstance(node, ast.FunctionDef)
                    assert isinstance(decorator.args[0], ast.Constant)
                    keywords = {word.arg or "": ast.literal_eval(word.value) for word in decorator.keywords}
                    found.append((path.stem, str(decorator.args[0].value), keywords, node))
    return found


def test_every_handler_is_in_the_table_with_what_it_says_of_itself() -> None:
    said = sorted(
        (module, f"{method} HEAD" if keywords.get("head") else method, bool(keywords.get("public")))
        for module, method, keywords, _ in decorators()
    )
    listed = sorted(
        (module, methods, routes.PUBLIC in marks)
        for module, rows in routes.ROUTES.items()
        if module not in OF_RESOURCES
        for methods, _, *marks in rows
    )
    assert said == listed


@pytest.mark.parametrize("module", sorted(routes.ROUTES))
def test_every_route_of_a_module_leads_to_a_handler_of_it(module: str) -> None:
    imported = __import__(f"chalicelib.api.{module}", fromlist=["_"])
    for methods, path, *marks in routes.ROUTES[module]:
        found = registry.HANDLERS[methods.split()[0], path]
        assert hasattr(found, "__wrapped__") is (routes.PUBLIC not in marks), path
    assert imported.__doc__


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.path)
def test_every_resource_is_answered_by_a_function_that_takes_what_its_path_says(resource: DicomwebResource) -> None:
    function = resource.load()
    inspect.signature(function).bind(None, **dict.fromkeys(re.findall(r"{(\w+)}", resource.path), ""))
    assert re.match(r"[23]\d\d\b.*\b40[046]\b", inspect.getdoc(function) or "", re.DOTALL)


def test_no_handler_is_left_without_a_route() -> None:
    for module in routes.ROUTES:
        __import__(f"chalicelib.api.{module}")
    assert set(registry.HANDLERS) == {(row[0].split()[0], row[1]) for rows in routes.ROUTES.values() for row in rows}


def test_only_health_and_the_pages_of_a_link_are_public() -> None:
    public = {path for rows in routes.ROUTES.values() for _, path, *marks in rows if routes.PUBLIC in marks}
    assert all(path == "/health" or path.startswith("/view/") for path in public)
