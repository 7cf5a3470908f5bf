"""The Native DICOM Model in XML (PS3.19 A.1), to and from the DICOM JSON Model (PS3.18 F.3.1).

Reading is by events, within the limits of `json_model`; a document type declaration, and with it every entity of
the sender's own, is refused.
"""

from __future__ import annotations

import html
import math
import re
from typing import Any
from xml.parsers import expat

from chalicelib.dicomweb.json_model import MAX_ATTRIBUTES, MAX_DEPTH, VRS, Model, is_base64
from chalicelib.dicomweb.person_names import GROUPS
from chalicelib.domain.dicom_json import Element
from chalicelib.domain.errors import BadRequest

NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"

# The components of a name in one group (PS3.5 6.2.1.2), as elements of PS3.19 A.1.6.
COMPONENTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_INTEGERS = frozenset({"US", "SS", "UL", "SL"})
_FLOATS = frozenset({"FL", "FD"})


def to_xml(model: Model) -> bytes:
    """One data set as a NativeDicomModel document in UTF-8. Characters that XML cannot hold become U+FFFD."""
    out = ['<?xml version="1.0" encoding="UTF-8"?>\n', f'<NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">']
    _write_data_set(model, out)
    out.append("</NativeDicomModel>")
    return "".join(out).encode("utf-8")


def _write_data_set(model: Model, out: list[str]) -> None:
    for tag in sorted(model):
        element = model[tag]
        out.append(f'<DicomAttribute tag="{tag}" vr="{element["vr"]}"{_naming(tag, model)}>')
        if "BulkDataURI" in element:
            uri = _attribute(element["BulkDataURI"])
            out.append(f'<BulkData uri="{uri}"/>')
        elif "InlineBinary" in element:
            out.append(f"<InlineBinary>{html.escape(element['InlineBinary'])}</InlineBinary>")
        for number, value in enumerate(element.get("Value") or (), 1):
            _write_value(element["vr"], number, value, out)
        out.append("</DicomAttribute>")


def _naming(tag: str, model: Model) -> str:
    """The keyword of a standard attribute, the creator of a private one (PS3.19 Table A.1.5-2)."""
    if int(tag[3], 16) % 2:
        creator = model.get(f"{tag[:4]}00{tag[4:6]}", {}).get("Value") or [None]
        return f' privateCreator="{_attribute(creator[0])}"' if isinstance(creator[0], str) else ""
    from pydicom.datadict import keyword_for_tag

    keyword = keyword_for_tag(tag)
    return f' keyword="{keyword}"' if keyword else ""


def _write_value(vr: str, number: int, value: Any, out: list[str]) -> None:
    if vr == "SQ":
        out.append(f'<Item number="{number}">')
        _write_data_set(value, out)
        out.append("</Item>")
    elif vr == "PN" and value is not None:
        out.append(f'<PersonName number="{number}">')
        groups = value if isinstance(value, dict) else dict(zip(GROUPS, str(value).split("="), strict=False))
        for group in (g for g in GROUPS if groups.get(g)):
            out.append(f"<{group}>")
            parts = str(groups[group]).split("^", len(COMPONENTS) - 1)
            for name, text in zip(COMPONENTS, parts, strict=False):
                if text:
                    out.append(f"<{name}>{_text(text)}</{name}>")
            out.append(f"</{group}>")
        out.append("</PersonName>")
    elif value is None:
        out.append(f'<Value number="{number}"/>')
    else:
        out.append(f'<Value number="{number}">{_text(value)}</Value>')


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)


def _attribute(text: str) -> str:
    escaped = html.escape(_clean(text))
    return escaped.replace("\t", "&#9;").replace("\n", "&#10;").replace("\r", "&#13;")


def _text(value: object) -> str:
    text = repr(value) if isinstance(value, float) else str(value)
    return html.escape(_clean(text), quote=False).replace("\r", "&#13;")


def parse_xml(body: bytes | memoryview) -> Model:
    """The data set of a NativeDicomModel document. Raises BadRequest; the text never repeats a value."""
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.refuse_doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    try:
        parser.Parse(bytes(body), True)
    except (expat.ExpatError, LookupError, ValueError):  # ValueError: an encoding of several bytes, as UTF-7
        raise BadRequest("The body is not well-formed XML.") from None
    if reader.model is None:
        raise BadRequest("The XML holds no NativeDicomModel.")
    return reader.model


