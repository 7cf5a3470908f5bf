"""DICOM in: what senders of all kinds are answered, and what stands in the spool afterwards."""

from __future__ import annotations

import subprocess
from io import BytesIO

import psutil
import pytest
from hospital import dcmtk, hospital, process, store
from images import ct_slice
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)
from pynetdicom.dsutils import encode_file_meta
from pynetdicom.sop_class import Verification
from senders import NOWHERE, associate, data_set_of, spooled

from forwarder.dicom import scp, storage
from forwarder.service import running

pytestmark = pytest.mark.usefixtures("credentials")


def test_echo_is_answered(tmp_path):
    place = hospital(tmp_path, NOWHERE)
    with running(place.config()):
        assoc = associate(place, [(Verification, None)])
        assert assoc.send_c_echo().Status == 0x0000
        assoc.release()


@pytest.mark.skipif(not dcmtk("echoscu"), reason="DCMTK's echoscu is not installed")
def test_dcmtk_echoes(tmp_path):
    place = hospital(tmp_path, NOWHERE)
    with running(place.config()):
        subprocess.run(["/usr/bin/echoscu", "127.0.0.1", str(place.port)], check=True, timeout=240)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_the_data_set_is_kept_byte_for_byte_in_the_syntax_that_was_agreed(tmp_path, syntax):
    place = hospital(tmp_path, NOWHERE)
    ds = dcmread(get_testdata_file("MR_small.dcm"))
    little = syntax != ExplicitVRBigEndian
    if not little:
        ds = dcmread(get_testdata_file("MR_small_bigendian.dcm"))
    ds.file_meta.TransferSyntaxUID = syntax
    sent = BytesIO()
    ds.save_as(sent, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=little, enforce_file_format=True)
    sent.seek(0)
    ds = dcmread(sent)
    with running(place.config()):
        assoc = associate(place, [(ds.SOPClassUID, syntax)])
        assert assoc.send_c_store(ds).Status == 0x0000
        assoc.release()
        (path,) = spooled(place)
        kept = path.read_bytes()
    assert data_set_of(kept) == data_set_of(sent.getvalue())


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "examples_jpeg2k.dcm", "SC_rgb_jpeg_gdcm.dcm"])
def test_compressed_images_come_as_they_are(tmp_path, name):
    place = hospital(tmp_path, NOWHERE)
    ds = dcmread(get_testdata_file(name))
    with running(place.config()):
        assoc = associate(place, [(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)])
        assert assoc.send_c_store(ds).Status == 0x0000
        assoc.release()
        (path,) = spooled(place)
        kept = dcmread(path)
        assert kept.PixelData == ds.PixelData
        assert kept.file_meta.TransferSyntaxUID == ds.file_meta.TransferSyntaxUID


def test_every_storage_class_and_syntax_is_accepted():
    supported = scp.supported_syntaxes(["1.2.3.4.5"])
    assert {"1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.104.1", "1.2.3.4.5"} <= supported.keys()
    assert len(supported) > 150
    assert all(len(syntaxes) > 30 for uid, syntaxes in supported.items() if ".5.1.4.1.1." in uid)


def test_uncompressed_is_chosen_where_a_sender_offers_lossy_too(tmp_path):
    place = hospital(tmp_path, NOWHERE)
    with running(place.config()):
        offer = ["1.2.840.10008.1.2.4.50", ImplicitVRLittleEndian, JPEG2000Lossless, ExplicitVRLittleEndian]
        assoc = associate(place, [(ct_slice().SOPClassUID, offer)])
        (context,) = assoc.accepted_contexts
        assoc.release()
    assert context.transfer_syntax == [ExplicitVRLittleEndian]


def test_a_private_class_is_stored_once_it_is_configured(archive, tmp_path):
    place = hospital(tmp_path, archive.url, dicom__extra_sop_classes=["1.2.246.352.70.1.70"])
    ds = ct_slice()
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.246.352.70.1.70"
    with running(place.config()):
        assert store(place, [ds]) == [0x0000]


def test_a_retired_class_of_old_equipment_is_stored(tmp_path):
    place = hospital(tmp_path, NOWHERE)
    ds = dcmread(get_testdata_file("color-pl.dcm"))
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.6"  # Ultrasound Image, retired in 1993
    with running(place.config()):
        assert store(place, [ds]) == [0x0000]


def test_only_allowed_callers_get_in(tmp_path):
    place = hospital(tmp_path, NOWHERE, dicom__allowed_callers=["PACS"])
    with running(place.config()):
        assert store(place, [ct_slice()], calling="STRANGER") == [None]
        assert store(place, [ct_slice()], calling="PACS") == [0x0000]


def test_another_called_title_is_refused_if_so_configured(tmp_path):
    place = hospital(tmp_path, NOWHERE, dicom__check_called=True)
    with running(place.config()):
        assert store(place, [ct_slice()], called="OTHER") == [None]
        assert store(place, [ct_slice()], called="CONTENITORE") == [0x0000]


def test_a_full_disk_is_a700_and_with_space_it_goes_on_in_the_same_association(tmp_path):
    place = hospital(tmp_path, NOWHERE)
    with running(place.config()) as state:
        spool = state._spool
        assoc = associate(place, [(ct_slice().SOPClassUID, ExplicitVRLittleEndian)])
        spool.reserve_bytes = 1 << 60
        assert assoc.send_c_store(ct_slice(1)).Status == 0xA700
        assert place.state()["disk"]["low"]
        spool.reserve_bytes = 0
        assert assoc.send_c_store(ct_slice(1)).Status == 0x0000
        assoc.release()
        assert place.state()["received"] == 1
        assert place.state()["refused"] == 1


def test_file_meta_is_what_pydicom_would_write():
    head = storage.file_head("1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2.840.10008.1.2.1")
    meta = dcmread(BytesIO(head)).file_meta
    assert head == bytes(128) + b"DICM" + encode_file_meta(meta)
    assert meta.ImplementationVersionName == "CONTENITORE_1"


def test_memory_does_not_grow_with_the_size_of_an_instance(archive, tmp_path):
    place = hospital(tmp_path, NOWHERE, send__lossless=False)
    with process(place) as forwarder:
        memory = psutil.Process(forwarder.pid).memory_info
        assert store(place, [ct_slice(1)]) == [0x0000]
        before = memory().rss
        big = ct_slice(2)
        big.Rows = big.Columns = 8192
        big.PixelData = bytes(8192 * 8192 * 2)  # 134 MB
        assert store(place, [big]) == [0x0000]
        assert memory().rss - before < 30_000_000
