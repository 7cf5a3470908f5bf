"""Which earlier exam a report speaks of, as radiologists write in Italian and English; and never a wrong one."""

from __future__ import annotations

import time

import pytest

from chalicelib.domain import priors
from chalicelib.domain.cited_priors import MAX_CITATIONS, cited, may_cite
from chalicelib.domain.priors import Exam
from chalicelib.domain.timelines import TimelineStudy


def exam(
    uid: str, day: str, name: str = "RX TORACE", modality: str = "DX", owner: str = "maugeri", clock: str = "090000"
) -> Exam:
    return priors.exam(TimelineStudy(uid, owner, day, clock, (modality,), name))


CURRENT = exam("current", "20260310")
OTHERS = [
    exam("march", "20260301", owner="san-matteo"),
    exam("ct", "20260205", "TC TORACE", "CT", "san-matteo"),
    exam("us", "20260205", "ECO ADDOME", "US"),
    exam("october", "20251026"),
    exam("knee", "20251026", "RX GINOCCHIO DX"),
    exam("twelfth", "20240312"),
    exam("letter", "20251101", "LETTERA", "DOC"),
    exam("later", "20260320"),
]


def found(
    text: str, current: Exam = CURRENT, others: list[Exam] = OTHERS, *, comparison: bool = False
) -> list[tuple[str, list[str]]]:
    """(the words, the exams that they may be) of each citation."""
    return [
        (text[citation.start : citation.end], [which.study_instance_uid for which in citation.exams])
        for citation in cited(text, current, [*others, current], comparison=comparison)
    ]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Confronto con RX del 26/10.", "october"),
        ("confronto con RX del 26/10/2025", "october"),
        ("confronto con RX del 26.10.25", "october"),
        ("Confrontato con radiogramma del 26.10.'25.", "october"),
        ("rispetto al precedente del 12.03.2024, invariato", "twelfth"),
        ("In confronto con il precedente controllo radiografico del 01/03/2026 riduzione", "march"),
        ("Confronto: 26/10/2025.", "october"),
        ("Rispetto al 26/10 invariato", "october"),
        ("rispetto all'esame di confronto del 26 ott.", "october"),
        ("RX torace del 26 ottobre 2025", "october"),
        ("RX torace del 1° marzo", "march"),
        ("L'addensamento descritto all'RX del 26/10 è ridotto", "october"),
        ("RX torace eseguito presso altra sede in data 1/3/2026", "march"),
        ("RX torace del 2026-03-01", "march"),
        ("TC torace del 5 febbraio 2026", "ct"),
        ("TC senza e con mdc del 05.02.2026", "ct"),
        ("TAC del 5/2", "ct"),
        ("ECO del 5/2/26", "us"),
        ("esame del 05/02/2026", "ct"),
        ("RX ginocchio destro del 26/10", "knee"),
        ("RX di ottobre 2025", "october"),
        ("RX del 10/2025", "october"),
        ("precedente TC torace", "ct"),
        ("TC precedente", "ct"),
        ("Compared with chest radiograph of 26 October 2025", "october"),
        ("Comparison: CT of Feb 5, 2026", "ct"),
        ("Compared to the chest film dated March 1st", "march"),
        ("comparison with X-ray of 03/26/2024 and 26 Oct 2025", "october"),
        ("previous CT", "ct"),
        ("The nodule seen on the prior CT is smaller.", "ct"),
    ],
)
def test_one_exam(text: str, meant: str) -> None:
    assert [meant] in [which for _, which in found(text)]
    assert all(which in ([meant], []) for _, which in found(text))


@pytest.mark.parametrize(
    "text",
    [
        "TC addome del 05/02/2026",
        "RX ginocchio sinistro del 26/10",
        "RX del 27/10",
        "RM del 26/10/2025",
        "RX torace del 26/10/2024",
        "PET/TC del 05.02.2026",
        "confronto con esame del 01/11/2025",
        "precedente RM",
        "RX del 2025",
    ],
)
def test_an_exam_that_is_not_here_is_no_other(text: str) -> None:
    assert [which for _, which in found(text)] in ([[]], [])
    if "2025" not in text[-5:] or "/" in text:
        assert found(text)


