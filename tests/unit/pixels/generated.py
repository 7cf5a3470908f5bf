"""Images made for comparing: what each says of itself is drawn at random, and what it holds too."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pydicom
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, SecondaryCaptureImageStorage

from pixels.instance import OpenInstance


@dataclass(frozen=True)
class Spec:
    """One image. `window`: center, width, function. `above`: what the bits above the stored ones hold, an overlay perhaps."""

    rows: int = 6
    columns: int = 8
    allocated: int = 16
    stored: int = 12
    high_bit: int = 11
    signed: bool = False
    photometric: str = "MONOCHROME2"
    planar: int = 0
    frames: int = 1
    syntax: str = ExplicitVRLittleEndian
    slope: float | None = None
    intercept: float | None = None
    window: tuple[float, float, str] | None = None
    above: bool = False
    seed: int = 0

    @property
    def samples(self) -> int:
        return 1 if self.photometric.startswith("MONO") or "PALETTE" in self.photometric else 3


def cells(spec: Spec) -> Any:
    """The values as they are stored, with what stands above and below their bits."""
    noise = np.random.default_rng(spec.seed)
    shape = (spec.frames, spec.rows, spec.columns, spec.samples)
    values = noise.integers(0, 1 << spec.stored, shape, dtype=np.int64)
    placed = values << (spec.high_bit + 1 - spec.stored)
    if spec.above:
        free = ((1 << spec.allocated) - 1) ^ (((1 << spec.stored) - 1) << (spec.high_bit + 1 - spec.stored))
        placed |= noise.integers(0, 1 << min(spec.allocated, 62), shape, dtype=np.int64) & free
    return placed.astype(np.dtype(f"<u{spec.allocated // 8}"))


def dataset(spec: Spec) -> Dataset:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3.4"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.PatientID = "1.2.3", "1.2.3.1", "P"
    made.Modality, made.Rows, made.Columns, made.SamplesPerPixel = "OT", spec.rows, spec.columns, spec.samples
    made.PhotometricInterpretation, made.BitsAllocated = spec.photometric, spec.allocated
    made.BitsStored, made.HighBit, made.PixelRepresentation = spec.stored, spec.high_bit, int(spec.signed)
    if spec.samples > 1:
        made.PlanarConfiguration = spec.planar
    if spec.frames > 1:
        made.NumberOfFrames = spec.frames
    if spec.slope is not None:
        made.RescaleSlope, made.RescaleIntercept = spec.slope, spec.intercept or 0
    if spec.window is not None:
        center, width, function = spec.window
        made.WindowCenter, made.WindowWidth = center, width
        if function != "LINEAR":
            made.VOILUTFunction = function
    return made


def packed(spec: Spec) -> bytes:
    found = cells(spec)
    if spec.planar and spec.samples > 1:
        found = found.transpose(0, 3, 1, 2)
    order = ">" if spec.syntax == ExplicitVRBigEndian else "<"
    raw: bytes = np.ascontiguousarray(found).astype(found.dtype.newbyteorder(order)).tobytes()
    return raw + b"\0" * (len(raw) % 2)


def written(made: Dataset, syntax: str) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    made.file_meta = meta
    out = io.BytesIO()
    pydicom.dcmwrite(
        out, made, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=syntax != ExplicitVRBigEndian,
        enforce_file_format=True,
    )  # fmt: skip
    return out.getvalue()


def file_of(spec: Spec) -> bytes:
    made = dataset(spec)
    made.add_new(0x7FE00010, "OW" if spec.allocated > 8 else "OB", packed(spec))
    return written(made, spec.syntax)


def opened(data: bytes) -> OpenInstance:
    return OpenInstance(lambda start, length: data[start : start + length], len(data))


@st.composite
def grey(draw: st.DrawFn, allocated: tuple[int, ...] = (8, 16, 32)) -> Spec:
    """Grey images of every depth, place of the bits, sign, order and window."""
    width = draw(st.sampled_from(allocated))
    stored = draw(st.integers(2, width))
    signed = draw(st.booleans())
    rescaled = draw(st.booleans())
    function = draw(st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]))
    most = 1 << stored
    window = draw(st.none() | st.tuples(st.integers(-most // 2, most), st.integers(2, most), st.just(function)))
    return Spec(
        rows=draw(st.integers(1, 7)),
        columns=draw(st.integers(1, 9)),
        allocated=width,
        stored=stored,
        high_bit=draw(st.sampled_from([stored - 1, width - 1])),
        signed=signed,
        photometric=draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"])),
        frames=draw(st.integers(1, 3)),
        syntax=draw(st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])),
        slope=draw(st.sampled_from([1, 2, 0.5])) if rescaled else None,
        intercept=draw(st.sampled_from([0, -1024, 10])) if rescaled else None,
        window=window,
        above=draw(st.booleans()),
        seed=draw(st.integers(0, 1000)),
    )


@st.composite
def colour(draw: st.DrawFn) -> Spec:
    """Colour images of eight and sixteen bits a sample, in either planar configuration."""
    width = draw(st.sampled_from([8, 16]))
    stored = draw(st.sampled_from([8] if width == 8 else [10, 12, 16]))
    return Spec(
        rows=draw(st.integers(1, 7)),
        columns=draw(st.integers(1, 9)),
        allocated=width,
        stored=stored,
        high_bit=stored - 1,
        photometric=draw(st.sampled_from(["RGB", "YBR_FULL"])),
        planar=draw(st.sampled_from([0, 1])),
        frames=draw(st.integers(1, 3)),
        syntax=draw(st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])),
        seed=draw(st.integers(0, 1000)),
    )


__all__ = ["Spec", "replace"]
