"""The Native DICOM Model: a DICOM JSON Model object as XML (PS3.19 A.1, PS3.18 F.3)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from pydicom.datadict import keyword_for_tag

NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"

_NAME_PARTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot carry at all, not even escaped."""


def native_xml(dataset: dict[str, Any]) -> bytes:
    """One DICOM JSON Model object as a `NativeDicomModel` document in UTF-8.

    Control characters that XML has no way to write are replaced by U+FFFD.
    """
    head = f'<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">'
    return "".join([head, *_attributes(dataset), "</NativeDicomModel>"]).encode()


def _attributes(dataset: dict[str, Any]) -> Iterator[str]:
    for tag, attribute in dataset.items():
        keyword = keyword_for_tag(int(tag, 16))
        named = f" keyword={quoteattr(keyword)}" if keyword else ""
        creator = _private_creator(dataset, tag)
        private = f" privateCreator={quoteattr(_clean(creator))}" if creator else ""
        yield f'<DicomAttribute tag="{tag}" vr="{attribute["vr"]}"{named}{private}>'
        yield from _content(attribute)
        yield "</DicomAttribute>"


def _content(attribute: dict[str, Any]) -> Iterator[str]:
    if "BulkDataURI" in attribute:
        yield f"<BulkData uri={quoteattr(_clean(attribute['BulkDataURI']))}/>"
    elif "InlineBinary" in attribute:
        yield f"<InlineBinary>{attribute['InlineBinary']}</InlineBinary>"
    for number, value in enumerate(attribute.get("Value", ()), 1):
        if attribute["vr"] == "SQ":
            yield f'<Item number="{number}">'
            yield from _attributes(value)
            yield "</Item>"
        elif value is None:
            continue  # the numbers of the others keep its place
        elif attribute["vr"] == "PN":
            yield f'<PersonName number="{number}">{"".join(_name(value))}</PersonName>'
        else:
            yield f'<Value number="{number}">{escape(_clean(str(value)))}</Value>'


def _name(name: dict[str, str]) -> Iterator[str]:
    for group in ("Alphabetic", "Ideographic", "Phonetic"):
        if group in name:
            yield f"<{group}>"
            for part, text in zip(_NAME_PARTS, name[group].split("^"), strict=False):
                if text:
                    yield f"<{part}>{escape(_clean(text))}</{part}>"
            yield f"</{group}>"


def _private_creator(dataset: dict[str, Any], tag: str) -> str | None:
    """The creator of a private element's block, which has its name in (gggg,00xx) (PS3.5 7.8.1)."""
    if int(tag[3], 16) % 2 == 0 or tag[4:6] == "00":
        return None
    values = dataset.get(f"{tag[:4]}00{tag[4:6]}", {}).get("Value")
    return str(values[0]) if values and values[0] is not None else None


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
