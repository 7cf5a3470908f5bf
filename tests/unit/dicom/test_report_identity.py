"""What reports say of themselves: CDA headers within bounds, predecessors of structured reports."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from chalicelib.dicom import cda, documents, report_identity
from chalicelib.dicom.cda import UnreadableDocument
from chalicelib.dicom.header import read_head
from chalicelib.dicom.limits import Limits
from chalicelib.domain.report_versions import UNDECLARED, DeclaredDocument

ROME = ZoneInfo("Europe/Rome")
HEADER = """<id root="2.16.840.1.113883.2.9.2" extension="R-2"/><code code="68604-8" codeSystem="2.16.840.1.113883.6.1"/>
<title>Referto  di
radiologia</title><effectiveTime value="20260310113000+0100"/><setId root="2.16.840.1.113883.2.9.2" extension="R"/>
<versionNumber value="2"/><relatedDocument typeCode="RPLC"><parentDocument><id root="2.16.840.1.113883.2.9.2" extension="R-1"/>
<setId root="9.9" extension="other"/></parentDocument></relatedDocument>
<relatedDocument typeCode="APND"><parentDocument><id root="1.1"/></parentDocument></relatedDocument>"""
BODY = """<component><structuredBody><component><section><title>Referto</title><text><paragraph>Polmoni
 <content styleCode="Bold">espansi</content>.</paragraph><table><tr><th>Lobo</th><td>nodulo &lt;script&gt;</td></tr></table>
