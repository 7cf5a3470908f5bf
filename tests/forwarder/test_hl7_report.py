"""What a message says: texts, documents, states, studies, patients; in the forms in which systems write them."""

from __future__ import annotations

import base64
import time

import pytest
import ris
from hypothesis import given
from hypothesis import strategies as st

from forwarder.config import Hl7Config
from forwarder.hl7.message import RefusedMessage, read_header
from forwarder.hl7.report import Report, check_header, read_reports

STUDY = "1.2.826.0.1.3680043.10.78"


def read(message: bytes | str, **config) -> list[Report]:
    content = message.encode() if isinstance(message, str) else message
    header = read_header(content)
    check_header(header, Hl7Config(**config))
    return read_reports(content, header, Hl7Config(**config)).reports


def message(*lines: str, **of_header: str) -> str:
    """A message of these segments after MSH and PID."""
    return "\r".join([ris.header(**of_header), "PID|1||SM-1^^^SM^MR", *lines]) + "\r"


def text_of(*obx: str) -> str:
    (report,) = read(message(f"OBR|1|P|F|^RX{'|' * 14}A-1", *obx))
    assert report.content is not None
    return report.content.decode()


def test_the_lines_of_a_report_are_its_obx_and_their_repetitions_in_order():
    assert text_of("OBX|1|TX|1^Referto||Prima~Seconda", "OBX|2|ST|1^Referto||", "OBX|3|FT|1^Referto||Terza") == (
        "Prima\nSeconda\n\nTerza"
    )


def test_sections_have_their_names_above_them():
    assert text_of("OBX|1|TX|1^Reperto||a", "OBX|2|TX|1^Reperto||b", "OBX|3|TX|2^Conclusioni||c") == (
        "Reperto\na\nb\n\nConclusioni\nc"
    )


def test_lines_that_were_taken_back_and_empty_values_are_left_out():
    lines = ["OBX|1|TX|1||resta", "OBX|3|TX|1||via||||||D", "OBX|4|CE|1||A^B||||||X", "OBX|5|NM|1||"]
    assert text_of(*lines) == "resta"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("CE|C^Conclusione||J18^Polmonite", "Polmonite"),
        ("cwe|C^Conclusione||J18^Polmonite^I10~J90^Versamento\\T\\altro", "Polmonite\nVersamento&altro"),
        ("CWE|C^Conclusione||^^^B^BI-RADS 4", "BI-RADS 4"), ("CWE|C^Conclusione||J18^^I10^^^^^^come scritto", "come scritto"),
        ("CNE|C^Conclusione||J18", "J18"), ("CF|C^Conclusione||J18^Polmonite", "Polmonite"),
        ("NM|C^Conclusione||450|mGy.cm^mGy.cm^UCUM", "450 mGy.cm"), ("NM|C^Conclusione||0", "0"),
        ("SN|C^Conclusione||>^12|mm", ">12 mm"), ("SN|C^Conclusione||^1^-^5", "1-5"), ("DT|C^Conclusione||20260901", "20260901"),
    ],
)  # fmt: skip
def test_what_is_coded_or_measured_beside_a_text_is_part_of_it(value: str, said: str):
    assert text_of("OBX|1|TX|1^Referto||Testo.", f"OBX|2|{value}") == f"Referto\nTesto.\n\nConclusione\n{said}"


@pytest.mark.parametrize("value", ["CE|C^Conclusione||J18^Polmonite", "NM|C^Dose||450|mGy.cm"])
def test_what_is_coded_or_measured_alone_is_no_report_and_no_document_beside_a_pdf(value: str):
    order = f"OBR|1|P|F|^RX{'|' * 14}A-1"
    for empty in ("OBX|1|TX|1||", "OBX|1|TX|1|| ~"):
        with pytest.raises(RefusedMessage):
            read(message(order, empty, f"OBX|2|{value}||||||X"))
    attachment = f"OBX|1|ED|1||^application^pdf^Base64^{base64.b64encode(ris.pdf()).decode()}"
    assert [report.media_type for report in read(message(order, attachment, f"OBX|2|{value}"))] == ["application/pdf"]


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (r"a\.br\b", "a\nb"),
        (r"a\.BR\b", "a\nb"),
        (r"a\.sp2\b", "a\n\nb"),
        (r"a\.in+4\b\.fi\c", "abc"),
        (r"2\T\3 \S\ \F\ \R\ \E\ ok", "2&3 ^ | ~ \\ ok"),
        (r"\H\forte\N\ piano", "forte piano"),
        (r"a\X0D0A\x", "a\nx"),
        (r"Per\XC3B2\ ", "Però "),
        (r"C:\temp\nuovo", r"C:\temp\nuovo"),
        (r"C:\dati\.br\b", "C:\\dati\nb"),
        (r"\Zloc\ e \C2842\ ", r"\Zloc\ e \C2842\ "),
        ("RX^torace & bacino", "RX^torace & bacino"),
        (r"citt\XE0\, \XC3\\XB2\ e \XE8\\X92\ ", "città, ò e è’ "),
        (r"\X81\ ", r"\X81\ "),
    ],
)
def test_escape_sequences_are_resolved_and_no_text_is_lost(sent: str, meant: str):
    assert text_of(f"OBX|1|TX|1||{sent}|") == meant


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("nodulo di ~3 cm (~2 prima)", "nodulo di ~3 cm (~2 prima)"), ("primo~secondo~3 cm", "primo\nsecondo\n3 cm"),
        ("esiti: ~1. nodulo ~2) cisti ", "esiti: \n1. nodulo \n2) cisti "), ("vedi ~~ nulla", "vedi \n\n nulla"),
    ],
)  # fmt: skip
def test_a_tilde_before_a_number_is_one_and_every_other_a_new_line(sent: str, meant: str):
    assert text_of(f"OBX|1|TX|1||{sent}|") == meant


