"""Reports on the page: like sections at one height, what changed between versions of one, and beside the viewer."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser import hospital
from tests.browser.conftest import Open
from tests.browser.hospital import Patient
from tests.harness import RunningCity, wait_until

pytestmark = pytest.mark.usefixtures("browser")
MAUGERI = """Quesito: dispnea.
Tecnica: PA e LL.
Reperto: addensamento basale destro.
Cuore: nei limiti.
CONCLUSIONI
Focolaio in risoluzione."""
SAN_MATTEO = f"""CLINICAL QUESTION: cough.

FINDINGS
{"Consolidation of the right base. " * 12}

Comparison: none.

IMPRESSION: pneumonia."""
REVERSED = "Conclusioni: polmonite.\nReperto: addensamento basale destro."


class Story:
    """A chest film of each hospital, each with a report."""

    def __init__(self, city: RunningCity, mine: str = MAUGERI, theirs: str = SAN_MATTEO) -> None:
        self.city, self.patient = city, Patient()
        self.prior = hospital.chest_film(self.patient, "san-matteo", "20260301")
        self.current = hospital.chest_film(self.patient, "maugeri", "20260310")
        hospital.send(city.client("san-matteo"), self.prior)
        hospital.send(city.client("maugeri"), self.current)
        hospital.transfer(city, self.patient)
        hospital.wait_for_studies(city, self.patient, 2)
        self.report("maugeri", mine)
        self.report("san-matteo", theirs)

    def report(self, who: str, text: str, **query: str) -> dict[str, Any]:
        study = (self.current if who == "maugeri" else self.prior).StudyInstanceUID
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        answer = self.city.client(who).post(f"/studies/{study}/reports", params=query, data=text.encode(), headers=headers)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    @property
    def url(self) -> str:
        return str(hospital.link(self.city, patient={"id": self.patient.at["maugeri"]})["url"])


@pytest.fixture(scope="module")
def story(city: RunningCity) -> Story:
    return Story(city)


def top(page: Page, side: str, kind: str) -> float:
    """Where a section begins, in pixels from above; it is there and has a height."""
    section = page.locator(f".pane.{side} .part[data-kind={kind}]").first
    expect(section).to_be_attached()
    section.scroll_into_view_if_needed()
    return float(section.evaluate("(element) => element.getBoundingClientRect().top + element.closest('.both').scrollTop"))


def no_violations(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def written(page: Page, side: str) -> str:
    """A pane's report as its elements follow one another, whatever stands where."""
    return " ".join(str(page.locator(f".pane.{side} .report .text").first.inner_text()).split()).lower()


@pytest.mark.parametrize(("width", "locale"), [(1280, "it-IT"), (1440, "en-GB"), (1920, "it-IT")])
def test_like_sections_of_both_reports_begin_at_one_height(open_page: Open, story: Story, width: int, locale: str) -> None:
    page, _ = open_page(story.url, width=width, locale=locale)
    expect(page.locator(".both.aligned")).to_be_visible()
    for kind in ("question", "findings", "impression"):
        assert top(page, "left", kind) == pytest.approx(top(page, "right", kind), abs=1)
    tops = [top(page, "left", kind) for kind in ("question", "technique", "findings", "impression")]
    assert tops == sorted(set(tops))
    assert "cuore: nei limiti." in written(page, "left")
    for word in MAUGERI.replace(":", "").replace(".", "").lower().split():
        assert word in written(page, "left")
    for word in SAN_MATTEO.replace(":", "").replace(".", "").lower().split():
        assert word in written(page, "right")
    expect(page.locator(".order:not(:empty)")).to_have_count(0)
    no_violations(page)


def test_another_order_is_told_and_the_text_stays_as_it_was_written(open_page: Open, city: RunningCity) -> None:
    page, _ = open_page(Story(city, theirs=REVERSED).url)
    expect(page.locator(".both.aligned")).to_be_visible()
    for kind in ("findings", "impression"):
        assert top(page, "left", kind) == pytest.approx(top(page, "right", kind), abs=1)
    expect(page.locator(".pane.right .order")).to_have_text(
        "Sezioni disposte come nell'altro referto; l'ordine scritto è: Conclusioni, Reperto."
    )
    assert written(page, "right").index("polmonite") < written(page, "right").index("addensamento")


