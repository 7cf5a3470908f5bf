"""Coercing a file for the hospital's own PACS, as IHE IRWF.b (RAD-61) and PS3.3 C.12.1.1.9 want it.

The patient becomes the one that the local PACS knows, the order's numbers of the other hospital go, and what was there
stands in one item that is appended to Original Attributes Sequence. UIDs, pixels and every other element are copied byte
for byte: the file is taken apart at its top-level elements and put together again, never parsed and written as a whole.

Text is written in the data set's own character set. Where that cannot hold it, the whole data set becomes UTF-8; where
that cannot be done without loss, the name stays as it is, and the result says so.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path

from pydicom import charset, dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.valuerep import STANDARD_VR

from forwarder.header import BLANK_VRS, DEFLATED, EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, LONG_VRS, UNDEFINED, Element, Tag, walk
from forwarder.retrieve.encoding import Encoding, codecs_of, strictly
from forwarder.retrieve.outgoing import OutgoingInstance

LARGEST_HEAD = 64 * 1024 * 1024
"""Bytes before Pixel Data that are taken apart; also of a deflated data set, inflated."""
_BULK = frozenset({(0x7FE0, 0x0010), (0x7FE0, 0x0008), (0x7FE0, 0x0009)})
_VRS = frozenset(vr.value.encode() for vr in STANDARD_VR)
_MOST_OF_THE_FIRST = 1024  # bytes of the first element of a data set
TRANSFER_SYNTAX_UID: Tag = (0x0002, 0x0010)
SPECIFIC_CHARACTER_SET: Tag = (0x0008, 0x0005)
SOP_CLASS_UID: Tag = (0x0008, 0x0016)
SOP_INSTANCE_UID: Tag = (0x0008, 0x0018)
INSTANCE_COERCION_DATE_TIME: Tag = (0x0008, 0x0015)
CONTRIBUTING_EQUIPMENT_SEQUENCE: Tag = (0x0018, 0xA001)
ORIGINAL_ATTRIBUTES_SEQUENCE: Tag = (0x0400, 0x0561)
STUDY_DESCRIPTION: Tag = (0x0008, 0x1030)
UTF_8 = "ISO_IR 192"


def _tag(keyword: str) -> Tag:
    found = tag_for_keyword(keyword)
    if found is None:
        raise ValueError(keyword)
    return found >> 16, found & 0xFFFF


_PATIENT = tuple(
    map(_tag, ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "AccessionNumber"))
)
"""Always replaced, and always in the originals, whether or not they changed (IHE IRWF.b: even an unchanged issuer)."""
_PERSON = (_tag("PatientBirthDate"), _tag("PatientSex"))
_REMOVED = tuple(
    map(
        _tag,
        (
            "IssuerOfPatientIDQualifiersSequence", "OtherPatientIDs", "OtherPatientIDsSequence",
            "IssuerOfAccessionNumberSequence", "RequestAttributesSequence", "RequestedProcedureID",
            "PlacerOrderNumberImagingServiceRequest",
            "FillerOrderNumberImagingServiceRequest", "AdmissionID", "IssuerOfAdmissionIDSequence",
        ),
    )
)  # fmt: skip
"""Numbers of the other hospital's that would be mistaken for one's own. They stand in the originals."""


_AFFECTED = (*_PATIENT, *_REMOVED, STUDY_DESCRIPTION, ORIGINAL_ATTRIBUTES_SEQUENCE, CONTRIBUTING_EQUIPMENT_SEQUENCE)
"""On these depends what is written."""
_REMEMBERED = 64 * 1024
"""Bytes of them for which it is remembered what is written in their place."""


class UncoercibleError(Exception):
    """This file cannot be coerced: it would not be known whose it is. The text says why, without what stands in it."""


class OtherPersonError(UncoercibleError):
    """This file is of another person than the one under whom it would come: it says another birth date, or another sex."""


@dataclass(frozen=True, slots=True)
class LocalPatient:
    """The patient as the local PACS knows them: `name` as DICOM writes it, `birth_date` YYYYMMDD, `sex` M, F or O, or empty."""

    id: str
    issuer: str
    name: str
    birth_date: str = ""
    sex: str = ""
    archive_birth_date: str = ""
    archive_sex: str = ""
    """As the archive has them: where the PACS says nothing, what a file says is held against these. They are not written."""

    def is_other_than(self, birth_date: str, sex: str) -> bool:
        """Whether whoever has this birth date and sex is somebody else. What is no date, and a sex but M and F, says nothing."""
        dates = {_birth_date(self.birth_date) or _birth_date(self.archive_birth_date), _birth_date(birth_date)} - {""}
        sexes = {_sex(self.sex) or _sex(self.archive_sex), _sex(sex)} - {""}
        return len(dates) > 1 or len(sexes) > 1


def _birth_date(text: str) -> str:
    """YYYYMMDD, also of YYYY.MM.DD as ACR-NEMA wrote it (PS3.5 6.2); empty for what is no date."""
    written = re.fullmatch(r"(\d{4})(\.?)(\d{2})\2(\d{2})", text.strip("\0 "), re.ASCII)
    if written is None:
        return ""
    year, _, month, day = written.groups()
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return ""
    return f"{year}{month}{day}"


def _sex(text: str) -> str:
    found = text.strip("\0 ").upper()
    return found if found in ("M", "F") else ""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the values came from, by whom they are coerced, and what PACS users are to see of it."""

    source: str
    """Source of Previous Values (0400,0564): the other institution."""
    institution: str
    """Who coerces: the receiving institution."""
    mark: str = ""
    """What Study Description begins with, so that everyone in front of the PACS sees where the exam is from."""


