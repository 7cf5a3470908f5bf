"""Every real file of pydicom and pydicom-data has a verdict, and it is this one."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from chalicelib.dicom.header import read_head
from chalicelib.dicom.summary import summarise
from chalicelib.domain.instance_summary import StatedIdentifier
from chalicelib.domain.rejections import Rejected
from tests.unit.dicom.building import reader, real_files

FILES = real_files()

NO_INSTANCE_OF_A_STUDY = "missing-uid"
"""Made to test a parser or a codec, or a colour palette: no Study or Series Instance UID."""

REJECTED = {
    # anonymised by hand: SOP Instance UID changed in the data set and not in the file meta
    "charset_files/chrJapMulti.dcm": "meta-mismatch",
    "charset_files/chrJapMultiExplicitIR6.dcm": "meta-mismatch",
    "test_files/badVR.dcm": "meta-mismatch",
    "test_files/rtdose.dcm": "meta-mismatch",
    "test_files/rtdose_1frame.dcm": "meta-mismatch",
    "test_files/rtdose_expb.dcm": "meta-mismatch",
    "test_files/rtdose_expb_1frame.dcm": "meta-mismatch",
    "test_files/rtplan.dcm": "meta-mismatch",
    # UIDs replaced by hexadecimal hashes
    "bad_sequence.dcm": "invalid-uid",
    # cut off on purpose
    "test_files/MR_truncated.dcm": "truncated",
    "test_files/rtplan_truncated.dcm": "truncated",
    # begins with a blank, so that nothing stands where it should
    "test_files/no_meta.dcm": "not-dicom",
    "test_files/dicomdirtests/TINY_ALPHA/README": "not-dicom",
    "charset_files/chrSQEncoding.dcm": NO_INSTANCE_OF_A_STUDY,
    "charset_files/chrSQEncoding1.dcm": NO_INSTANCE_OF_A_STUDY,
    "palettes/fall.dcm": NO_INSTANCE_OF_A_STUDY,
    "palettes/hotiron.dcm": NO_INSTANCE_OF_A_STUDY,
    "palettes/hotmetalblue.dcm": NO_INSTANCE_OF_A_STUDY,
    "palettes/pet.dcm": NO_INSTANCE_OF_A_STUDY,
    "palettes/pet20step.dcm": NO_INSTANCE_OF_A_STUDY,
    "palettes/spring.dcm": NO_INSTANCE_OF_A_STUDY,
    "palettes/summer.dcm": NO_INSTANCE_OF_A_STUDY,
    "palettes/winter.dcm": NO_INSTANCE_OF_A_STUDY,
    "test_files/JPEGLSNearLossless_08.dcm": NO_INSTANCE_OF_A_STUDY,
    "test_files/JPEGLSNearLossless_16.dcm": NO_INSTANCE_OF_A_STUDY,
    "test_files/SC_rgb_jls_lossy_line.dcm": NO_INSTANCE_OF_A_STUDY,
    "test_files/SC_rgb_jls_lossy_sample.dcm": NO_INSTANCE_OF_A_STUDY,
    "test_files/UN_sequence.dcm": NO_INSTANCE_OF_A_STUDY,
    "test_files/empty_charset_LEI.dcm": NO_INSTANCE_OF_A_STUDY,
    "test_files/meta_missing_tsyntax.dcm": NO_INSTANCE_OF_A_STUDY,
    "test_files/nested_priv_SQ.dcm": NO_INSTANCE_OF_A_STUDY,
    "test_files/no_meta_group_length.dcm": NO_INSTANCE_OF_A_STUDY,
    "test_files/priv_SQ.dcm": NO_INSTANCE_OF_A_STUDY,
}

WITHOUT_PREAMBLE = {
    "test_files/ExplVR_BigEndNoMeta.dcm": "1.2.840.10008.1.2.2",
    "test_files/ExplVR_LitEndNoMeta.dcm": "1.2.840.10008.1.2.1",
    "test_files/rtstruct.dcm": "1.2.840.10008.1.2",
    "OT-PAL-8-face.dcm": "1.2.840.10008.1.2",
}

MORE_THAN_ONE_RANGE = {
    # 126 bytes of padding behind pixels that the first range does not reach
    "MR2_UNCR.dcm": 2,
    "RG1_UNCR.dcm": 2,
    "RG3_UNCR.dcm": 2,
    "US1_UNCR.dcm": 2,
    "test_files/examples_rgb_color.dcm": 2,
    # several fragments, of which the last must be there
    "JPEG-LL.dcm": 2,
    "MR2_J2KI.dcm": 2,
    "MR2_J2KR.dcm": 2,
    "RG1_J2KI.dcm": 2,
    "RG1_J2KR.dcm": 2,
    "RG3_J2KI.dcm": 2,
    "RG3_J2KR.dcm": 2,
    "US1_J2KR.dcm": 2,
    "color3d_jpeg_baseline.dcm": 2,
    "test_files/examples_jpeg2k.dcm": 2,
    "test_files/examples_ybr_color.dcm": 2,
    # palettes of 200 KB, a waveform of 240 KB, which are stepped over
    "gdcm-US-ALOKA-16.dcm": 2,
    "gdcm-US-ALOKA-16_big.dcm": 2,
    "test_files/waveform_ecg.dcm": 2,
}


def verdict(name: str) -> str | None:
    """None where the file is accepted."""
    return "dicomdir" if "DICOMDIR" in name else REJECTED.get(name)


ACCEPTED = [name for name in FILES if verdict(name) is None]


@pytest.mark.parametrize("name", [name for name in FILES if verdict(name)])
def test_a_file_that_no_archive_should_take_is_rejected_for_its_reason(name: str) -> None:
    data = FILES[name].read_bytes()
    with pytest.raises(Rejected) as caught:
        read_head(reader(data), len(data))
    assert caught.value.reason == verdict(name)


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_real_file_is_read_as_pydicom_reads_it(name: str) -> None:
    data = FILES[name].read_bytes()
    head = read_head(reader(data), len(data))
    expected = _pydicom(FILES[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert _same(head.dataset, expected, {left.path[-1] for left in head.left_out}) == []
    assert head.part10 == (name not in WITHOUT_PREAMBLE)
    assert head.transfer_syntax_uid == WITHOUT_PREAMBLE.get(name, expected.file_meta.get("TransferSyntaxUID"))
    assert head.ranges == MORE_THAN_ONE_RANGE.get(name, 1)


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_pixels_are_where_the_head_says(name: str) -> None:
    data = FILES[name].read_bytes()
    head = read_head(reader(data), len(data))
    whole = _pydicom(FILES[name], stop_before_pixels=False)
    if name == "emri_small_jpeg_2k_lossless_too_short.dcm":  # without a delimiter at its end pydicom has nothing
        assert head.pixel_data is not None and "PixelData" not in whole
    elif head.pixel_data is None:
        assert "PixelData" not in whole
    elif head.deflated:
        assert head.pixel_data.length == len(whole.PixelData)
    elif head.pixel_data.length is None:
        assert data[head.pixel_data.offset : head.pixel_data.offset + 4] == b"\xfe\xff\x00\xe0"
        assert whole.PixelData == data[head.pixel_data.offset :][: len(whole.PixelData)]
    else:
        assert whole.PixelData == data[head.pixel_data.offset :][: head.pixel_data.length]


def test_the_chest_film_is_summarised() -> None:
    data = FILES["RG1_UNCR.dcm"].read_bytes()
    summary = summarise(read_head(reader(data), len(data)))
    assert (summary.rows, summary.columns, summary.number_of_frames) == (1955, 1841, 1)
    assert (summary.patient, summary.other_ids) == (StatedIdentifier("9RG1"), (StatedIdentifier("26210"),))
    assert summary.attributes["00180015"] == {"vr": "CS", "Value": ["CHEST"]}
    assert summary.pixel_length == 1955 * 1841 * 2
    assert summary.dropped == ()


def _pydicom(path: Path, *, stop_before_pixels: bool = True) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(path, force=True, stop_before_pixels=stop_before_pixels)


def _same(ours: Dataset, theirs: Dataset, left_out: set[int]) -> list[object]:
    """The tags whose values differ."""
    differing: list[object] = [tag for tag in set(ours.keys()) ^ set(theirs.keys()) if tag not in left_out]
    for tag in set(ours.keys()) & set(theirs.keys()):
        mine, other = ours[tag], theirs[tag]
        if mine.VR == "SQ":
            if other.VR != "SQ" or len(mine.value) != len(other.value):
                differing.append(tag)
            else:
                pairs = zip(mine.value, other.value, strict=True)
                differing += [(tag, found) for pair, two in pairs for found in _same(pair, two, left_out)]
        elif mine.VR != other.VR or (mine.value != other.value and str(mine.value) != str(other.value)):
            differing.append(tag)
    return differing
