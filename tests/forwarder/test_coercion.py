"""A file that enters the hospital's own PACS: under its number of the patient, and with every other byte as it was."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from random import Random

import pydicom
import pytest
from pydicom.data import get_charset_files, get_testdata_file
from pydicom.dataset import Dataset

from forwarder.header import DEFLATED, EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from forwarder.retrieve.coercion import LocalPatient, Origin, OtherPersonError, UncoercibleError
from forwarder.retrieve.coercion import coerced as coerced_file
from forwarder.retrieve.implicit import to_implicit
from forwarder.retrieve.outgoing import OutgoingInstance

PATIENT = LocalPatient("MG-7", "2.999.2", "BIANCHI^ADA", "19400506", "F")
ORIGIN = Origin("Policlinico San Matteo", "Istituti Clinici Maugeri", "[San Matteo]")
NOW = datetime(2026, 3, 10, 9, 30, tzinfo=UTC)
FILES = [
    "CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "image_dfl.dcm", "JPEG2000.dcm", "JPEG-LL.dcm",
    "MR_small_RLE.dcm", "693_UNCI.dcm", "test-SR.dcm", "reportsi.dcm", "liver_1frame.dcm", "eCT_Supplemental.dcm",
]  # fmt: skip
CHANGED = {
    "SpecificCharacterSet", "InstanceCoercionDateTime", "AccessionNumber", "StudyDescription", "PatientName", "PatientID",
    "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "OriginalAttributesSequence", "ContributingEquipmentSequence",
    "OtherPatientIDs", "OtherPatientIDsSequence", "IssuerOfPatientIDQualifiersSequence", "RequestAttributesSequence",
    "RequestedProcedureID", "IssuerOfAccessionNumberSequence", "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest", "AdmissionID", "IssuerOfAdmissionIDSequence",
}  # fmt: skip


def path_of(name: str) -> Path:
    found = get_testdata_file(name, download=False)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return Path(str(found))


def coerced(source: Path, tmp_path: Path, patient: LocalPatient = PATIENT) -> tuple[OutgoingInstance, Dataset]:
    target = tmp_path / "coerced.dcm"
    result = coerced_file(source, patient, ORIGIN, NOW)
    assert result.write_to(target) == target.stat().st_size == len(result.meta) + result.data_set_size()
    return result, pydicom.dcmread(target)


@pytest.mark.parametrize("name", FILES)
def test_only_patient_and_order_change_whatever_the_transfer_syntax(name: str, tmp_path: Path) -> None:
    before = pydicom.dcmread(path_of(name))
    born, sex = before.get("PatientBirthDate") or "19400506", before.get("PatientSex") or "F"
    result, after = coerced(path_of(name), tmp_path, replace(PATIENT, birth_date=born, sex=sex))
    assert result.kept == ()
    assert str(after.PatientName) == PATIENT.name
    assert (after.PatientID, after.IssuerOfPatientID, after.PatientBirthDate, after.PatientSex, after.AccessionNumber) == (
        "MG-7", "2.999.2", born, sex, "",
    )  # fmt: skip
    assert after.StudyDescription.startswith("[San Matteo]")
    for element in before:
        if element.keyword not in CHANGED and element.tag.element != 0:
            assert after[element.tag].value == element.value, element.tag
    assert {e.keyword for e in after} - {e.keyword for e in before} <= CHANGED
    original = after.OriginalAttributesSequence[-1]
    assert (original.SourceOfPreviousValues, original.ReasonForTheAttributeModification) == ("Policlinico San Matteo", "COERCE")
    (was,) = original.ModifiedAttributesSequence
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyDescription"):
        assert was.get(keyword) == before.get(keyword), keyword
    assert "IssuerOfPatientID" in was
    assert after.ContributingEquipmentSequence[-1].InstitutionName == ORIGIN.institution
    assert str(after.get("InstitutionName", "")) == str(before.get("InstitutionName", ""))
    if "deflated" not in before.file_meta.TransferSyntaxUID.name.lower():
        assert after.file_meta.TransferSyntaxUID == before.file_meta.TransferSyntaxUID


def test_what_was_coerced_before_keeps_its_history(tmp_path: Path) -> None:
    coerced(path_of("CT_small.dcm"), tmp_path)
    first = tmp_path / "first.dcm"
    (tmp_path / "coerced.dcm").rename(first)
    other = LocalPatient("MO-9", "2.999.3", "BIANCHI^ADA")
    _, after = coerced(first, tmp_path, other)
    assert [original.ModifiedAttributesSequence[0].PatientID for original in after.OriginalAttributesSequence] == ["1CT1", "MG-7"]
    assert len(after.ContributingEquipmentSequence) == 2
    assert after.StudyDescription.count("[San Matteo]") == 1


@pytest.mark.parametrize(
    ("sets", "name"),
    [
        ("ISO_IR 100", "CONTÙ^NICCOLÒ"), ("ISO_IR 144", "Жуков^Иван"), ("ISO_IR 192", "王^小東"), ("ISO_IR 126", "Διον^Δ"),
        ("ISO_IR 101", "WAŁĘSA^ŁUKASZ"), ("GB18030", "王^小东"),
    ],
)  # fmt: skip
def test_a_name_that_its_character_set_can_hold_is_written_in_it(sets: str, name: str, tmp_path: Path) -> None:
    image = pydicom.dcmread(path_of("CT_small.dcm"))
    image.SpecificCharacterSet = sets
    image.save_as(tmp_path / "in.dcm")
    result, after = coerced(tmp_path / "in.dcm", tmp_path, LocalPatient("7", "2.999", name))
    assert (str(after.PatientName), after.SpecificCharacterSet, result.kept) == (name, sets, ())


@pytest.mark.parametrize("sets", ["ISO_IR 100", "", None, "ISO_IR 144"])
def test_a_name_that_it_cannot_hold_makes_the_whole_utf_8_without_loss(sets: str | None, tmp_path: Path) -> None:
    image = pydicom.dcmread(path_of("CT_small.dcm"))
    image.SpecificCharacterSet = sets
    if sets is None:
        del image.SpecificCharacterSet
    text = {"ISO_IR 100": "Tórax à gauche", "ISO_IR 144": "Грудь"}.get(sets or "", "Thorax")
    image.SeriesDescription = text
    image.save_as(tmp_path / "in.dcm")
    result, after = coerced(tmp_path / "in.dcm", tmp_path, LocalPatient("7", "2.999", "王^小東"))
    assert (str(after.PatientName), after.SeriesDescription, after.SpecificCharacterSet) == ("王^小東", text, "ISO_IR 192")
    assert result.kept == ()
    assert after.PixelData == image.PixelData


def test_real_names_of_many_character_sets_survive_in_the_originals(tmp_path: Path) -> None:
    seen = 0
    for file in get_charset_files("chr*.dcm"):
        source = Path(str(file))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            before = pydicom.dcmread(source)
            try:
                result, after = coerced(source, tmp_path, LocalPatient("7", "2.999", "CONTÙ^NICCOLÒ"))
            except UncoercibleError:
                continue
            was = after.OriginalAttributesSequence[-1].ModifiedAttributesSequence[0]
            was.decode() if "SpecificCharacterSet" in was else after.decode()
            before.decode()
            assert str(was.get("PatientName")) == str(before.get("PatientName")), source.name
            assert str(after.PatientName) == ("CONTÙ^NICCOLÒ" if not result.kept else str(before.PatientName))
        seen += 1
    assert seen >= 8


def test_several_at_once_damage_no_text(tmp_path: Path) -> None:
    """The filters of warnings, by which pydicom's replacement letters are found out, are the whole process's."""
    image = pydicom.dcmread(path_of("CT_small.dcm"))
    image.SpecificCharacterSet, image.SeriesDescription = "ISO_IR 144", "Грудь"
    image.save_as(tmp_path / "in.dcm")

    def name(number: int) -> tuple[str, str]:
        patient = LocalPatient("7", "2.999", "WAŁĘSA^ŁUCJA")
        coerced_file(tmp_path / "in.dcm", patient, ORIGIN, NOW).write_to(tmp_path / str(number))
        after = pydicom.dcmread(tmp_path / str(number))
        return str(after.PatientName), after.SeriesDescription

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(name, range(80))) == {("WAŁĘSA^ŁUCJA", "Грудь")}


@pytest.mark.parametrize(
    ("birth_date", "sex", "is_other"),
    [
        ("19400506", "F", False), ("19400507", "F", True), ("19400506", "M", True), ("", "", False), (None, None, False),
        ("1940.05.06", "f ", False), ("1940.05.07", "F", True), ("00000000", "O", False), ("19401332", "X", False),
        ("1940", "FEMALE", False), ("19000101", "F", True), ("194005060000", "F", False), ("19400506\\19400507", "F", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("source", ["CT_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_file_that_says_another_birth_date_or_sex_is_somebody_else_s(
    birth_date: str | None, sex: str | None, is_other: bool, source: str, tmp_path: Path
) -> None:
    """What is no date, and what is neither M nor F, says nothing."""
    image = pydicom.dcmread(path_of(source))
    del image.PatientBirthDate, image.PatientSex
    if birth_date is not None:
        image.PatientBirthDate, image.PatientSex = birth_date, sex
    image.save_as(tmp_path / "in.dcm")
    if is_other:
        with pytest.raises(OtherPersonError):
            coerced_file(tmp_path / "in.dcm", PATIENT, ORIGIN, NOW)
    else:
        coerced(tmp_path / "in.dcm", tmp_path)


@pytest.mark.parametrize(("birth_date", "sex"), [("", ""), ("00000000", "O"), ("unknown", "U")])
def test_where_the_pacs_says_nothing_of_the_patient_a_file_is_held_against_the_archive(
    birth_date: str, sex: str, tmp_path: Path
) -> None:
    image = pydicom.dcmread(path_of("CT_small.dcm"))
    image.PatientBirthDate, image.PatientSex = "19400506", "F"
    image.save_as(tmp_path / "in.dcm")
    coerced(tmp_path / "in.dcm", tmp_path, LocalPatient("7", "2.999", "BIANCHI^ADA", birth_date, sex, "19400506", "F"))
    for other in (("19400507", "F"), ("19400506", "M")):
        with pytest.raises(OtherPersonError):
            coerced_file(tmp_path / "in.dcm", LocalPatient("7", "2.999", "BIANCHI^ADA", birth_date, sex, *other), ORIGIN, NOW)


def parts(name: str, syntax: str) -> tuple[bytes, bytes]:
    """(preamble and File Meta Information, data set) of a file in this uncompressed transfer syntax."""
    image = pydicom.dcmread(path_of(name))
    image.file_meta.TransferSyntaxUID = syntax
    image["PixelData"].VR = "OW"
    image.PatientBirthDate, image.PatientSex = "19400506", "F"
    file = BytesIO()
    image.save_as(file, implicit_vr=syntax == IMPLICIT_LE, little_endian=syntax != EXPLICIT_BE)
    begin = 144 + int.from_bytes(file.getvalue()[140:144], "little")
    return file.getvalue()[:begin], file.getvalue()[begin:]


def with_vr(data_set: bytes, element: bytes, vr: bytes) -> bytes:
    at = data_set.index(element)
    return data_set[: at + 4] + vr + data_set[at + 6 :]


def odd_containers() -> dict[str, tuple[bytes, str, str]]:
    """(a file, what its pixels are those of, the transfer syntax that its bytes are in) by what is odd about it."""
    ct, mr = "CT_small.dcm", "MR_small_bigendian.dcm"
    (of_explicit, explicit), (of_implicit, implicit) = parts(ct, EXPLICIT_LE), parts(ct, IMPLICIT_LE)
    of_big, big = parts(mr, EXPLICIT_BE)
    without = of_explicit[132:]
    without = without[: without.index(b"\2\0\x10\0UI")]  # Transfer Syntax UID and what follows it
    mode, name, birth_date = b"\x08\0\x60\0CS", b"\x10\0\x10\0PN", b"\x10\0\x30\0DA"
    return {
        "implicit under explicit": (of_explicit + implicit, ct, IMPLICIT_LE),
        "explicit under implicit": (of_implicit + explicit, ct, EXPLICIT_LE),
        "big under little": (of_explicit + big, mr, EXPLICIT_BE),
        "little under big": (of_big + explicit, ct, EXPLICIT_LE),
        "plain under deflated": (bytes(128) + b"DICM" + with_uid(DEFLATED) + explicit, ct, EXPLICIT_LE),
        "no preamble": (without + with_uid(EXPLICIT_LE) + explicit, ct, EXPLICIT_LE),
        "no transfer syntax": (bytes(128) + b"DICM" + without + explicit, ct, EXPLICIT_LE),
        "nothing before explicit": (explicit, ct, EXPLICIT_LE),
        "nothing before implicit": (implicit, ct, IMPLICIT_LE),
        "nothing before big": (big, mr, EXPLICIT_BE),
        "zeros behind": (of_explicit + explicit + bytes(50), ct, EXPLICIT_LE),
        "a VR in small letters": (of_explicit + with_vr(with_vr(explicit, name, b"pn"), birth_date, b"da"), ct, EXPLICIT_LE),
        "a VR of question marks": (of_explicit + with_vr(with_vr(explicit, mode, b"??"), birth_date, b"??"), ct, EXPLICIT_LE),
        "a blank VR": (of_explicit + with_vr(explicit, name, b"  "), ct, EXPLICIT_LE),
        "a VR of zeros": (of_explicit + with_vr(explicit, mode, b"\0\0"), ct, EXPLICIT_LE),
        "an odd length": (of_explicit + explicit.replace(mode + b"\2\0CT", mode + b"\3\0CT "), ct, EXPLICIT_LE),
    }


def with_uid(syntax: str) -> bytes:
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    return b"\2\0\x10\0UI" + len(value).to_bytes(2, "little") + value


@pytest.mark.parametrize("said", ["", "ISO_IR 6", None])
def test_a_name_with_an_accent_in_a_file_that_names_no_character_set_comes_with_one(said: str | None, tmp_path: Path) -> None:
    """What a modality in Italy writes; Latin-1 without a word would be read as anything by who keeps to the standard."""
    source = pydicom.dcmread(path_of("CT_small.dcm"))
    if said is None:
        source.pop("SpecificCharacterSet", None)
    else:
        source.SpecificCharacterSet = said
    source.StudyDescription = "TC TORACE"
    source.save_as(tmp_path / "in.dcm")
    _, after = coerced(tmp_path / "in.dcm", tmp_path, LocalPatient("7", "2.999", "CONTÙ^NICCOLÒ"))
    assert (after.SpecificCharacterSet, str(after.PatientName)) == ("ISO_IR 192", "CONTÙ^NICCOLÒ")
    assert after.pixel_array.tobytes() == source.pixel_array.tobytes()


@pytest.mark.parametrize("kind", sorted(odd_containers()))
def test_containers_are_read_as_the_archive_reads_them(kind: str, tmp_path: Path) -> None:
    """docs/conformance.md, 7: by what the bytes show; and written so that every reader can read them."""
    content, name, syntax = odd_containers()[kind]
    (tmp_path / "in.dcm").write_bytes(content)
    result, after = coerced(tmp_path / "in.dcm", tmp_path, LocalPatient("7", "2.999", "CONTÙ^Łucja"))
    before = pydicom.dcmread(path_of(name))
    assert (result.transfer_syntax_uid, after.file_meta.TransferSyntaxUID) == (syntax, syntax)
    assert (after.PatientID, str(after.PatientName), after.Modality) == ("7", "CONTÙ^Łucja", before.Modality)
    was = after.OriginalAttributesSequence[-1].ModifiedAttributesSequence[0]
    assert (was.PatientID, str(was.PatientName)) == (before.PatientID, str(before.PatientName))
    assert after.pixel_array.tobytes() == before.pixel_array.tobytes()
    for other in (LocalPatient("7", "2.999", "BIANCHI^ADA", "19400507"), LocalPatient("7", "2.999", "BIANCHI^ADA", "", "M")):
        with pytest.raises(OtherPersonError):
            coerced_file(tmp_path / "in.dcm", other, ORIGIN, NOW)


LONG = "DELLA ROVERE" * 6 + "^" + "MARIA CONCETTA" * 3


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of what is longer or otherwise than it should be
@pytest.mark.parametrize("sets", ["ISO_IR 100", "ISO_IR 192", None])
@pytest.mark.parametrize("name", [LONG, LONG + "=王^小東", "ROSSI^ANNA=", "A^B^C^D^E^F^G"])
def test_a_name_longer_than_the_standard_has_it_goes_in(sets: str | None, name: str, tmp_path: Path) -> None:
    """PACSs know patients by more than 64 characters (PS3.5 6.2): that is a reason neither to stop nor to leave the name out."""
    image = pydicom.dcmread(path_of("CT_small.dcm"))
    image.SpecificCharacterSet = sets
    image.save_as(tmp_path / "in.dcm")
    result, after = coerced(tmp_path / "in.dcm", tmp_path, LocalPatient("7", "2.999", name))
    assert (str(after.PatientName), result.kept) == (name.rstrip("="), ())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_long_value_of_the_sender_s_does_not_keep_the_name_out(tmp_path: Path) -> None:
    image = pydicom.dcmread(path_of("CT_small.dcm"))
    image.SpecificCharacterSet, image.ReferringPhysicianName, image.SeriesDescription = "ISO_IR 100", LONG, "à" * 70
    image.save_as(tmp_path / "in.dcm")
    result, after = coerced(tmp_path / "in.dcm", tmp_path, LocalPatient("7", "2.999", "王^小東"))
    assert (str(after.PatientName), result.kept) == ("王^小東", ())
    assert (str(after.ReferringPhysicianName), after.SeriesDescription) == (LONG, "à" * 70)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "sets", ["ISO_IR 100\0x", "idna", "hex", "punycode", "undefined", "utf_16", "\\\\\\", "ISO 2022 IR 6\\idna"]
)
def test_a_character_set_that_is_none_keeps_nobody_s_number_out(sets: str, tmp_path: Path) -> None:
    """Where the name cannot be written without loss, it stays as it was, and the result says so; or the file is refused."""
    at = path_of("CT_small.dcm").read_bytes().index(b"\x08\x00\x05\x00CS")
    whole = path_of("CT_small.dcm").read_bytes()
    length = int.from_bytes(whole[at + 6 : at + 8], "little")
    value = sets.encode() + b" " * (len(sets) % 2)
    element = whole[at : at + 6] + len(value).to_bytes(2, "little") + value
    (tmp_path / "in.dcm").write_bytes(whole[:at] + element + whole[at + 8 + length :])
    for name in ("BIANCHI^ADA", "CONTÙ^NICCOLÒ", "Жуков^Иван", LONG):
        try:
            coerced_file(tmp_path / "in.dcm", LocalPatient("7", "2.999", name), ORIGIN, NOW)
        except UncoercibleError:
            assert sets in ("hex", "undefined", "utf_16")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_whatever_is_in_a_file_it_is_coerced_or_refused(tmp_path: Path) -> None:
    """Bytes changed, left out and put in, wherever: nothing but that one file is given up."""
    random = Random(5)
    files = [path_of(name).read_bytes() for name in ("CT_small.dcm", "MR_small_implicit.dcm", "test-SR.dcm", "image_dfl.dcm")]
    outcomes = set()
    for _ in range(1500):
        data = bytearray(random.choice(files))
        for _ in range(random.choice((1, 1, 2, 4))):
            at = random.randrange(132, min(len(data), 3000))
            data[at : at + random.randrange(9)] = random.randbytes(random.randrange(9))
        (tmp_path / "in.dcm").write_bytes(data)
        for make in (lambda: coerced_file(tmp_path / "in.dcm", PATIENT, ORIGIN, NOW).write_to(tmp_path / "out"),
                     lambda: to_implicit(tmp_path / "in.dcm", tmp_path / "out")):  # fmt: skip
            try:
                make()
                outcomes.add("made")
            except UncoercibleError:
                outcomes.add("refused")
    assert outcomes == {"made", "refused"}


def test_what_is_no_file_of_ours_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"x" * 200, bytes(128) + b"DICM", bytes(128) + b"DICM" + b"\xff" * 200):
        (tmp_path / "in").write_bytes(content or b"0")
        with pytest.raises(UncoercibleError):
            coerced_file(tmp_path / "in", PATIENT, ORIGIN, NOW)
