"""What equipment writes into identity, date and text decides who sees a study: read where it can be read, and said where not."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest

from tests.sharing.api import Api
from tests.sharing.images import image
from tests.unit.dicom.building import element
from tests.world import A, B

STUDY = "1.2.7.1"


def replaced(content: bytes, tag: int, vr: str, old: str, new: bytes) -> bytes:
    """An image in which one value stands in place of another."""
    value = new + b" " * (len(new) % 2)
    before, after = element(tag, vr, old), element(tag, vr, value)
    assert content.count(before) == 1
    return content.replace(before, after)


def status(api: Api, who: str, content: bytes) -> dict[str, object]:
    sha = hashlib.sha256(content).hexdigest()
    answer: dict[str, object] = api.call(who, "POST", "/uploads/status", body={"sha256": [sha]}).json["instances"][0]
    return answer


@pytest.mark.parametrize("form", ["{0}-{1}-{2}", "{0}.{1}.{2}", "{0}/{1}/{2}", "{0}{1}{2}101500", "{0}{1}{2}\0\0"])
def test_a_follow_up_whose_date_is_written_otherwise_is_shared(api: Api, form: str) -> None:
    world = api.world
    world.send(A, image("a1", "1.2.6.1"))
    world.settle()
    world.open(A, "a1", B, receiving="b1")
    day = (world.now + timedelta(days=1)).strftime("%Y%m%d")
    written = form.format(day[:4], day[4:6], day[6:]).encode()
    follow_up = replaced(image("b1", STUDY, date="20300101"), 0x00080020, "DA", "20300101", written)
    world.send(B, follow_up)
    world.settle()
    found = api.call(A, "GET", "/dicomweb/studies", [("StudyInstanceUID", STUDY)]).json
    assert [result["00080020"]["Value"] for result in found] == [[day]]
    assert "unread" not in status(api, B, follow_up)


def test_a_date_that_cannot_be_read_is_said_to_its_sender_and_on_the_timeline(api: Api) -> None:
    content = replaced(image("a1", STUDY), 0x00080020, "DA", "20260101", b"10/01/2026")
    api.world.send(A, content)
    api.world.settle()
    told = status(api, A, content)
    assert (told["state"], told["unread"]) == ("indexed", ["00080020"])
    (study,) = api.call(A, "GET", "/patients/{patient}/timeline", patient="a1").json["studies"]
    assert (study["study_date"], study["unread"]) == ("", ["00080020"])


@pytest.mark.parametrize(("tag", "vr", "written", "keyword"), [
    (0x00080050, "SH", "ACC-" + "7" * 200, "AccessionNumber"),
    (0x00081030, "LO", "TC TORACE " + "con mezzo di contrasto " * 20, "StudyDescription"),
    (0x00100010, "PN", "Bianchi^" + "Ada Maria " * 30, "PatientName"),
])  # fmt: skip
def test_a_value_longer_than_its_vr_allows_is_found_by_what_was_stored(
    api: Api, tag: int, vr: str, written: str, keyword: str
) -> None:
    old = {"AccessionNumber": "ACC", "StudyDescription": "TC TORACE", "PatientName": "Bianchi^Ada"}[keyword]
    api.world.send(A, replaced(image("a1", STUDY, accession="ACC"), tag, vr, old, written.encode()))
    api.world.settle()
    (found,) = api.call(A, "GET", "/dicomweb/studies", [(keyword, written.strip()), ("includefield", keyword)]).json
    assert found[f"{tag:08X}"]["Value"] in ([written.strip()], [{"Alphabetic": written.strip()}])
    assert found["00080061"]["Value"] == ["CT"], "what is longer than it may be takes no room from the others"
    assert api.call(A, "GET", "/dicomweb/studies", [(keyword, written.strip()[:-1])]).json == []


def test_a_series_of_two_modalities_is_found_by_each(api: Api) -> None:
    api.world.send(A, replaced(image("a1", STUDY), 0x00080060, "CS", "CT", b"CT\\PT"))
    api.world.settle()
    for modality in ("CT", "PT"):
        (found,) = api.call(A, "GET", "/dicomweb/studies", [("ModalitiesInStudy", modality)]).json
        assert found["00080061"]["Value"] == ["CT", "PT"]


def test_a_study_of_no_modality_has_no_value_of_it(api: Api) -> None:
    api.world.send(A, replaced(image("a1", STUDY), 0x00080060, "CS", "CT", b"  "))
    api.world.settle()
    (found,) = api.call(A, "GET", "/dicomweb/studies").json
    assert found["00080061"] == {"vr": "CS"}, "PS3.18 F.2.5: what is empty has no Value"
    assert api.call(A, "GET", "/dicomweb/studies", [("ModalitiesInStudy", "CT")]).json == []


@pytest.mark.parametrize("written", [b"a1\0", b"a1\0\0\0\0", b"a1      ", b"a1\0 \0 ", b" a1 ", b"a1\0left over in a buffer"])
def test_a_patient_id_with_a_nul_or_blanks_is_the_patients_number(api: Api, written: bytes) -> None:
    api.world.send(A, replaced(image("a1", STUDY), 0x00100020, "LO", "a1", written))
    api.world.settle()
    (found,) = api.call(A, "GET", "/dicomweb/studies", [("PatientID", "a1")]).json
    assert found["00100020"]["Value"] == ["a1"]
    assert api.call(A, "GET", "/patients/{patient}/timeline", patient="a1").status == 200
