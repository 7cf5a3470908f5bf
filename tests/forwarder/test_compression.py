"""Lossless compression: every pixel and every element, on real images; and what is left alone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from images import ct_slice, write
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames, parse_basic_offsets
from pydicom.uid import ImplicitVRLittleEndian, JPEGLSLossless

from forwarder.compression import jpegls as packing
from forwarder.compression.jpegls import Compressed, Pixels
from forwarder.compression.pool import CompressionPool
from forwarder.header import head_of, read_header

REAL = ["CT_small.dcm", "MR_small.dcm", "RG1_UNCR.dcm", "RG3_UNCR.dcm", "693_UNCR.dcm", "MR2_UNCR.dcm"]
REAL += [
    "US1_UNCR.dcm",
    "SC_rgb_2frame.dcm",
    "emri_small.dcm",
    "examples_palette.dcm",
    "examples_overlay.dcm",
]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # real files have UIDs with leading zeros


def pack(source: Path, target: Path) -> Compressed | None:
    """Compress a file that is what it was."""
    return packing.compress(source, target, hashlib.sha256(source.read_bytes()).hexdigest())


def halves(path: Path) -> tuple[bytes, bytes]:
    """The data set before and after Pixel Data, as bytes."""
    data = path.read_bytes()
    header = read_header(data)
    assert header is not None and header.pixel_data is not None
    element = header.pixel_data
    if element.length == 0xFFFFFFFF:
        end = data.rindex(b"\xfe\xff\xdd\xe0\0\0\0\0") + 8
    else:
        end = element.value_at + element.length
    return data[header.data_set_at : element.start], data[end:]


@pytest.mark.parametrize("name", REAL)
def test_real_images_keep_every_pixel_and_every_byte_around_them(tmp_path: Path, name: str):
    source, target = Path(str(get_testdata_file(name))), tmp_path / "packed"
    packed = pack(source, target)
    assert packed == Compressed(hashlib.sha256(target.read_bytes()).hexdigest(), target.stat().st_size)
    assert packed.size < source.stat().st_size * 0.95
    before, after = dcmread(source), dcmread(target)
    assert after.file_meta.TransferSyntaxUID == JPEGLSLossless
    assert np.array_equal(before.pixel_array, after.pixel_array)
    assert before.pixel_array.dtype == after.pixel_array.dtype
    assert halves(source) == halves(target)
    del before.file_meta.TransferSyntaxUID, after.file_meta.TransferSyntaxUID
    del before.file_meta.FileMetaInformationGroupLength, after.file_meta.FileMetaInformationGroupLength
    assert before.file_meta == after.file_meta


def test_the_basic_offset_table_leads_to_each_frame(tmp_path: Path):
    pack(Path(str(get_testdata_file("emri_small.dcm"))), tmp_path / "packed")
    ds = dcmread(tmp_path / "packed")
    assert len(parse_basic_offsets(ds.PixelData)) == ds.NumberOfFrames == 10
    assert len(list(generate_frames(ds.PixelData, number_of_frames=10))) == 10


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("MR_small_implicit.dcm", "transfer syntax"),
        ("MR_small_bigendian.dcm", "transfer syntax"),
        ("MR_small_RLE.dcm", "transfer syntax"),
        ("SC_ybr_full_422_uncompressed.dcm", "photometric interpretation"),
        ("SC_rgb_32bit.dcm", "image attributes"),
        ("color-pl.dcm", "image attributes"),
        ("MR_small_padded.dcm", "length of the pixel data"),
        ("reportsi.dcm", "no native pixel data worth compressing"),
    ],
)
def test_what_cannot_be_done_exactly_is_left_alone(tmp_path: Path, name: str, why: str):
    path = Path(str(get_testdata_file(name)))
    with path.open("rb") as file:
        assert packing.why_not(head_of(file)) == why
    assert pack(path, tmp_path / "packed") is None
    assert not (tmp_path / "packed").exists()


def test_a_truncated_file_is_left_alone(tmp_path: Path):
    assert pack(Path(str(get_testdata_file("MR_truncated.dcm"))), tmp_path / "packed") is None
    assert not (tmp_path / "packed").exists()


def test_bits_above_the_stored_ones_are_left_alone(tmp_path: Path):
    """An old overlay in the unused bits, or a sign that is not extended: decoders do not agree about those."""
    ds = ct_slice(edge=128)
    pixels = np.frombuffer(ds.PixelData, "<u2").copy()
    pixels[5] |= 0x8000
    ds.PixelData = pixels.tobytes()
    assert pack(write(ds, tmp_path / "overlay.dcm"), tmp_path / "packed") is None


def test_noise_that_gains_nothing_is_sent_as_it_is(tmp_path: Path):
    ds = ct_slice(edge=128)
    ds.BitsStored, ds.HighBit = 16, 15
    ds.PixelData = np.random.default_rng(1).integers(0, 65536, 128 * 128, dtype="<u2").tobytes()
    assert pack(write(ds, tmp_path / "noise.dcm"), tmp_path / "packed") is None
    assert not (tmp_path / "packed").exists()


def test_a_codec_that_lies_is_caught_before_anything_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    honest = packing.encode

    def lying(frame: bytes, pixels: Pixels) -> bytes:
        wrong = bytearray(frame)
        wrong[1000] ^= 1
        return honest(bytes(wrong), pixels)

    monkeypatch.setattr(packing, "encode", lying)
    with pytest.raises(packing.NotIdenticalError):
        pack(write(ct_slice(edge=128), tmp_path / "x.dcm"), tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_an_image_that_the_disk_has_changed_is_not_made_a_flawless_compressed_one(tmp_path: Path):
    source = write(ct_slice(edge=128), tmp_path / "x.dcm")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    rotten = bytearray(source.read_bytes())
    rotten[-1000] ^= 4
    source.write_bytes(rotten)
    with pytest.raises(packing.NotIdenticalError):
        packing.compress(source, tmp_path / "packed", digest)
    assert not (tmp_path / "packed").exists()


def test_the_same_image_is_always_compressed_to_the_same_bytes(tmp_path: Path):
    source = write(ct_slice(edge=128), tmp_path / "x.dcm")
    assert pack(source, tmp_path / "one") == pack(source, tmp_path / "two")


def test_no_compressing_process_outlives_a_forwarder_that_is_killed_while_it_starts_one(tmp_path: Path):
    """The process may not have looked yet whose child it is."""
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, pathlib, signal\n"
        "from forwarder.compression.pool import CompressionPool\n"
        "if __name__ == '__main__':\n"
        "    CompressionPool(1).submit(pathlib.Path('a'), pathlib.Path('b'), '')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n",
        encoding="utf-8",
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, script], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, start_new_session=True
    ) as killed:
        try:
            killed.communicate(timeout=60)  # until nobody can write to it any more
        except subprocess.TimeoutExpired:
            os.killpg(killed.pid, signal.SIGKILL)
            raise
    assert killed.returncode == -signal.SIGKILL


def test_a_codec_that_dies_over_an_image_is_given_up_and_the_next_image_compressed(tmp_path: Path):
    large, small = write(ct_slice(edge=4096), tmp_path / "large.dcm"), write(ct_slice(edge=128), tmp_path / "small.dcm")
    packers = CompressionPool(1)
    try:
        future = packers.submit(large, tmp_path / "1", hashlib.sha256(large.read_bytes()).hexdigest())
        while not future.done():
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error):  # it has just died
                    if "spawn_main" in " ".join(child.cmdline()):
                        child.kill()
        assert future.result() == "the compressing process died"
        future = packers.submit(small, tmp_path / "2", hashlib.sha256(small.read_bytes()).hexdigest())
        assert isinstance(future.result(60), Compressed)
    finally:
        packers.close()


def test_compressing_that_does_not_end_is_given_up_and_the_next_image_compressed(tmp_path: Path):
    small = write(ct_slice(edge=128), tmp_path / "small.dcm")
    os.mkfifo(tmp_path / "stuck.dcm")  # reading it waits for ever
    packers = CompressionPool(1, patience=1.0)
    try:
        assert packers.submit(tmp_path / "stuck.dcm", tmp_path / "1", "").result(60) == "the compressing process died"
        future = packers.submit(small, tmp_path / "2", hashlib.sha256(small.read_bytes()).hexdigest())
        assert isinstance(future.result(60), Compressed)
    finally:
        packers.close()


@settings(max_examples=60, deadline=None)
@given(
    frame=arrays.arrays(np.uint16, arrays.array_shapes(min_dims=2, max_dims=2, min_side=8, max_side=40)),
    stored=st.integers(8, 16),
    signed=st.booleans(),
)
def test_any_frame_of_any_depth_comes_back_exactly(frame: np.ndarray, stored: int, signed: bool):
    if signed:
        shift = 16 - stored
        frame = (frame.astype("<i2") << shift) >> shift
    else:
        frame = frame & ((1 << stored) - 1)
    data = frame.astype("<i2" if signed else "<u2").tobytes()
    pixels = Pixels(frame.shape[0], frame.shape[1], 1, 16, stored, signed, 1, 0, len(data))
    try:
        code = packing.encode(data, pixels)
    except packing.NotCompressibleError:
        assume(False)
    assert packing.decode(code) == data


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=600))
def test_reading_a_header_never_raises(noise: bytes):
    read_header(noise)
    read_header(bytes(128) + b"DICM" + noise)


def test_a_header_nested_without_end_is_given_up_quickly():
    deep = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    header = read_header(bytes(128) + b"DICM" + deep * 10_000)
    assert header is not None and header.study_instance_uid is None


def test_implicit_headers_are_read_too():
    ds = ct_slice()
    file = BytesIO()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    ds.save_as(file, implicit_vr=True, little_endian=True, enforce_file_format=True)
    header = read_header(file.getvalue())
    assert header is not None
    assert (header.study_instance_uid, header.modality) == (ds.StudyInstanceUID, "CT")


def test_a_deflated_instance_is_known_by_its_identifiers():
    data = Path(str(get_testdata_file("image_dfl.dcm"))).read_bytes()
    ds = dcmread(BytesIO(data))
    header = read_header(data)
    assert header is not None and header.pixel_data is None
    assert header.sop_class_uid == ds.SOPClassUID
    assert header.sop_instance_uid == ds.SOPInstanceUID
    assert header.study_instance_uid == ds.StudyInstanceUID
    damaged = read_header(data[:400] + bytes(200))
    assert damaged is not None and damaged.sop_instance_uid == ds.SOPInstanceUID
