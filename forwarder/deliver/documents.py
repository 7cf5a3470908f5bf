"""Reports in the form that a PACS takes: as they are, else as an Encapsulated PDF, else as a picture of each page.

What is made has UIDs of its own, which follow from those of the report, in a series of its own of the same study, so that
it is the same at every try. What cannot be shown whole and right is not made (`CannotBeShownError`): no letter becomes
another one.
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from xml.etree import ElementTree

import pydyf
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRLittleEndian

from forwarder.deliver.rejection import derived_uid

ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
ENCAPSULATED_CDA = "1.2.840.10008.5.1.4.1.1.104.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
TEXT_REPORTS = frozenset(f"1.2.840.10008.5.1.4.1.1.88.{end}" for end in ("11", "22", "33", "34"))
"""Basic, Enhanced, Comprehensive and Comprehensive 3D SR: what people write. Dose reports and key objects are not."""
READABLE = TEXT_REPORTS | {ENCAPSULATED_PDF, ENCAPSULATED_CDA}
FORMS = {"sr": ("", "pdf", "picture"), "pdf": ("pdf", "picture"), "picture": ("picture",)}
"""By `deliver.reports`: the forms to try, in this order; the empty one is the report as it is."""
MADE_CLASSES = {"pdf": ENCAPSULATED_PDF, "picture": SECONDARY_CAPTURE}

LARGEST = 32 * 1024 * 1024  # bytes of a report
MOST_PAGES = 60
MOST_ITEMS, DEEPEST = 5000, 40
DRAWING_SECONDS = 60
_MOST_IN_A_CELL = 4  # lines
_COLUMNS, _LINES, _SIZE, _LEADING, _MARGIN = 80, 58, 10, 13, 50
_PAGE = (595, 842)  # points: A4
_COPIED = (
    "SpecificCharacterSet", "InstanceCoercionDateTime", "StudyDate", "StudyTime", "AccessionNumber", "InstitutionName",
    "ReferringPhysicianName", "StudyDescription", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID", "StudyID", "ContributingEquipmentSequence", "OriginalAttributesSequence",
)  # fmt: skip
_BLANKS = re.compile(r"\s+")
_SIGNS = {code: text for code in range(0x80, 0xA0) if (text := bytes([code]).decode("cp1252", "ignore"))}
_SIGNS |= {0x2018: "'", 0x2019: "'", 0x2010: "-", 0x2011: "-", 0x00A0: " ", 0x200B: "", 0x2028: "\n", 0x2029: "\n"}
"""Signs that say the same, for those that a standard PDF font does not have; of control characters what Windows has there."""


class CannotBeShownError(Exception):
    """A report cannot be made into this form without losing something. The text says why, without what stands in it."""


def forms(sop_class: str, wanted: str) -> tuple[str, ...]:
    """The forms in which an instance may be brought, where `deliver.reports` is `wanted`, the first one first."""
    if sop_class not in READABLE:
        return ("",)
    as_it_is = tuple("" if form == MADE_OF_ITSELF.get(sop_class) else form for form in FORMS[wanted])
    return tuple(dict.fromkeys(as_it_is))


MADE_OF_ITSELF = {ENCAPSULATED_PDF: "pdf"}
"""What is in a form already."""


def made(report: Path, form: str, folder: Path) -> list[Path]:
    """The files that stand for a report (a Part 10 file, coerced already) in this form: one PDF, or a picture of each page.

    Raises CannotBeShownError, OSError.
    """
    if report.stat().st_size > LARGEST:
        raise CannotBeShownError("it is too large")
    try:
        source = dcmread(report)
        document = _pdf_of(source)
        target = folder / f"{report.stem}.{form}"
        if form == "pdf":
            _encapsulated(source, document).save_as(target, enforce_file_format=True)
            return [target]
        return [
            _saved(_picture(source, number, *page), target.with_suffix(f".picture{number}"))
            for number, page in enumerate(_drawn(document), 1)
        ]
    except (AttributeError, KeyError, ValueError, TypeError, IndexError, RecursionError, NotImplementedError) as error:
        raise CannotBeShownError("it cannot be read") from error


def _saved(picture: Dataset, target: Path) -> Path:
    picture.save_as(target, enforce_file_format=True)
    return target


def _pdf_of(source: Dataset) -> bytes:
    if source.SOPClassUID == ENCAPSULATED_PDF:
        return bytes(source.EncapsulatedDocument)
    if source.SOPClassUID == ENCAPSULATED_CDA:
        lines = list(_narrative(bytes(source.EncapsulatedDocument)))
    else:
        title = source.ConceptNameCodeSequence[0].CodeMeaning if source.get("ConceptNameCodeSequence") else ""
        lines = [str(title).upper(), "", *_content(source, [0])]
    if not any(line.strip() for line in lines):
        raise CannotBeShownError("it says nothing")
    return _typeset(_heading(source), lines)


def _heading(source: Dataset) -> list[str]:
    born = str(source.get("PatientBirthDate") or "")
    born = f"{born[6:8]}/{born[4:6]}/{born[:4]}" if len(born) == 8 else born
    made_on = str(source.get("StudyDate") or "")
    made_on = f"{made_on[6:8]}/{made_on[4:6]}/{made_on[:4]}" if len(made_on) == 8 else made_on
    name = str(source.get("PatientName") or "").partition("=")[0].replace("^", " ")
    return [
        f"{' '.join(name.split())}   {born}   {source.get('PatientID', '')}",
        "   ".join(
            part
            for part in (str(source.get("InstitutionName") or ""), str(source.get("StudyDescription") or ""), made_on)
            if part
        ),
    ]


def _content(container: Dataset, count: list[int], depth: int = 0) -> Iterator[str]:
    """The lines of a container's content (PS3.3 C.17.3). Raises CannotBeShownError for what is no text."""
    if depth > DEEPEST:
        raise CannotBeShownError("it is nested too deep")
    for item in container.get("ContentSequence") or []:
        count[0] += 1
        if count[0] > MOST_ITEMS:
            raise CannotBeShownError("it has too many parts")
        heading = str(item.ConceptNameCodeSequence[0].CodeMeaning) if item.get("ConceptNameCodeSequence") else ""
        kind = item.get("ValueType")
        if kind == "CONTAINER":
            yield ""
            yield heading.upper()
        elif kind not in ("IMAGE", "COMPOSITE", "UIDREF"):  # what refers to others says nothing itself
            text = _value(item, str(kind))
            several = "\n" in text or len(heading) + len(text) > _COLUMNS
            yield from (
                [f"{heading}:", *text.splitlines(), ""] if several and heading else [f"{heading}: {text}" if heading else text]
            )
        yield from _content(item, count, depth + 1)


