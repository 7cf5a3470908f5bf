"""What reading one header costs: bytes and ranges fetched, and time.

    python bench/header.py           one line for each kind of real file, best of several runs python
    bench/header.py --sizes   how long the headers of all real files are, against first ranges of several
    sizes

The files are those of pydicom and pydicom-data. The time is that of the work on bytes in memory, without
any network.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import data_store
import pydicom

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", action="store_true")
    (sizes if parser.parse_args().sizes else costs)()