def coerced(source: Path, patient: LocalPatient, origin: Origin, now: datetime) -> OutgoingInstance:
    """`source`, a Part 10 file, under the local patient; what follows the coerced elements stays where it is. `now` is aware.

    A deflated data set comes inflated (Explicit VR Little Endian). Raises OtherPersonError where the file is somebody else's,
    UncoercibleError for whatever else is in it, OSError.
    """
    try:
        return _coerced(source, patient, origin, now)
    except (UncoercibleError, OSError, MemoryError):
        raise
    except Exception as error:  # another hospital's file: whatever pydicom or we stumble over in it, is no reason to stop
        raise UncoercibleError("something in it is not as DICOM has it") from error


def _coerced(source: Path, patient: LocalPatient, origin: Origin, now: datetime) -> OutgoingInstance:
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        beginning = _begin(data)
        begin, syntax = beginning.data_set_at, beginning.syntax
        content: bytes | mmap.mmap = data
        written_syntax, size = syntax, len(data)
        if syntax == DEFLATED:
            content, begin, written_syntax = _inflated(data, begin), 0, EXPLICIT_LE
        elements, rest_at = _elements(content, begin, syntax)
        encoding = _encoding(elements, syntax)
        if patient.is_other_than(*(_text(elements.get(tag, b""), encoding.implicit) for tag in _PERSON)):
            raise OtherPersonError("it says another birth date or sex than the patient's")
        head, kept = _head(elements, encoding, patient, origin, now)
        if isinstance(content, bytes):
            head, rest_at = head + content[rest_at:], size
        sop_class, sop_instance = (_text(elements.get(tag, b""), encoding.implicit) for tag in (SOP_CLASS_UID, SOP_INSTANCE_UID))
        if not sop_class or not sop_instance:
            raise UncoercibleError("it does not say which instance it is")
        meta = _meta(data, beginning, written_syntax, sop_class, sop_instance)
    return OutgoingInstance(sop_class, sop_instance, written_syntax, source, rest_at, meta, head, kept)


def _text(raw: bytes, implicit: bool) -> str:
    """The value of an element of plain ASCII: a UID, a date, a code."""
    return _value(raw, implicit).rstrip(b"\0 ").decode("ascii", "replace")


@dataclass(frozen=True, slots=True)
class _Beginning:
    """Where a data set begins, the transfer syntax that its bytes are in, and the elements of File Meta Information by tag."""

    data_set_at: int
    syntax: str
    file_meta: Mapping[Tag, bytes]


def _begin(data: mmap.mmap) -> _Beginning:
    """As the archive reads it: without preamble or File Meta Information too, or with one that contradicts the data set."""
    at = 132 if data[128:132] == b"DICM" else 0
    meta: dict[Tag, bytes] = {}
    try:
        for element in walk(data, at, implicit=False, order="<", limit=LARGEST_HEAD):
            if element.tag[0] != 2:
                break
            at = element.value_at + element.length
            meta[element.tag] = bytes(data[element.start : at])
    except (struct.error, ValueError):
        pass  # an implicit data set behind it
    declared = _text(meta.get(TRANSFER_SYNTAX_UID, b""), implicit=False)
    syntax = declared
    if declared in ("", IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE, DEFLATED):
        syntax = _shown_syntax(bytes(data[at : at + 8])) or declared
    if not syntax:
        raise UncoercibleError("no transfer syntax")
    return _Beginning(at, syntax, meta)


