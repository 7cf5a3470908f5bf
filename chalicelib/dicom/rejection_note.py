"""Rejection notes: key object selection documents by which a hospital takes images back (IHE RAD TF-2 4.66, IOCM)."""

from __future__ import annotations

from pydicom.dataset import Dataset

from chalicelib.dicom.identity import single_uid
from chalicelib.dicom.values import items_of, text_of
from chalicelib.domain import tags
from chalicelib.domain.rejections import Rejected, RejectionNote

KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
TITLES = {
    "113001": "Rejected for Quality Reasons",
    "113037": "Rejected for Patient Safety Reasons",
    "113038": "Incorrect Modality Worklist Entry",
    "113039": "Data Retention Policy Expired",
}
"""CID 7011 (PS3.16): document titles that reject what the document references."""
MAX_REFERENCES = 10_000


def rejects(dataset: Dataset) -> str:
    """The code (CID 7011) by which a document rejects what it references; empty for one that does not."""
    if single_uid(dataset, tags.SOPClassUID) != KEY_OBJECT_SELECTION:
        return ""
    titles = items_of(dataset, tags.ConceptNameCodeSequence)[:1]
    code, scheme = (text_of(titles[0], tag, "SH") if titles else "" for tag in (tags.CodeValue, tags.CodingSchemeDesignator))
    return code if scheme == "DCM" and code in TITLES else ""


def read(dataset: Dataset) -> RejectionNote | None:
    """What a rejection note rejects; None for what is none.

    Read from Current Requested Procedure Evidence Sequence (PS3.3 C.17.2.1), which names every instance that the document
    references. Raises Rejected for a note with more than `MAX_REFERENCES`: half of it taken back would be worse than none.
    """
    code = rejects(dataset)
    if not code:
        return None
    studies: dict[str, list[str]] = {}
    count = 0
    for study in items_of(dataset, tags.CurrentRequestedProcedureEvidenceSequence):
        sops = studies.setdefault(text_of(study, tags.StudyInstanceUID, "UI"), [])
        for series in items_of(study, tags.ReferencedSeriesSequence):
            named = [text_of(item, tags.ReferencedSOPInstanceUID, "UI") for item in items_of(series, tags.ReferencedSOPSequence)]
            count += len(named)
            if count > MAX_REFERENCES:
                raise Rejected("too-many-references", f"more than {MAX_REFERENCES}")
            sops += [sop for sop in named if sop]
    return RejectionNote(code, {study: sops for study, sops in studies.items() if study and sops})
