"""STOW-RS: what a request brings, and what it is answered (PS3.18 10.5, Annex I)."""

from __future__ import annotations

import json
import struct
from io import BytesIO
from typing import Any

import pytest
from dicomweb_client.api import DICOMwebClient
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames

from chalicelib.dicomweb.json_model import Model, parse_json
from chalicelib.dicomweb.multipart import write
from chalicelib.dicomweb.native_xml import to_xml
from chalicelib.dicomweb.part10 import Unstorable, to_part10
from chalicelib.dicomweb.stow import StoreRequest, bulkdata_of, parse_store_request
from chalicelib.dicomweb.stow_response import (
    COERCED,
    FAILURE_REASONS,
    FailedInstance,
    Outcome,
    StoredInstance,
    failure_reason,
    response,
    status,
)
from chalicelib.domain.errors import BadRequest, UnsupportedMediaType
from chalicelib.domain.rejections import REASONS

CT = "1.2.840.10008.5.1.4.1.1.2"


def body(*parts: tuple[str | None, bytes, str | None]) -> bytes:
    """A multipart body of (content type, content, location), with the boundary `b`."""
    named = []
    for content_type, content, location in parts:
        fields = [("Content-Type", content_type), ("Content-Location", location)]
        named.append(([(name, value) for name, value in fields if value is not None], content))
    return b"".join(write(named, "b"))


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/related; type="application/dicom"; boundary=b',
        "multipart/related; type=application/dicom; boundary=b",
        'Multipart/Related;boundary="b";type="application/dicom"',
        "multipart/related; boundary=b",
        'multipart/related; type="application/dicom"; boundary=b; start=x',
    ],
)
def test_instances_are_found_however_the_type_is_written(content_type: str) -> None:
    sent = body(("application/dicom", b"one", None), ("application/dicom ", b"two", None), (None, b"three", None))
    found = parse_store_request(content_type, sent)
    assert [bytes(part.body) for part in found.instances] == [b"one", b"two", b"three"]
    assert all(part.body.obj is sent for part in found.instances)
    assert [sent[p.offset : p.offset + len(p.body)] for p in found.instances] == [b"one", b"two", b"three"]


def test_what_dcm4che_sends_is_read() -> None:
    sent = b"\r\n--my7oundary\r\nContent-Type: application/dicom  \r\n\r\nDICM\r\n--my7oundary--"
    found = parse_store_request("multipart/related; type=application/dicom; boundary=my7oundary", sent)
    assert [bytes(part.body) for part in found.instances] == [b"DICM"]


def test_a_single_instance_without_multipart_is_taken() -> None:
    found = parse_store_request("application/dicom; transfer-syntax=1.2.840.10008.1.2.1", b"DICM")
    assert [bytes(part.body) for part in found.instances] == [b"DICM"]


def test_parts_of_other_types_are_counted_beside_the_instances() -> None:
    sent = body(("application/dicom", b"one", None), ("text/plain", b"note", None))
    found = parse_store_request("multipart/related; type=application/dicom; boundary=b", sent)
    assert (len(found.instances), found.foreign) == (1, 1)


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "nonsense",
        "application/json",
        "text/plain",
        "multipart/form-data; boundary=b",
        "multipart/related; type=text/plain; boundary=b",
        'multipart/related; type="application/pdf"; boundary=b',
    ],
)
def test_other_media_types_are_not_supported(content_type: str | None) -> None:
    with pytest.raises(UnsupportedMediaType):
        parse_store_request(content_type, body(("application/dicom", b"one", None)))


def test_a_body_without_any_instance_or_metadata_is_not_supported() -> None:
    with pytest.raises(UnsupportedMediaType):
        parse_store_request("multipart/related; boundary=b", body(("text/plain", b"note", None)))
    with pytest.raises(UnsupportedMediaType):
        parse_store_request("multipart/related; boundary=b", body(("image/jpeg", b"", "/1")))