def _shown_syntax(first: bytes) -> str:
    """The uncompressed transfer syntax of a data set that begins with these eight bytes; empty where they do not show it."""
    if len(first) < 8:
        return ""
    for order, syntax in (("<", EXPLICIT_LE), (">", EXPLICIT_BE)):
        group, number, length = struct.unpack(order + "HHL", first)
        if group != 0x0008 or number > 0x0100:
            continue
        if first[4:6] in _VRS:
            return syntax
        if order == "<" and (number == 0 or dictionary_has_tag(group << 16 | number)) and length < _MOST_OF_THE_FIRST:
            return IMPLICIT_LE
    return ""


def _inflated(data: mmap.mmap, at: int) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(data[at:], LARGEST_HEAD)
    except zlib.error as error:
        raise UncoercibleError("the deflated data set is damaged") from error
    if inflater.unconsumed_tail:
        raise UncoercibleError("the deflated data set is too large")
    return content


def _elements(content: bytes | mmap.mmap, at: int, syntax: str) -> tuple[dict[Tag, bytes], int]:
    """(the top-level elements before bulk data as they are written, by tag; where what follows them begins)."""
    found: dict[Tag, bytes] = {}
    implicit = syntax == IMPLICIT_LE
    order = ">" if syntax == EXPLICIT_BE else "<"
    named = Encoding(implicit, syntax == EXPLICIT_BE, ())
    last: Element | None = None
    rest = len(content)
    try:
        for element in walk(content, at, implicit=implicit, order=order, limit=LARGEST_HEAD):
            if last is not None:
                found[last.tag] = _with_vr(bytes(content[last.start : element.start]), last.tag, named)
            last = element
            if element.tag in _BULK:
                return found, element.start
            if element.tag[0] == 0x7FE0 or element.tag[0] >= 0xFFFA:
                return found, element.start
    except (struct.error, ValueError) as error:
        raise UncoercibleError("its elements cannot be told apart") from error
    if last is not None:
        found[last.tag] = _with_vr(bytes(content[last.start : rest]), last.tag, named)
    return found, rest


def _with_vr(raw: bytes, tag: Tag, encoding: Encoding) -> bytes:
    """An element with its VR, where it is in small letters, or was left blank; UN where it cannot be known (PS3.5 6.2.2)."""
    written = raw[4:6]
    if encoding.implicit or written in _VRS:
        return raw
    if written.upper() in _VRS:
        return raw[:4] + written.upper() + raw[6:]
    if written not in BLANK_VRS:
        return raw
    number = tag[0] << 16 | tag[1]
    known = dictionary_VR(number).encode() if dictionary_has_tag(number) else b"UN"
    return encoding.wrap(tag, known if known in _VRS else b"UN", raw[8:])


def _value(raw: bytes, implicit: bool) -> bytes:
    if implicit:
        return raw[8:]
    return raw[12:] if raw[4:6] in LONG_VRS else raw[8:]


def _encoding(elements: Mapping[Tag, bytes], syntax: str) -> Encoding:
    implicit = syntax == IMPLICIT_LE
    raw = _value(elements.get(SPECIFIC_CHARACTER_SET, b""), implicit).rstrip(b"\0 ").decode("ascii", "replace")
    sets = tuple(part.strip() for part in raw.split("\\")) if raw else ()
    return Encoding(implicit, syntax == EXPLICIT_BE, sets)


def _head(
    elements: dict[Tag, bytes], encoding: Encoding, patient: LocalPatient, origin: Origin, now: datetime
) -> tuple[bytes, tuple[str, ...]]:
    """The elements before bulk data, coerced; and the keywords of what stayed as it was."""
    with contextlib.suppress(UnicodeError):
        return _rewritten(elements, encoding, patient, origin, now), ()
    as_utf8 = _in_utf8(elements, encoding)
    if as_utf8 is not None:
        other = Encoding(encoding.implicit, encoding.big_endian, (UTF_8,))
        with contextlib.suppress(UnicodeError):
            return _rewritten(as_utf8, other, patient, origin, now), ()
    plain = LocalPatient(patient.id, patient.issuer, "", patient.birth_date, patient.sex)
    try:
        return _rewritten(elements, encoding, plain, Origin(origin.source, origin.institution), now, _PATIENT[:1]), (
            "PatientName",
        )
    except UnicodeError as error:
        raise UncoercibleError("the patient's number cannot be written in its character set") from error


