"""A picture of nobody: what is sent to see that sending works."""

from __future__ import annotations

from datetime import datetime
from io import BytesIO

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

SIDE = 64
"""Rows and columns: a slope of grey."""


def phantom(study_instance_uid: str, patient_id: str, made_at: datetime) -> bytes:
    """A Secondary Capture Image (PS3.3 A.8.1) of a study of its own, as a file; its series and instance follow the study."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = SecondaryCaptureImageStorage
    image.StudyInstanceUID = study_instance_uid
    image.SeriesInstanceUID = f"{study_instance_uid}.1"
    image.SOPInstanceUID = f"{study_instance_uid}.1.1"
    image.PatientID, image.PatientName, image.PatientBirthDate, image.PatientSex = patient_id, "PHANTOM^TEST", "", ""
    image.StudyDate, image.StudyTime = f"{made_at:%Y%m%d}", f"{made_at:%H%M%S}"
    image.StudyID, image.AccessionNumber, image.ReferringPhysicianName = "1", "", ""
    image.StudyDescription, image.Modality, image.ConversionType = "Test image, of nobody", "OT", "WSD"
    image.SeriesNumber, image.InstanceNumber = "1", "1"
    image.Rows = image.Columns = SIDE
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 8, 8, 7, 0
    image.PixelData = bytes((row + column) * 2 % 256 for row in range(SIDE) for column in range(SIDE))
    written = BytesIO()
    dcmwrite(written, image, enforce_file_format=True)
    return written.getvalue()