@pytest.mark.parametrize(
    ("content_type", "sent"),
    [
        ("multipart/related; type=application/dicom", b"--b--"),
        ("multipart/related; type=application/dicom; boundary=b", b"--b--"),
        ("multipart/related; type=application/dicom; boundary=b", b""),
        ("multipart/related; type=application/dicom; boundary=c", body(("application/dicom", b"one", None))),
        ("application/dicom", b""),
        ("application/dicom+json", b"{"),
        ("application/dicom+xml", b"<"),
        (
            "multipart/related; boundary=b",
            b"--b\r\nContent-Transfer-Encoding: base64\r\n\r\nRElDTQ==\r\n--b--",
        ),
    ],
)
def test_a_body_that_is_not_what_its_type_promises_is_refused(content_type: str, sent: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_store_request(content_type, sent)


def test_what_dicomweb_client_stores_is_read_and_its_answer_is_read_by_it(client: DICOMwebClient, wire: Any) -> None:
    dataset = dcmread(str(get_testdata_file("CT_small.dcm")))
    answer = response([StoredInstance(dataset.SOPClassUID, dataset.SOPInstanceUID, "http://a/i", "http://a/s")])
    wire.answers += [(200, "application/dicom+json", json.dumps(answer).encode())]
    seen = client.store_instances([dataset])
    found = parse_store_request(str(wire.requests[0].headers["Content-Type"]), wire.bodies[0])
    assert dcmread(BytesIO(found.instances[0].body)).SOPInstanceUID == dataset.SOPInstanceUID
    assert seen.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == dataset.SOPInstanceUID
    assert seen.ReferencedSOPSequence[0].RetrieveURL == "http://a/i"
    assert "FailedSOPSequence" not in seen


def metadata_of(name: str) -> tuple[Dataset, Model]:
    dataset = dcmread(str(get_testdata_file(name)))
    dataset.remove_private_tags()
    model = parse_json(dataset.to_json(bulk_data_threshold=2**30).encode())[0]
    return dataset, model


@pytest.mark.parametrize("as_xml", [False, True])
def test_metadata_with_native_pixels_becomes_the_same_instance(as_xml: bool) -> None:
    dataset, model = metadata_of("CT_small.dcm")
    model["7FE00010"] = {"vr": "OW", "BulkDataURI": "http://x/bulk/pixels"}
    name = "application/dicom+xml" if as_xml else "application/dicom+json"
    content = to_xml(model) if as_xml else json.dumps([model]).encode()
    sent = body((name, content, None), ("application/octet-stream", dataset.PixelData, "bulk/pixels"))
    request = parse_store_request(f'multipart/related; type="{name}"; boundary=b', sent)
    assert len(request.metadata) == 1
    made = dcmread(BytesIO(to_part10(request.metadata[0].model, lambda uri: bulkdata_of(request, uri))))
    assert made.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert made.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert made.PixelData == dataset.PixelData
    assert (made.PatientName, made.Rows, made.SliceLocation) == (
        dataset.PatientName,
        dataset.Rows,
        dataset.SliceLocation,
    )
    assert made.SpecificCharacterSet == "ISO_IR 192"


@pytest.mark.parametrize(
    ("name", "media_type", "syntax"),
    [
        ("SC_rgb_jpeg_dcmtk.dcm", "image/jpeg", "1.2.840.10008.1.2.4.50"),
        ("JPEG-LL.dcm", "image/jpeg", "1.2.840.10008.1.2.4.70"),
        ("MR_small_RLE.dcm", "image/dicom-rle", "1.2.840.10008.1.2.5"),
        ("MR_small_jpeg_ls_lossless.dcm", "image/jls; transfer-syntax=1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.80"),
        ("examples_ybr_color.dcm", "image/dicom-rle", "1.2.840.10008.1.2.5"),
        ("MR_small_RLE.dcm", "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.5", "1.2.840.10008.1.2.5"),
        ("JPEG-LL.dcm", 'application/octet-stream; transfer-syntax="1.2.840.10008.1.2.4.70"', "1.2.840.10008.1.2.4.70"),
    ],
)
def test_metadata_with_compressed_frames_keeps_them_as_they_are(name: str, media_type: str, syntax: str) -> None:
    dataset, model = metadata_of(name)
    count = int(dataset.get("NumberOfFrames", 1))
    frames = list(generate_frames(dataset.PixelData, number_of_frames=count))
    model["7FE00010"] = {"vr": "OB", "BulkDataURI": "/pixels"}
    sent = body(
        ("application/dicom+json", json.dumps([model]).encode(), None),
        *[(media_type, frame, "/pixels") for frame in frames],
    )
    request = parse_store_request('multipart/related; type="application/dicom+json"; boundary=b', sent)
    made = dcmread(BytesIO(to_part10(request.metadata[0].model, lambda uri: bulkdata_of(request, uri))))
    assert made.file_meta.TransferSyntaxUID == syntax
    assert [f.rstrip(b"\0") for f in generate_frames(made.PixelData, number_of_frames=count)] == [f.rstrip(b"\0") for f in frames]


def made_of(model: Model, *parts: tuple[str | None, bytes, str | None]) -> bytes:
    sent = body(("application/dicom+json", json.dumps([model]).encode(), None), *parts)
    request = parse_store_request("multipart/related; type=application/dicom+json; boundary=b", sent)
    return to_part10(request.metadata[0].model, lambda uri: bulkdata_of(request, uri))


UIDS: Model = {
    tag: {"vr": "UI", "Value": [value]}
    for tag, value in {"00080016": CT, "00080018": "1.2.3", "0020000D": "1.2", "0020000E": "1.2.1"}.items()
}


def test_bulk_data_of_every_kind_of_vr_finds_its_place() -> None:
    model = UIDS | {
        "00189073": {"vr": "FD", "BulkDataURI": "/fd"},
        "00104000": {"vr": "LT", "BulkDataURI": "/lt"},
        "00200037": {"vr": "DS", "BulkDataURI": "/ds"},
        "00089121": {"vr": "SQ", "Value": [{"00420011": {"vr": "OB", "BulkDataURI": "/ob"}}]},
    }
    octets = "application/octet-stream"
    made = dcmread(
        BytesIO(
            made_of(
                model,
                (octets, struct.pack("<d", 1.5), "/fd"),
                (octets, "sì ".encode(), "/lt"),
                (octets, b"1\\0\\0\\0\\1\\0", "/ds"),
                ("application/pdf", b"%PDF1", "/ob"),
            )
        )
    )
    assert made[0x00189073].value == 1.5
    assert made.PatientComments == "sì"
    assert list(made.ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
    assert made[0x00089121][0].EncapsulatedDocument == b"%PDF1\0"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"00080018": {"vr": "UI"}}, "missing-uid"),
        ({"7FE00010": {"vr": "OW", "BulkDataURI": "/nowhere"}}, "missing-bulkdata"),
        ({"7FE00010": {"vr": "OB", "BulkDataURI": "/jpeg"}}, "unsupported-media-type"),
        ({"00189073": {"vr": "FD", "BulkDataURI": "/odd"}}, "unreadable"),
        ({"00280010": {"vr": "US", "Value": [70000]}}, "unreadable"),
    ],
)
def test_metadata_that_makes_no_instance_says_why(change: Model, reason: str) -> None:
    with pytest.raises(Unstorable) as caught:
        made_of(UIDS | change, ("image/jpeg", b"\xff\xd8", "/jpeg"), ("application/octet-stream", b"123", "/odd"))
    assert caught.value.reason == reason
    assert reason in FAILURE_REASONS


