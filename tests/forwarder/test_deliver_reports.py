"""Reports reach the PACS in a form that it takes: as they are, as a PDF, as pictures; and never with a word lost or changed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pydicom
import pypdf
import pytest
from deliveries import Case, a_case
from hospital import store, until
from pacs import running_pacs
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from forwarder.deliver import documents
from forwarder.service import running
from tests.browser import hospital as by_api
from tests.harness import RunningCity

SR, PDF, CDA, PICTURE = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("88.11", "104.1", "104.2", "7"))
TEXT = "Non si osservano lesioni pleuroparenchimali in atto.\nOmbra cardiaca nei limiti: età avanzata, così già nel 2024."

delivers = pytest.mark.usefixtures("credentials_of_the_city")


def a_reported_study(case: Case, text: str = TEXT, kind: str = "text/plain; charset=utf-8") -> Dataset:
    film = case.prior()
    case.send(film)
    answer = case.city.client("san-matteo").post(
        f"/studies/{film.StudyInstanceUID}/reports", data=text.encode(), headers={"Content-Type": kind}
    )
    assert answer.status_code in (200, 201), answer.text
    until(lambda: by_api.wait_for_studies(case.city, case.patient, 1, "san-matteo")[0]["reports"])
    by_api.transfer(case.city, case.patient)
    return film


def came(case: Case, sop_class: str) -> list[Dataset]:
    return [ds for ds in case.pacs.kept.values() if ds.SOPClassUID == sop_class]


def said(pdf: Dataset) -> str:
    pages = pypdf.PdfReader(io.BytesIO(pdf.EncapsulatedDocument[: pdf.EncapsulatedDocumentLength])).pages
    return " ".join(" ".join(page.extract_text() for page in pages).split())


@delivers
@pytest.mark.parametrize(
    ("wanted", "refused", "form"),
    [
        ("sr", [], SR), ("sr", [SR], PDF), ("sr", [SR, PDF], PICTURE),
        ("pdf", [], PDF), ("pdf", [PDF], PICTURE), ("picture", [], PICTURE),
    ],
)  # fmt: skip
def test_a_report_comes_in_the_first_form_that_the_pacs_takes(
    city: RunningCity, tmp_path: Path, wanted: str, refused: list[str], form: str
) -> None:
    with running_pacs(refuses=frozenset(refused)) as pacs, a_case(city, tmp_path, pacs, deliver__reports=wanted) as case:
        film = a_reported_study(case)
        with running(case.place.config()):
            state = case.settled(2)
            assert (state["delivered"], state["aside_reasons"]) == (2, {})
            (report,) = came(case, form)
            until(lambda: case.state()["confirmed"]["find"] == 2)
            assert store(case.place, [report] if form == PICTURE else []) in ([0x0000], [])
            assert case.place.state()["received"] == 0  # what the PACS sends back of it is an echo
        assert len(pacs.received) == 2
    assert (report.StudyInstanceUID, report.PatientID) == (film.StudyInstanceUID, case.number)
    assert report.OriginalAttributesSequence[-1].ModifiedAttributesSequence[0].PatientID == case.patient.at["san-matteo"]
    if form == PDF:
        assert " ".join(TEXT.split()) in said(report)
        assert case.number in said(report)
    if form == PICTURE:
        assert report.pixel_array.shape == (1755, 1240)
        assert 0 < int((report.pixel_array < 128).sum()) < report.pixel_array.size // 10


@delivers
def test_a_pacs_that_accepts_reports_and_then_refuses_them_gets_the_next_form(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs() as pacs, a_case(city, tmp_path, pacs) as case:
        pacs.answer = lambda ds: 0x0122 if ds.SOPClassUID == SR else 0x0000
        a_reported_study(case)
        with running(case.place.config()):
            assert case.settled(2)["delivered"] == 2
        assert len(came(case, PDF)) == 1


@delivers
def test_where_reports_are_not_wanted_images_alone_come(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs() as pacs, a_case(city, tmp_path, pacs, deliver__reports="none") as case:
        a_reported_study(case)
        with running(case.place.config()):
            assert case.settled(1)["announced"] == 1
        assert {str(ds.Modality) for ds in pacs.received} == {"CT"}


@delivers
def test_a_report_that_cannot_be_shown_right_is_put_aside_and_holds_up_nothing(city: RunningCity, tmp_path: Path) -> None:
    with running_pacs(refuses=frozenset([SR])) as pacs, a_case(city, tmp_path, pacs) as case:
        a_reported_study(case, "Пациент Жуков: без изменений.")
        with running(case.place.config()):
            state = case.settled(2)
            assert (state["delivered"], state["aside_reasons"]) == (1, {"report-cannot-be-shown": 1})


def made(source: Dataset, form: str, folder: Path) -> list[Dataset]:
    path = folder / "report.dcm"
    source.save_as(path, enforce_file_format=True)
    return [pydicom.dcmread(part) for part in documents.made(path, form, folder)]


def a_report(*content: Dataset) -> Dataset:
    report = pydicom.dcmread(str(get_testdata_file("reportsi.dcm")))
    report.SpecificCharacterSet = "ISO_IR 192"
    report.ContentSequence = Sequence(content)
    return report


def text(value: str, kind: str = "TEXT") -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", kind
    if kind == "TEXT":
        item.TextValue = value
    return item


def test_the_same_report_makes_the_same_pictures_every_time(tmp_path: Path) -> None:
    long = a_report(*(text(f"Riga {number}") for number in range(150)))
    first, again = made(long, "picture", tmp_path), made(long, "picture", tmp_path)
    assert len(first) == 3
    assert [page.SOPInstanceUID for page in first] == [page.SOPInstanceUID for page in again]
    assert len({page.SOPInstanceUID for page in first}) == 3 and len({page.SeriesInstanceUID for page in first}) == 1
    assert [page.PixelData for page in first] == [page.PixelData for page in again]


def test_a_coloured_page_of_a_pdf_keeps_its_colours(tmp_path: Path) -> None:
    import pydyf

    document = pydyf.PDF()
    stream = pydyf.Stream()
    stream.set_color_rgb(1, 0, 0)
    stream.rectangle(0, 0, 100, 100)
    stream.fill()
    document.add_object(stream)
    page = {"Type": "/Page", "Parent": document.pages.reference, "MediaBox": pydyf.Array([0, 0, 200, 200])}
    document.add_page(pydyf.Dictionary(page | {"Contents": stream.reference}))
    out = io.BytesIO()
    document.write(out)
    source = a_report()
    source.SOPClassUID = source.file_meta.MediaStorageSOPClassUID = PDF
    source.EncapsulatedDocument = out.getvalue() + b"\0" * (len(out.getvalue()) % 2)
    (picture,) = made(source, "picture", tmp_path)
    assert picture.PhotometricInterpretation == "RGB"
    assert tuple(picture.pixel_array[-10, 10]) == (255, 0, 0)


def cda(body: str) -> Dataset:
    source = a_report()
    source.SOPClassUID = source.file_meta.MediaStorageSOPClassUID = CDA
    document = f'<ClinicalDocument xmlns="urn:hl7-org:v3"><title>Referto</title>{body}</ClinicalDocument>'.encode()
    source.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    return source


def test_the_text_of_a_clinical_document_is_all_there(tmp_path: Path) -> None:
    body = (
        "<component><section><title>Quesito</title><text><paragraph>Tosse <content>persistente</content> da giorni</paragraph>"
        "<list><item>uno</item><item>due</item></list><table><tr><td>a</td><td>b</td></tr></table></text></section></component>"
    )
    (pdf,) = made(cda(body), "pdf", tmp_path)
    assert "QUESITO Tosse persistente da giorni uno due a | b" in said(pdf)


def test_tables_in_tables_take_no_longer_the_deeper_they_are(tmp_path: Path) -> None:
    """Looked at anew at each depth, thirty would take an hour."""
    nested = "<paragraph>riga</paragraph>" * 5 + "in fondo"
    for _ in range(30):
        nested = f"<table><tr><td>a</td><td>{nested}</td></tr></table>"
    (pdf,) = made(cda(f"<component><section><text>{nested}</text></section></component>"), "pdf", tmp_path)
    assert "in fondo" in said(pdf)


@pytest.mark.parametrize("blank", ["", " "])  # of which one makes its length odd
def test_no_number_word_or_column_of_a_clinical_document_becomes_another(blank: str, tmp_path: Path) -> None:
    row, empty = "<tr><td>Polso</td><td/><td><paragraph>4 mm<sup>3</sup></paragraph></td></tr>", "<tr><td/><td/></tr>"
    layout = "<table><tr><td><paragraph>a</paragraph><paragraph>b</paragraph></td></tr></table>"
    revised = '<content revised="delete">Frattura</content><content revised="insert">Nessuna frattura</content>, 3\x965 mm'
    body = f"<component><section><text>{revised}<table>{row}{empty}</table>{layout}{blank}fine</text></section></component>"
    (pdf,) = made(cda(body), "pdf", tmp_path)
    assert "[eliminato: Frattura] Nessuna frattura, 3–5 mm Polso | | 4 mm^3 | a b fine" in said(pdf)


@pytest.mark.parametrize(
    ("source", "form"),
    [
        (cda('<!DOCTYPE x [<!ENTITY a "b">]>'), "pdf"),
        (cda("<section><text><renderMultiMedia/></text></section>"), "pdf"),
        (cda("<section>"), "pdf"),
        (a_report(), "pdf"),
        (a_report(text("", "SCOORD")), "pdf"),
        (a_report(*(text("riga") for _ in range(5001))), "pdf"),
        (a_report(text("\n" * 10_000 + "x")), "pdf"),
        (a_report(text("王小東")), "pdf"),
        (a_report(text("a\x07b")), "picture"),
    ],
    ids=["entities", "pictures", "damaged", "empty", "coordinates", "too many", "too long", "letters", "bell"],
)
def test_what_cannot_be_shown_whole_is_refused(source: Dataset, form: str, tmp_path: Path) -> None:
    if not source.get("ContentSequence") and "EncapsulatedDocument" not in source:
        source.ConceptNameCodeSequence = Sequence()
    with pytest.raises(documents.CannotBeShownError):
        made(source, form, tmp_path)


@pytest.mark.parametrize("document", [b"", b"%PDF-1.7\n", b"%PDF-1.4\n" + b"\xff" * 5000, b"<html>"])
def test_a_hostile_pdf_harms_only_itself(document: bytes, tmp_path: Path) -> None:
    source: Any = a_report()
    source.SOPClassUID = source.file_meta.MediaStorageSOPClassUID = PDF
    source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    source.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    with pytest.raises(documents.CannotBeShownError):
        made(source, "picture", tmp_path)