def _rewritten(
    elements: Mapping[Tag, bytes],
    encoding: Encoding,
    patient: LocalPatient,
    origin: Origin,
    now: datetime,
    kept: tuple[Tag, ...] = (),
) -> bytes:
    """Raises UnicodeError where the character set cannot hold what is to be written, or what was there cannot be read in it."""
    before = tuple((tag, elements[tag]) for tag in _AFFECTED if tag in elements)
    make = _replacements if sum(len(raw) for _, raw in before) < _REMEMBERED else _replacements.__wrapped__
    new = make(before, encoding, patient, origin, now, kept)
    together = {tag: raw for tag, raw in elements.items() if tag not in _REMOVED and tag[1] != 0}
    together.update(new)
    return b"".join(together[tag] for tag in sorted(together))


@lru_cache(maxsize=64)
def _replacements(
    before: tuple[tuple[Tag, bytes], ...],
    encoding: Encoding,
    patient: LocalPatient,
    origin: Origin,
    now: datetime,
    kept: tuple[Tag, ...],
) -> Mapping[Tag, bytes]:
    """What is written in place of these elements, or beside them: as a rule the same for every instance of a study."""
    elements = dict(before)
    values = dict(zip(_PATIENT, (patient.name, patient.id, patient.issuer, patient.birth_date, patient.sex, ""), strict=True))
    new = {tag: encoding.element(tag, value) for tag, value in values.items() if tag not in kept}
    replaced = [tag for tag in (*_PATIENT, *_REMOVED) if tag not in kept]
    if origin.mark:
        described = _marked(elements.get(STUDY_DESCRIPTION), encoding, origin.mark)
        if described is not None:
            new[STUDY_DESCRIPTION] = described
            replaced.append(STUDY_DESCRIPTION)
    moment = f"{now:%Y%m%d%H%M%S.%f%z}"
    new[INSTANCE_COERCION_DATE_TIME] = encoding.element(INSTANCE_COERCION_DATE_TIME, moment)
    was = b"".join(elements[tag] for tag in sorted(replaced) if tag in elements)
    missing = b"".join(encoding.element(tag, "") for tag in (_PATIENT[2],) if tag not in elements)
    originals = _in_order(was + missing, encoding)
    modified = encoding.item(
        encoding.sequence((0x0400, 0x0550), encoding.item(originals))
        + encoding.element((0x0400, 0x0562), moment)
        + encoding.element((0x0400, 0x0563), "CONTENITORE")
        + encoding.element((0x0400, 0x0564), origin.source)
        + encoding.element((0x0400, 0x0565), "COERCE")
    )
    new[ORIGINAL_ATTRIBUTES_SEQUENCE] = _appended(elements, ORIGINAL_ATTRIBUTES_SEQUENCE, modified, encoding)
    new[CONTRIBUTING_EQUIPMENT_SEQUENCE] = _appended(
        elements, CONTRIBUTING_EQUIPMENT_SEQUENCE, encoding.item(_equipment(origin, moment, encoding)), encoding
    )
    return new


def _in_order(elements: bytes, encoding: Encoding) -> bytes:
    found = {
        element.tag: element
        for element in walk(elements, 0, implicit=encoding.implicit, order=encoding.order, limit=LARGEST_HEAD)
    }
    ends = [*sorted(element.start for element in found.values()), len(elements)]
    return b"".join(elements[found[tag].start : ends[ends.index(found[tag].start) + 1]] for tag in sorted(found))


def _marked(raw: bytes | None, encoding: Encoding, mark: str) -> bytes | None:
    """Study Description with the mark before it, within LO's 64 characters; None where it has it already."""
    encodings = codecs_of(encoding.character_sets)
    text = charset.decode_bytes(_value(raw, encoding.implicit), encodings, {0x5C}).strip("\0 ") if raw else ""
    if text.startswith(mark):
        return None
    return encoding.element(STUDY_DESCRIPTION, f"{mark} {text}".strip()[:64])