@pytest.mark.parametrize(
    ("media_type", "reason"),
    [
        ("application/octet-stream", "unreadable"),  # of another length than that of the pixels that are described
        ("application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1", "unreadable"),
        ("application/octet-stream; transfer-syntax=1.2.840.10008.1.2", "unsupported-transfer-syntax"),
        ("image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.90", "unsupported-transfer-syntax"),
    ],
)
def test_compressed_pixels_never_become_plain_ones_and_no_other_kind_of_compressed_ones(media_type: str, reason: str) -> None:
    dataset, model = metadata_of("JPEG-LL.dcm")
    model["7FE00010"] = {"vr": "OW", "BulkDataURI": "/pixels"}
    with pytest.raises(Unstorable) as caught:
        made_of(model, (media_type, next(generate_frames(dataset.PixelData, number_of_frames=1)), "/pixels"))
    assert caught.value.reason == reason


def test_a_number_has_no_more_characters_than_its_vr_has_room_for() -> None:
    made = dcmread(BytesIO(made_of(UIDS | {"00181030": {"vr": "DS", "Value": [0.12345678901234567]}})))
    assert bytes(made.get_item("ProtocolName").value).strip() == b"0.12345678901235"


def test_values_that_are_not_their_vrs_are_stored_and_not_repeated_in_any_log(caplog: pytest.LogCaptureFixture) -> None:
    odd: Model = {
        "00100010": {"vr": "PN", "Value": ["ESPOSITO^" + "GIULIA" * 20]},
        "00100020": {"vr": "LO", "Value": ["SM-0001" * 20]},
        "00100030": {"vr": "DA", "Value": ["1952-03-04"]},
    }
    made = dcmread(BytesIO(made_of(UIDS | odd)))
    assert bytes(made.get_item("PatientBirthDate").value).strip() == b"1952-03-04"
    assert caplog.text == ""


