"""Metadata that is kept as text is served as what reading it anew would give, whoever asks."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.dicom import served
from chalicelib.dicom.header import read_head
from chalicelib.dicom.metadata import bulk_name, full_metadata
from chalicelib.domain import shown_patients
from chalicelib.domain.identifiers import PatientIdentifier
from chalicelib.domain.rejections import Rejected
from tests.unit.dicom.building import CT, element, file_meta, item, part10, pixels, reader, real_files

SHOWN = PatientIdentifier("1.2.3", "MG-1")


def coerced(original: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return shown_patients.coerced(original, SHOWN, "san-matteo")


def instance(**texts: str) -> bytes:
    body = element(0x00080016, "UI", CT) + element(0x00080018, "UI", "1.2.3.4.5")
    body += element(0x00100010, "PN", texts.get("name", "A^B")) + element(0x00100020, "LO", texts.get("patient", "P1"))
    body += element(0x0020000D, "UI", "1.2.3") + element(0x0020000E, "UI", "1.2.3.4")
    body += element(0x00204000, "LT", texts.get("comment", "x"))
    if "original" in texts:
        body += element(0x04000561, "SQ", item(element(0x04000564, "LO", texts["original"])))
    return part10(body + pixels(), meta=file_meta())


def shown(data: bytes, replace: served.Replace | None, suffix: str = "") -> dict[str, Any]:
    line = served.keep(read_head(reader(data), len(data)), "1.2.3.4", "1.2.3.4.5")
    found: dict[str, Any] = json.loads(served.serve(line, "https://archive/studies/1.2.3", suffix, replace))
    return found


def test_every_real_file_is_served_as_it_would_be_read() -> None:
    for path in list(real_files().values())[:80]:
        data = path.read_bytes()
        try:
            head = read_head(reader(data), len(data))
        except Rejected:
            continue
        base = "https://archive/studies/1.2.3/series/1.2.3.4/instances/1.2.3.4.5/bulkdata/"
        assert shown(data, None) == full_metadata(head, lambda path, base=base: base + bulk_name(path)), path.name


def test_another_viewer_gets_its_own_number_and_the_original_one_beside_it() -> None:
    found = shown(instance(original="Elsewhere"), coerced, "?owner=san-matteo")
    assert found["00100020"]["Value"] == ["MG-1"] and found["00100021"]["Value"] == ["1.2.3"]
    first, second = found["04000561"]["Value"]
    assert first["04000564"]["Value"] == ["Elsewhere"]
    assert second["04000550"]["Value"][0]["00100020"]["Value"] == ["P1"]
    assert found["7FE00010"]["BulkDataURI"].endswith("/bulkdata/7FE00010?owner=san-matteo")
    assert list(found) == sorted(found)


text = st.text(st.characters(codec="latin-1", exclude_characters="\\"), max_size=60)


@given(patient=text, comment=text, name=text)
def test_no_text_of_an_image_can_pass_for_a_mark(patient: str, comment: str, name: str) -> None:
    hostile = comment + '"BulkDataURI":"\x01\x02\x03\x04'
    data = instance(patient=patient[:30], comment=hostile, name=name)  # read as Latin-1, UTF-8 has up to twice as many characters
    own, other = shown(data, None), shown(data, coerced)
    assert other["00100020"]["Value"] == ["MG-1"]
    assert {k: v for k, v in own.items() if k[:4] not in ("0010", "0400")} == {
        k: v for k, v in other.items() if k[:4] not in ("0010", "0400")
    }
    assert own == full_metadata(
        read_head(reader(data), len(data)),
        lambda path: "https://archive/studies/1.2.3/series/1.2.3.4/instances/1.2.3.4.5/bulkdata/" + bulk_name(path),
    )