def _value(item: Dataset, kind: str) -> str:
    if kind == "TEXT":
        return str(item.TextValue).replace("\r\n", "\n").replace("\r", "\n")
    if kind == "CODE":
        return str(item.ConceptCodeSequence[0].CodeMeaning)
    if kind == "NUM":
        measured = item.MeasuredValueSequence[0] if item.get("MeasuredValueSequence") else None
        if measured is None:
            return "—"
        unit = (
            measured.MeasurementUnitsCodeSequence[0].get("CodeValue", "") if measured.get("MeasurementUnitsCodeSequence") else ""
        )
        return f"{measured.NumericValue} {'' if unit in ('1', '{ratio}') else unit}".strip()
    if kind == "DATE":
        return str(item.Date)
    if kind == "TIME":
        return str(item.Time)
    if kind == "DATETIME":
        return str(item.DateTime)
    if kind == "PNAME":
        return str(item.PersonName).replace("^", " ").strip()
    raise CannotBeShownError("a part of it is no text")


def _narrative(document: bytes) -> Iterator[str]:
    """The title and the sections of a ClinicalDocument, as they are to be read (CDA R2 4.3.5)."""
    document = document.rstrip(b"\0")  # which made its length even
    if b"<!DOCTYPE" in document or b"<!ENTITY" in document or b"\0" in document:
        raise CannotBeShownError("it declares entities, or is in an encoding that is not looked into")
    try:
        root = ElementTree.fromstring(document)  # noqa: S314  # without a document type there are no entities to expand
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # ValueError: an encoding of several bytes
        raise CannotBeShownError("its document is damaged") from error
    space = "{urn:hl7-org:v3}"
    sections = list(root.iter(f"{space}section"))
    if not sections:
        raise CannotBeShownError("its document has no text")
    yield from [(root.findtext(f"{space}title") or "").upper(), ""]
    for section in sections:
        yield (section.findtext(f"{space}title") or "").upper()
        for text in section.findall(f"{space}text"):
            if any(element.tag == f"{space}renderMultiMedia" for element in text.iter()):
                raise CannotBeShownError("its text has pictures")
            yield from _lines(text)
        yield ""