def test_what_may_be_either_is_said_as_such() -> None:
    assert found("radiogramma precedente") == [("radiogramma precedente", ["march", "october"])]
    assert found("Rispetto al precedente invariato.") == [("precedente", ["march", "october"])]
    assert found("Compared to prior.") == [("prior", ["march", "october"])]
    twice = [exam("morning", "20260305", clock="080000"), exam("evening", "20260305", clock="200000")]
    assert found("RX del 5/3", others=twice) == [("RX del 5/3", ["morning", "evening"])]
    for words in ("RX del 05/03/2026 ore 20:00", "RX del 5/3 alle 20.00", "film of 5 March 2026 at 20:00"):
        assert found(words, others=twice)[0][1] == ["evening"], words
    assert found("RX del 5/3 ore 11:00", others=twice)[0][1] == ["morning", "evening"]  # what is written may be when it was read
    both = [exam("film", "20260305"), exam("ct", "20260305", "TC TORACE", "CT")]
    assert found("rispetto al precedente del 05/03/2026", others=both)[0][1] == ["ct", "film"]


def test_the_previous_one_is_one_where_nothing_else_can_be_meant() -> None:
    assert found("radiogramma precedente", others=[OTHERS[0], OTHERS[5]][:1]) == [("radiogramma precedente", ["march"])]
    own = [exam("mine", "20260305"), exam("theirs", "20260301", owner="san-matteo")]
    assert found("esame precedente", others=own) == [("esame precedente", ["mine"])]
    assert found("esame precedente", others=[exam("knee", "20260305", "RX GINOCCHIO DX")]) == [("esame precedente", [])]
    assert found("esame precedente", others=[]) == [("esame precedente", [])]


def test_of_copies_of_one_study_it_is_one() -> None:
    copies = [exam("one", "20260305", owner="san-matteo"), exam("one", "20260305", owner="maugeri")]
    assert [citation.exams[0].owner for citation in cited("RX del 5/3", CURRENT, copies)] == ["maugeri"]
    assert found("RX del 5/3", others=copies) == [("RX del 5/3", ["one"])]


@pytest.mark.parametrize(
    "text",
    [
        "rispetto all'intervento del 26/10 quadro invariato",
        "paziente nato il 12.03.1951, ricoverato il 01/03",
        "esami ematochimici del 01/03",
        "biopsia TC-guidata del 5/2",
        "biopsia sotto guida TC del 5/2",
        "nodulo di 3.2 mm alla TC",
        "TC torace: nodulo 3.2 in sede basale",
        "RX torace: opacità al 1/3 medio",
        "RX torace, 2/3 inferiori del polmone",
        "Esame eseguito il 10/03/2026",
        "RX torace del 20/03/2026",
        "Nessun precedente disponibile.",
        "Precedente non disponibile.",
        "precedente esame non è disponibile",
        "esami precedenti non disponibili",
        "no prior studies",
        "prior exam not available",
        "precedente frattura costale",
        "pregresso intervento; precedente posizionamento di drenaggio",
        "rispetto ai precedenti",
        "dal 26/10 febbre",
        "RX torace del 31/02",
        "RX torace del 13/2025",
        "RX torace del 00/2025",
    ],
)
def test_what_cites_nothing(text: str) -> None:
    assert found(text) == []


def test_several_dates_share_the_exam_that_is_named() -> None:
    assert found("RX del 26/10, 01/03 e del 02/03") == [("RX del 26/10", ["october"]), ("01/03", ["march"]), ("02/03", [])]
    assert found("RX del 26/10 e TC del 05/02") == [("RX del 26/10", ["october"]), ("TC del 05/02", ["ct"])]


def test_in_a_section_of_comparison_a_date_is_enough() -> None:
    assert found("26/10/2025") == []
    assert found("26/10/2025", comparison=True) == [("26/10/2025", ["october"])]


def test_the_year_that_is_missing_is_that_of_the_nearest_such_day_before_the_exam() -> None:
    years = [exam("one", "20240312"), exam("other", "20250312")]
    assert found("RX del 12/03", others=years)[0][1] == ["other"]
    assert found("RX del 12/03", others=years[:1])[0][1] == []
    assert found("RX del 29/02", others=[exam("leap", "20240229")])[0][1] == ["leap"]


def test_an_exam_of_the_same_day_is_cited_and_the_exam_itself_is_not() -> None:
    assert found("RX del 10/03", others=[exam("morning", "20260310", clock="060000")])[0][1] == ["morning"]
    assert found("RX del 10/03", others=[exam("evening", "20260310", clock="200000")]) == []
    assert found("RX del 10/03", current=exam("current", "")) == []


@pytest.mark.parametrize(
    "text",
    [
        "RX del 26/10 " * 5000,
        "precedente " * 5000,
        "26/10/2025, " * 5000,
        "rx torace " * 5000 + "del 26/10",
        "1/" * 20000,
        "a" * 90000,
    ],
)
def test_what_is_made_to_be_slow_is_read_at_once(text: str) -> None:
    begun = time.process_time()
    may_cite(text)
    assert len(cited(text, CURRENT, OTHERS, comparison=True)) <= MAX_CITATIONS
    assert time.process_time() - begun < 2
