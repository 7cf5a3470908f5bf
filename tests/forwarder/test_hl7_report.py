"""What a message says: texts, documents, states, studies, patients; in the forms in which systems write them."""

from __future__ import annotations

import base64

import pytest
import ris
from hypothesis import given
from hypothesis import strategies as st

from forwarder.config import Hl7Config
from forwarder.hl7_message import Refusal, read_header
from forwarder.hl7_report import Report, check_header, read_reports

STUDY = "1.2.826.0.1.3680043.10.78"


def read(message: bytes | str, **config) -> list[Report]:
    content = message.encode() if isinstance(message, str) else message
    header = read_header(content)
    check_header(header, Hl7Config(**config))
    return read_reports(content, header, Hl7Config(**config))


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


def test_what_is_no_text_and_lines_that_were_taken_back_are_left_out():
    lines = ["OBX|1|TX|1||resta", "OBX|2|NM|1||12", "OBX|3|TX|1||via||||||D", "OBX|4|CE|1||A^B"]
    assert text_of(*lines) == "resta"


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
        (r"\XFF\ ", r"\XFF\ "),
    ],
)
def test_escape_sequences_are_resolved_and_no_text_is_lost(sent: str, meant: str):
    assert text_of(f"OBX|1|TX|1||{sent}|") == meant


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))).filter(lambda text: text.strip() == text != ""))
def test_any_text_that_was_escaped_comes_out_as_it_was(text: str):
    escapes = {"\\": r"\E\ ".strip(), "|": r"\F\ ".strip(), "^": r"\S\ ".strip(), "&": r"\T\ ".strip(), "~": r"\R\ ".strip()}
    assert text_of(f"OBX|1|TX|1||{''.join(escapes.get(one, one) for one in text)}|") == text


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
    with pytest.raises(Refusal):
        read(text, patient_authority="OTHER")


def test_each_order_is_a_report_of_its_own_patient():
    lines = [ris.header(), "PID|1||SM-1", "OBR|1|P|F-1|^RX", f"ZDS|{STUDY}.1", "OBX|1|TX|1||Uno"]
    lines += ["PID|2||SM-2", "OBR|2|P|F-2|^TC", f"ZDS|{STUDY}.2", "OBX|1|TX|1||Due"]
    one, two = read("\r".join(lines))
    assert (one.patients, one.study, one.content, one.title) == (("SM-1",), f"{STUDY}.1", b"Uno", "RX")
    assert (two.patients, two.study, two.content, two.title) == (("SM-2",), f"{STUDY}.2", b"Due", "TC")
    assert one.document != two.document


def test_exams_that_were_read_together_get_the_one_report():
    lines = ["ORC|RE|P|F-1", "OBR|1|P|F-1|^TC TORACE", f"ZDS|{STUDY}.1"]
    lines += ["ORC|RE|P|F-2", "OBR|2|P|F-2|^TC ADDOME", f"ZDS|{STUDY}.2", "OBX|1|TX|1||Insieme"]
    one, two = read(message(*lines))
    assert [(report.study, report.title, report.content) for report in (one, two)] == [
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


@pytest.mark.parametrize("how", [{"state": "X"}, {"obx_state": "D"}, {"obx_state": "W"}])
def test_a_report_that_is_taken_back_has_no_content(how):
    (report,) = read(ris.oru("Via.", study=STUDY, **how))
    assert report.content is None
    assert report.document == read(ris.oru("Via.", study=STUDY))[0].document


def test_documents_are_what_their_bytes_say():
    cda = b'<?xml version="1.0"?><ClinicalDocument xmlns="urn:hl7-org:v3"/>'
    found = read(ris.oru("Testo.", study=STUDY, documents=(ris.pdf("a"), cda, ris.pdf("b"))))
    assert [(one.media_type.partition(";")[0], one.part, one.content) for one in found] == [
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
        many(12, "x" * 4_000_000),
        ris.oru("x", study=STUDY, field_14="CONTINUED").decode(),
        ris.oru("x", study=STUDY).decode() + "DSC|NEXT|I\r",
        ris.oru("x", study=STUDY).decode() + "ADD|rest\r",
    ],
    ids=["document", "text", "reports", "copies", "continued", "to-continue", "continuation"],
)
def test_what_is_too_much_or_not_the_whole_is_refused(too_much: str):
    with pytest.raises(Refusal) as caught:
        read(too_much)
    assert (caught.value.code, caught.value.condition) == ("AE", 207)


def test_a_header_without_end_is_refused():
    with pytest.raises(Refusal) as caught:
        read(ris.oru("x", study=STUDY, field_3="x" * 5000))
    assert (caught.value.code, caught.value.condition) == ("AR", 207)


def test_an_original_document_notification_is_a_report():
    lines = ["EVN|T02|20260301", "PV1|1|O", "TXA|1|RAD^RX TORACE|TX|||||||||DOC-7|||F-3||PA", "OBX|1|TX|1||Testo"]
    text = "\r".join([ris.header(kind="MDM^T02"), "EVN|T02", "PID|1||SM-1", *lines[1:], f"ZDS|{STUDY}"])
    (report,) = read(text)
    assert (report.study, report.title) == (STUDY, "Referto (provvisorio)")
    assert report.content == b"REFERTO PROVVISORIO\n\nTesto"
    assert read(text.replace("DOC-7", "DOC-8"))[0].document != report.document


def test_a_report_keeps_its_name_through_its_versions_and_tells_nothing_by_it():
    one, two = (read(ris.oru(text, study=STUDY, state=state))[0] for text, state in (("a", "P"), ("b", "C")))
    assert one.document == two.document and "F-1" not in one.document
    assert read(ris.oru("a", study=STUDY, order="F-2"))[0].document != one.document
    assert read(ris.oru("a", study=STUDY, field_3="OTHER"))[0].document != one.document