<list><item>uno</item><item>due</item></list>fine</text></section></component></structuredBody></component>"""


STYLED = '<?xml version="1.0"?><?xml-stylesheet href="http://x.test/"?>'


def document(header: str = HEADER, body: str = BODY, before: str = STYLED) -> bytes:
    return f'{before}<ClinicalDocument xmlns="urn:hl7-org:v3">{header}{body}</ClinicalDocument>'.encode()


def instance(sop_class: str, syntax: str = ExplicitVRLittleEndian, **more: Any) -> bytes:
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID, data.StudyInstanceUID, data.SeriesInstanceUID = sop_class, "1.2.3", "1.2", "1.2.4"
    data.PatientID = "P"
    for keyword, value in more.items():
        setattr(data, keyword, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID, data.file_meta.MediaStorageSOPInstanceUID = syntax, "1.2.3"
    written = io.BytesIO()
    pydicom.dcmwrite(written, data, enforce_file_format=True)
    return written.getvalue()


def identified(content: bytes) -> tuple[DeclaredDocument | None, int]:
    """What an instance says of itself, and how many ranges more than for its header were read."""
    fetched = []

    def fetch(start: int, length: int) -> bytes:
        fetched.append(length)
        return content[start : start + length]

    head = read_head(fetch, len(content))
    before = len(fetched)
    return report_identity.identify(head, fetch), len(fetched) - before


def encapsulated(content: bytes, **more: Any) -> bytes:
    return instance(documents.CDA, EncapsulatedDocument=content + b"\0" * (len(content) % 2), **more)


def test_a_cda_says_its_set_its_version_what_it_replaces_and_when_it_was_made() -> None:
    header = cda.read_header(document())
    assert (header.id, header.set_id) == ("2.16.840.1.113883.2.9.2^R-2", "2.16.840.1.113883.2.9.2^R")
    assert (header.version, header.title) == (2, "Referto di radiologia")
    assert header.replaces == ("2.16.840.1.113883.2.9.2^R-1",)
    assert header.when(ROME) == ("20260310", "113000", False)


def test_the_narrative_is_text_a_line_for_each_block() -> None:
    assert cda.read_cda(document()).text == "Referto\nPolmoni espansi.\nLobo | nodulo <script>\nuno\ndue\nfine\n"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("20260310233000+0000", ("20260311", "003000")),
        ("20260310", ("20260310", "")),
        ("202603101130", ("20260310", "113000")),
        ("20260310113000.123-0500", ("20260310", "173000")),
        ("20269999", ("", "")),
        ("00010101000000+1400", ("", "")),
        ("09990505", ("09990505", "")),
        ("2026-03-10", ("", "")),
        ("", ("", "")),
    ],
)
def test_effective_time_is_told_at_the_hospital(written: str, read: tuple[str, str]) -> None:
    assert cda.CdaHeader(effective=written).when(ROME)[:2] == read


@pytest.mark.parametrize(
    ("written", "repeated"),
    [("20261025025000+0200", False), ("20261025021000+0100", True), ("20261025021000", False), ("20261025030000+0100", False)],
)
def test_in_the_hour_that_comes_twice_the_offset_of_the_effective_time_tells_which_is_meant(written: str, repeated: bool) -> None:
    assert cda.CdaHeader(effective=written).when(ROME).repeated is repeated


@pytest.mark.parametrize(
    "hostile",
    [
        document(before='<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>', header="<title>&x;</title>"),
        document(before="<!DOCTYPE a [" + "".join(f'<!ENTITY a{n + 1} "&a{n};&a{n};">' for n in range(30)) + "]>"),
        document(header="<a>" * 300),
        document(header=HEADER + "<unclosed>")[:-40],
        b"<html/>",
        b"",
        b"\0" * 100,
        b'<?xml version="1.0" encoding="x-no-such"?><a/>',
        b"\xff\xfe<\0",
    ],
)
def test_hostile_xml_is_refused_and_says_nothing(hostile: bytes) -> None:
    with pytest.raises(UnreadableDocument):
        cda.read_cda(hostile)
    assert identified(encapsulated(hostile + b" "))[0] == UNDECLARED


def test_a_megabyte_of_elements_is_read_in_a_moment_and_held_by_no_one() -> None:
    content = document(body="<component>" + "<a/>" * 250_000 + "</component>")
    started = time.process_time()
    assert cda.read_cda(content).header.version == 2
    assert time.process_time() - started < 3


def test_a_row_of_empty_cells_takes_no_longer_than_as_many_other_elements() -> None:
    cells = "<td> </td>" * 50_000  # looking back over the row at each of them took a minute
    body = f"<component><section><text><table><tr>{cells}<td>nodulo</td></tr></table></text></section></component>"
    started = time.process_time()
    assert cda.read_cda(document(body=body)).text.endswith("| | nodulo\n")
    assert time.process_time() - started < 3


def narrated(text: str) -> str:
    return cda.read_cda(document(body=f"<component><section><text>{text}</text></section></component>")).text.strip()


@pytest.mark.parametrize(
    ("narrative", "text"),
    [
        ("10<sup>3</sup> per mm", "10^3 per mm"),
        ('<content revised="delete">Frattura</content><content revised="insert">Nessuna frattura</content>.',
         "[eliminato: Frattura] Nessuna frattura."),
        ("<table><tr><th/><th>Dx</th><th>Sn</th></tr><tr><td>Polso</td><td/><td>4 mm</td></tr></table>",
         "| Dx | Sn\nPolso | | 4 mm"),
        ("<table><tr><td><paragraph>a</paragraph><paragraph>b</paragraph></td></tr></table>fine", "a\nb\nfine"),
        ("<table><tr><td>fuori</td><td><table><tr><td>a</td><td>b</td></tr></table></td></tr></table>", "fuori | a b"),
        ('Cuore <renderMultiMedia referencedObject="M1"/> nei limiti', "Cuore [immagine non mostrata] nei limiti"),
        ("nodulo di 3\x965 mm", "nodulo di 3–5 mm"),
    ],
    ids=["superscript", "deleted", "empty cell", "layout", "table in a cell", "picture", "dash of Windows"],
)  # fmt: skip
def test_no_number_word_or_column_becomes_another(narrative: str, text: str) -> None:
    assert narrated(narrative) == text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<text>Nulla.\n  Rientro.</text>", "Nulla.\n  Rientro."),
        ('<text mediaType="application/pdf" representation="B64">JVBERi0=</text>',
         "[Documento allegato non mostrato: application/pdf]"),
    ],
    ids=["text", "attached"],
)  # fmt: skip
def test_a_body_that_is_no_xml_is_its_text_or_said_not_to_be_shown(body: str, text: str) -> None:
    content = document(body=f"<component><nonXMLBody>{body}</nonXMLBody></component>")
    assert cda.read_cda(content).text.strip() == text


def test_a_small_cda_costs_no_further_read_and_a_large_one_a_single_bounded_one() -> None:
    small, ranges = identified(encapsulated(document()))
    assert ranges == 0
    assert small is not None
    assert small.version == 2
    assert small.replaces_ids == (cda.same("2.16.840.1.113883.2.9.2^R-1"),)
    for length in (100_000, 3_000_000):
        large, ranges = identified(encapsulated(document(body=BODY.replace("fine", "x" * length))))
        assert ranges == 1
        assert large is not None
        assert replace(large, content="") == replace(small, content="")
        assert bool(large.content) == (length < report_identity.MAX_DOCUMENT)


def test_identifiers_are_kept_as_digests_that_know_no_case_of_roots() -> None:
    said, _ = identified(encapsulated(document()))
    assert "R-2" not in str(said)
    assert cda.same("A-B^x") == cda.same(" a-b^x ") != cda.same("A-B^X")


def test_where_the_xml_cannot_be_read_the_data_set_says_which_document_it_is() -> None:
    said, _ = identified(encapsulated(b"no XML", HL7InstanceIdentifier="1.2^R-1"))
    assert said == DeclaredDocument(id=cda.same("1.2^R-1"))
    assert identified(encapsulated(b"no XML"))[0] == UNDECLARED


def test_a_large_document_in_a_deflated_data_set_is_not_sought() -> None:
    content = document(body=BODY.replace("fine", "".join(map(str, range(30_000)))))
    data = instance(documents.CDA, DeflatedExplicitVRLittleEndian, EncapsulatedDocument=content + b"\0" * (len(content) % 2))
    assert identified(data) == (UNDECLARED, 0)


def reference(sop: str, study: str = "1.2") -> Dataset:
    sop_instance, series, whole = Dataset(), Dataset(), Dataset()
    sop_instance.ReferencedSOPInstanceUID, sop_instance.ReferencedSOPClassUID = sop, documents.BASIC_TEXT_SR
    series.ReferencedSOPSequence, series.SeriesInstanceUID = [sop_instance], "1.2.4"
    whole.ReferencedSeriesSequence, whole.StudyInstanceUID = [series], study
    return whole


def test_a_structured_report_says_what_it_replaces_of_its_own_study_and_whether_it_is_final() -> None:
    predecessors = [reference("1.9.1"), reference("1.9.2", study="7.7"), reference("1.9.1")]
    said, _ = identified(instance(documents.BASIC_TEXT_SR, PredecessorDocumentsSequence=predecessors, CompletionFlag="PARTIAL"))
    assert said == DeclaredDocument(replaces=("1.9.1",), preliminary=True)
    assert identified(instance(documents.BASIC_TEXT_SR, CompletionFlag="COMPLETE", PreliminaryFlag="FINAL"))[0] == UNDECLARED
    many = [reference(f"1.9.{number}") for number in range(500)]
    assert len((identified(instance(documents.PDF, PredecessorDocumentsSequence=many))[0] or UNDECLARED).replaces) == 32
    assert identified(instance("1.2.840.10008.5.1.4.1.1.2"))[0] is None


def concluded(content: bytes) -> str:
    def fetch(start: int, length: int) -> bytes:
        return content[start : start + length]

    return documents.conclusion(read_head(fetch, len(content)), fetch)


def sr(text: str) -> bytes:
    item = Dataset()
    item.ValueType, item.TextValue = "TEXT", text
    return instance(documents.BASIC_TEXT_SR, SpecificCharacterSet="ISO_IR 192", ContentSequence=[item])


SECTIONED = """<component><structuredBody><component><section><code code="18782-3"/><title>Reperto</title>
<text>Opacità.</text></section></component><component><section><code code="19005-8"/><title>Conclusioni</title>
<text><paragraph>Polmonite   basale.</paragraph><paragraph>Controllo.</paragraph></text></section></component></structuredBody>
</component>"""


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (sr("Quesito: tosse.\nConclusioni: polmonite\ndestra.\nConsigli: TC."), "polmonite destra."),
        (sr("Quadro invariato.\n\nResto."), "Quadro invariato."),
        (sr("CONCLUSIONI: " + "x" * 500), "x" * 199 + "…"),
        (sr("REPERTO: " + "x" * 200_000), ""),
        (instance(documents.CDA, EncapsulatedDocument=document(body=SECTIONED)), "Polmonite basale."),
        (instance(documents.CDA, EncapsulatedDocument=b"<no"), ""),
        (instance(documents.CDA), ""),
        (instance(documents.PDF, EncapsulatedDocument=b"%PDF-1.4"), ""),
        (instance("1.2.840.10008.5.1.4.1.1.1"), ""),
    ],
    ids=["impression", "no headings", "long line", "long text", "cda", "no xml", "no document", "pdf", "no report"],
)
def test_what_a_report_concludes_is_the_first_sentence_of_its_impression(content: bytes, line: str) -> None:
    assert concluded(content) == line


def test_of_a_cda_of_1_mib_and_more_no_conclusion_is_read() -> None:
    whole = document()
    for length, read in ((1024 * 1024 - 2, True), (1024 * 1024, False)):
        assert bool(concluded(encapsulated(whole + b" " * (length - len(whole))))) == read


@pytest.mark.parametrize(("length", "sections"), [(500_000, True), (500_001, False)])
def test_a_text_of_500_000_characters_has_sections_and_a_longer_one_has_none(length: int, sections: bool) -> None:
    content = sr("Reperto: ".ljust(length, "x"))
    document = documents.read(
        read_head(lambda start, count: content[start : start + count], len(content), Limits(value=1_000_000))
    )
    assert (len(document.text), bool(document.sections)) == (length, sections)
