"""The sections of a report as hospitals write them, in Italian and English; and nothing of it is lost or moved."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.domain import report_sections
from chalicelib.domain.report_sections import Section, kind_of, of_coded, split

ITALIAN = """RX TORACE 2 PROIEZIONI

QUESITO CLINICO: dispnea, febbre.
Tecnica d'esame: proiezioni PA e LL in ortostatismo.

Confronto
RX del 26/10/2025.

REPERTO
Addensamento parenchimale basale destro.
Cuore: nei limiti.
Mediastino: in asse.

CONCLUSIONI Focolaio broncopneumonico basale destro."""
ENGLISH = """Clinical question: cough.

COMPARISON: chest radiograph of 26 October 2025.
FINDINGS:
No consolidation.

Impression:
No active disease."""


def told(text: str) -> list[tuple[str, str]]:
    return [(section.kind, section.title) for section in split(text)]


def test_a_report_in_italian() -> None:
    assert told(ITALIAN) == [
        ("", ""),
        ("question", "QUESITO CLINICO"),
        ("technique", "Tecnica d'esame"),
        ("comparison", "Confronto"),
        ("findings", "REPERTO"),
        ("impression", "CONCLUSIONI"),
    ]
    by_kind = {section.kind: section.text for section in split(ITALIAN)}
    assert by_kind["question"] == "dispnea, febbre."
    assert by_kind["findings"] == "Addensamento parenchimale basale destro.\nCuore: nei limiti.\nMediastino: in asse."
    assert by_kind["impression"] == "Focolaio broncopneumonico basale destro."


def test_a_report_in_english() -> None:
    assert [kind for kind, _ in told(ENGLISH)] == ["question", "comparison", "findings", "impression"]


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("Quesito", "question"), ("QUESITO DIAGNOSTICO:", "question"), ("Indicazione clinica:", "question"),
        ("Indication:", "question"),
        ("REASON FOR EXAM:", "question"), ("Motivo dell'esame:", "question"), ("Motivo dell’esame:", "question"),
        ("Notizie cliniche:", "history"), ("CLINICAL HISTORY", "history"), ("Quesito clinico e notizie cliniche:", "question"),
        ("Tecnica di esame", "technique"), ("TECNICA:", "technique"), ("Technique:", "technique"),
        ("Esame eseguito:", "technique"),
        ("Esami precedenti:", "comparison"), ("Confronto con RX del 26/10:", "comparison"), ("COMPARISON", "comparison"),
        ("Reperti", "findings"), ("REPERTI TC:", "findings"), ("1) Reperto:", "findings"), ("2. REPERTO", "findings"),
        ("**FINDINGS**", "findings"), ("Reperto -", "findings"), ("- Reperti:", "findings"), ("Descrizione:", "findings"),
        ("CONCLUSIONI.", "impression"), ("Conclusione:", "impression"), ("In conclusione:", "impression"),
        ("IMPRESSION:", "impression"),
        ("Conclusioni (Dr. Bianchi):", "impression"), ("Reperti e conclusioni:", "findings"),
        ("Findings / Impression:", "findings"),
        ("conclusioni:", "impression"), ("Si consiglia:", "recommendation"), ("Recommendations:", "recommendation"),
        ("Addendum:", "addendum"), ("INTEGRAZIONE", "addendum"), ("GIUDIZIO DIAGNOSTICO", "impression"), ("Attività: esame:", ""),
    ],
)  # fmt: skip
def test_headings(heading: str, kind: str) -> None:
    sections = split(f"Prima.\n{heading}\nDopo.")
    assert [section.kind for section in sections] == ["", kind] if kind else [""]
    assert sections[-1].text.endswith("Dopo.")


@pytest.mark.parametrize(
    "line",
    [
        "Confronto con esame del 12.03.2026, quadro invariato.",
        "Reperto di verosimile significato benigno.",
        "reperto.",
        "Conclusioni definitive dopo biopsia.",
        "REPERTO DI DUBBIA INTERPRETAZIONE",
        "Esame obiettivo: murmure ridotto.",
        "Torace: nei limiti.",
        "Diagnosi differenziale: esiti o focolaio.",
        "Precedenti interventi: colecistectomia.",
        "Findings are unchanged.",
        "Report dictated by voice: Dr. Smith",
        ":",
        "----",
        "E",
    ],
)
def test_what_is_no_heading(line: str) -> None:
    assert told(f"Prima.\n{line}\nDopo.") == [("", "")]


def test_of_what_a_report_concludes_a_list_shows_200_characters_and_a_sign_where_it_is_cut() -> None:
    assert report_sections.conclusion((), "x" * 200) == "x" * 200
    for length in (201, 100_000):
        assert report_sections.conclusion((), "x" * length) == "x" * 199 + "…"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Versamento pleurico\nassente", "Versamento pleurico assente"),
        ("Versamento pleurico  \n  assente.\nUtile controllo.", "Versamento pleurico assente."),
        ("Invariato.\nUtile controllo.", "Invariato."),
        ("Quadro invariato\n\nDr. Mario Rossi", "Quadro invariato"),
        ("Addensamento basale; \nversamento assente.", "Addensamento basale; versamento assente."),
    ],
)
def test_what_a_list_shows_of_a_report_is_not_cut_where_a_line_is_wrapped(text: str, shown: str) -> None:
    assert report_sections.conclusion((), text) == shown
    assert report_sections.conclusion(split(f"Reperto: altro.\nConclusioni:\n{text}"), "") == shown


def test_text_without_headings_is_one_section() -> None:
    assert split("Nessun addensamento.\n\nUtile controllo.") == (Section("", "", "Nessun addensamento.\n\nUtile controllo."),)
    assert split(" \n") == ()


def test_a_heading_with_nothing_below_it_is_the_title_of_what_follows() -> None:
    assert told("REFERTO\nQuesito: x\nReperto: y") == [("", "REFERTO"), ("question", "Quesito"), ("findings", "Reperto")]


def test_coded_sections() -> None:
    sections = of_coded(
        [("29299-5", "Perché", "Dispnea."), ("18782-3", "", "Nulla."), ("", "Conclusioni", "Bene."), ("x", "Altro", "")]
    )
    assert sections == (
        Section("question", "Perché", "Dispnea."),
        Section("findings", "", "Nulla."),
        Section("impression", "Conclusioni", "Bene."),
        Section("", "Altro", ""),
    )


def test_a_whole_report_in_one_coded_section_is_split() -> None:
    assert [
        (section.kind, section.title)
        for section in of_coded([("18782-3", "Referto", "Rx del torace.\nReperto: x\nConclusioni: y")])
    ] == [
        ("findings", "Referto"),
        ("findings", "Reperto"),
        ("impression", "Conclusioni"),
    ]
    assert of_coded([("18782-3", "Referto", "Quesito: x\nReperto: y")])[0] == Section("", "Referto", "")
    assert of_coded([("", "Reperti", "Reperti: y\nEsito: z")]) == (Section("findings", "Reperti", "Reperti: y\nEsito: z"),)
    assert of_coded([("", "Reperti", "Reperti: y\nConclusioni: z")])[0] == Section("findings", "Reperti", "y")
    assert of_coded([("55110-1", "Conclusioni", "Commento: y")]) == (Section("impression", "Conclusioni", "Commento: y"),)


WORDS = re.compile(r"\w+")
_LINES = st.sampled_from(
    [
        "REPERTO",
        "Reperto: nulla",
        "CONCLUSIONI Bene",
        "1) Quesito:",
        "",
        "  testo  ",
        "Cuore: x",
        "IMPRESSION:",
        "**Tecnica**",
        "- a",
        "x - y",
    ]
)


@given(st.one_of(st.lists(st.one_of(_LINES, st.text(max_size=30)), max_size=12).map("\n".join), st.text(max_size=200)))
def test_titles_and_texts_one_after_the_other_are_the_report(text: str) -> None:
    sections = split(text)
    assert WORDS.findall(" ".join(f"{section.title} {section.text}" for section in sections)) == WORDS.findall(text)
    assert all(section.kind in ("", *report_sections.KINDS) for section in sections)


def test_more_headings_than_a_report_has_are_text() -> None:
    sections = split("Reperto: x\n" * 5000)
    assert len(sections) == report_sections.MAX_SECTIONS + 1
    assert sections[-1].text.count("x") == 5000 - report_sections.MAX_SECTIONS


def test_every_phrase_is_found_as_it_is_compared() -> None:
    assert all(kind_of(phrase) == kind for phrase, kind in report_sections._PHRASES.items())


@pytest.mark.parametrize(
    "text", ["a: b\n" * 100_000, "AA/" * 100_000, "A" * 500_000, "AA " * 100_000 + "b", ":" * 400_000, "1) " * 100_000]
)
def test_what_is_made_to_be_slow_is_split_at_once(text: str) -> None:
    begun = time.process_time()
    split(text)
    assert time.process_time() - begun < 1
