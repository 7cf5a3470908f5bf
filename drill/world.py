"""Who there is: hospitals, and invented patients who have a number at each, on purpose the same number as somebody else elsewhere."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

import numpy as np
from codicefiscale import codicefiscale
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

SENDERS = ("san-matteo", "maugeri")
"""The hospitals with a forwarder, a PACS, a registration and a RIS of their own."""
STRANGER = "mondino"
"""Who is party to no transfer."""
EVERYONE = (*SENDERS, STRANGER)
CODICE_FISCALE = "2.16.840.1.113883.2.9.4.3.2"
MOST_PERSONS = 60
"""Each of them is born in a year of its own, from 1940 on."""
_MONTHS = "ABCDEHLMPRST"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Person:
    """An invented patient: `numbers` by institution."""

    index: int
    name: str
    birth_date: str
    sex: str
    code: str
    numbers: dict[str, str]


def people(count: int) -> list[Person]:
    """So many persons, MOST_PERSONS at the most. The number that one has at the one hospital is the next one's at the other."""
    made = []
    for index in range(count):
        sex = "FM"[index % 2]
        birth = f"19{40 + index:02d}{1 + index % 12:02d}{1 + index % 28:02d}"
        numbers = {"san-matteo": str(1000 + index), "maugeri": str(1000 + (index + 1) % count), "mondino": str(5000 + index)}
        letters = (_LETTERS[index // 26 - 1] if index >= 26 else "") + _LETTERS[index % 26]
        made.append(Person(index, f"DRILL^PERSON {letters}", birth, sex, _code(birth, sex), numbers))
    return made


def _code(birth: str, sex: str) -> str:
    """A valid codice fiscale that cannot be anybody's: three times X for surname and name."""
    day = int(birth[6:]) + (40 if sex == "F" else 0)
    body = f"XXXXXX{birth[2:4]}{_MONTHS[int(birth[4:6]) - 1]}{day:02d}F205"
    return str(body + codicefiscale.encode_cin(body))


def uid(seed: int, *path: object) -> str:
    """The same UID for the same seed and path; another for every other."""
    digest = hashlib.sha256("/".join(map(str, (seed, *path))).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"


def image(person: Person, institution: str, study: str, number: int, date: str, chance: random.Random, edge: int = 64) -> Dataset:
    """One slice of nobody, under the person's number at the institution."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = CTImageStorage
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = study, f"{study}.1", f"{study}.2.{number}"
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.StudyDate, ds.StudyTime, ds.Modality, ds.StudyDescription = date, "101500", "CT", "TC TORACE"
    ds.AccessionNumber = study[-12:]
    ds.PatientName, ds.PatientID = person.name, person.numbers[institution]
    ds.PatientBirthDate, ds.PatientSex = person.birth_date, person.sex
    ds.InstanceNumber, ds.SeriesNumber = number, 1
    ds.Rows = ds.Columns = edge
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    noise = np.frombuffer(chance.randbytes(edge * edge), dtype=np.uint8).reshape(edge, edge)
    ds.PixelData = (np.add.outer(np.arange(edge), np.arange(edge)) * 8 + noise).astype("<u2").tobytes()
    return ds
