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

from chalicelib.dicomweb.json_model import MAX_ATTRIBUTES, MAX_DEPTH, VRS, Model, first_text, is_base64
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
_BLOCKS = range(0x10, 0x100)
"""In which private attributes of a group may be (PS3.5 7.8.1)."""


def to_xml(model: Model) -> bytes:
    """One data set as a NativeDicomModel document in UTF-8. Characters that XML cannot hold become U+FFFD."""
    out = ['<?xml version="1.0" encoding="UTF-8"?>\n', f'<NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">']
    _write_data_set(model, out)
    out.append("</NativeDicomModel>")
    return "".join(out).encode("utf-8")


def _write_data_set(model: Model, out: list[str]) -> None:
    for tag in sorted(model):
        element = model[tag]
        written, naming = _naming(tag, model)
        out.append(f'<DicomAttribute tag="{written}" vr="{element["vr"]}"{naming}>')
        if "BulkDataURI" in element:
            uri = _attribute(element["BulkDataURI"])
            out.append(f'<BulkData uri="{uri}"/>')
        elif "InlineBinary" in element:
            out.append(f"<InlineBinary>{html.escape(element['InlineBinary'])}</InlineBinary>")
        for number, value in enumerate(element.get("Value") or (), 1):
            _write_value(element["vr"], number, value, out)
        out.append("</DicomAttribute>")


def _is_private(tag: str) -> bool:
    return int(tag[3], 16) % 2 == 1


def _is_creator(tag: str) -> bool:
    """Whether it reserves a block for private attributes (PS3.5 7.8.1)."""
    return _is_private(tag) and tag[4:6] == "00" and int(tag[6:], 16) in _BLOCKS


def _naming(tag: str, model: Model) -> tuple[str, str]:
    """The tag, and the keyword of a standard attribute; of a private one the creator, in place of its block (PS3.19 Table
    A.1.5-2).
    """
    if _is_private(tag):
        creator = (model.get(f"{tag[:4]}00{tag[4:6]}", {}).get("Value") or [None])[0]
        if not isinstance(creator, str):
            return tag, ""
        return f"{tag[:4]}00{tag[6:]}", f' privateCreator="{_attribute(creator)}"'
    from pydicom.datadict import keyword_for_tag

    keyword = keyword_for_tag(tag)
    return tag, f' keyword="{keyword}"' if keyword else ""


def _write_value(vr: str, number: int, value: Any, out: list[str]) -> None:
    if vr == "SQ":
        out.append(f'<Item number="{number}">')
        _write_data_set(value, out)
        out.append("</Item>")
    elif vr == "PN":
        out.append(f'<PersonName number="{number}">')
        groups = value if isinstance(value, dict) else dict(zip(GROUPS, str(value or "").split("="), strict=False))
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
        self._private: list[dict[tuple[str, str], Element]] = []  # of each open data set: (tag, creator) → attribute
        self._open: list[tuple[str, str, Element]] = []  # tag, private creator, attribute
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
                self._begin_set()
            case "DicomAttribute":
                self._start_attribute(attributes)
            case "Item" if self._in("SQ"):
                if len(self._sets) > MAX_DEPTH:
                    raise BadRequest(f"Sequences are nested more than {MAX_DEPTH} deep.")
                self._begin_set()
            case "PersonName" if self._in("PN") and self._groups is None:
                self._groups, self._group = {}, ""
            case "BulkData" if self._open and not self._in("SQ"):
                self._open[-1][2]["BulkDataURI"] = attributes.get("uri") or attributes.get("uuid") or ""
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
        return len(self._open) == len(self._sets) > 0 and self._open[-1][2]["vr"] == vr

    def _start_attribute(self, attributes: dict[str, str]) -> None:
        tag, vr = attributes.get("tag", "").upper(), attributes.get("vr", "")
        self._left -= 1
        if not self._sets or len(self._open) >= len(self._sets) or self._left < 0:
            raise BadRequest("The XML has a DicomAttribute where none can be, or too many of them.")
        if not _TAG.fullmatch(tag) or vr not in VRS:
            raise BadRequest("A DicomAttribute has no tag of eight hexadecimal digits, or no vr of DICOM.")
        creator = attributes.get("privateCreator", "").strip() if _is_private(tag) else ""
        if tag in self._sets[-1] if not creator else (f"{tag[:4]}00{tag[6:]}", creator) in self._private[-1]:
            raise BadRequest(f"The attribute {tag} is there twice.")
        self._open.append((tag, creator, {"vr": vr}))

    def _begin_set(self) -> None:
        self._sets.append({})
        self._private.append({})

    def _end_set(self) -> Model:
        found = self._sets.pop()
        _place(self._private.pop(), found)
        return dict(sorted(found.items()))

    def end(self, name: str) -> None:
        local = name.rpartition(" ")[2]
        text = "".join(self._text) if self._text is not None else ""
        match local:
            case "NativeDicomModel":
                self.model = self._end_set()
            case "DicomAttribute":
                tag, creator, element = self._open.pop()
                if len(element) > 2:
                    raise BadRequest(f"The attribute {tag} has more than one of Value, BulkData and InlineBinary.")
                if creator:
                    self._private[-1][f"{tag[:4]}00{tag[6:]}", creator] = element
                elif not tag.endswith("0000"):
                    self._sets[-1][tag] = element
            case "Item":
                self._add(self._end_set())
            case "Value":
                self._add(_value(self._open[-1][2]["vr"], text))
                self._text = None
            case "InlineBinary":
                inline = "".join(text.split())
                if not is_base64(inline):
                    raise BadRequest("InlineBinary is not base64.")
                self._open[-1][2]["InlineBinary"] = inline
                self._text = None
            case "PersonName":
                groups = {g: "^".join(parts).rstrip("^") for g, parts in (self._groups or {}).items()}
                self._add({g: joined for g, joined in groups.items() if joined} or None)
                self._groups = None
            case _ if local in COMPONENTS and self._groups is not None:
                self._groups[self._group][COMPONENTS.index(local)] = text
                self._text = None

    def _add(self, value: Any) -> None:
        self._open[-1][2].setdefault("Value", []).append(value)


def _place(private: dict[tuple[str, str], Element], model: Model) -> None:
    """Puts private attributes (tag, creator) into the blocks of their creators: those reserved, else the first that is free."""
    groups = {tag[:4] for tag, _ in private}
    taken = {(tag[:4], int(tag[6:] if _is_creator(tag) else tag[4:6], 16)) for tag in model if tag[:4] in groups}
    blocks = {(tag[:4], first_text(model, tag)): int(tag[6:], 16) for tag in model if tag[:4] in groups and _is_creator(tag)}
    free = {group: iter([block for block in _BLOCKS if (group, block) not in taken]) for group in groups}
    for (tag, creator), element in private.items():
        group = tag[:4]
        if (group, creator) not in blocks:
            block = next(free[group], None)
            if block is None:
                raise BadRequest(f"The group {group} has no room for another private creator.")
            blocks[group, creator] = block
            model[f"{group}00{block:02X}"] = {"vr": "LO", "Value": [creator]}
        placed = f"{group}{blocks[group, creator]:02X}{tag[6:]}"
        if placed in model:
            raise BadRequest(f"The attribute {placed} is there twice.")
        model[placed] = element


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
