"""What is gone through or handed over is called what it is: `one` is one of two, and stands beside an `other`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("chalicelib", "forwarder", "local", "infra", "pixels", "bench", "drill", "tests")
BOUND = re.compile(r"\bone\b\s*(?:[,:=)\]]|in\b)")
"""Whatever binds the name in Python looks so: a module without it need not be parsed."""
TAG, QUOTED = re.compile(r"\{[{%].*?[%}]\}"), re.compile(r"\"[^\"]*\"|'[^']*'")
IN_PAGES = re.compile(r"\bone\)?\s*=>|\b(?:const|let|var)\s+one\b")


def bound(node: ast.AST) -> Iterator[ast.AST | None]:
    if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension | ast.NamedExpr):
        yield node.target
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        yield node.args
    elif isinstance(node, ast.Assign):
        yield from node.targets
    elif isinstance(node, ast.withitem):
        yield node.optional_vars


def nameless(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        for target in bound(node):
            parts = [] if target is None else list(ast.walk(target))
            names = {part.id for part in parts if isinstance(part, ast.Name)} | {
                part.arg for part in parts if isinstance(part, ast.arg)
            }
            if target is not None and "one" in names and "other" not in names:
                yield ast.unparse(target)


def test_in_python() -> None:
    modules = [ROOT / "app.py", *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))]
    assert len(modules) > 800
    texts = {path: text for path in modules if BOUND.search(text := path.read_text(encoding="utf-8"))}
    assert [f"{path.relative_to(ROOT)}: {found}" for path, text in texts.items() for found in nameless(text)] == []


def test_in_templates_and_page_modules() -> None:
    templates = list((ROOT / "forwarder" / "web" / "templates").glob("*.html"))
    tags = [(path, tag) for path in templates for tag in TAG.findall(path.read_text(encoding="utf-8"))]
    assert len(tags) > 500
    assert [(path.name, tag) for path, tag in tags if re.search(r"(?<![.\w])one\b", QUOTED.sub("", tag))] == []
    pages = [*(ROOT / "viewer" / "site").rglob("*.js"), *(ROOT / "forwarder" / "web").glob("*.js")]
    assert len(pages) > 30
    lines = [(path, line) for path in pages for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(path.name, line.strip()) for path, line in lines if IN_PAGES.search(line)] == []
