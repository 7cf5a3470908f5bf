"""The keys that the code builds are those of docs/data-model.md, both ways; and nobody builds one anywhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from chalicelib.domain import keys
from chalicelib.domain.keys import Builder

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "data-model.md").read_text(encoding="utf-8")


def section(title: str) -> Iterator[list[str]]:
    """The cells of the rows of a section's table."""
    text = DOCUMENT.partition(f"## {title}\n")[2].partition("\n## ")[0]
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def written(title: str) -> set[tuple[str, str]]:
    """(pattern of the partition, pattern of the sort key) of each row; of what ends, that of the end too."""
    found: set[tuple[str, str]] = set()
    for pks, sks, *_ in section(title):
        ends = [end for end in named(sks) if end in (keys.ENDED, keys.NOTED)]
        plain = [sk for sk in named(sks) if sk not in ends]
        found |= set(product(named(pks), [*plain, *(sk + end for sk in plain for end in ends)]))
    return found


def built() -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for pk, sks in keys.LAYOUT.items():
        for sk in sks:
            ends = ("", keys.ENDED) if sk in keys.ENDING else ("", keys.NOTED) if sk is keys.reading else ("",)
            found |= {(keys.pattern(pk), keys.pattern(sk) + end) for end in ends}
    return found


def test_every_key_of_the_table_is_in_the_document_and_every_one_there_is_built() -> None:
    assert written("Facts") | written("Views") == built()


def test_every_partition_of_an_index_is_in_the_document_and_every_one_there_is_built() -> None:
    assert {named(cells[1])[0] for cells in section("Indexes")} == {keys.pattern(builder) for builder in keys.INDEXES}


def test_every_object_is_in_the_document_and_every_one_there_is_built() -> None:
    assert {pattern for cells in section("Objects") for pattern in named(cells[0])} == {
        keys.pattern(builder) for builder in keys.OBJECTS
    }


def every_builder() -> list[Builder]:
    listed = [*keys.LAYOUT, *(sk for sks in keys.LAYOUT.values() for sk in sks), *keys.INDEXES, *keys.OBJECTS]
    return list(dict.fromkeys(key for key in listed if not isinstance(key, str)))


def test_every_builder_is_listed() -> None:
    helpers = {keys.pattern, keys.begins, keys.shard_of}
    functions = [var for var in vars(keys).values() if callable(var) and getattr(var, "__module__", "") == keys.__name__]
    texts = {
        function
        for function in functions
        if getattr(function, "__annotations__", {}).get("return") == "str" and function not in helpers
    }
    assert texts == set(every_builder())


@pytest.mark.parametrize("builder", every_builder(), ids=lambda builder: builder.__name__)
def test_what_is_built_is_read_again(builder: Builder) -> None:
    names = re.findall(r"<([^>]+)>", keys.pattern(builder))
    numbers = {"number", "version", "place", "offset", "n"}
    is_number = [name in numbers and builder is not keys.by_version and builder is not keys.renamed for name in names]
    parts = [7 if number else f"1.2.{position}" for position, number in enumerate(is_number)]
    found = keys.read(builder, builder(*parts))
    assert found is not None
    assert [int(part) if number else part for part, number in zip(found, is_number, strict=True)] == parts
    assert builder(*parts).startswith(keys.begins(builder))
    assert keys.read(builder, "?" + builder(*parts)) is None or not keys.begins(builder)


def test_no_key_is_built_anywhere_else() -> None:
    literal = re.compile(r"""f?["'](?:[FV]#[A-Z]|(?:instances|metadata|cache|anchors|restores)/[{])""")
    sort_key = re.compile(r"""f["'](?:UID|CARRIES|ABOUT|LINK|TRANSFER|ADT|OBJECTION|PROTECTION|CONSENT|RECEIVER|[EIWPRN])#[{]""")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("chalicelib", "local", "infra")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.name != "keys.py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if literal.search(line) or sort_key.search(line)
    ]
    assert found == []
