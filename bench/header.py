"""What reading one header costs: bytes and ranges fetched, and time.

    python bench/header.py                   one line for each kind of real file, best of several runs
    python bench/header.py --sizes           how long the headers of all real files are, against first ranges of several sizes
    python bench/header.py --frames 20000    the metadata of a segmentation of so many frames: seconds of CPU, memory

The files are those of pydicom and pydicom-data. The time is that of the work on bytes in memory, without
any network.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import data_store
import pydicom
from pydicom import uid

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from chalicelib.dicom import served  # noqa: E402
from chalicelib.dicom.header import Head, read_head  # noqa: E402
from chalicelib.dicom.limits import KIB  # noqa: E402
from chalicelib.dicom.metadata import bulk_name, full_metadata  # noqa: E402
from chalicelib.dicom.summary import summarise  # noqa: E402
from chalicelib.domain.rejections import Rejected  # noqa: E402

PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
PYDICOM_DATA = Path(data_store.__file__).parent / "data"

FILES = {
    "chest film, CR": PYDICOM_DATA / "RG1_UNCR.dcm",
    "chest film, CR, JPEG 2000": PYDICOM_DATA / "RG1_J2KR.dcm",
    "head CT": PYDICOM_DATA / "693_UNCR.dcm",
    "CT with private groups": PYDICOM / "CT_small.dcm",
    "MR": PYDICOM_DATA / "MR2_UNCR.dcm",
    "enhanced CT": PYDICOM_DATA / "eCT_Supplemental.dcm",
    "ultrasound, 120 frames": PYDICOM_DATA / "color3d_jpeg_baseline.dcm",
    "ultrasound with palettes": PYDICOM_DATA / "gdcm-US-ALOKA-16.dcm",
    "structured report": PYDICOM / "test-SR.dcm",
    "deflated": PYDICOM / "image_dfl.dcm",
    "waveform": PYDICOM / "waveform_ecg.dcm",
}
RUNS = 50


def best(work: Callable[[], Any]) -> float:
    """Milliseconds of the fastest of several runs: the others measure the machine's other work."""
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times) * 1000


def read(data: bytes) -> Head:
    return read_head(lambda start, length: data[start : start + length], len(data))


def costs() -> None:
    print(f"{'':28}{'size':>11}{'header':>9}{'fetched':>9}{'ranges':>8}{'read':>9}{'summary':>9}{'metadata':>10}{'dcmread':>9}")
    for kind, path in FILES.items():
        data = path.read_bytes()
        head = read(data)
        print(
            f"{kind:28}{head.size:>11,}{head.header_length:>9,}{head.bytes_fetched:>9,}{head.ranges:>8}"
            f"{best(lambda data=data: read(data)):>6.2f} ms"
            f"{best(lambda data=data: summarise(read(data))):>6.2f} ms"
            f"{best(lambda data=data: full_metadata(read(data), bulk_name)):>7.2f} ms"
            f"{best(lambda path=path: pydicom.dcmread(path, stop_before_pixels=True)):>6.2f} ms"
        )
    print("summary and metadata include reading; dcmread is pydicom's own reader, from a file, lazily and unchecked")


def headers() -> Iterator[int]:
    for folder in (PYDICOM.parent, PYDICOM_DATA):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix in ("", ".dcm"):
                data = path.read_bytes()
                try:
                    head = read(data)
                except Rejected:
                    continue
                yield head.header_length


def sizes() -> None:
    lengths = sorted(headers())
    print(f"{len(lengths)} files, median {lengths[len(lengths) // 2]:,} bytes, longest {lengths[-1]:,}")
    for first in (4, 8, 16, 32, 64, 128):
        within = sum(length <= first * KIB for length in lengths)
        print(f"{first:>4} KiB hold {within / len(lengths):.1%}")


def segmentation(frames: int) -> bytes:
    """An object with the functional groups that segmentations have of each frame (PS3.3 C.8.20.3)."""

    def code(meaning: str) -> pydicom.Dataset:
        return _item(CodeValue="121322", CodingSchemeDesignator="DCM", CodeMeaning=meaning)

    def group(number: int) -> pydicom.Dataset:
        source = _item(
            ReferencedSOPClassUID=uid.CTImageStorage,
            ReferencedSOPInstanceUID=f"1.2.3.{number}",
            PurposeOfReferenceCodeSequence=[code("Source image for image processing operation")],
        )
        derived = _item(SourceImageSequence=[source], DerivationCodeSequence=[code("Segmentation")])
        return _item(
            DerivationImageSequence=[derived],
            FrameContentSequence=[_item(DimensionIndexValues=[1, number])],
            PlanePositionSequence=[_item(ImagePositionPatient=["-150.0", "-150.0", f"{number}.0"])],
            SegmentIdentificationSequence=[_item(ReferencedSegmentNumber=1)],
        )

    made = _item(
        SOPClassUID=uid.SegmentationStorage, SOPInstanceUID="1.2.3.4.5", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.4",
        PatientID="P", Modality="SEG", Rows=8, Columns=8, SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2",
        BitsAllocated=1, BitsStored=1, HighBit=0, PixelRepresentation=0, NumberOfFrames=frames,
        PerFrameFunctionalGroupsSequence=[group(number) for number in range(frames)],
    )  # fmt: skip
    made.add_new(0x7FE00010, "OB", bytes(8 * frames))
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    out = io.BytesIO()
    pydicom.dcmwrite(out, made, enforce_file_format=True)
    return out.getvalue()


def _item(**values: Any) -> pydicom.Dataset:
    made = pydicom.Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def many_frames(frames: int) -> None:
    data = segmentation(frames)
    head = read(data)
    before, started = getrusage(RUSAGE_SELF).ru_maxrss, time.process_time()
    line = served.keep(head, "1.2.3.4", "1.2.3.4.5")
    seconds = time.process_time() - started
    print(
        f"{frames:,} frames, {head.header_length:,} bytes of header: {seconds:.1f} s of CPU for {len(line):,} bytes of metadata,"
    )
    print(f"{seconds / frames * 1000:.2f} ms a frame, {(getrusage(RUSAGE_SELF).ru_maxrss - before) / 1024:,.0f} MiB more memory")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", action="store_true")
    parser.add_argument("--frames", type=int)
    said = parser.parse_args()
    if said.frames:
        many_frames(said.frames)
    else:
        (sizes if said.sizes else costs)()
