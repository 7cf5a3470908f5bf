"""docs/architecture.md names what is there, and every folder says what is in it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = ("chalicelib", "forwarder", "local", "infra", "pixels", "bench", "drill")
NAMED = sorted(set(re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.(?:py|md|toml)|(?:[a-z_]+/)+)`", PAGE)))


@pytest.mark.parametrize("name", NAMED)
def test_what_the_page_names_is_there(name: str) -> None:
    rooms = [ROOT, *(ROOT / package for package in ("chalicelib", "chalicelib/services", "forwarder", "local"))]
    assert any((room / name).exists() for room in rooms)


def test_the_page_names_every_folder_of_the_code() -> None:
    folders = {
        path.parent for package in ("chalicelib/services", "forwarder", "local") for path in (ROOT / package).glob("*/*.py")
    }
    assert len(folders) > 20
    assert [folder.name for folder in sorted(folders) if f"`{folder.name}/`" not in PAGE] == []
    assert [package for package in PACKAGES if f"`{package}/" not in PAGE] == []


def test_the_page_says_which_way_imports_go() -> None:
    """As the contracts have it that `make check` holds."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    chains = [" → ".join(contract["layers"]) for contract in contracts if "containers" in contract]
    assert len(chains) >= 3
    assert [chain for chain in chains if f"`{chain}`" not in PAGE] == []


def test_every_package_says_what_is_in_it() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_the_forwarders_instances_are_read_and_written_in_one_module() -> None:
    statement = re.compile(r"\b(FROM|INTO|UPDATE|TABLE) instances\b")
    found = {
        path.relative_to(ROOT / "forwarder").as_posix()
        for path in (ROOT / "forwarder").rglob("*.py")
        if statement.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"spool/instances.py", "spool/schema.py"}  # the second has the table itself


def test_two_things_in_the_forwarder_have_two_names() -> None:
    names: dict[str, list[str]] = {}
    for path in (ROOT / "forwarder").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                names.setdefault(node.name, []).append(path.relative_to(ROOT).as_posix())
    assert len(names) > 100
    assert {name: places for name, places in names.items() if len(places) > 1} == {}


def test_no_module_shares_the_name_of_a_standard_one() -> None:
    modules = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(modules) > 200
    shared = [str(path.relative_to(ROOT)) for path in modules if path.stem in sys.stdlib_module_names]
    assert [path for path in shared if not path.endswith("__main__.py")] == []


@pytest.mark.parametrize(
    "program", [("chalicelib", "local", "infra", "pixels"), ("forwarder",)], ids=["the city", "the forwarder"]
)
def test_two_types_have_two_names(program: tuple[str, ...]) -> None:
    """The forwarder is a program of its own, which shares no code with the archive: each says by itself what a word means."""
    named: dict[str, list[str]] = {}
    for path in (path for package in program for path in (ROOT / package).rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                named.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert len(named) > 60
    assert {name: places for name, places in named.items() if len(places) > 1} == {}


EDGES = {"app.py", "adapters/dynamodb.py", "adapters/lambda_.py", "api/audit_event.py", "api/events.py"}
"""What is handed JSON objects by AWS, and what is only about to be written."""


def test_what_travels_in_the_archive_has_a_type() -> None:
    """JSON objects are read into types and written from them (`domain.json_object`): nothing keeps one, or is handed one."""
    modules = {path.relative_to(ROOT / "chalicelib").as_posix(): path for path in (ROOT / "chalicelib").rglob("*.py")}
    modules["app.py"] = ROOT / "app.py"
    assert len(modules) > 150
    untyped, kept, handed = [], [], []
    for name, path in modules.items():
        text = path.read_text(encoding="utf-8")
        if "dict[str, Any]" in text and name not in ("domain/json_object.py", "domain/dicom_json.py"):
            untyped.append(name)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                fields = [entry for entry in node.body if isinstance(entry, ast.AnnAssign)]
                kept += [f"{name}: {node.name}" for field in fields if "JsonObject" in ast.unparse(field.annotation)]
            elif isinstance(node, ast.arg) and node.annotation is not None and "JsonObject" in ast.unparse(node.annotation):
                handed.append(name)
    assert untyped == []
    assert kept == []
    assert set(handed) - EDGES == set()
