"""A DICOMDIR of a study's files, from what the archive keeps of its instances (PS3.3 Annex F, PS3.10 8.6)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import zip_longest

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from chalicelib.domain import tags
from chalicelib.domain.attributes import TABLE, directory_keys
from chalicelib.domain.dicom_json import Attributes

# Type 2 keys, which stand also where nothing is known (PS3.3 Tables F.5-1 and following).
_ALWAYS = frozenset({tags.PatientID, tags.PatientName, tags.StudyDate, tags.StudyTime, tags.StudyID, tags.SeriesNumber,
                     tags.InstanceNumber})  # fmt: skip
_VRS = {row.tag: row.vr for row in TABLE}
_KINDS = (  # the beginning of a SOP Class UID below 1.2.840.10008.5.1.4.1.1. → Directory Record Type (PS3.3 F.4)
    ("88.59", "KEY OBJECT DOC"),
    ("88.", "SR DOCUMENT"),
    ("104.", "ENCAP DOC"),
    ("11.", "PRESENTATION"),
    ("9.", "WAVEFORM"),
    ("481.2", "RT DOSE"),
    ("481.3", "RT STRUCTURE SET"),
    ("481.4", "RT TREAT RECORD"),
    ("481.5", "RT PLAN"),
    ("66.1", "REGISTRATION"),
    ("66.2", "FIDUCIAL"),
    ("66", "RAW DATA"),
    ("4.2", "SPECTROSCOPY"),
)
_ABOVE = (("PATIENT", tags.PatientID), ("STUDY", tags.StudyInstanceUID), ("SERIES", tags.SeriesInstanceUID))
_CLASSES = "1.2.840.10008.5.1.4.1.1."
_ITEM_HEAD = 8


@dataclass(frozen=True)
class File:
    """One file of the file-set: its path, the instance in it, and the attributes that are kept of the instance."""

    path: Sequence[str]
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    attributes: Attributes


@dataclass
class _Record:
    dataset: Dataset
    below: dict[str, _Record] = field(default_factory=dict)
    offset: int = 0


def dicomdir(files: Iterable[File], instance_uid: str) -> bytes:
    """The DICOMDIR of these files; `instance_uid` is its own Media Storage SOP Instance UID. At least one file."""
    top: dict[str, _Record] = {}
    for file in files:
        below = top
        for kind, tag in _ABOVE:
            record = below.setdefault(str(file.attributes.get(tag, {}).get("Value")), _Record(_record(kind, file.attributes)))
            below = record.below
        below[file.sop_instance_uid] = _Record(_leaf(file))
    ordered = list(_depth_first(top.values()))
    head = _head(instance_uid)
    at = len(head)
    for record in ordered:
        record.offset = at
        at += _ITEM_HEAD + len(_encoded(record.dataset))
    _link(list(top.values()))
    items = b"".join(_item(_encoded(record.dataset)) for record in ordered)
    content = bytearray(head)
    _put(content, tags.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity.number, next(iter(top.values())).offset)
    _put(content, tags.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity.number, list(top.values())[-1].offset)
    content[-4:] = len(items).to_bytes(4, "little")
    return bytes(content) + items


def _head(instance_uid: str) -> bytes:
    """Everything before the records: the last four bytes are the length of their sequence, to be filled in."""
    root = Dataset()
    root.FileSetID = "CONTENITORE"
    root.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = 0
    root.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = 0
    root.FileSetConsistencyFlag = 0
    root.file_meta = FileMetaDataset()
    root.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    root.file_meta.MediaStorageSOPInstanceUID = instance_uid
    root.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out = BytesIO()
    dcmwrite(out, root, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return out.getvalue() + b"\x04\x00\x20\x12SQ\0\0\0\0\0\0"


def _put(content: bytearray, tag: int, value: int) -> None:
    """Set the UL value of an element of the head."""
    place = content.index((tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + b"UL\x04\0") + 8
    content[place : place + 4] = value.to_bytes(4, "little")


def _depth_first(records: Iterable[_Record]) -> Iterable[_Record]:
    for record in records:
        yield record
        yield from _depth_first(record.below.values())


def _link(siblings: list[_Record]) -> None:
    for record, following in zip_longest(siblings, siblings[1:]):
        record.dataset.OffsetOfTheNextDirectoryRecord = following.offset if following else 0
        below = list(record.below.values())
        record.dataset.OffsetOfReferencedLowerLevelDirectoryEntity = below[0].offset if below else 0
        _link(below)


def _record(kind: str, attributes: Attributes) -> Dataset:
    keys = directory_keys(kind)
    content = {tag: {"vr": _VRS[tag]} for tag in keys if tag in _ALWAYS} | {t: attributes[t] for t in keys if t in attributes}
    record: Dataset = Dataset.from_json(content)
    record.SpecificCharacterSet = "ISO_IR 192"
    record.OffsetOfTheNextDirectoryRecord = 0
    record.RecordInUseFlag = 0xFFFF
    record.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    record.DirectoryRecordType = kind
    return record


def _leaf(file: File) -> Dataset:
    below = file.sop_class_uid.removeprefix(_CLASSES)
    kind = next((name for start, name in _KINDS if below.startswith(start)), "IMAGE")
    record = _record(kind, file.attributes)
    record.ReferencedFileID = list(file.path)
    record.ReferencedSOPClassUIDInFile = file.sop_class_uid
    record.ReferencedSOPInstanceUIDInFile = file.sop_instance_uid
    record.ReferencedTransferSyntaxUIDInFile = file.transfer_syntax_uid
    return record


def _encoded(record: Dataset) -> bytes:
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = False, True
    write_dataset(out, record, "utf-8")
    return bytes(out.getvalue())


def _item(content: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + len(content).to_bytes(4, "little") + content