@pytest.mark.parametrize("charset", ["UNICODE UTF-8", "8859/15", "8859/2", "8859/1"])
def test_signs_of_windows_under_another_name_are_never_left_out(charset: str):
    content = ris.oru("nodulo 3\x965 mm, l\x92aorta\x0bassente\x0cfine", study=STUDY, charset=charset)
    (report,) = read(content if charset == "UNICODE UTF-8" else content.decode().encode("latin-1"))
    assert report.content is not None and report.content.decode() == "nodulo 3–5 mm, l’aorta\nassente\nfine"


@pytest.mark.parametrize("charset", ["8859/1", "8859/15", "ASCII", "WINDOWS-1252"])
def test_what_is_utf_8_is_read_so_whatever_is_said(charset: str):
    (report,) = read(ris.oru("Perché 3–5 mm, ≥ 2", study=STUDY, charset=charset))
    assert report.content is not None and report.content.decode() == "Perché 3–5 mm, ≥ 2"


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))).filter(
        lambda text: text.strip() == text not in ("", '""')
    )
)
def test_any_text_that_was_escaped_comes_out_as_it_was(text: str):
    escapes = {"\\": r"\E\ ".strip(), "|": r"\F\ ".strip(), "^": r"\S\ ".strip(), "&": r"\T\ ".strip(), "~": r"\R\ ".strip()}
    assert text_of(f"OBX|1|TX|1||{''.join(escapes.get(character, character) for character in text)}|") == text


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_lines_may_end_as_senders_end_them(end: str):
    (report,) = read(ris.oru("Uno.\nDue.", study=STUDY).replace(b"\r", end.encode()))
    assert report.content == b"Uno.\nDue."


def test_other_delimiters_are_used_as_msh_says():
    text = ris.oru("a b", accession="A-1", study=STUDY).decode()
    (report,) = read(text.translate(str.maketrans("|^~\\&", "!*%@;")))
    assert (report.study, report.title, report.content) == (STUDY, "RX TORACE PA", b"a b")


@pytest.mark.parametrize(
    "segment",
    [
        f"OBX|1|ST|113014^DICOM Study^DCM||{STUDY}",
        f"OBX|1|HD|^Study Instance UID||^{STUDY}^ISO",
        f"OBX|1|ST|X^y^L^113014^DICOM Study^DCM||{STUDY}",
        f"OBX|1|ST|StudyInstanceUID||{STUDY}",
        f"OBX|1|TX|(0020,000D)^UID||{STUDY}~{STUDY}",
        f"ZDS|{STUDY}^100^Application^DICOM",
        f"IPC|A-9|RP-1|{STUDY}|SPS-1",
    ],
)
def test_the_study_is_named_in_any_of_the_ways_of_ihe(segment: str):
    (report,) = read(message("OBR|1|P|F|^RX", segment, "OBX|2|TX|1||Testo"))
    assert (report.study, report.content) == (STUDY, b"Testo")


@pytest.mark.parametrize(
    ("fields", "found"),
    [(["OBR-18"], "A-18"), (["OBR-20"], "A-20"), (["ORC-3"], "F-3"), (["OBR-19", "IPC-1.1", "OBR-20"], "A-IPC")],
)
def test_the_accession_number_stands_where_the_configuration_says(fields, found):
    lines = ["ORC|RE|P|F-3", f"OBR|1|P|F|^RX{'|' * 14}A-18||A-20", "IPC|A-IPC^x|RP|", "OBX|1|TX|1||Testo"]
    (report,) = read(message(*lines), accession_fields=fields)
    assert (report.study, report.accession) == ("", found)


def test_only_numbers_of_the_configured_authority_count():
    text = ris.oru("x", study=STUDY, patient="CF-1^^^MEF&2.16.840.1.113883.2.9.4.3.2&ISO~SM-1^^^SM&2.999.1&ISO~SM-2^^^X").decode()
    assert read(text)[0].patients == ("CF-1", "SM-1", "SM-2")
    for authority in ("SM", "2.999.1"):
        assert read(text, patient_authority=authority)[0].patients == ("SM-1",)
    with pytest.raises(RefusedMessage):
        read(text, patient_authority="OTHER")


