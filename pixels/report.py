"""A structured report as text that a person reads (PS3.18 8.7.4, PS3.3 C.17.3): HTML or plain, nothing of it active."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

MOST_ITEMS = 5000
NO_VALUE = "—"
_DEEPEST = 30
_PLAIN = {
    "TEXT": "TextValue",
    "DATE": "Date",
    "TIME": "Time",
    "DATETIME": "DateTime",
    "PNAME": "PersonName",
    "UIDREF": "UID",
}
_ABOUT = (
    (("PatientName", "PNAME"), ("PatientBirthDate", "DATE")),
    (("StudyDate", "DATE"), ("StudyDescription", "TEXT"), ("AccessionNumber", "TEXT")),
    (("CompletionFlag", "TEXT"), ("VerificationFlag", "TEXT")),
)
_STYLE = "body{font:16px/1.5 sans-serif;max-width:50em;margin:2em auto;padding:0 1em}dt{font-weight:bold}dd{margin:0 0 .5em 1em}"


def head_of(path: Path) -> Dataset:
    """The data set without pixels."""
    return dcmread(path, force=True, stop_before_pixels=True)


def to_html(dataset: Dataset) -> bytes:
    """The report as one HTML document without scripts and without anything that is fetched."""
    title = _meaning(dataset, "ConceptNameCodeSequence") or "Report"
    head = f'<!doctype html><html><head><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style></head>'
    lines = [head, f"<body><h1>{escape(title)}</h1>"]
    lines += [f"<p>{escape(line)}</p>" for line in _about(dataset)]
    lines.append("<dl>")
    for depth, name, value in _content(dataset):
        margin = f' style="margin-left:{depth}em"' if depth else ""
        lines.append(f"<dt{margin}>{escape(name)}</dt><dd{margin}>{escape(value).replace(chr(10), '<br>')}</dd>")
    return "\n".join([*lines, "</dl></body></html>"]).encode("utf-8", "replace")


def to_text(dataset: Dataset) -> bytes:
    """The report as plain text in UTF-8."""
    title = _meaning(dataset, "ConceptNameCodeSequence") or "Report"
    lines = [title, *_about(dataset), ""]
    lines += [f"{'  ' * depth}{name}: {value}" if value else f"{'  ' * depth}{name}" for depth, name, value in _content(dataset)]
    return "\n".join(lines).encode("utf-8", "replace")


def _about(dataset: Dataset) -> list[str]:
    """Whose, of when, and how final the report is."""
    found = [" · ".join(filter(None, (_readable(kind, dataset.get(keyword)) for keyword, kind in said))) for said in _ABOUT]
    return [line for line in found if line]


def _content(dataset: Dataset) -> Iterator[tuple[int, str, str]]:
    """(depth, concept name, value) of each content item, in order; as many as a person would read."""
    pending: list[tuple[int, Dataset]] = [(0, item) for item in reversed(dataset.get("ContentSequence") or [])]
    count = 0
    while pending and count < MOST_ITEMS:
        depth, item = pending.pop()
        count += 1
        yield depth, _meaning(item, "ConceptNameCodeSequence"), _value(item)
        below = item.get("ContentSequence") or []
        if depth < _DEEPEST:
            pending += [(depth + 1, child) for child in reversed(below)]
        elif below:
            yield depth, "…", f"The report goes on below, deeper than {_DEEPEST} levels. The instance itself has it all."
    if pending:
        yield 0, "…", f"The report has more than {MOST_ITEMS} items. The instance itself has them all."


def _value(item: Dataset) -> str:
    kind = str(item.get("ValueType", ""))
    if kind in _PLAIN:
        return _readable(kind, item.get(_PLAIN[kind], ""))
    if kind == "CODE":
        return _meaning(item, "ConceptCodeSequence")
    if kind == "NUM":
        return _number(item)
    if kind in ("IMAGE", "COMPOSITE", "WAVEFORM"):
        references = item.get("ReferencedSOPSequence") or []
        return ", ".join(str(reference.get("ReferencedSOPInstanceUID", "")) for reference in references)
    return ""


def _number(item: Dataset) -> str:
    """A number with its unit, or why there is none (PS3.3 C.18.1). A finding that was not measured is not left out."""
    said, qualifier = "", _meaning(item, "NumericValueQualifierCodeSequence")
    for measured in (item.get("MeasuredValueSequence") or [])[:1]:
        number = "" if measured.get("NumericValue") is None else str(measured.NumericValue)
        said = f"{number} {_meaning(measured, 'MeasurementUnitsCodeSequence')}".strip() if number else ""
    return f"{said} ({qualifier})" if said and qualifier else said or qualifier or NO_VALUE


def _readable(kind: str, value: object) -> str:
    """A date with its dashes, a name without its carets, as far as it is one; anything else as it stands."""
    said = str(value or "")
    if kind == "PNAME":
        return " ".join(filter(None, said.partition("=")[0].split("^"))) or said
    date = re.fullmatch(r"(\d{4})(\d{2})(\d{2})", said) if kind == "DATE" else None
    return "-".join(date.groups()) if date else said


def _meaning(item: Any, keyword: str) -> str:
    for code in (item.get(keyword) or [])[:1]:
        return str(code.get("CodeMeaning", "")) or str(code.get("CodeValue", ""))
    return ""