def test_reports_without_headings_stand_as_they_are(open_page: Open, city: RunningCity) -> None:
    page, _ = open_page(Story(city, theirs="Nulla di patologico.").url)
    expect(page.locator(".pane.right .report .text")).to_have_text("Nulla di patologico.")
    expect(page.locator(".pane.left .part[data-kind=impression]")).to_be_attached()
    expect(page.locator(".both.aligned")).to_have_count(0)


@pytest.mark.parametrize(
    ("locale", "button", "added"),
    [("it-IT", "Cosa è cambiato", "aggiunto: "), ("en-GB", "What changed", "added: ")],
)
def test_what_is_new_in_a_version_is_marked_in_it(
    open_page: Open, city: RunningCity, locale: str, button: str, added: str
) -> None:
    story = Story(city)
    corrected = MAUGERI.replace("destro", "sinistro").replace("Tecnica: PA e LL.\n", "")
    story.report("maugeri", corrected, status="corrected")
    page, _ = open_page(story.url, locale=locale)
    report = page.locator(".pane.left .report")
    expect(report.locator(".part[data-kind=findings]")).to_contain_text("basale sinistro")
    expect(report.locator("ins, del")).to_have_count(0)
    report.get_by_role("button", name=button).click()
    findings = report.locator(".part[data-kind=findings]")
    expect(findings.locator("del")).to_contain_text("destro")
    expect(findings.locator("ins")).to_contain_text(f"{added}sinistro")
    expect(report.locator(".part[data-kind=technique] del")).to_contain_text("PA e LL.")
    expect(report.locator(".part[data-kind=question] :is(ins, del)")).to_have_count(2)  # of the legend
    expect(page.locator(".both.aligned")).to_be_visible()
    no_violations(page)
    report.get_by_role("button", name=button).click()
    expect(report.locator("ins, del")).to_have_count(0)
    expect(report.locator(".part[data-kind=findings]")).to_contain_text("basale sinistro")
    expect(page.locator(".pane.right .changes")).to_have_count(0)
    expect(report.locator("summary").first).to_be_visible()


def test_an_addendum_stands_on_the_card(open_page: Open, city: RunningCity) -> None:
    story = Story(city)
    page, _ = open_page(story.url)
    expect(page.locator(".exam")).to_have_count(2)
    expect(page.locator(".exam .addendum")).to_have_count(0)
    story.report("maugeri", "Integrazione: rivisto con il clinico.", status="addendum")
    of_current = page.locator(f".exam[data-uid='{story.current.StudyInstanceUID}']")
    expect(of_current.locator(".addendum")).to_have_text("integrazione")
    expect(page.locator(".exam .addendum")).to_have_count(1)
    expect(page.locator(".pane.left .report")).to_have_count(2)
    expect(page.locator(".pane.left .part[data-kind=addendum]")).to_contain_text("rivisto con il clinico")


def test_a_reading_begins_with_the_exam_that_its_link_names_and_does_so_again(open_page: Open, story: Story) -> None:
    patient, current = {"id": story.patient.at["maugeri"]}, str(story.prior.StudyInstanceUID)
    page, _ = open_page(str(hospital.link(story.city, patient=patient, current_study=current)["url"]))
    expect(page.locator(f".exam.left[data-uid='{current}']")).to_be_visible()
    page.reload()
    expect(page.locator(f".exam.left[data-uid='{current}']")).to_be_visible()


@pytest.mark.usefixtures("ohif")
def test_the_reports_stand_beside_the_viewer_and_fold(open_page: Open, story: Story) -> None:
    page, _ = open_page(story.url)
    expect(page.locator(".both.aligned")).to_be_visible()
    page.locator("#open-viewer").click()
    expect(page.locator(".viewer.open.ready")).to_be_visible(timeout=60000)
    fold = page.get_by_role("button", name="Referti", exact=True)
    expect(fold).to_have_attribute("aria-expanded", "false")
    expect(page.locator(".both")).to_be_hidden()
    folded = page.locator(".viewer iframe").bounding_box()
    fold.click()
    expect(page.locator(".both")).to_be_visible()
    for side in ("left", "right"):
        expect(page.locator(f".pane.{side} .whose")).to_contain_text("RX TORACE PA")
    page.locator(".pane.right .part[data-kind=impression]").scroll_into_view_if_needed()
    expect(page.locator(".pane.right .part[data-kind=impression]")).to_be_in_viewport()
    dock = page.locator(".dock").bounding_box()
    frame = page.locator(".viewer iframe").bounding_box()
    assert folded and dock and frame
    assert frame["x"] + frame["width"] <= dock["x"] + 1
    assert frame["width"] < folded["width"] - 200
    no_violations_of_the_page_alone(page)
    fold.click()
    wait_until(lambda: page.locator(".viewer iframe").bounding_box() == folded)
    page.get_by_role("button", name="Torna agli esami").click()
    expect(page.locator(".both.aligned")).to_be_visible()