ANY_VALUE = st.none() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)


@given(
    st.dictionaries(
        st.sampled_from(["00100010", "00100030", "00280010", "00280008", "00080061", "00181030", "0020000D", "7FE00010"]),
        st.fixed_dictionaries(
            {
                "vr": st.sampled_from(["US", "SS", "SV", "UV", "FL", "FD", "DS", "IS", "AT", "PN", "DA", "TM", "UI", "LO", "OW"]),
                "Value": st.lists(ANY_VALUE, max_size=3),
            }
        ),
        max_size=4,
    )
)
def test_any_metadata_is_stored_or_refused_with_a_reason(odd: Model) -> None:
    try:
        content = made_of(UIDS | odd)
    except Unstorable as unstorable:
        assert unstorable.reason in FAILURE_REASONS
    except BadRequest:
        pass  # no DICOM JSON Model
    else:
        assert content[128:132] == b"DICM"


def test_pixels_that_would_have_to_be_transformed_are_not_supported() -> None:
    _, model = metadata_of("CT_small.dcm")
    model["7FE00010"] = {"vr": "OB", "BulkDataURI": "/png"}
    with pytest.raises(Unstorable) as caught:
        made_of(model, ("image/png", b"\x89PNG", "/png"))
    assert caught.value.reason == "unsupported-transfer-syntax"


def test_metadata_alone_needs_no_multipart() -> None:
    request = parse_store_request("application/dicom+json", json.dumps([UIDS, UIDS]).encode())
    assert len(request.metadata) == 2
    assert parse_store_request("application/dicom+xml", to_xml(UIDS)).metadata == (request.metadata[0],)


def test_an_ambiguous_location_stands_for_nothing() -> None:
    sent = body(("application/dicom+json", b"[]", None), ("a/b", b"1", "/x/1"), ("a/b", b"2", "/y/1"))
    request = StoreRequest(bulkdata=dict(parse_store_request_bulk(sent)))
    assert bulkdata_of(request, "1") == ()
    assert bytes(bulkdata_of(request, "http://h/x/1")[0].body) == b"1"
    assert bulkdata_of(request, "") == ()


def parse_store_request_bulk(sent: bytes) -> dict[str, Any]:
    with_one = sent.replace(b"[]", json.dumps([UIDS]).encode())
    return parse_store_request("multipart/related; boundary=b", with_one).bulkdata


