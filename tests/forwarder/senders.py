"""What the tests of DICOM in share: associations of a modality, and what stands in the spool."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from hospital import Hospital
from pydicom import dcmread
from pynetdicom import AE

NOWHERE = "http://127.0.0.1:9"  # an archive that never answers


def spooled(place: Hospital) -> list[Path]:
    return sorted(path for path in (place.spool / "instances").rglob("*") if path.is_file())


def associate(place: Hospital, contexts, **options):
    ae = AE(options.pop("calling", "MODALITY"))
    ae.acse_timeout = ae.connection_timeout = 10
    ae.dimse_timeout = 10
    for abstract, syntaxes in contexts:
        ae.add_requested_context(abstract, syntaxes)
    return ae.associate("127.0.0.1", place.port, **options)


def data_set_of(file: bytes) -> bytes:
    if file[128:132] != b"DICM":
        return file
    return file[132 + 12 + dcmread(BytesIO(file)).file_meta.FileMetaInformationGroupLength :]


def tls_values(authority, pair, port):
    return {
        "dicom__tls__port": port,
        "dicom__tls__certificate": str(pair.certificate),
        "dicom__tls__key": str(pair.key),
        "dicom__tls__ca_file": str(authority.pem),
    }