def _has_rows(element: ElementTree.Element) -> bool:
    return any(inner.tag.rpartition("}")[2] == "tr" for inner in element.iter())


def _lines(element: ElementTree.Element) -> list[str]:
    parts: list[str] = []

    def collect(node: ElementTree.Element) -> None:
        name = node.tag.rpartition("}")[2]
        cells = [_lines(cell) for cell in node] if name == "tr" and not any(_has_rows(cell) for cell in node) else []
        if len(cells) > 1 and all(len(cell) <= _MOST_IN_A_CELL for cell in cells):  # else the table is a layout
            parts.append("\n" + " | ".join(" ".join(cell) for cell in cells) + "\n")
            return
        if name in ("paragraph", "item", "tr", "td", "th", "br", "list", "table", "caption"):
            parts.append("\n")
        deleted = name == "content" and node.get("revised") == "delete"
        parts.append("^" if name == "sup" else "[eliminato: " if deleted else "")
        parts.append(_BLANKS.sub(" ", node.text or ""))
        for child in node:
            collect(child)
            parts.append(_BLANKS.sub(" ", child.tail or ""))
        parts.append("] " if deleted else "\n" if name in ("td", "th") else "")

    collect(element)
    return [" ".join(line.split()) for line in "".join(parts).splitlines() if line.strip()]


def _typeset(heading: list[str], lines: list[str]) -> bytes:
    """A PDF of A4 pages in Courier. Raises CannotBeShownError for a sign that WinAnsi does not have."""
    rows: list[str] = []
    for line in "\n".join(lines).splitlines():
        wrapped = textwrap.wrap(line.expandtabs(4), _COLUMNS, replace_whitespace=False, drop_whitespace=True) or [""]
        rows += wrapped
    body = _LINES - len(heading) - 2
    pages = [rows[start : start + body] for start in range(0, len(rows), body)]
    if len(pages) > MOST_PAGES:
        raise CannotBeShownError("it is too long")
    document = pydyf.PDF()
    font = pydyf.Dictionary({"Type": "/Font", "Subtype": "/Type1", "BaseFont": "/Courier", "Encoding": "/WinAnsiEncoding"})
    document.add_object(font)
    for number, page in enumerate(pages, 1):
        top = [*(line[:_COLUMNS] for line in heading), f"{number} / {len(pages)}", ""]
        stream = pydyf.Stream(compress=True)
        stream.begin_text()
        stream.set_font_size("F1", _SIZE)
        for place, row in enumerate([*top, *page]):
            stream.set_text_matrix(1, 0, 0, 1, _MARGIN, _PAGE[1] - _MARGIN - place * _LEADING)
            stream.show_text(_winansi(row))
        stream.end_text()
        document.add_object(stream)
        document.add_page(
            pydyf.Dictionary(
                {
                    "Type": "/Page",
                    "Parent": document.pages.reference,
                    "MediaBox": pydyf.Array([0, 0, *_PAGE]),
                    "Contents": stream.reference,
                    "Resources": pydyf.Dictionary({"Font": pydyf.Dictionary({"F1": font.reference})}),
                }
            )
        )
    with tempfile.TemporaryFile() as file:
        document.write(file)
        file.seek(0)
        return file.read()


