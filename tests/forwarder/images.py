"""Small DICOM files of invented patients."""

from __future__ import annotations

from itertools import count as counting
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

STUDY = "1.2.826.0.1.3680043.10.1"
_studies = counting(1)


def ct_slice(number: int = 1, *, study: str = STUDY, modality: str = "CT", edge: int = 32) -> Dataset:
    """One slice of a CT of nobody; different `number`s differ in UID and pixels."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = f"{study}.2.{number}"
    ds.StudyInstanceUID = study
    ds.SeriesInstanceUID = f"{study}.1"
    ds.Modality = modality
    ds.PatientName = "Prova^Paziente"
    ds.PatientID = "PROVA-1"
    ds.StudyDate = "20200303"
    ds.InstanceNumber = number
    ds.Rows = ds.Columns = edge
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = 16
    ds.BitsStored = 12
    ds.HighBit = 11
    ds.PixelRepresentation = 0
    slope = np.add.outer(np.arange(edge), np.arange(edge)) * 3 + number
    ds.PixelData = (slope % 4096).astype("<u2").tobytes()
    return ds


def write(ds: Dataset, path: Path) -> Path:
    """Save as a DICOM file (PS3.10)."""
    ds.save_as(path, enforce_file_format=True)
    return path


def write_ct(folder: Path, count: int, *, study: str | None = None, edge: int = 32) -> list[Path]:
    """`count` slices of one study."""
    folder.mkdir(parents=True, exist_ok=True)
    study = study or f"{STUDY}.{next(_studies)}"
    return [write(ct_slice(n, study=study, edge=edge), folder / f"{n:04}.dcm") for n in range(1, count + 1)]
