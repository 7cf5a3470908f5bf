"""Metadata as it is kept, and as it is served: text in which the address and the patient's number are put at the end.

An instance's metadata is written once, when it is indexed, as one line of DICOM JSON (PS3.18 F.2). What depends on who
asks is marked: the patient identifiers and Original Attributes Sequence by control characters, which JSON never holds
unescaped, and the address by where it belongs, behind `"BulkDataURI":"`. So a whole series is turned into an answer
by looking for these, without being parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache

from chalicelib.dicom.header import Head
from chalicelib.dicom.metadata import Serialised, bulk_name, full_metadata
from chalicelib.dicom.pixels import PixelDescription
from chalicelib.domain import tags
from chalicelib.domain.dicom_json import Attributes

_PATIENT = (tags.PatientID, tags.IssuerOfPatientIDQualifiersSequence)
"""First and last of the attributes that identify the patient (PS3.3 C.7.1.1)."""
_ORIGINAL = tags.OriginalAttributesSequence
_BULK = b'"BulkDataURI":"'

_ACCESSION = re.compile(
    rb'"%s":\{"vr":"SH","Value":\["(?:[^"\\]|\\.)*"\]\}(?!,"%s")'
    % (tags.AccessionNumber.encode(), tags.IssuerOfAccessionNumberSequence.encode())
)
"""An accession number without an issuer."""

Replace = Callable[[Attributes], tuple[Attributes, Attributes]]
"""From an instance's patient identifiers to those that are shown, and to the item that says what was replaced."""


def keep(head: Head, series: str, sop: str, described: PixelDescription | None = None) -> bytes:
    """The line that is kept: everything but what depends on who asks. `described`: what its pixels are."""
    below = f"/series/{series}/instances/{sop}/bulkdata/"
    found = full_metadata(head, lambda path: below + bulk_name(path), described=described)
    before = {tag: value for tag, value in found.items() if tag < _PATIENT[0]}
    patient = {tag: value for tag, value in found.items() if _PATIENT[0] <= tag <= _PATIENT[1]}
    between = {tag: value for tag, value in found.items() if _PATIENT[1] < tag < _ORIGINAL}
    original: Attributes = {_ORIGINAL: found[_ORIGINAL]} if _ORIGINAL in found else {}
    after = {tag: value for tag, value in found.items() if tag > _ORIGINAL}
    return b"".join(
        (
            b"{", _members(before)[1:], b"\x01", _members(patient), b"\x02", _members(between),
            b"\x03", _members(original), b"\x04", _members(after), b"}",
        )
    )  # fmt: skip


def _members(attributes: Attributes) -> bytes:
    """Members of a JSON object, each behind a comma. Every instance has a SOP Class UID, so that there is one before."""
    text = "".join(
        f',"{tag}":{value if isinstance(value, Serialised) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))}'
        for tag, value in attributes.items()
    )
    return text.encode("utf-8", "replace")


def serve(text: bytes, study_url: str, suffix: str, replace: Replace | None, issuer: Attributes | None = None) -> bytes:
    """Kept lines as they are sent. `study_url` is the study's address, `suffix` what stands behind one, such as `?owner=…`.

    `replace` None: the patient identifiers stay as they are in the images. `issuer`: an item of (0008,0051), for accession
    numbers that say none.
    """

    @lru_cache(maxsize=256)
    def shown(patient: bytes, original: bytes) -> tuple[bytes, bytes]:
        return (patient, original) if replace is None else _shown(replace, patient, original)

    element = _members({tags.IssuerOfAccessionNumberSequence: {"vr": "SQ", "Value": [issuer]}}) if issuer is not None else b""
    pieces: list[bytes] = []
    for line in text.split(b"\n"):
        head, patient, between, original, after = _parts(line)
        patient, original = shown(patient, original)
        pieces += (_with_issuer(head, element), patient, between, original, after, b"\n")
    return _addressed(b"".join(pieces[:-1]), study_url.encode(), suffix.encode())


def _parts(line: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """What stands between the marks. `bytes.index` looks for them many times faster than a regular expression does."""
    first = line.index(1)
    second = line.index(2, first)
    third = line.index(3, second)
    fourth = line.index(4, third)
    return line[:first], line[first + 1 : second], line[second + 1 : third], line[third + 1 : fourth], line[fourth + 1 :]


def _with_issuer(head: bytes, element: bytes) -> bytes:
    """What stands before the patient, in which an accession number that says no issuer has this element of one, if there is."""
    return _ACCESSION.sub(lambda found: found[0] + element, head, count=1) if element else head


def _addressed(text: bytes, study_url: bytes, suffix: bytes) -> bytes:
    if not suffix:
        return text.replace(_BULK, _BULK + study_url)
    first, *others = text.split(_BULK)
    pieces = [first]
    for other in others:
        end = other.index(b'"')
        pieces += (_BULK, study_url, other[:end], suffix, other[end:])
    return b"".join(pieces)


def _shown(replace: Replace, patient: bytes, original: bytes) -> tuple[bytes, bytes]:
    """The members of the patient's identifiers and of Original Attributes Sequence, as they are shown."""
    identifiers, item = replace(json.loads(b"{" + patient[1:] + b"}"))
    if not item:
        return _members(identifiers), original
    items = json.loads(b"{" + original[1:] + b"}").get(_ORIGINAL, {}).get("Value", [])
    return _members(identifiers), _members({_ORIGINAL: {"vr": "SQ", "Value": [*items, item]}})
