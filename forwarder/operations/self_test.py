"""`self-test`: the whole way tried once with a picture of nobody: from this machine's DICOM port to the archive, and out again.

It is sent by C-STORE as the PACS sends, awaited in the archive, seen to be shared with nobody, and withdrawn. The forwarder has
to be running. What is printed is the hospital's half of the report on joining.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from forwarder.archive.changes import ask
from forwarder.archive.client import Archive, archive_of
from forwarder.config import Config
from forwarder.errors import ArchiveError, ForwarderError
from forwarder.operations.check import Finding

PATIENCE = 120.0  # seconds until the archive has it, and until it is gone again
PAUSE = 0.5
SIDE = 64  # rows and columns
_JSON = {"Content-Type": "application/json", "Accept": "application/json"}


class StepFailed(Exception):
    """A step that did not go as it should; the message is for the report."""


def self_test(config: Config, now: datetime) -> Iterator[Finding]:
    """The steps, each as soon as it is through; the first that fails is the last. Raises nothing that a test is about."""
    image = phantom(now)
    try:
        archive = archive_of(config)
        yield Finding(True, "C-ECHO", _echo(config))
        began = time.monotonic()
        yield Finding(True, "C-STORE", _store(config, image))
        _until(archive, image, is_there=True)
        yield Finding(True, "archive", f"has it after {time.monotonic() - began:.1f} s, and finds it")
        yield Finding(True, "shared", _shared(archive, image))
        archive.call("POST", f"/studies/{image.StudyInstanceUID}/withdrawals", b'{"reason": "self-test"}', _JSON, (201,))
        _until(archive, image, is_there=False)
        yield Finding(True, "withdrawn", "nobody finds it any more")
    except StepFailed as error:
        yield Finding(False, "self-test", str(error))
    except ForwarderError as error:
        yield Finding(False, "archive", str(error))


def phantom(now: datetime) -> Dataset:
    """A Secondary Capture Image (PS3.3 A.8.1) of nobody, in a study of its own."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    image.file_meta.MediaStorageSOPClassUID, image.file_meta.MediaStorageSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.PatientID, image.PatientName = f"SELFTEST-{secrets.token_hex(4)}", "PHANTOM^TEST"
    image.PatientBirthDate, image.PatientSex = "", ""
    image.StudyDate, image.StudyTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    image.StudyID, image.AccessionNumber, image.ReferringPhysicianName = "1", "", ""
    image.StudyDescription, image.Modality, image.ConversionType = "Test image, of nobody", "OT", "WSD"
    image.SeriesNumber, image.InstanceNumber = "1", "1"
    image.Rows = image.Columns = SIDE
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 8, 8, 7, 0
    image.PixelData = bytes((row + column) * 2 % 256 for row in range(SIDE) for column in range(SIDE))
    return image


def _associated(config: Config, sop_class: str) -> Any:
    """An association with this machine's own port. Raises StepFailed."""
    if not config.dicom.port:
        raise StepFailed("dicom.port is 0: there is no port without TLS to send to; send a test image from the PACS instead")
    ae = AE((config.dicom.allowed_callers or (config.dicom.ae_title,))[0])
    ae.acse_timeout = ae.dimse_timeout = ae.connection_timeout = 20.0
    ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
    host = "127.0.0.1" if config.dicom.address == "0.0.0.0" else config.dicom.address  # noqa: S104
    association = ae.associate(host, config.dicom.port, ae_title=config.dicom.ae_title)
    if not association.is_established:
        raise StepFailed(f"nobody takes associations at {host}:{config.dicom.port}: is the forwarder running?")
    return association


def _echo(config: Config) -> str:
    association = _associated(config, Verification)
    status = association.send_c_echo().get("Status")
    association.release()
    if status != 0x0000:
        raise StepFailed("this machine's DICOM port does not answer C-ECHO")
    return "this machine's DICOM port answers"


def _store(config: Config, image: Dataset) -> str:
    association = _associated(config, SecondaryCaptureImageStorage)
    status = association.send_c_store(image).get("Status")
    association.release()
    if status != 0x0000:
        raise StepFailed(f"C-STORE was answered {status if status is None else f'0x{status:04X}'}")
    return "a picture of nobody was taken"


def _until(archive: Archive, image: Dataset, *, is_there: bool) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            found = ask(archive, f"/dicomweb/studies?StudyInstanceUID={image.StudyInstanceUID}", "application/dicom+json")
        except ArchiveError as error:
            raise StepFailed(f"the archive cannot be asked: {error}") from error
        if bool(found) is is_there:
            return
        if time.monotonic() > deadline:
            said = "has not got it" if is_there else "still shows it"
            raise StepFailed(f"after {PATIENCE:.0f} s the archive {said}: see `status`, and the page")
        time.sleep(PAUSE)


def _shared(archive: Archive, image: Dataset) -> str:
    """That another member does not see it; all others are in the same place, since nothing was opened for this number."""
    members = [member for member in ask(archive, "/institutions")["institutions"] if "role_arn" not in member]
    if not members:
        return "there is no other hospital yet"
    other = str(members[0]["id"])
    told = ask(archive, f"/patients/{quote(str(image.PatientID), safe='')}/sharing?to={quote(other)}")
    if any(study["sees"] for study in told["studies"]):
        raise StepFailed(f"{other} sees it, though nothing was opened")
    return f"with nobody: of {len(members)} other members, {other} was asked for"


def report(config: Config, findings: list[Finding], now: datetime) -> str:
    """What `--report` writes: for the hospital to keep, and to send to the city."""
    lines = [f"{'OK ' if finding.good else 'NO '} {finding.what}: {finding.text}" for finding in findings]
    head = f"Contenitore, self-test: {config.dicom.ae_title} → {config.archive.api}, {now:%Y-%m-%d %H:%M}"
    passed = all(finding.good for finding in findings)
    end = "Superato / passed" if passed else "Non superato / not passed"
    return "\n".join([head, "", *lines, "", json.dumps({"passed": passed, "steps": len(findings)}), end, ""])