def test_each_order_is_a_report_of_its_own_patient():
    lines = [ris.header(), "PID|1||SM-1", "OBR|1|P|F-1|^RX", f"ZDS|{STUDY}.1", "OBX|1|TX|1||Uno"]
    lines += ["PID|2||SM-2", "OBR|2|P|F-2|^TC", f"ZDS|{STUDY}.2", "OBX|1|TX|1||Due"]
    first, second = read("\r".join(lines))
    assert (first.patients, first.study, first.content, first.title) == (("SM-1",), f"{STUDY}.1", b"Uno", "RX")
    assert (second.patients, second.study, second.content, second.title) == (("SM-2",), f"{STUDY}.2", b"Due", "TC")
    assert first.document != second.document


def test_each_exam_whose_accession_number_is_named_gets_the_report_once():
    def exams(*lines: str) -> list[tuple[str, str, str]]:
        return [(report.study, report.accession, report.document) for report in read(message(*lines))]

    order, text = f"OBR|1|P|F|^RX{'|' * 14}A-1~A-2^X~A-1~", "OBX|1|TX|1||x"
    document = read(message(order, text))[0].document
    assert exams(order, text) == [("", "A-1", document), ("", "A-2", document)]
    assert exams(order, text, f"ZDS|{STUDY}") == [(STUDY, "A-1", document)]
    together = exams(order, text, f"OBR|2|P|F-2|^RX{'|' * 14}A-2")
    assert [accession for _, accession, _ in together] == ["A-1", "A-2"]
    gone = read(message(f"{order}|||||||X", "OBX|1|TX|1||x||||||X"))
    assert [(report.accession, report.content) for report in gone] == [("A-1", None), ("A-2", None)]


def test_exams_that_were_read_together_get_the_one_report():
    lines = ["ORC|RE|P|F-1", "OBR|1|P|F-1|^TC TORACE", f"ZDS|{STUDY}.1"]
    lines += ["ORC|RE|P|F-2", "OBR|2|P|F-2|^TC ADDOME", f"ZDS|{STUDY}.2", "OBX|1|TX|1||Insieme"]
    first, second = read(message(*lines))
    assert [(report.study, report.title, report.content) for report in (first, second)] == [
        (f"{STUDY}.1", "TC TORACE", b"Insieme"),
        (f"{STUDY}.2", "TC ADDOME", b"Insieme"),
    ]


def test_another_patients_exam_never_gets_the_report():
    lines = [ris.header(), "PID|1||SM-1", "OBR|1|P|F-1|^RX", f"ZDS|{STUDY}.1"]
    lines += ["PID|2||SM-2", "OBR|2|P|F-2|^TC", f"ZDS|{STUDY}.2", "OBX|1|TX|1||Suo"]
    assert [(report.patients, report.study) for report in read("\r".join(lines))] == [(("SM-2",), f"{STUDY}.2")]


def test_an_exam_that_is_still_open_gets_no_others_report():
    lines = [f"OBR|1|P|F-1|^RX{'|' * 21}I", f"ZDS|{STUDY}.1"]
    lines += [f"OBR|2|P|F-2|^RX{'|' * 21}F", f"ZDS|{STUDY}.2", "OBX|1|TX|1||Finito"]
    assert [report.study for report in read(message(*lines))] == [f"{STUDY}.2"]


@pytest.mark.parametrize(("state", "suffix"), [("F", ""), ("P", " (provvisorio)"), ("R", " (provvisorio)"), ("C", " (corretto)")])
def test_the_title_says_the_state_and_fits(state: str, suffix: str):
    text = ris.oru("x", study=STUDY, state=state).decode().replace("RX TORACE PA", "RX\u00a0TORACE " + "x" * 80)
    (report,) = read(text)
    assert report.title.startswith("RX TORACE xx") and report.title.endswith(suffix) and report.title.isprintable()
    assert len(report.title) == 64


def test_the_state_of_the_lines_counts_where_the_order_has_none():
    assert read(ris.oru("x", study=STUDY, state="", obx_state="P"))[0].title.endswith("(provvisorio)")
    assert read(ris.oru("x", study=STUDY, state="", obx_state="C"))[0].title.endswith("(corretto)")
    assert read(ris.oru("x", study=STUDY, state="", obx_state=""))[0].title == "RX TORACE PA"


@pytest.mark.parametrize("how", [{"state": "X"}, {"obx_state": "D"}, {"obx_state": "W"}, {"state": "x"}, {"obx_state": "d"}])
def test_a_report_that_is_taken_back_has_no_content(how):
    (report,) = read(ris.oru("Via.", study=STUDY, **how))
    assert report.content is None
    assert report.document == read(ris.oru("Via.", study=STUDY))[0].document


def test_documents_are_what_their_bytes_say():
    cda = b'<?xml version="1.0"?><ClinicalDocument xmlns="urn:hl7-org:v3"/>'
    found = read(ris.oru("Testo.", study=STUDY, documents=(ris.pdf("a"), cda, ris.pdf("b"))))
    assert [(document.media_type.partition(";")[0], document.part, document.content) for document in found] == [
        ("text/plain", 1, b"Testo."),
        ("application/pdf", 1, ris.pdf("a")),
        ("application/hl7-cda+xml", 1, cda),
        ("application/pdf", 2, ris.pdf("b")),
    ]


