"""What the page says of exams that are not as most are: dated ahead, without anything to look at, several on one day."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG4HP41, ExplicitVRLittleEndian, generate_uid

from chalicelib.domain.cited_priors import may_cite
from tests.browser import drawn, hospital
from tests.browser.conftest import Open
from tests.browser.documents import pdf
from tests.browser.hospital import Patient
from tests.harness import RunningCity

pytestmark = pytest.mark.usefixtures("browser")


def test_an_exam_dated_ahead_says_so_and_no_reading_begins_with_it(open_page: Open, city: RunningCity) -> None:
    patient, client = Patient(), city.client("maugeri")
    for name, date in {"RX TORACE OGGI": "20260310", "RX TORACE PRIMA": "20260301", "RX TORACE 2999": "29990101"}.items():
        hospital.send(client, hospital.chest_film(patient, "maugeri", date, description=name))
    hospital.wait_for_studies(city, patient, 3)
    page, _ = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    for _ in range(2):
        expect(page.locator(".pane.left h2")).to_have_text("RX TORACE OGGI")
        expect(page.locator(".pane.right h2")).to_have_text("RX TORACE PRIMA")
        page.reload()
    ahead = page.locator(".exam").filter(has_text="RX TORACE 2999")
    expect(ahead.locator(".ahead")).to_have_text("data futura")
    expect(page.locator(".exam .ahead")).to_have_count(1)
    expect(page.locator(".card .ahead")).to_have_count(1)
    ahead.get_by_role("button", name="Metti in esame").click()
    expect(page.locator(".pane.left .ahead")).to_have_text("data futura")
    expect(page.locator("#back")).to_contain_text("RX TORACE OGGI")


def test_what_is_made_from_images_says_what_it_is_and_that_it_is_not_shown_here(open_page: Open, city: RunningCity) -> None:
    patient, client = Patient(), city.client("maugeri")
    made = hospital.image(patient, "maugeri", date="20260310", description="SEGMENTAZIONE LESIONI", Modality="SEG")
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    hospital.send(client, made)
    hospital.wait_for_studies(city, patient, 1)
    page, _ = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    expect(page.locator(".pane.left .picture")).to_contain_text("Non si mostra qui: segmentazione (SEG).")
    expect(page.locator(".exam .facts")).to_contain_text("1 oggetto, non mostrato qui")
    page.get_by_role("button", name="EN", exact=True).click()
    expect(page.locator(".pane.left .picture")).to_contain_text("Not shown here: segmentation (SEG).")


def without_pixels(like: Dataset, sop_class: str, modality: str, **more: Any) -> Dataset:
    """An object of the same exam in a series of its own, which stands before the others."""
    made = Dataset()
    for keyword in (
        "SpecificCharacterSet", "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
        "StudyInstanceUID", "StudyDate", "StudyTime", "StudyDescription",
    ):  # fmt: skip
        setattr(made, keyword, getattr(like, keyword))
    made.SOPClassUID, made.SOPInstanceUID, made.SeriesInstanceUID = sop_class, generate_uid(), generate_uid()
    made.Modality, made.SeriesNumber, made.InstanceNumber = modality, 0, 1
    for keyword, value in more.items():
        setattr(made, keyword, value)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = sop_class, made.SOPInstanceUID
    return made


STORAGE = "1.2.840.10008.5.1.4.1.1."


def test_a_film_is_seen_beside_a_document_and_a_dose_report_that_are_filed_as_images(open_page: Open, city: RunningCity) -> None:
    patient, client = Patient(), city.client("maugeri")
    film = hospital.chest_film(patient, "maugeri", "20260310")
    letter = without_pixels(
        film, f"{STORAGE}104.1", "OT", DocumentTitle="Referto", MIMETypeOfEncapsulatedDocument="application/pdf",
        EncapsulatedDocument=pdf("REFERTO"),
    )  # fmt: skip
    hospital.send(client, film, letter, without_pixels(film, f"{STORAGE}88.67", str(film.Modality)))
    hospital.wait_for_studies(city, patient, 1)
    page, _ = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    expect(page.locator(".pane.left .film img").first).to_be_visible()
    expect(page.locator(".pane.left select")).to_have_count(0)
    expect(page.locator(".report", has_text="Referto").locator("iframe.pdf")).to_be_visible()


@pytest.mark.parametrize(
    ("sop_class", "modality", "said"),
    [
        (f"{STORAGE}88.67", "CT", "resoconto della dose (CT)"),
        (f"{STORAGE}88.50", "SR", "risultato di CAD (SR)"),
        (f"{STORAGE}88.72", "SR", "misure strutturate (SR)"),
        (f"{STORAGE}88.59", "KO", "selezione di immagini (KO)"),
        (f"{STORAGE}11.1", "PR", "stato di presentazione (PR)"),
        (f"{STORAGE}104.3", "M3D", "modello tridimensionale (M3D)"),
        (f"{STORAGE}9.1.1", "HD", "tracciato o registrazione (HD)"),
        (f"{STORAGE}66", "OT", "oggetto che non è un'immagine (OT)"),
        ("1.2.3.4.5.99", "ZZ", "oggetto che non è un'immagine (ZZ)"),
    ],
)
def test_an_exam_of_nothing_to_look_at_says_what_it_holds(
    open_page: Open, city: RunningCity, sop_class: str, modality: str, said: str
) -> None:
    patient = Patient()
    like = hospital.chest_film(patient, "maugeri", "20260310")
    hospital.send(city.client("maugeri"), without_pixels(like, sop_class, modality))
    hospital.wait_for_studies(city, patient, 1)
    page, _ = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    expect(page.locator(".pane.left .picture")).to_contain_text(f"Non si mostra qui: {said}.")


def test_a_video_is_said_to_be_one(open_page: Open, city: RunningCity) -> None:
    patient = Patient()
    video = hospital.chest_film(patient, "maugeri", "20260310", Modality="XC")
    video.NumberOfFrames = 9
    video.file_meta.TransferSyntaxUID = MPEG4HP41
    video.PixelData = encapsulate([b"\0\0\0\x18ftypmp42" + bytes(100)])
    video["PixelData"].is_undefined_length = True
    hospital.send(city.client("maugeri"), video)
    hospital.wait_for_studies(city, patient, 1)
    page, watch = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    watch.expect("/thumbnail")  # there is none of a video
    expect(page.locator(".pane.left .picture")).to_contain_text("Non si mostra qui: filmato (XC).")
    expect(page.locator(".strip .thumb .glyph")).to_have_text("XC")
    expect(page.locator(".strip .thumb img")).to_have_count(0)


def test_a_comparison_of_a_day_with_several_exams_is_copied_with_its_time(open_page: Open, city: RunningCity) -> None:
    patient, client = Patient(), city.client("maugeri")
    hospital.send(client, hospital.chest_film(patient, "maugeri", "20260310"))
    for time in ("080500", "203000"):
        hospital.send(client, hospital.chest_film(patient, "maugeri", "20260301", StudyTime=time))
    hospital.wait_for_studies(city, patient, 3)
    page, _ = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    expect(page.locator(".pane.right .when")).to_contain_text("20:30")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.keyboard.press("c")
    wanted = "Confronto con RX TORACE PA del 01/03/2026 ore 20:30 (Istituti Clinici Scientifici Maugeri, Pavia)."
    expect(page.locator(".toast")).to_contain_text(wanted)
    assert may_cite(wanted)


def test_a_series_of_several_echoes_says_which_one_is_in_view(open_page: Open, city: RunningCity) -> None:
    patient, client = Patient(), city.client("maugeri")
    first = hospital.stack(patient, "maugeri", "20260310", 3, Modality="MR", SeriesDescription="T2 MULTIECO", EchoTime=15)
    same = {keyword: getattr(first[0], keyword) for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    more = hospital.stack(
        patient, "maugeri", "20260310", 3, Modality="MR", SeriesDescription="T2 MULTIECO", EchoTime=90.5, **same
    )
    for number, image in enumerate(more, 4):
        image.InstanceNumber = number
    hospital.send(client, *first, *more)
    hospital.wait_for_studies(city, patient, 1)
    page, _ = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]))
    page.locator(".pane.left .picture").focus()
    page.keyboard.press("Home")
    expect(page.locator(".pane.left .position")).to_have_text("1 / 6 · T2 MULTIECO · TE 15 ms")
    page.keyboard.press("End")
    expect(page.locator(".pane.left .position")).to_have_text("6 / 6 · T2 MULTIECO · TE 90,5 ms")


def test_on_a_small_screen_who_the_patient_is_takes_little_of_it_and_the_hospitals_names_are_there_in_full(
    open_page: Open, city: RunningCity
) -> None:
    patient = Patient()
    hospital.send(city.client("san-matteo"), hospital.chest_film(patient, "san-matteo", "20260301"))
    hospital.transfer(city, patient)
    hospital.wait_for_studies(city, patient, 1)
    page, _ = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]), width=1280, height=720)
    transfer = page.locator(".transfer")
    expect(transfer).to_contain_text("Trasferimento da San Matteo a Maugeri")
    expect(transfer).to_have_attribute("title", re.compile("Policlinico San Matteo"))
    box = page.locator(".top").bounding_box()
    assert box is not None
    assert box["height"] <= 90


def test_a_series_of_a_long_name_keeps_its_image_its_letters_and_its_place_within_its_half(
    open_page: Open, city: RunningCity
) -> None:
    patient, client = Patient(), city.client("maugeri")
    name = "Torace senza e con mezzo di contrasto, ricostruzione MIP 1,25"
    for date in ("20261002", "20261129"):
        cuts = [
            cut
            for study in [generate_uid()]
            for number in (1, 2)
            for cut in drawn.ct(patient, "maugeri", date, 0, 2, scout=False, StudyInstanceUID=study)
        ]
        for cut in cuts:
            cut.SeriesDescription = name
        hospital.send(client, *cuts)
    hospital.wait_for_studies(city, patient, 2)
    page, _ = open_page(str(hospital.link(city, patient={"id": patient.at["maugeri"]})["url"]), width=1366, height=768)
    for side in ("left", "right"):
        pane = page.locator(f".pane.{side}:not(.lower)")
        expect(pane.locator(".film img").first).to_be_visible()
        expect(pane.locator("option").first).to_contain_text(name)
        half = pane.bounding_box()
        assert half is not None
        for part in (".picture", ".controls", ".position", ".at-right"):
            box = pane.locator(part).bounding_box()
            assert box is not None
            assert box["x"] + box["width"] <= half["x"] + half["width"] + 1, f"{side} {part}"