def no_violations_of_the_page_alone(page: Page) -> None:
    found = Axe().run(page, options={"iframes": False})
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize(
    ("locale", "absent", "several"),
    [
        ("it-IT", "non è tra gli esami condivisi qui", "non è chiaro quale:"),
        ("en-GB", "not among the exams shared here", "not clear which:"),
    ],
)
def test_an_exam_that_a_report_cites_is_one_click_away_or_is_said_to_be_missing(
    open_page: Open, city: RunningCity, locale: str, absent: str, several: str
) -> None:
    story = Story(city, "Confronto con RX del 26/10 e TC del 3/11/2025. Ridotto rispetto al radiogramma precedente.", "Nulla.")
    cited = hospital.chest_film(story.patient, "san-matteo", "20251026")
    own = hospital.chest_film(story.patient, "maugeri", "20260228")
    hospital.send(city.client("san-matteo"), cited)
    hospital.send(city.client("maugeri"), own)
    hospital.wait_for_studies(city, story.patient, 4)
    page, _ = open_page(story.url, locale=locale)
    report = page.locator(".pane.left .report")
    expect(report.locator(".note").first).to_have_text(f" ({absent})")
    expect(report.locator(".note").last).to_contain_text(several)
    assert report.locator(".note").last.locator(".cite").evaluate_all("all => all.map(cite => cite.dataset.cited)") == [
        str(story.prior.StudyInstanceUID),
        str(own.StudyInstanceUID),
    ]
    no_violations(page)
    report.get_by_role("button", name="Confronto con RX del 26/10").click()
    expect(page.locator(f".exam.right[data-uid='{cited.StudyInstanceUID}']")).to_be_visible()
    expect(page.locator(f".exam.left[data-uid='{story.current.StudyInstanceUID}']")).to_be_visible()
    hospital.send(
        city.client("san-matteo"), hospital.image(story.patient, "san-matteo", date="20251103", description="TC TORACE")
    )
    expect(report.get_by_role("button", name="TC del 3/11/2025")).to_be_visible(timeout=20000)


@pytest.mark.parametrize(
    ("locale", "words", "note"),
    [("it-IT", "è stato corretto o ritirato", "Ho preso visione"), ("en-GB", "was corrected or withdrawn", "I have taken note")],
)
def test_who_read_a_report_is_told_of_its_correction_until_note_is_taken(
    open_page: Open, city: RunningCity, locale: str, words: str, note: str
) -> None:
    story = Story(city)
    page, _ = open_page(story.url, locale=locale)
    expect(page.locator(".pane.right .part[data-kind=impression]")).to_contain_text("pneumonia")
    expect(page.locator(".corrections")).to_have_count(0)
    story.report("san-matteo", SAN_MATTEO.replace("pneumonia", "normal"), status="corrected")
    correction = page.locator(".corrections li")
    expect(correction).to_contain_text(words)
    expect(page.locator(".pane.right .part[data-kind=impression]")).to_contain_text("normal")
    of_prior = page.locator(".card.right .line")
    expect(of_prior).to_have_text("normal.")
    no_violations(page)
    both = [str(dataset.StudyInstanceUID) for dataset in (story.current, story.prior)]
    for body in ({"study_instance_uids": both}, {"patient": {"id": story.patient.at["maugeri"]}}):
        again, _ = open_page(str(hospital.link(city, **body)["url"]), locale=locale)  # type: ignore[arg-type]
        expect(again.locator(".corrections li")).to_contain_text(words)
    other, _ = open_page(str(hospital.link(city, study_instance_uids=both[:1])["url"]), locale=locale)
    expect(other.locator(".exam")).to_have_count(1)
    expect(other.locator(".corrections")).to_have_count(0)  # of what this link does not open
    again.locator(".corrections").get_by_role("button", name=note).click()
    expect(again.locator(".corrections")).to_have_count(0)
    expect(page.locator(".corrections")).to_have_count(0)