def test_base64_may_be_broken_into_lines():
    code = base64.b64encode(ris.pdf("x" * 90)).decode()
    lines = "\\.br\\".join(code[at : at + 40] for at in range(0, len(code), 40))
    (report,) = read(message("OBR|1|P|F|^RX", f"ZDS|{STUDY}", f"OBX|1|ED|1||^AP^PDF^base64^{lines}"))
    assert report.content == ris.pdf("x" * 90)


def many(count: int, content: str) -> str:
    orders = [f"OBR|{n}|P|F-{n}|^RX\rZDS|{STUDY}.{n}" for n in range(1, count + 1)]
    return message(*orders, f"OBX|1|TX|1||{content}")


@pytest.mark.parametrize(
    "too_much",
    [
        ris.oru("", study=STUDY, documents=(b"%PDF-" + bytes(4_400_000) + b"%%EOF",)).decode(),
        ris.oru("x" * 4_400_001, study=STUDY).decode(),
        many(101, "Testo"),
        many(11, "x" * 4_000_001),
        ris.oru("x", study=STUDY, field_14="CONTINUED").decode(),
        ris.oru("x", study=STUDY).decode() + "DSC|NEXT|I\r",
        ris.oru("x", study=STUDY).decode() + "ADD|rest\r",
    ],
    ids=["document", "text", "reports", "copies", "continued", "to-continue", "continuation"],
)
def test_what_is_too_much_or_not_the_whole_is_refused(too_much: str):
    with pytest.raises(RefusedMessage) as caught:
        read(too_much)
    assert (caught.value.code, caught.value.condition) == ("AE", 207)


def test_a_text_goes_and_names_the_document_that_is_too_large():
    reports = read(ris.oru("Testo.", study=STUDY, documents=(ris.pdf("x" * 4_400_000), ris.pdf())))
    assert [report.content for report in reports] == [b"Testo.\n\n[Allegato non trasmesso: Referto (troppo grande)]", ris.pdf()]


def test_what_is_just_not_too_much_is_taken():
    (report,) = read(ris.oru("x" * 4_400_000, study=STUDY))
    assert len(report.content or b"") == 4_400_000
    (report,) = read(ris.oru("", study=STUDY, documents=(b"%PDF-" + bytes(4_400_000 - 10) + b"%%EOF",)))
    assert len(report.content or b"") == 4_400_000
    assert len(read(many(100, "Testo"))) == 100
    assert sum(len(report.content or b"") for report in read(many(10, "x" * 4_400_000))) == 44_000_000


def test_a_header_without_end_is_refused():
    usual = ris.oru("x", study=STUDY, field_3="")
    room = 5000 - usual.index(b"\r")
    assert read(ris.oru("x", study=STUDY, field_3="x" * (room - 1)))
    with pytest.raises(RefusedMessage) as caught:
        read(ris.oru("x", study=STUDY, field_3="x" * room))
    assert (caught.value.code, caught.value.condition) == ("AR", 207)


def test_an_original_document_notification_is_a_report():
    lines = ["EVN|T02|20260301", "PV1|1|O", "TXA|1|RAD^RX TORACE|TX|||||||||DOC-7|||F-3||PA", "OBX|1|TX|1||Testo"]
    text = "\r".join([ris.header(kind="MDM^T02"), "EVN|T02", "PID|1||SM-1", *lines[1:], f"ZDS|{STUDY}"])
    (report,) = read(text)
    assert (report.study, report.title) == (STUDY, "Referto (provvisorio)")
    assert report.content == b"REFERTO PROVVISORIO\n\nTesto"
    assert read(text.replace("DOC-7", "DOC-8"))[0].document != report.document


def test_a_report_keeps_its_name_through_its_versions_and_tells_nothing_by_it():
    first, second = (read(ris.oru(text, study=STUDY, state=state))[0] for text, state in (("a", "P"), ("b", "C")))
    assert first.document == second.document and "F-1" not in first.document
    assert read(ris.oru("a", study=STUDY, order="F-2"))[0].document != first.document
    assert read(ris.oru("a", study=STUDY, field_3="OTHER"))[0].document != first.document


def heads(versions: str, event: str = "ORU^R01", **fields: str) -> str:
    return ris.header(kind=event, version=versions, **fields)


@pytest.mark.parametrize(
    ("named", "codec"),
    [
        *((name, "utf-8") for name in ("UNICODE UTF-8", "UTF-8", "UTF8", "utf-8", "UNICODE_UTF-8", "Unicode", "ISO IR192")),
        *((name, "cp1252") for name in ("8859/1", "ISO-8859-1", "ISO8859-1", "ISO 8859/1", "iso88591", "8859-1", "Latin1")),
        *((name, "cp1252") for name in ("WINDOWS-1252", "windows1252", "CP1252", "ANSI", "ISO IR100", "ISO_IR 100")),
        *((name, "iso-8859-15") for name in ("8859/15", "ISO-8859-15", "latin9")),
        ("8859/2", "iso-8859-2"), ("ASCII~8859/1", "cp1252"), ("UNICODE UTF-8~8859/1", "cp1252"),
        ("8859/1~UNICODE UTF-8", "cp1252"),
        ("", "utf-8"),
    ],
)  # fmt: skip
def test_the_character_set_is_known_however_it_is_written(named: str, codec: str):
    text = "perché così" if codec == "iso-8859-2" else "È più stabile, così"
    text = "Łódź" if codec == "iso-8859-2" else text
    (report,) = read(ris.oru(text, study=STUDY, charset=named).decode().encode(codec))
    assert report.content == text.encode()


