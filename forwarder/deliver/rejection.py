"""The rejection note that tells a PACS what must not be used any more (IHE RAD TF-2 4.66, IOCM; PS3.3 A.35.4).

A Key Object Selection whose title is “Rejected for Patient Safety Reasons” where somebody could be harmed by it, and “Data
Retention Policy Expired” where this hospital may not have it any longer: both make the PACS hide it, the second lets it be
deleted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRLittleEndian

from forwarder.deliver.deliveries import InPacs, RecallReason, ToReject
from forwarder.retrieve.coercion import LocalPatient

KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
TITLES = {  # PS3.16 CID 7011
    RecallReason.CORRECTED: ("113037", "Rejected for Patient Safety Reasons"),
    RecallReason.LINKED_OTHERWISE: ("113037", "Rejected for Patient Safety Reasons"),
    RecallReason.WITHDRAWN: ("113037", "Rejected for Patient Safety Reasons"),
    RecallReason.NO_LONGER_SHARED: ("113039", "Data Retention Policy Expired"),
}


def derived_uid(*names: str) -> str:
    """A UID that these names always give (PS3.5 B.2: 2.25 and a UUID)."""
    return f"2.25.{int.from_bytes(hashlib.sha256(chr(0).join(names).encode()).digest()[:16])}"


def rejection_note(target: Path, rejected: ToReject, patient: LocalPatient, institution: str, now: datetime) -> str:
    """Write the note about these instances to `target`; its SOP Instance UID. The same rejection gives the same note. OSError."""
    note = Dataset()
    note.file_meta = FileMetaDataset()
    note.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    names = (rejected.study, rejected.owner, rejected.reason, f"{rejected.since:.6f}")
    note.SpecificCharacterSet = "ISO_IR 192"
    note.SOPClassUID, note.SOPInstanceUID = KEY_OBJECT_SELECTION, derived_uid("note", *names)
    note.file_meta.MediaStorageSOPClassUID, note.file_meta.MediaStorageSOPInstanceUID = note.SOPClassUID, note.SOPInstanceUID
    note.StudyInstanceUID, note.SeriesInstanceUID = rejected.study, derived_uid("notes", *names)
    note.PatientID, note.IssuerOfPatientID, note.PatientName = patient.id, patient.issuer, patient.name
    note.PatientBirthDate, note.PatientSex = patient.birth_date, patient.sex
    note.AccessionNumber = note.StudyID = note.StudyDate = note.StudyTime = note.ReferringPhysicianName = ""
    note.Modality, note.SeriesNumber, note.InstanceNumber = "KO", 9900, 1
    note.SeriesDescription = "Rejection note"
    note.ReferencedPerformedProcedureStepSequence = DicomSequence()
    note.Manufacturer, note.ManufacturerModelName, note.InstitutionName = "Contenitore", "forwarder", institution
    note.ContentDate, note.ContentTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    note.TimezoneOffsetFromUTC = f"{now:%z}"
    note.ValueType, note.ContinuityOfContent = "CONTAINER", "SEPARATE"
    note.ConceptNameCodeSequence = DicomSequence([_code(*TITLES[rejected.reason])])
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "2010"
    note.ContentTemplateSequence = DicomSequence([template])
    note.CurrentRequestedProcedureEvidenceSequence = DicomSequence([_evidence(rejected.study, rejected.instances)])
    note.ContentSequence = DicomSequence(_content(instance) for instance in rejected.instances)
    note.save_as(target, enforce_file_format=True)
    return str(note.SOPInstanceUID)


def _evidence(study: str, instances: Sequence[InPacs]) -> Dataset:
    evidence = Dataset()
    evidence.StudyInstanceUID = study
    by_series: dict[str, list[InPacs]] = {}
    for instance in instances:
        by_series.setdefault(instance.series, []).append(instance)
    series = []
    for uid, members in by_series.items():
        entry = Dataset()
        entry.SeriesInstanceUID = uid
        entry.ReferencedSOPSequence = DicomSequence(_reference(instance) for instance in members)
        series.append(entry)
    evidence.ReferencedSeriesSequence = DicomSequence(series)
    return evidence


def _content(instance: InPacs) -> Dataset:
    item = Dataset()
    item.RelationshipType = "CONTAINS"
    item.ValueType = "IMAGE" if not instance.sop_class.startswith("1.2.840.10008.5.1.4.1.1.88.") else "COMPOSITE"
    item.ReferencedSOPSequence = DicomSequence([_reference(instance)])
    return item


def _reference(instance: InPacs) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = instance.sop_class, instance.sop_instance
    return reference


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code