GOOD = StoredInstance(CT, "1.2.3.1", "https://a/studies/1/series/2/instances/3", "https://a/studies/1")
WARNED = StoredInstance(CT, "1.2.3.2", "https://a/i2", "https://a/studies/1", COERCED)
BAD = FailedInstance("conflict", CT, "1.2.3.3")
NAMELESS = FailedInstance("not-dicom")


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([GOOD], 200),
        ([GOOD, GOOD], 200),
        ([GOOD, WARNED], 202),
        ([WARNED], 202),
        ([GOOD, BAD], 202),
        ([GOOD, NAMELESS], 202),
        ([BAD], 409),
        ([NAMELESS], 409),
        ([BAD, NAMELESS], 409),
    ],
)
def test_the_status_says_whether_all_some_or_none_were_stored(outcomes: list[Outcome], expected: int) -> None:
    assert status(outcomes) == expected


def test_the_answer_refers_to_each_instance() -> None:
    assert response([BAD, GOOD, NAMELESS, WARNED]) == {
        "00081190": {"vr": "UR", "Value": ["https://a/studies/1"]},
        "00081198": {
            "vr": "SQ",
            "Value": [
                {
                    "00081150": {"vr": "UI", "Value": [CT]},
                    "00081155": {"vr": "UI", "Value": ["1.2.3.3"]},
                    "00081197": {"vr": "US", "Value": [0x0111]},
                }
            ],
        },
        "00081199": {
            "vr": "SQ",
            "Value": [
                {
                    "00081150": {"vr": "UI", "Value": [CT]},
                    "00081155": {"vr": "UI", "Value": ["1.2.3.1"]},
                    "00081190": {"vr": "UR", "Value": ["https://a/studies/1/series/2/instances/3"]},
                },
                {
                    "00081150": {"vr": "UI", "Value": [CT]},
                    "00081155": {"vr": "UI", "Value": ["1.2.3.2"]},
                    "00081190": {"vr": "UR", "Value": ["https://a/i2"]},
                    "00081196": {"vr": "US", "Value": [0xB000]},
                },
            ],
        },
        "0008119A": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xC000]}}]},
    }


def test_sequences_without_items_and_a_study_that_is_not_one_are_left_out() -> None:
    other = StoredInstance(CT, "1.9", "https://a/i9", "https://a/studies/9")
    assert set(response([GOOD])) == {"00081190", "00081199"}
    assert response([GOOD, other])["00081190"] == {"vr": "UR"}
    assert set(response([NAMELESS])) == {"00081190", "0008119A"}


def test_a_failure_without_both_uids_belongs_to_no_instance() -> None:
    assert set(response([FailedInstance("missing-uid", "", "1.2.3.4"), FailedInstance("missing-uid", CT)])) == {
        "00081190", "0008119A",
    }  # fmt: skip


def test_every_reason_of_the_archive_has_a_code_of_its_own() -> None:
    assert set(REASONS) <= set(FAILURE_REASONS)
    codes = [reason.code for reason in FAILURE_REASONS.values()]
    assert len(codes) == len(set(codes))
    for reason in FAILURE_REASONS.values():
        family = reason.code >> 8
        assert reason.code in (0x0110, 0x0111, 0x0122, 0xC122) or family in (0xA7, 0xA9) or family >> 4 == 0xC
    assert failure_reason("a slug of tomorrow") == 0x0110


@given(st.lists(st.sampled_from([GOOD, WARNED, BAD, NAMELESS]), min_size=1, max_size=6))
def test_every_outcome_is_in_the_answer_exactly_once(outcomes: list[Outcome]) -> None:
    answer = response(outcomes)
    counted = sum(len(answer[tag]["Value"]) for tag in ("00081198", "00081199", "0008119A") if tag in answer)
    assert counted == len(outcomes)
    assert parse_json(json.dumps(answer).encode()) == [answer]


@given(
    st.binary(max_size=60), st.sampled_from(["application/dicom+json", "application/dicom+xml", "multipart/related; boundary=b"])
)
def test_any_request_is_read_or_refused(sent: bytes, content_type: str) -> None:
    try:
        parse_store_request(content_type, sent)
    except (BadRequest, UnsupportedMediaType):
        return
