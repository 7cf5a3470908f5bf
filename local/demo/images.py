"""The demo's images: real ones, from pydicom's own test files and pydicom-data, under an invented patient.

Pixels stay as they are, but for the follow-up chest film, which is the real one collimated a little tighter and as another
vendor writes it, and the head CT, which is the one real slice at a number of positions behind a scout. Names, numbers, dates and
UIDs are new.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

CT_SLICES = 24
NAME = "FERRARI^LUCIA"
BIRTH_DATE = "19510314"
SEX = "F"
CODICE_FISCALE = "FRRLCU51C54G388R"
"""That of somebody of this name, born on this day in Pavia: invented, valid, and agreeing."""


@dataclass(frozen=True)
class Hospital:
    """A hospital in the demo: its id, what it writes as Institution Name, and its own number of the patient."""

    id: str
    name: str
    patient_id: str


SAN_MATTEO = Hospital("san-matteo", "Policlinico San Matteo", "SM-0451837")
MAUGERI = Hospital("maugeri", "ICS Maugeri Pavia", "MG-77120")
STRANGER = "mondino"
REPORTS = {
    "san-matteo": (
        "RX TORACE PA\n\nQuesito: polmonite in trattamento.\n\n"
        "Reperto: addensamento parenchimale in sede basale destra, con sfumatura del seno costofrenico omolaterale.\n"
        "Ombra cardiaca nei limiti. Non versamento pleurico a sinistra.\n\n"
        "Conclusioni: quadro compatibile con focolaio broncopneumonico basale destro. Utile controllo dopo terapia."
    ),
    "maugeri": (
        "RX TORACE PA, controllo\n\nConfronto: esame del Policlinico San Matteo di sei giorni prima, disponibile in visione.\n\n"
        "Reperto: riduzione dell'addensamento basale destro; seno costofrenico libero.\n"
        "Ombra cardiaca invariata.\n\n"
        "Conclusioni: evoluzione favorevole rispetto al precedente. La terapia in atto è efficace."
    ),
}
"""Invented reports of the two chest films, as a RIS would send them."""


def write_priors(folder: Path, today: date) -> None:
    """San Matteo's studies: a chest film six days ago, a head CT of five days ago, an ultrasound of four days ago."""
    chest = _open("RG1_UNCR.dcm")
    at_detector(chest, 0.2)
    _file(chest, SAN_MATTEO, today - timedelta(days=6), "081500", "RX TORACE PA", "SM-RX-1")
    _save(chest, folder / "chest", 1)

    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for position in range(CT_SLICES):
        head = _open("693_UNCR.dcm")
        _file(head, SAN_MATTEO, today - timedelta(days=5), "101000", "TC ENCEFALO SENZA MDC", "SM-CT-1", study, series)
        head.BodyPartExamined, head.SeriesDescription = "HEAD", "Encefalo 5 mm"
        head.FrameOfReferenceUID = frame
        x, y, _ = head.get("ImagePositionPatient") or [-125, -125, 0]
        head.ImagePositionPatient = [x, y, 5 * position]
        head.SliceLocation, head.InstanceNumber = 5 * position, position + 1
        _save(head, folder / "head", position + 1)

    scout = _open("693_UNCR.dcm")
    _file(scout, SAN_MATTEO, today - timedelta(days=5), "100900", "TC ENCEFALO SENZA MDC", "SM-CT-1", study)
    scout.BodyPartExamined, scout.SeriesDescription, scout.SeriesNumber, scout.InstanceNumber = "HEAD", "Topogramma", 0, 1
    scout.ImageType, scout.ImageOrientationPatient = ["ORIGINAL", "PRIMARY", "LOCALIZER"], [1, 0, 0, 0, 0, -1]
    scout.FrameOfReferenceUID = frame
    _save(scout, folder / "scout", 1)

    abdomen = _open("US1_UNCR.dcm")
    _file(abdomen, SAN_MATTEO, today - timedelta(days=4), "153000", "ECOGRAFIA ADDOME", "SM-US-1")
    abdomen.BodyPartExamined = "ABDOMEN"
    _save(abdomen, folder / "abdomen", 1)


def write_follow_up(folder: Path, today: date) -> None:
    """Maugeri's follow-up chest film of today."""
    chest = _open("RG1_UNCR.dcm")
    collimate(chest, 60)
    as_another_vendor(chest)
    _file(chest, MAUGERI, today, "091000", "RX TORACE PA", "MG-RX-1")
    chest.SeriesDescription = "Torace PA controllo"
    _save(chest, folder / "chest", 1)


def _open(name: str) -> Dataset:
    path = get_testdata_file(name, download=False)
    if path is None:
        raise FileNotFoundError(f"pydicom-data has no {name}")
    return pydicom.dcmread(str(path))


def _file(
    image: Dataset, where: Hospital, day: date, time: str, title: str, accession: str, study: str = "", series: str = ""
) -> None:
    """Put an image under the invented patient of a hospital."""
    image.remove_private_tags()
    image.SpecificCharacterSet = "ISO_IR 192"
    image.PatientName, image.PatientID = NAME, where.patient_id
    image.PatientBirthDate, image.PatientSex = BIRTH_DATE, SEX
    image.InstitutionName, image.AccessionNumber = where.name, accession
    image.StudyDescription = title
    for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(image, keyword, day.strftime("%Y%m%d"))
    for keyword in ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime"):
        setattr(image, keyword, time)
    for keyword in ("OtherPatientIDs", "PatientAge", "InstitutionAddress", "ReferringPhysicianName", "OperatorsName"):
        if keyword in image:
            delattr(image, keyword)
    image.StudyID = accession[-4:]
    image.StudyInstanceUID = study or generate_uid()
    image.SeriesInstanceUID = series or generate_uid()
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()


def at_detector(image: Dataset, spacing: float) -> None:
    """Say how large a pixel is at the detector, in mm, which the real film does not."""
    if "PixelSpacing" in image:
        del image.PixelSpacing
    image.ImagerPixelSpacing = [spacing, spacing]


def collimate(image: Dataset, margin: int) -> None:
    """Cut `margin` pixels off every side of an uncompressed 16-bit greyscale image."""
    values = image.pixel_array[margin:-margin, margin:-margin]
    image.Rows, image.Columns = values.shape
    image.PixelData = values.tobytes()


def as_another_vendor(image: Dataset) -> None:
    """The real film (15 bits, MONOCHROME1) as another vendor writes it: 12 bits, MONOCHROME2, pixels twice as large.

    Whoever shows both with the values of one shows the other black, white or negative.
    """
    low, high = float(image.WindowCenter) - float(image.WindowWidth) / 2, float(image.WindowCenter) + float(image.WindowWidth) / 2
    rows, columns = image.Rows // 2, image.Columns // 2
    halved = image.pixel_array[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2).mean(axis=(1, 3))
    values = np.clip(4095 * (high - halved) / (high - low), 0, 4095).astype("<u2")
    image.Rows, image.Columns, image.PixelData = rows, columns, values.tobytes()
    image.PhotometricInterpretation, image.BitsStored, image.HighBit = "MONOCHROME2", 12, 11
    image.WindowCenter, image.WindowWidth, image.Manufacturer = 2048, 4096, "Another vendor"
    at_detector(image, 0.4)


def _save(image: Dataset, folder: Path, number: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    image.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)
