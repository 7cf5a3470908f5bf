"""On paper: both pictures, both reports, who and when. The citation that one copies. The end of a reading, which asks first."""

from __future__ import annotations

import io

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from pypdf import PdfReader

from chalicelib.domain.cited_priors import may_cite
from tests.browser import hospital
from tests.browser.chromium import pixels
from tests.browser.conftest import Open
from tests.browser.test_reports import Story, no_violations
from tests.harness import RunningCity

pytestmark = pytest.mark.usefixtures("browser")


@pytest.fixture(scope="module")
def story(city: RunningCity) -> Story:
    return Story(city)


def both_are_there(page: Page) -> None:
    for side in ("left", "right"):
        expect(page.locator(f".pane.{side} .picture img").first).to_be_visible()
        expect(page.locator(f".pane.{side} .part[data-kind=impression]")).to_be_attached()


@pytest.mark.parametrize(("locale", "printed"), [("it-IT", "Stampato da Dr. Anna Rossi"), ("en-GB", "Printed by Dr. Anna Rossi")])
def test_paper_has_both_pictures_both_reports_who_and_when(open_page: Open, story: Story, locale: str, printed: str) -> None:
    page, _ = open_page(story.url, locale=locale)
    both_are_there(page)
    paper = PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True, print_background=False)))
    text = " ".join(" ".join(sheet.extract_text() for sheet in paper.pages).split())
    for words in (
        "FERRARI Lucia", story.patient.at["maugeri"], "RX TORACE PA", "10 mar 2026" if locale == "it-IT" else "10 Mar 2026",
        "Focolaio in risoluzione.", "pneumonia.", "addensamento basale destro.", printed, "Maugeri", "San Matteo",
    ):  # fmt: skip
        assert words in text, words
    assert sum(len(sheet.images) for sheet in paper.pages) == 2
    assert len(paper.pages) <= 2
    page.emulate_media(media="print")
    grey = pixels(page.locator(".both"))
    assert np.median(grey) > 250
    assert grey.min() < 60
    expect(page.locator(".timeline")).to_be_hidden()
    expect(page.get_by_role("button", name="Termina lettura")).to_be_hidden()


def test_every_sheet_says_whose_it_is_of_which_exams_and_which_report_is_preliminary(open_page: Open, city: RunningCity) -> None:
    lines = "\n".join(f"Rilievo {number}: invariato rispetto al controllo precedente." for number in range(150))
    story = Story(city, theirs=f"REPERTO\n{lines}\nCONCLUSIONI\nIn risoluzione.")
    story.report("maugeri", f"REPERTO\n{lines}\nCONCLUSIONI\nDa rivedere.", status="preliminary")
    page, _ = open_page(story.url, locale="it-IT")
    both_are_there(page)
    expect(page.locator(".both")).to_contain_text("Rilievo 149")
    paper = PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True)))
    sheets = [" ".join(sheet.extract_text().split()) for sheet in paper.pages]
    assert len(sheets) > 3
    for sheet in sheets:
        for words in (
            "FERRARI Lucia", story.patient.at["maugeri"], "10 mar 2026", "Maugeri", "1 mar 2026", "San Matteo",
            "referto provvisorio",
        ):  # fmt: skip
            assert words in sheet, words
    assert "".join(sheets).count("referto provvisorio") == len(sheets), "the other hospital's is final"


def test_the_comparison_is_copied_as_one_writes_it_in_a_report(open_page: Open, story: Story) -> None:
    page, _ = open_page(story.url)
    both_are_there(page)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.keyboard.press("c")
    wanted = "Confronto con RX TORACE PA del 01/03/2026 (Fondazione IRCCS Policlinico San Matteo)."
    expect(page.locator(".toast")).to_contain_text(f"Copiato: {wanted}")
    assert page.evaluate("navigator.clipboard.readText()") == wanted
    assert may_cite(wanted)
    page.get_by_role("button", name="EN", exact=True).click()
    page.get_by_role("button", name="Copy comparison (C)").click()
    expect(page.locator(".toast")).to_contain_text("Copied: Comparison with RX TORACE PA of 01/03/2026")


@pytest.mark.parametrize(
    ("locale", "end", "stay", "sure"),
    [("it-IT", "Termina lettura", "Continua a leggere", "Termina"), ("en-GB", "End reading", "Go on reading", "End it")],
)
def test_the_end_of_a_reading_is_asked_about_and_is_of_this_one_only(
    open_page: Open, story: Story, locale: str, end: str, stay: str, sure: str
) -> None:
    other, _ = open_page(story.url, locale=locale)
    page, _ = open_page(story.url, locale=locale)
    expect(page.locator(".exam")).to_have_count(2)
    page.get_by_role("button", name=end).click()
    expect(page.get_by_role("dialog")).to_be_visible()
    no_violations(page)
    page.get_by_role("button", name=stay).click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name=end).click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator(".exam")).to_have_count(2)
    page.get_by_role("button", name=end).click()
    page.get_by_role("button", name=sure, exact=True).click()
    expect(page.locator("[data-kind=ended] h1")).to_be_visible()
    with other.expect_response("**/view/events") as answer:
        pass
    assert answer.value.status == 200
    expect(other.locator(".exam")).to_have_count(2)
    assert hospital.link(story.city, patient={"id": story.patient.at["maugeri"]})["url"]