@pytest.mark.parametrize("before", ["\ufeff", "\r\n\r\n", "\n \r", "\r\n\ufeff\r\n", "\0"])
@pytest.mark.parametrize("charset", ["", "UNICODE UTF-8"])
def test_what_stands_before_the_header_does_no_harm(before: str, charset: str):
    (report,) = read(before.encode() + ris.oru("Però", study=STUDY, charset=charset), charset="8859/15")
    assert report.content is not None
    assert report.content.decode() == "Però"


@pytest.mark.parametrize("marks", ["^~\\&#", "^~\\&amp;", "^~\\", "^~", "^~\\& "])
@pytest.mark.parametrize("version", ["2.1", "2.2", "2.3.1", "2.6", "2.7.1", "2.8", "2.8.2", ""])
def test_delimiters_and_versions_that_are_seldom_seen_are_read(marks: str, version: str):
    text = ris.oru("a b", accession="A-1", study=STUDY, version=version).decode().replace("^~\\&", marks)
    (report,) = read(text)
    assert (report.study, report.title, report.content) == (STUDY, "RX TORACE PA", b"a b")


def test_a_result_of_before_events_is_one():
    assert read(ris.oru("a", study=STUDY, kind="ORU", version="2.1"))[0].content == b"a"


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("Aorta 3|4 cm||||||F", "Aorta 3|4 cm"),
        ("|4 cm|5 cm||||||F|||20260110", "|4 cm|5 cm"),
        ("riga uno\rriga due||||||F", "riga uno\nriga due"),
        ("riga uno\n\nriga due\r\nTAC: no\rRX torace||||||F", "riga uno\n\nriga due\nTAC: no\nRX torace"),
        ("testo|mg|1-2|H|||F", "testo"),
        ("testo|||N", "testo"),
        ("testo||||||FINAL", "testo"),
        ("testo", "testo"),
    ],
)
def test_what_is_not_escaped_is_read_where_it_is_plain_what_it_means(sent: str, meant: str):
    assert text_of(f"OBX|1|TX|1||{sent}", "NTE|1||nota") == f"{meant}\nnota"


@pytest.mark.parametrize("sent", ["Aorta 3|4 cm", "a|b||||F", "a|b|c|d|e|f|g||||||x", "uno|due||||||F||||||F"])
def test_a_text_whose_end_cannot_be_told_is_refused(sent: str):
    with pytest.raises(RefusedMessage) as caught:
        text_of(f"OBX|1|TX|1||{sent}")
    assert (caught.value.code, caught.value.condition, caught.value.field) == ("AE", 102, 5)
    assert not {"Aorta", "due"} & set(str(caught.value).split())


def test_a_note_behind_an_obx_is_text_in_its_place():
    obx = [
        "OBX|1|TX|1^Reperto||Nodulo.||||||F",
        r"NTE|1|L|di ~8 mm \T\ stabile~rivalutare",
        "OBX|2|TX|2^Conclusioni||Noto.||||||F",
    ]
    assert text_of(*obx) == "Reperto\nNodulo.\ndi ~8 mm & stabile\nrivalutare\n\nConclusioni\nNoto."
    assert text_of("NTE|1||In urgenza.", *obx[:1]) == "In urgenza.\n\nReperto\nNodulo."
    assert text_of("OBX|1|TX|1||resta", "OBX|2|TX|1||via||||||D", "NTE|1||anche questa") == "resta"
    order, ed = f"OBR|1|P|F|^RX{'|' * 14}A-1", f"OBX|1|ED|1||^application^pdf^Base64^{base64.b64encode(ris.pdf()).decode()}"
    for notes in (["NTE|1||Ultim'ora.", ed], [ed, "NTE|1||Ultim'ora."]):
        note, pdf = read(message(order, *notes))
        assert (note.content, pdf.content) == (b"Ultim'ora.", ris.pdf())
    before = message("OBX|1|TX|1||x").replace("\rOBX", f"\rNTE|1||del paziente\r{order}\rOBX")
    assert [report.content for report in read(before)] == [b"x"]
    with pytest.raises(RefusedMessage):
        read(message(order, "NTE|1||Sola."))


def test_what_has_a_type_that_is_not_known_is_text_where_it_is_short_and_named_where_not():
    assert text_of("OBX|1|TX|1||Testo.", "OBX|2|CX|2^Scala||12^A~13") == "Testo.\n\nScala\n12 A\n13"
    said = text_of("OBX|1|TX|1||Testo.", f"OBX|2|NA|2^Curva||{'1^' * 200}")
    assert said == "Testo.\n\n[Allegato non trasmesso: Curva (NA)]"
    with pytest.raises(RefusedMessage):
        text_of("OBX|1|CX|1||12")


