"""Generated images of invented patients, as two vendors write them: films, mammograms, ultrasound, CT with a scout.

What is drawn is the same; bits, photometric interpretation, window, spacing and size are each vendor's own, so that whoever shows
one with the values of the other shows it black, white or negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tests.browser.hospital import Patient

CR, MG, CT, US = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("1.1", "1.2", "2", "6.1"))


@dataclass(frozen=True)
class Vendor:
    """How a vendor's radiography writes pixels: `spacing` in mm, a side of `size` pixels."""

    name: str
    bits: int
    photometric: str
    size: int
    spacing: float


AURORA = Vendor("Aurora", 12, "MONOCHROME2", 640, 0.3)
BOREALIS = Vendor("Borealis", 15, "MONOCHROME1", 480, 0.4)


def thorax(size: int, scale: float = 1.0, turn: float = 0.0, shift: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """A chest as a film shows it, 0 (black: air) to 1 (white: bone): `size` × `size`; unlike left to right and top to bottom.

    `scale` times as large, turned by degrees, clockwise, and moved by parts of the film, as a patient stands from time to time.
    """
    y, x = np.mgrid[0:size, 0:size] / size
    angle = np.deg2rad(turn)
    u, v = (x - 0.5 - shift[0]) / scale, (y - 0.5 - shift[1]) / scale
    x, y = u * np.cos(angle) + v * np.sin(angle) + 0.5, v * np.cos(angle) - u * np.sin(angle) + 0.5
    grey = 0.62 - 0.12 * np.hypot(x - 0.5, y - 0.5)
    for middle, width in ((0.3, 0.15), (0.7, 0.13)):
        lung = ((x - middle) / width) ** 2 + ((y - 0.45) / 0.3) ** 2
        grey -= 0.42 * np.clip(1.4 - lung, 0, 1)
    grey += 0.3 * (np.abs(x - 0.5) < 0.035)
    grey += 0.25 * np.clip(1 - ((x - 0.57) / 0.13) ** 2 - ((y - 0.6) / 0.13) ** 2, 0, 1)
    grey += 0.09 * (np.sin(46 * (y + 0.4 * np.abs(x - 0.5))) > 0.4) * (np.abs(x - 0.5) < 0.38)
    grey[(np.abs(x - 0.1) < 0.02) & (np.abs(y - 0.1) < 0.03)] = 1.0
    grey[:, : size // 50], grey[:, -size // 50 :] = 0.02, 0.02
    return np.asarray(np.clip(grey, 0, 1))


def breast(size: int, laterality: str) -> np.ndarray:
    """A breast, its chest wall on the left of the image for L, on the right for R."""
    y, x = np.mgrid[0:size, 0:size] / size
    x = x if laterality == "L" else 1 - x
    inside = (x / 0.75) ** 2 + ((y - 0.5) / 0.42) ** 2
    grey = np.where(inside < 1, 0.35 + 0.3 * np.sin(11 * x) ** 2 * np.cos(9 * y) ** 2 + 0.1 * (1 - inside), 0.0)
    return np.asarray(np.clip(grey, 0, 1))


def film(patient: Patient, hospital: str, date: str, vendor: Vendor, **more: Any) -> Dataset:
    """A chest film of a vendor; `more` are attributes by keyword."""
    return radiograph(thorax(vendor.size), patient, hospital, date, vendor, **more)


def radiograph(grey: np.ndarray, patient: Patient, hospital: str, date: str, vendor: Vendor, **more: Any) -> Dataset:
    """One projection of a vendor of what is drawn (0 black to 1 white)."""
    top = 2**vendor.bits - 1
    low, high = 0.1 * top, 0.9 * top
    shown = grey if vendor.photometric == "MONOCHROME2" else 1 - grey
    values = {
        "Modality": "CR", "StudyDescription": "RX TORACE", "SeriesDescription": "Torace PA", "BodyPartExamined": "CHEST",
        "ViewPosition": "PA", "Manufacturer": vendor.name, "ImageType": ["ORIGINAL", "PRIMARY"],
        "ImagerPixelSpacing": [vendor.spacing, vendor.spacing], "WindowCenter": (low + high) / 2, "WindowWidth": high - low,
        "PatientOrientation": ["L", "F"],
    }  # fmt: skip
    data = _image(patient, hospital, date, CR, **{**values, **more})
    _pixels(data, (low + shown * (high - low)).astype("<u2"), vendor.bits, vendor.photometric)
    return data


def mammogram(patient: Patient, hospital: str, date: str, vendor: Vendor, view: str, **more: Any) -> Dataset:
    """One view (RCC, LCC, RMLO, LMLO) of a mammography of a vendor."""
    values = {
        "SOPClassUID": MG, "Modality": "MG", "StudyDescription": "MAMMOGRAFIA BILATERALE", "SeriesDescription": view,
        "BodyPartExamined": "BREAST", "ViewPosition": view[1:], "ImageLaterality": view[0],
        "PatientOrientation": ["P", "L"] if view[0] == "R" else ["A", "R"],
    }  # fmt: skip
    return radiograph(breast(vendor.size, view[0]), patient, hospital, date, vendor, **{**values, **more})


def key_object(of: Dataset, *images: Dataset, why: str) -> Dataset:
    """A Key Object Selection of an exam that singles out some of its images, and says why."""
    data = _beside(of, "1.2.840.10008.5.1.4.1.1.88.59", Modality="KO", SeriesNumber=99)
    data.ValueType, data.ContinuityOfContent = "CONTAINER", "SEPARATE"
    data.ConceptNameCodeSequence = [_code("113000", "Of Interest")]
    text = Dataset()
    text.RelationshipType, text.ValueType, text.TextValue = "CONTAINS", "TEXT", why
    text.ConceptNameCodeSequence = [_code("113012", "Key Object Description")]
    data.ContentSequence = [text]
    for image in images:
        item = Dataset()
        item.RelationshipType, item.ValueType, item.ReferencedSOPSequence = "CONTAINS", "IMAGE", [_reference(image)]
        data.ContentSequence.append(item)
    return data


def presentation_state(of: Dataset, *images: Dataset, label: str, **more: Any) -> Dataset:
    """A Grayscale Softcopy Presentation State of an exam for some of its images; `more` are attributes by keyword."""
    data = _beside(of, "1.2.840.10008.5.1.4.1.1.11.1", Modality="PR", SeriesNumber=98, **more)
    data.ContentLabel, data.ContentDescription = label, ""
    series = Dataset()
    series.SeriesInstanceUID = images[0].SeriesInstanceUID
    series.ReferencedImageSequence = [_reference(image) for image in images]
    data.ReferencedSeriesSequence = [series]
    return data


def drawing(kind: str, *numbers: float, units: str = "PIXEL") -> Dataset:
    """A graphic object of a presentation state."""
    item = Dataset()
    item.GraphicAnnotationUnits, item.GraphicDimensions, item.NumberOfGraphicPoints = units, 2, len(numbers) // 2
    item.GraphicData, item.GraphicType, item.GraphicFilled = list(numbers), kind, "N"
    return item


def note(text: str, x: float, y: float) -> Dataset:
    """A text object of a presentation state, anchored at a point of the image."""
    item = Dataset()
    item.AnchorPointAnnotationUnits, item.AnchorPoint, item.AnchorPointVisibility = "PIXEL", [x, y], "N"
    item.UnformattedTextValue = text
    return item


def _beside(of: Dataset, sop_class: str, **more: Any) -> Dataset:
    data = Dataset()
    shared = (
        "SpecificCharacterSet",
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "StudyDate",
    )
    for keyword in (*shared, "StudyTime", "StudyDescription"):
        setattr(data, keyword, getattr(of, keyword))
    data.SOPClassUID, data.SOPInstanceUID, data.SeriesInstanceUID, data.InstanceNumber = (
        sop_class,
        generate_uid(),
        generate_uid(),
        1,
    )
    for keyword, value in more.items():
        setattr(data, keyword, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID, data.file_meta.MediaStorageSOPInstanceUID = sop_class, data.SOPInstanceUID
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return data


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code


def _reference(image: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return reference


def ultrasound(patient: Patient, hospital: str, date: str, *, colour: bool, **more: Any) -> Dataset:
    """An ultrasound image: RGB of one vendor, eight bits of grey of the other."""
    size = 300
    y, x = np.mgrid[0:size, 0:size] / size
    fan = (np.hypot(x - 0.5, y + 0.1) < 1.0) & (np.abs(x - 0.5) < 0.55 * (y + 0.1))
    grey = (255 * np.where(fan, 0.35 + 0.25 * np.sin(30 * np.hypot(x - 0.5, y)) * np.cos(21 * x), 0)).astype("u1")
    values = {"StudyDescription": "ECOGRAFIA ADDOME", "BodyPartExamined": "ABDOMEN", "Modality": "US"}
    data = _image(patient, hospital, date, US, **{**values, **more})
    _pixels(data, np.stack([grey, grey, grey], axis=-1) if colour else grey, 8, "RGB" if colour else "MONOCHROME2")
    return data


def ct(
    patient: Patient, hospital: str, date: str, top: float, slices: int, spacing: float = 5.0, *, scout: bool = True, **more: Any
) -> list[Dataset]:
    """A CT with its scout as the first series. Slices go from `top` (patient z in mm) towards the feet.

    Each slice shows its own height: a disk that narrows by 0.1 mm for each millimetre below z = 0.
    """
    study, frame = generate_uid(), generate_uid()
    common = {
        "Modality": "CT", "StudyDescription": "TC TORACE", "BodyPartExamined": "CHEST", "StudyInstanceUID": study,
        "FrameOfReferenceUID": frame, **more,
    }  # fmt: skip
    made = []
    if scout:
        topogram = {
            "SeriesDescription": "Topogramma", "SeriesNumber": 1, "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"],
            "ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "ImagePositionPatient": [-160, 0, top + 20],
            "PixelSpacing": [2.5, 2.5],
        }  # fmt: skip
        made.append(_image(patient, hospital, date, CT, **{**common, **topogram}))
        _hounsfield(made[-1], np.where(np.abs(np.mgrid[0:128, 0:128][1] - 64) < 40, 300.0, -900.0))
    series = generate_uid()
    for number in range(slices):
        z = top - number * spacing
        place = {
            "SeriesInstanceUID": series, "SeriesNumber": 2, "SeriesDescription": "Assiale", "InstanceNumber": number + 1,
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "ImagePositionPatient": [-160, -160, z], "SliceLocation": z, "SliceThickness": spacing, "PixelSpacing": [2.5, 2.5],
            "ConvolutionKernel": "B30f",
        }  # fmt: skip
        made.append(_image(patient, hospital, date, CT, **{**common, **place}))
        y, x = np.mgrid[0:128, 0:128] - 63.5
        _hounsfield(made[-1], np.where(np.hypot(x, y) < 50 + z / 25, 40.0 + x / 3, -950.0))
    return made


def _hounsfield(data: Dataset, values: np.ndarray) -> None:
    data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 1, -1024, "HU"
    if "WindowCenter" not in data:
        data.WindowCenter, data.WindowWidth = 40, 400
    _pixels(data, (values + 1024).astype("<u2"), 12, "MONOCHROME2")


def _pixels(data: Dataset, values: np.ndarray, bits: int, photometric: str) -> None:
    data.Rows, data.Columns = values.shape[:2]
    data.SamplesPerPixel = 3 if values.ndim == 3 else 1
    if data.SamplesPerPixel == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 8 * values.itemsize, bits, bits - 1
    data.PixelRepresentation, data.PhotometricInterpretation = 0, photometric
    data.PixelData = values.tobytes()


def _image(patient: Patient, hospital: str, date: str, sop_class: str, **more: Any) -> Dataset:
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID, data.SOPInstanceUID = sop_class, generate_uid()
    data.PatientName, data.PatientID = patient.name, patient.at[hospital]
    data.PatientBirthDate, data.PatientSex = "19510314", "F"
    data.StudyInstanceUID, data.SeriesInstanceUID = generate_uid(), generate_uid()
    data.StudyDate, data.StudyTime, data.SeriesNumber, data.InstanceNumber = date, "090000", 1, 1
    for keyword, value in more.items():
        setattr(data, keyword, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID, data.file_meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return data
