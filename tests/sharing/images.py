"""Small real DICOM files: an image that every route can serve, a report, and rejection notes (IHE IOCM)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.unit.dicom import building
from tests.unit.dicom.building import element, item

KEY_OBJECT = "1.2.840.10008.5.1.4.1.1.88.59"


def image(
    patient: str,
    study: str,
    number: int = 1,
    *,
    date: str = "20260101",
    name: str = "Bianchi^Ada",
    birth: str = "19600315",
    sex: str = "F",
    issuer: str = "",
    accession: str = "",
    accession_issuer: str = "",
    comment: str = "",
    code: str = "",
) -> bytes:
    """An 8 × 4 CT slice of 16 bits. Its series is `<study>.1`, itself `<study>.1.<number>`.

    `code` stands in Other Patient IDs (0010,1000).
    """
    sop = f"{study}.1.{number}"
    tags = {
        0x00080016: ("UI", building.CT), 0x00080018: ("UI", sop), 0x00080020: ("DA", date), 0x00080030: ("TM", "101500"),
        0x00080050: ("SH", accession),
        0x00080051: ("SQ", item(element(0x00400031, "UT", accession_issuer)) if accession_issuer else ""),
        0x00080060: ("CS", "CT"), 0x00081030: ("LO", "TC TORACE"), 0x00100010: ("PN", name),
        0x00100020: ("LO", patient), 0x00100021: ("LO", issuer), 0x00100030: ("DA", birth), 0x00100040: ("CS", sex),
        0x00101000: ("LO", code), 0x0020000D: ("UI", study), 0x0020000E: ("UI", f"{study}.1"), 0x00200013: ("IS", str(number)),
        0x00204000: ("LT", comment), 0x00280002: ("US", b"\1\0"), 0x00280004: ("CS", "MONOCHROME2"),
        0x00280010: ("US", b"\4\0"), 0x00280011: ("US", b"\x08\0"), 0x00280100: ("US", b"\x10\0"),
        0x00280101: ("US", b"\x10\0"), 0x00280102: ("US", b"\x0f\0"), 0x00280103: ("US", b"\0\0"),
        0x7FE00010: ("OW", bytes(64)),
    }  # fmt: skip
    content = b"".join(element(tag, vr, value) for tag, (vr, value) in sorted(tags.items()) if value)
    return building.part10(content, meta=building.file_meta(sop=sop))


def rejection_note(
    patient: str,
    study: str,
    rejected: Mapping[str, Sequence[str]],
    *,
    code: str = "113037",
    scheme: str = "DCM",
    number: int = 900,
    series: str = "",
) -> bytes:
    """A key object selection of `study` that rejects SOP Instance UIDs, by their studies."""
    sop = f"{study}.9.{number}"
    title = item(element(0x00080100, "SH", code) + element(0x00080102, "SH", scheme) + element(0x00080104, "LO", "Rejected"))
    evidence = b""
    for uid, sops in rejected.items():
        refs = b"".join(item(element(0x00081150, "UI", building.CT) + element(0x00081155, "UI", sop)) for sop in sops)
        within = item(element(0x00081199, "SQ", refs) + element(0x0020000E, "UI", series or f"{uid}.1"))
        evidence += item(element(0x00081115, "SQ", within) + element(0x0020000D, "UI", uid))
    tags = {
        0x00080016: ("UI", KEY_OBJECT), 0x00080018: ("UI", sop), 0x00080020: ("DA", "20260101"), 0x00080060: ("CS", "KO"),
        0x00100010: ("PN", "Bianchi^Ada"), 0x00100020: ("LO", patient), 0x0020000D: ("UI", study),
        0x0020000E: ("UI", f"{study}.9"),
        0x00200013: ("IS", "1"), 0x0040A040: ("CS", "CONTAINER"), 0x0040A043: ("SQ", title), 0x0040A375: ("SQ", evidence),
    }  # fmt: skip
    content = b"".join(element(tag, vr, value) for tag, (vr, value) in sorted(tags.items()))
    return building.part10(content, meta=building.file_meta(sop=sop, sop_class=KEY_OBJECT))
