"""The DICOMDIR of a file-set (PS3.3 Annex F, PS3.10 8.6), from the files themselves: a few hundred bytes a file in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import zip_longest
from pathlib import Path

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, generate_uid

# Keys of each kind of record, those of type 1 and 2 before the optional ones (PS3.3 Tables F.5-1 to F.5-4).
_KEYS = {
    "PATIENT": ("PatientID", "PatientName", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    "STUDY": ("StudyDate", "StudyTime", "StudyInstanceUID", "StudyID", "AccessionNumber", "StudyDescription"),
    "SERIES": ("Modality", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription"),
    "LEAF": ("InstanceNumber",),
}
READ = tuple(dict.fromkeys(keyword for keywords in _KEYS.values() for keyword in keywords))
"""What `Directory.add` wants of a file, besides its SOP Class, its SOP Instance UID and its character set."""
_ALWAYS = frozenset(
    {"PatientID", "PatientName", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "SeriesNumber", "InstanceNumber"}
)
_CLASSES = "1.2.840.10008.5.1.4.1.1."
_LEAVES = (  # how a SOP Class UID goes on → Directory Record Type (PS3.3 F.4); all others are images
    ("88.59", "KEY OBJECT DOC"), ("88.", "SR DOCUMENT"), ("104.", "ENCAP DOC"), ("11.", "PRESENTATION"), ("9.", "WAVEFORM"),
    ("481.2", "RT DOSE"), ("481.3", "RT STRUCTURE SET"), ("481.4", "RT TREAT RECORD"), ("481.5", "RT PLAN"),
    ("66.1", "REGISTRATION"), ("66.2", "FIDUCIAL"), ("66", "RAW DATA"), ("4.2", "SPECTROSCOPY"),
)  # fmt: skip
_ITEM_HEAD = 8
_NEXT, _LOWER = slice(8, 12), slice(30, 34)
"""Where the two offsets of a record stand: its first elements are (0004,1400) UL, (0004,1410) US, (0004,1420) UL."""


@dataclass(eq=False)
class _Record:
    content: bytearray
    below: dict[str, _Record] = field(default_factory=dict)
    offset: int = 0


class Directory:
    """Files of one file-set, by patient, study and series."""

    def __init__(self) -> None:
        self._top: dict[str, _Record] = {}

    def add(self, file: Dataset, path: Sequence[str]) -> None:
        """Add a file; `file` has its `READ` attributes and its file meta, `path` the components of its File ID."""
        below = self._top
        patient = f"{file.get('PatientID', '')}\n{file.get('IssuerOfPatientID', '')}"
        names = patient, str(file.get("StudyInstanceUID", "")), str(file.get("SeriesInstanceUID", ""))
        for kind, name in zip(("PATIENT", "STUDY", "SERIES"), names, strict=True):
            if name not in below:
                below[name] = _Record(_encoded(_record(kind, kind, file)))
            below = below[name].below
        uid = str(file.file_meta.MediaStorageSOPClassUID)
        kind = next((kind for start, kind in _LEAVES if uid.removeprefix(_CLASSES).startswith(start)), "IMAGE")
        leaf = _record(kind, "LEAF", file)
        leaf.ReferencedFileID = list(path)
        leaf.ReferencedSOPClassUIDInFile = uid
        leaf.ReferencedSOPInstanceUIDInFile = file.file_meta.MediaStorageSOPInstanceUID
        leaf.ReferencedTransferSyntaxUIDInFile = file.file_meta.TransferSyntaxUID
        below["/".join(path)] = _Record(_encoded(leaf))

    def write(self, target: Path) -> None:
        """Write it, over what is there. Raises OSError."""
        head, at = bytearray(_head()), 0
        every = list(_depth_first(self._top.values()))
        for record in every:
            record.offset = len(head) + at
            at += _ITEM_HEAD + len(record.content)
        _link(list(self._top.values()))
        ends = [record.offset for record in self._top.values()] or [0]
        for tag, value in ((b"\x04\0\0\x12", ends[0]), (b"\x04\0\x02\x12", ends[-1])):
            place = head.index(tag + b"UL\x04\0") + 8
            head[place : place + 4] = value.to_bytes(4, "little")
        head[-4:] = at.to_bytes(4, "little")
        part = target.with_name(target.name + ".part")
        with part.open("wb") as out:
            out.write(head)
            for record in every:
                out.write(b"\xfe\xff\x00\xe0" + len(record.content).to_bytes(4, "little") + record.content)
        part.replace(target)


def _head() -> bytes:
    """All before the records; the last four bytes are the length of their sequence."""
    root = Dataset()
    root.FileSetID = "CONTENITORE"
    root.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = 0
    root.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = 0
    root.FileSetConsistencyFlag = 0
    root.file_meta = FileMetaDataset()
    root.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    root.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    root.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out = BytesIO()
    dcmwrite(out, root, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return out.getvalue() + b"\x04\x00\x20\x12SQ\0\0\0\0\0\0"


def _record(kind: str, keys: str, file: Dataset) -> Dataset:
    record = Dataset()
    record.OffsetOfTheNextDirectoryRecord = 0
    record.RecordInUseFlag = 0xFFFF
    record.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    record.DirectoryRecordType = kind
    record.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _KEYS[keys]:
        value = file.get(keyword)
        if value is not None or keyword in _ALWAYS:
            setattr(record, keyword, value)
    return record


def _encoded(record: Dataset) -> bytearray:
    out = DicomBytesIO()
    out.is_implicit_VR, out.is_little_endian = False, True
    write_dataset(out, record, "utf-8")
    return bytearray(out.getvalue())


def _depth_first(records: Iterable[_Record]) -> Iterator[_Record]:
    for record in records:
        yield record
        yield from _depth_first(record.below.values())


def _link(siblings: list[_Record]) -> None:
    for record, following in zip_longest(siblings, siblings[1:]):
        below = list(record.below.values())
        record.content[_NEXT] = (following.offset if following else 0).to_bytes(4, "little")
        record.content[_LOWER] = (below[0].offset if below else 0).to_bytes(4, "little")
        _link(below)