def _winansi(text: str) -> pydyf.String:
    try:
        raw = text.translate(_SIGNS).encode("cp1252")
    except UnicodeEncodeError as error:
        raise CannotBeShownError("it has letters that cannot be drawn here") from error
    if any(byte < 32 for byte in raw):
        raise CannotBeShownError("it has signs that cannot be drawn here")
    return pydyf.String(raw)


def _drawn(document: bytes) -> list[tuple[int, int, int, bytes]]:
    """(rows, columns, samples a pixel, pixels) of each page, drawn by a process of its own: a PDF may be anybody's."""
    with tempfile.TemporaryDirectory(prefix="forwarder-") as name:
        source, target = Path(name) / "in.pdf", Path(name) / "out"
        source.write_bytes(document)
        command = [sys.executable, "-m", "forwarder.deliver.raster", str(source), str(target), str(MOST_PAGES)]
        try:
            done = subprocess.run(command, timeout=DRAWING_SECONDS, capture_output=True, check=False)
        except subprocess.TimeoutExpired as error:
            raise CannotBeShownError("drawing it takes too long") from error
        if done.returncode or not target.exists():
            raise CannotBeShownError("it cannot be drawn")
        data, pages, at = target.read_bytes(), [], 0
        while at < len(data):
            rows, columns, samples = struct.unpack_from("<LLL", data, at)
            size = rows * columns * samples
            pages.append((rows, columns, samples, data[at + 12 : at + 12 + size]))
            at += 12 + size
    if not pages:
        raise CannotBeShownError("it has no pages")
    return pages


def _of_the_same_study(source: Dataset, sop_class: str, form: str, number: int) -> Dataset:
    result = Dataset()
    for keyword in _COPIED:
        if keyword in source:
            result[keyword] = source[keyword]
    result.SOPClassUID = sop_class
    result.SOPInstanceUID = derived_uid(form, str(number), str(source.SOPInstanceUID), str(source.StudyInstanceUID))
    result.SeriesInstanceUID = derived_uid(form, "series", str(source.SeriesInstanceUID), str(source.StudyInstanceUID))
    result.SeriesNumber, result.InstanceNumber = 9901 if form == "pdf" else 9902, number
    result.SeriesDescription = "Referto"
    result.ConversionType, result.BurnedInAnnotation = "WSD", "YES"
    result.Manufacturer, result.ManufacturerModelName = "Contenitore", "forwarder"
    for keyword in ("ContentDate", "ContentTime"):
        setattr(result, keyword, source.get(keyword) or "")
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    result.SourceInstanceSequence = DicomSequence([reference])
    result.file_meta = FileMetaDataset()
    result.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    result.file_meta.MediaStorageSOPClassUID = result.SOPClassUID
    result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    return result


def _encapsulated(source: Dataset, document: bytes) -> Dataset:
    """PS3.3 A.45.1."""
    result = _of_the_same_study(source, ENCAPSULATED_PDF, "pdf", 1)
    result.Modality, result.AcquisitionDateTime = "DOC", ""
    result.DocumentTitle = "Referto"
    result.ConceptNameCodeSequence = DicomSequence(source.get("ConceptNameCodeSequence") or [])
    result.MIMETypeOfEncapsulatedDocument = "application/pdf"
    result.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    result.EncapsulatedDocumentLength = len(document)
    return result


def _picture(source: Dataset, number: int, rows: int, columns: int, samples: int, pixels: bytes) -> Dataset:
    """PS3.3 A.8.1."""
    result = _of_the_same_study(source, SECONDARY_CAPTURE, "picture", number)
    result.Modality = "OT"
    result.Rows, result.Columns, result.SamplesPerPixel = rows, columns, samples
    result.PhotometricInterpretation = "MONOCHROME2" if samples == 1 else "RGB"
    if samples == 3:
        result.PlanarConfiguration = 0
    result.BitsAllocated = result.BitsStored = 8
    result.HighBit, result.PixelRepresentation = 7, 0
    result.PixelData = pixels + b"\0" * (len(pixels) % 2)
    result["PixelData"].VR = "OB"
    return cast(Dataset, result)