def test_beside_a_pdf_alone_a_text_names_what_is_left_out():
    ed = f"OBX|1|ED|1||^application^pdf^Base64^{base64.b64encode(ris.pdf()).decode()}"
    note, pdf = read(message(f"OBR|1|P|F|^RX{'|' * 14}A-1", ed, f"OBX|2|ED|1^Immagine||^image^jpeg^Base64^{JPEG}"))
    assert (note.content, pdf.content) == (b"[Allegato non trasmesso: Immagine (JPEG)]", ris.pdf())


WORDS = r"{\rtf1\ansi{\fonttbl{\f0 Arial;}}\f0 Nodulo 3\'965 mm, ~10{\super 3}\par Stabile.}"


@pytest.mark.parametrize(
    "obx",
    [
        (f"TX|1||{WORDS}",), (f"FT|1||{WORDS.replace(chr(92), chr(92) + 'E' + chr(92)).replace('~', chr(92) + 'R' + chr(92))}",),
        (f"TX|1||{WORDS[:40]}", f"TX|1||{WORDS[40:]}"), (f"ED|1||^text^rtf^Base64^{base64.b64encode(WORDS.encode()).decode()}",),
    ],
)  # fmt: skip
def test_rtf_is_read_as_the_text_that_it_shows(obx: tuple[str, ...]):
    assert text_of(*(f"OBX|{number}|{value}||||||F" for number, value in enumerate(obx, 1))) == "Nodulo 3–5 mm, ~10^3\nStabile."


def test_rtf_whose_text_cannot_be_told_is_named_beside_another_text_and_refused_alone():
    struck = "OBX|2|TX|2^Aggiunta||" + WORDS.replace(r"\par", r"\strike") + "||||||F"
    assert text_of("OBX|1|TX|1^Referto||Buono.", struck) == "Buono.\n\n[Allegato non trasmesso: Aggiunta (RTF)]"
    for alone in (struck, struck.replace("}|", "|")):
        with pytest.raises(RefusedMessage):
            text_of(alone)


JPEG, RTF = base64.b64encode(b"\xff\xd8\xff\xe0xx").decode(), base64.b64encode(b"{\\rtf1 x}").decode()


@pytest.mark.parametrize(
    ("obx", "named"),
    [
        (f"ED|IMG^Immagine chiave||^image^jpeg^Base64^{JPEG}", "Immagine chiave (JPEG)"),
        (f"ED|RTF^Documento||^text^rtf^Base64^{RTF}", "Documento (RTF)"),
        ("ED|X^Rotto||^application^pdf^Base64^%%%", "Rotto (illeggibile)"),
        ("ED|X^Testo||^application^octet-stream^Base64^QUJD", "Testo (formato non ammesso)"),
        ("RP|X^Collegamento||https://pacs.example.org^^IM", "Collegamento (riferimento esterno)"),
        ("ED|X^Vuoto||", ""), ("ED|X^Vuoto||^application^pdf^Base64^", ""), ("ED|X^Vuoto||^^^^", ""),
    ],
)  # fmt: skip
def test_a_good_text_goes_and_names_the_attachment_that_cannot_be_used(obx: str, named: str):
    content = message("OBR|1|P|F|^RX", f"ZDS|{STUDY}", "OBX|1|TX|1^Referto||Buono.||||||F", f"OBX|2|{obx}||||||F").encode()
    header = read_header(content)
    reading = read_reports(content, header, Hl7Config())
    (report,) = reading.reports
    assert report.content is not None
    assert report.content.decode() == (f"Buono.\n\n[Allegato non trasmesso: {named}]" if named else "Buono.")
    assert [(left.segment, left.number) for left in reading.left_out] == ([("OBX", 2)] if named else [])
    if named and "rtf" not in obx:
        with pytest.raises(RefusedMessage):  # alone it is no report
            read(message("OBR|1|P|F|^RX", f"ZDS|{STUDY}", f"OBX|2|{obx}||||||F"))


@pytest.mark.parametrize(
    "value",
    [
        "^application^pdf^Base64^{b64}", "RIS^AP^PDF^BASE64^{b64}", "^^^Base64^{b64}", "PDF^Base64^{b64}",
        "^application^pdf^^{b64}", "^application^pdf^Base64^data:application/pdf;base64,{b64}", "^AP^PDF^Base64^{url}",
        "^application^pdf^Hex^{hex}", "^AP^PDF^Base64^{nopad}", "{b64}", "^AP^PDF^Base64^{lines}",
    ],
)  # fmt: skip
def test_a_document_is_found_in_the_forms_in_which_it_is_sent(value: str):
    content = ris.pdf("è" * 100)
    b64 = base64.b64encode(content).decode()
    lines = "\r\n".join(b64[at : at + 76] for at in range(0, len(b64), 76))
    url = base64.urlsafe_b64encode(content).decode()
    filled = value.format(b64=b64, hex=content.hex(), nopad=b64.rstrip("="), lines=lines, url=url)
    (report,) = read(message("OBR|1|P|F|^RX", f"ZDS|{STUDY}", f"OBX|1|ED|1||{filled}||||||F"))
    assert (report.media_type, report.content) == ("application/pdf", content)


