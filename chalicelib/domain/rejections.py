"""Why an uploaded object is kept aside instead of indexed.

`REASONS` is the whole list: slug → what the sender's administrator is told. A slug, once published, is
never renamed, since senders store it. `Rejected` carries a slug and a detail; the detail is made of tags,
numbers and fixed words only, so that it may be logged and shown: never a value out of the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NOT_DICOM = "not-dicom"
REASONS: dict[str, str] = {
    "not-dicom": ("The object is not a DICOM instance: no DICM prefix, and no data set that could be one without it."),
    "dicomdir": "The object is a DICOMDIR (Media Storage Directory), an index of files, not an instance.",
    "executable-preamble": (
        "The 128 bytes before DICM begin like a program, a script, a web page or an archive, so "
        "that the file would also run or open as one. TIFF (dual format files) is allowed there."
    ),
    "ambiguous-identifier": ("An attribute that says whose or which instance this is occurs twice, or has two values."),
    "missing-uid": "Study, Series or SOP Instance UID or SOP Class UID is absent or empty.",
    "invalid-uid": ("A UID has other characters than digits and dots, an empty component, or more than 64 characters."),
    "invalid-patient-id": "Patient ID or its issuer has more than 64 characters.",
    "meta-mismatch": "The File Meta Information names another SOP class or SOP instance than the data set.",
    "truncated": "A declared length reaches beyond the object's end, or the object ends inside an element.",
    "too-deep": "Sequences are nested deeper than any real instance does.",
    "too-many-references": "A rejection note names more instances than are taken back at once: withdraw the study instead.",
    "too-large-header": ("What comes before the Pixel Data has more bytes or more elements than the archive reads."),
    "deflate-too-large": "The deflated data set inflates to more bytes than the archive accepts.",
    "withdrawn": "Its owner has withdrawn the study or the instance: what comes under its UIDs is kept aside until that ends.",
    "pixels-not-compared": "Another instance with its SOP Instance UID is there, and it is too large to be compared with it.",
    "conflicting-patient": (
        "Another instance with its SOP Instance UID is there, of another patient, and more differs than patient and order, or the"
        " transfer syntax: what is there stands."
    ),
    "too-many-corrections": "The instance was corrected more often than the archive takes.",
    "unreadable": ("The structure of the data set is broken: lengths, delimiters or the compressed stream do not fit."),
}


class Rejected(Exception):
    """An object that the archive will not index, ever, however often it is tried.

    `reason` is a key of `REASONS`. `detail` holds tags, offsets and counts, no values and no patient data.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        if reason not in REASONS:
            raise ValueError(f"no such reason: {reason}")
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class RejectionNote:
    """What a rejection note takes back: `code` of CID 7011 (PS3.16); `studies`: Study Instance UID → SOP Instance UIDs."""

    code: str
    studies: Mapping[str, Sequence[str]]
