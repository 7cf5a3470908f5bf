"""Tags stand in the code under their keywords: `chalicelib/domain/tags.py` is the one place that writes them as numbers."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.datadict import keyword_for_tag

from chalicelib.domain import tags
from chalicelib.domain.tags import Tag

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "chalicelib" / "domain" / "tags.py"
MODULES = [path for package in ("chalicelib", "pixels", "local", "infra") for path in (ROOT / package).rglob("*.py")]
OWN = {tag for name, tag in vars(tags).items() if isinstance(tag, Tag) and keyword_for_tag(tag.number) != name}


def tags_in(source: str) -> Iterator[str]:
    """Tags that are written as eight hexadecimal digits, as a number, or as group and element."""
    lines = [line.encode() for line in source.splitlines()]
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Constant | ast.Tuple):
            continue
        written = lines[node.lineno - 1][node.col_offset : node.end_col_offset].decode() if node.lineno == node.end_lineno else ""
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            found = re.findall(r"(?<![0-9A-Za-z.])[0-9A-F]{8}(?![0-9A-Za-z.])", text)
        elif isinstance(node, ast.Constant):
            found = re.findall(r"^0[xX]([0-9a-fA-F]{6,8})$", written.replace("_", ""))
        else:
            found = ["".join(pair) for pair in re.findall(r"^\(0x([0-9a-fA-F]{4}), 0x([0-9a-fA-F]{4})\)$", written)]
        for tag in (digits.zfill(8).upper() for digits in found):
            if not tag.startswith("0000") and (keyword_for_tag(int(tag, 16)) or tag in OWN):
                yield tag


def test_no_module_writes_a_tag_as_a_number() -> None:
    assert len(MODULES) > 200
    others = [path for path in MODULES if path != TABLE]
    written = [(path.name, tag) for path in others for tag in tags_in(path.read_text(encoding="utf-8"))]
    assert written == []


WAYS = ['x = "00100020"', "x = 0x0028_0100", "x = (0x0010, 0x0020)", "x = b'\"00080050\":'", "x = 0x280100", 'f"?00081030={x}"']


@pytest.mark.parametrize("line", WAYS)
def test_a_tag_is_seen_whichever_way_it_is_written(line: str) -> None:
    assert list(tags_in(line))