@pytest.mark.parametrize("kind", ["TX", "ST", "FT", "ed", ""])
def test_a_pdf_is_a_document_whatever_type_is_said(kind: str):
    code = base64.b64encode(ris.pdf("~è" * 40)).decode()
    (report,) = read(message("OBR|1|P|F|^RX", f"ZDS|{STUDY}", f"OBX|1|{kind}|1||{code}||||||F"))
    assert (report.media_type, report.content) == ("application/pdf", ris.pdf("~è" * 40))


@pytest.mark.parametrize("kind", ["tx", "Ft", ""])
def test_a_text_is_one_though_its_type_is_in_small_letters_or_missing(kind: str):
    assert text_of("OBX|1|TX|1||Uno.||||||F", f"OBX|2|{kind}|1||Due.||||||F") == "Uno.\nDue."


@pytest.mark.parametrize("before", [" ", "\t", "\ufeff", " \0"])
def test_what_stands_before_a_segment_does_no_harm(before: str):
    assert text_of("OBX|1|TX|1||Uno.||||||F", f"{before}OBX|2|TX|1||Due.||||||F", before) == "Uno.\nDue."


def test_megabytes_in_lines_that_were_not_escaped_are_read_in_a_moment():
    code = base64.b64encode(ris.pdf("x" * 3_000_000)).decode()
    lines = "\r".join(code[at : at + 40] for at in range(0, len(code), 40))
    started = time.monotonic()
    (report,) = read(message("OBR|1|P|F|^RX", f"ZDS|{STUDY}", f"OBX|1|ED|1||^AP^PDF^Base64^{lines}||||||F"))
    assert report.content is not None and len(report.content) > 3_000_000
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("value", ["^TEXT^plain^Base64^{}", "^text^plain^A^Perché"])
def test_a_text_file_is_text(value: str):
    value = value.format(base64.b64encode("Perché".encode()).decode())
    (report,) = read(message("OBR|1|P|F|^RX", f"ZDS|{STUDY}", f"OBX|1|ED|1||{value}||||||F"))
    assert (report.media_type, report.content) == ("text/plain; charset=utf-8", "Perché".encode())


def test_a_study_that_is_named_once_is_that_of_every_order_of_the_patient():
    lines = ["OBR|1|P|F-1|^RX", "OBX|1|TX|1||Uno", "OBR|2|P|F-2|^TC", "OBX|1|TX|1||Due", f"ZDS|{STUDY}"]
    assert [(report.study, report.content) for report in read(message(*lines))] == [(STUDY, b"Uno"), (STUDY, b"Due")]
    bare = ["OBR|1|P|F-1|^RX", "OBR|2|P|F-2|^TC", "OBX|1|TX|1||Due", f"ZDS|{STUDY}"]
    assert [(report.study, report.content) for report in read(message(*bare))] == [(STUDY, b"Due")]  # once, not for each order
    other = [ris.header(), "PID|1||SM-1", *lines[:2], "PID|2||SM-2", *lines[2:]]
    with pytest.raises(RefusedMessage):
        read("\r".join(other))
    own = [f"OBR|1|P|F-1|^RX{'|' * 14}A-1", "OBX|1|TX|1||Uno", "OBR|2|P|F-2|^TC", "OBX|1|TX|1||Due", f"ZDS|{STUDY}"]
    assert [(report.study, report.accession) for report in read(message(*own))] == [("", "A-1"), (STUDY, "")]


def test_the_patients_numbers_stand_where_the_configuration_says():
    text = message("OBR|1|P|F|^RX", f"ZDS|{STUDY}", "OBX|1|TX|1||x").replace(
        "PID|1||SM-1^^^SM^MR", "PID|1|X-2|SM-1^^^SM^MR" + "|" * 16 + "CF-19"
    )
    assert read(text)[0].patients == ("SM-1",)
    assert read(text, patient_fields=["PID-19", "PID-3", "PID-2"], patient_authority="SM")[0].patients == ("CF-19", "SM-1", "X-2")
    with pytest.raises(RefusedMessage) as caught:
        read(text.replace("CF-19", ""), patient_fields=["PID-19"])
    assert (caught.value.segment, caught.value.field) == ("PID", 19)