@lru_cache(maxsize=64)
def _equipment(origin: Origin, moment: str, encoding: Encoding) -> bytes:
    """PS3.3 C.12.1.1.5: who contributed, and how (PS3.16 CID 7005)."""
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = "109103", "DCM", "Modifying Equipment"
    return (
        encoding.element(_tag("Manufacturer"), "Contenitore")
        + encoding.element(_tag("InstitutionName"), origin.institution)
        + encoding.element(_tag("ManufacturerModelName"), "forwarder")
        + encoding.element(_tag("ContributionDateTime"), moment)
        + encoding.element(_tag("ContributionDescription"), "Patient and order of the receiving institution")
        + encoding.sequence(_tag("PurposeOfReferenceCodeSequence"), encoding.item(encoding.data_set(purpose)))
    )


def _appended(elements: Mapping[Tag, bytes], tag: Tag, item: bytes, encoding: Encoding) -> bytes:
    """A sequence with one more item; those that are there stay as they are."""
    raw = elements.get(tag, b"")
    value = _value(raw, encoding.implicit)
    if not raw:
        return encoding.sequence(tag, item)
    vr = b"" if encoding.implicit else raw[4:6]
    (length,) = struct.unpack(encoding.order + "L", raw[len(raw) - len(value) - 4 : len(raw) - len(value)])
    if vr == b"UN":
        raise UncoercibleError("a sequence is of unknown representation")
    if length == UNDEFINED:
        value = value[:-8]  # its delimiter
    return encoding.sequence(tag, value + item)


def _in_utf8(elements: Mapping[Tag, bytes], encoding: Encoding) -> dict[Tag, bytes] | None:
    """The elements with all their text in UTF-8; None where that would lose something."""
    raw = b"".join(elements[tag] for tag in sorted(elements))
    try:
        with strictly():
            content = dcmread(io.BytesIO(_bare(raw, encoding)))
            content.decode()
            content.SpecificCharacterSet = UTF_8
            for item in _nested(content):
                if "SpecificCharacterSet" in item:
                    del item.SpecificCharacterSet
            written = encoding.data_set(content)
    except Exception:  # whatever pydicom stumbles over: what is not surely whole stays as it is
        return None
    elements_again, _ = _elements(written, 0, _syntax(encoding))
    return elements_again


def _nested(content: Dataset) -> Iterator[Dataset]:
    for element in content:
        if element.VR == "SQ":
            for item in element.value:
                yield item
                yield from _nested(item)


def _syntax(encoding: Encoding) -> str:
    return IMPLICIT_LE if encoding.implicit else EXPLICIT_BE if encoding.big_endian else EXPLICIT_LE


def _bare(raw: bytes, encoding: Encoding) -> bytes:
    """A Part 10 file of these elements, for pydicom to read."""
    uid = _syntax(encoding).encode()
    uid += b"\0" * (len(uid) % 2)
    body = struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid
    return bytes(128) + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(body)) + body + raw


def _meta(data: mmap.mmap, beginning: _Beginning, syntax: str, sop_class: str, sop_instance: str) -> bytes:
    """Preamble and file meta, made where there are none: as they were, but for a transfer syntax that changed or was not said."""
    has_preamble, file_meta = data[128:132] == b"DICM", beginning.file_meta
    if has_preamble and syntax == _text(file_meta.get(TRANSFER_SYNTAX_UID, b""), implicit=False):
        return bytes(data[: beginning.data_set_at])
    made = {
        (0x0002, 0x0001): struct.pack("<HH2sHL", 2, 1, b"OB", 0, 2) + b"\0\1",
        (0x0002, 0x0002): _meta_uid(0x0002, sop_class),
        (0x0002, 0x0003): _meta_uid(0x0003, sop_instance),
    }
    kept = made | dict(file_meta) | {TRANSFER_SYNTAX_UID: _meta_uid(0x0010, syntax)}
    body = b"".join(kept[tag] for tag in sorted(kept) if tag != (0x0002, 0x0000))
    preamble = bytes(data[:132]) if has_preamble else bytes(128) + b"DICM"
    return preamble + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(body)) + body


def _meta_uid(number: int, uid: str) -> bytes:
    value = uid.encode() + b"\0" * (len(uid) % 2)
    return struct.pack("<HH2sH", 2, number, b"UI", len(value)) + value