class _Reader:
    """Builds the data set from the events of the parser: a stack of open data sets, and one open attribute in each."""

    def __init__(self) -> None:
        self.model: Model | None = None
        self._sets: list[Model] = []
        self._open: list[tuple[str, Element]] = []
        self._groups: dict[str, list[str]] | None = None
        self._group = ""
        self._text: list[str] | None = None
        self._left = MAX_ATTRIBUTES

    def refuse_doctype(self, *_: object) -> None:
        raise BadRequest("A document type declaration is not taken.")

    def characters(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(" ")[2]
        match local:
            case "NativeDicomModel" if not self._sets and self.model is None:
                self._sets.append({})
            case "DicomAttribute":
                self._start_attribute(attributes)
            case "Item" if self._in("SQ"):
                if len(self._sets) > MAX_DEPTH:
                    raise BadRequest(f"Sequences are nested more than {MAX_DEPTH} deep.")
                self._sets.append({})
            case "PersonName" if self._in("PN") and self._groups is None:
                self._groups, self._group = {}, ""
            case "BulkData" if self._open and not self._in("SQ"):
                self._open[-1][1]["BulkDataURI"] = attributes.get("uri") or attributes.get("uuid") or ""
            case "Value" | "InlineBinary" if self._open and self._text is None and not self._in("SQ"):
                self._text = []
            case _ if self._groups is not None and local in GROUPS:
                self._group = local
                self._groups[local] = [""] * len(COMPONENTS)
            case _ if self._groups is not None and self._group in self._groups and local in COMPONENTS:
                self._text = []
            case _:
                raise BadRequest("The XML has an element that the Native DICOM Model does not have there.")

    def _in(self, vr: str) -> bool:
        """Whether the innermost open attribute is of the innermost open data set, and has this VR."""
        return len(self._open) == len(self._sets) > 0 and self._open[-1][1]["vr"] == vr

    def _start_attribute(self, attributes: dict[str, str]) -> None:
        tag, vr = attributes.get("tag", "").upper(), attributes.get("vr", "")
        self._left -= 1
        if not self._sets or len(self._open) >= len(self._sets) or self._left < 0:
            raise BadRequest("The XML has a DicomAttribute where none can be, or too many of them.")
        if not _TAG.fullmatch(tag) or vr not in VRS:
            raise BadRequest("A DicomAttribute has no tag of eight hexadecimal digits, or no vr of DICOM.")
        if tag in self._sets[-1]:
            raise BadRequest(f"The attribute {tag} is there twice.")
        self._open.append((tag, {"vr": vr}))

    def end(self, name: str) -> None:
        local = name.rpartition(" ")[2]
        text = "".join(self._text) if self._text is not None else ""
        match local:
            case "NativeDicomModel":
                self.model = dict(sorted(self._sets.pop().items()))
            case "DicomAttribute":
                tag, element = self._open.pop()
                if len(element) > 2:
                    raise BadRequest(f"The attribute {tag} has more than one of Value, BulkData and InlineBinary.")
                if not tag.endswith("0000"):
                    self._sets[-1][tag] = element
            case "Item":
                item = self._sets.pop()
                self._add(dict(sorted(item.items())))
            case "Value":
                self._add(_value(self._open[-1][1]["vr"], text))
                self._text = None
            case "InlineBinary":
                inline = "".join(text.split())
                if not is_base64(inline):
                    raise BadRequest("InlineBinary is not base64.")
                self._open[-1][1]["InlineBinary"] = inline
                self._text = None
            case "PersonName":
                groups = {g: "^".join(parts).rstrip("^") for g, parts in (self._groups or {}).items()}
                self._add({g: joined for g, joined in groups.items() if joined} or None)
                self._groups = None
            case _ if local in COMPONENTS and self._groups is not None:
                self._groups[self._group][COMPONENTS.index(local)] = text
                self._text = None

    def _add(self, value: Any) -> None:
        self._open[-1][1].setdefault("Value", []).append(value)


def _value(vr: str, text: str) -> Any:
    """A value as JSON writes it: numbers of binary VRs as numbers, all others as text (PS3.18 Table F.2.3-1).

    Blanks around a value mean something in texts of several lines only (PS3.5 6.2).
    """
    if vr not in ("LT", "ST", "UT"):
        text = text.strip()
    if not text:
        return None
    try:
        number = int(text) if vr in _INTEGERS else float(text) if vr in _FLOATS else None
    except ValueError:
        number = math.nan
    if number is not None and not math.isfinite(number):
        raise BadRequest(f"A value of {vr} is no number.")
    return text if number is None else number