@pytest.mark.parametrize(
    ("obr_22", "obr_7", "at", "dated"),
    [
        ("20260110103000", "20260101", "20260110103000", True),
        ("202601101030", "", "20260110103000", True),
        ("2026011023+0000", "", "20260111000000", True),
        ("20260110103000.1234-0500", "", "20260110163000", True),
        ("20260110", "", "20260110", True),
        ("20261025025000+0200", "", "20261025025000+0200", True),  # the hour that comes twice
        ("2026-10-25T01:10:00Z", "", "20261025021000+0100", True),
        ("20261025021000", "", "20261025021000", True),
        ("20261025030000+0100", "", "20261025030000", True),
        ("2026-01-10 10:30:00", "", "20260110103000", True),
        ("2026-01-10T09:30:00.5Z", "", "20260110103000", True),
        ("2026-01-10T10:30:00+01:00", "", "20260110103000", True),
        ("2026/01/10 10:30", "", "20260110103000", True),
        ("20260110 103000", "", "20260110103000", True),
        ("2026-01-10", "", "20260110", True),
        ("10/01/2026 10:30", "20260101", "20260101", False),
        ("2026-01-10 25:00", "20260101", "20260101", False),
        ("", "202601010900", "20260101090000", False),
        ("2026", "20260101", "20260101", False),
        ("20269999", "", "", False),
        ('""', "", "", False),
    ],
)
def test_a_report_is_of_when_its_status_changed_or_else_of_the_exam(obr_22: str, obr_7: str, at: str, dated: bool):
    (report,) = read(message(f"OBR|1|P|F|^RX|||{obr_7}{'|' * 15}{obr_22}|||F", f"ZDS|{STUDY}", "OBX|1|TX|1||x"))
    assert (report.at, report.dated) == (at, dated)


def mdm(
    event: str,
    text: str = "Testo",
    number: str = "DOC-1",
    parent: str = "",
    state: str = "LA",
    availability: str = "",
    at: str = "20260110103000",
):
    txa = f"TXA|1|RAD|TX|{at}||||||||{number}|{parent}||||{state}||{availability}"
    obx = [f"OBX|1|TX|1||{text}||||||F"] if text else []
    return "\r".join([ris.header(kind=f"MDM^{event}"), f"EVN|{event}", "PID|1||SM-1", "PV1|1|O", txa, *obx, f"ZDS|{STUDY}"])


@pytest.mark.parametrize(
    ("event", "state", "status"),
    [
        ("T02", "LA", "final"), ("T02", "PA", "preliminary"), ("T02", "AU", "final"), ("T04", "DI", "preliminary"),
        ("T04", "AU", "final"),
        ("T06", "LA", "addendum"), ("T08", "LA", "corrected"), ("T08", "IP", "preliminary"), ("T10", "AU", "corrected"),
        ("T01", "LA", "final"),
    ],
)  # fmt: skip
def test_a_document_with_content_is_a_report_of_its_status(event: str, state: str, status: str):
    (report,) = read(mdm(event, state=state))
    assert (report.study, report.status, report.at, report.dated) == (STUDY, status, "20260110103000", True)


def test_of_the_times_of_a_document_the_latest_counts_also_in_the_hour_that_comes_twice():
    (report,) = read(mdm("T02").replace("20260110103000||", "20261025025000+0200||20261025021000+0100"))
    assert report.at == "20261025021000+0100"


def test_notifications_say_nothing_but_that_a_document_is_taken_back():
    for event in ("T01", "T03", "T05", "T07", "T09"):
        assert read(mdm(event, text="")) == []
    for event, more in (("T11", {}), ("T03", {"availability": "CA"}), ("T03", {"availability": "OB"})):
        (report,) = read(mdm(event, text="", **more))
        assert report.content is None
        assert report.document == read(mdm("T02"))[0].document
    for event in ("T02", "T04", "T06", "T08", "T10"):
        with pytest.raises(RefusedMessage):
            read(mdm(event, text=""))
    with pytest.raises(RefusedMessage) as caught:
        read(mdm("T12"))
    assert (caught.value.code, caught.value.condition) == ("AR", 201)


def test_what_replaces_names_what_it_replaces_and_an_addendum_is_no_version_of_it():
    original = read(mdm("T02"))[0].document
    assert read(mdm("T08"))[0].document == read(mdm("T10"))[0].document == original
    (replacement,) = read(mdm("T10", number="DOC-9", parent="DOC-1"))
    assert (replacement.replaces, replacement.document != original) == (original, True)
    assert read(mdm("T08", number="DOC-9"))[0].document == replacement.document
    (addendum,) = read(mdm("T06", number="DOC-2", parent="DOC-1"))
    assert (addendum.replaces, addendum.document) == ("", read(mdm("T08", number="DOC-2"))[0].document)
    sloppy = [read(mdm("T06", text, parent=parent))[0].document for text in ("uno", "due") for parent in ("", "DOC-1")]
    assert sloppy[0] == sloppy[1] != sloppy[2] == sloppy[3]
    assert original not in sloppy


@pytest.mark.parametrize(
    ("state", "status", "begin"),
    [
        ("F", "final", "x"),
        ("C", "corrected", "x"),
        ("P", "preliminary", "REFERTO PROVVISORIO"),
        ("A", "partial", "REFERTO PARZIALE"),
    ],
)
def test_the_status_is_told_and_stands_in_the_text_where_it_is_not_final(state: str, status: str, begin: str):
    (report,) = read(ris.oru("x", study=STUDY, state=state))
    assert report.status == status
    assert report.content is not None and report.content.decode().startswith(begin)
