"""A patient's page in a real browser: numbers, objections, protection, why somebody sees it, emergencies, the images."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from pypdf import PdfReader

from tests.browser.chromium import Watch, new_context
from tests.harness import wait_until
from tests.integration.door.doors import MAUGERI, MONDINO, SAN_MATTEO, Doors, Patient
from tests.sharing.codes import fiscal_code
from tests.sharing.images import image

Opener = Callable[..., Page]


@pytest.fixture
def page_of(doors: Doors, browser: Browser) -> Iterator[Opener]:
    """Opens `/patients` of a hospital for a person with these roles, and the page of a number where one is given."""
    contexts, watches = [], []

    def opened(institution: str, *roles: str, number: str = "") -> Page:
        headers = {"X-Remote-User": f"eva.{roles[0]}", "X-Remote-Roles": ",".join(roles)}
        contexts.append(new_context(browser, locale="it-IT"))
        door = doors.endpoints(institution)["page"]  # and nowhere else: what stands in for the proxy is not before the viewer
        contexts[-1].route(door + "/**", lambda route: route.continue_(headers={**route.request.headers, **headers}))
        page = contexts[-1].new_page()
        watches.append(Watch(page))
        page.goto(doors.endpoints(institution)["page"] + "/patients")
        if number:
            page.get_by_label("Numero paziente", exact=True).fill(number)
            page.get_by_role("button", name="Trova").click()
            expect(page.get_by_role("main")).to_contain_text(number)
            assert number not in page.url
        return page

    yield opened
    for context in contexts:
        context.close()
    for watch in watches:
        watch.expect("404")
        watch.check()


def sees(doors: Doors, institution: str, study: str) -> bool:
    return bool(doors.city.client(institution).get(f"/studies/{study}/manifest").status_code == 200)


def test_an_objection_hides_and_its_end_shows_again(doors: Doors, patient: Patient, page_of: Opener):
    patient.arrives()
    patient.transferred()
    page = page_of(SAN_MATTEO, "privacy", number=patient.number)
    section = page.get_by_role("region", name="Opposizioni")
    section.get_by_label("Il paziente si oppone a condividere").select_option(patient.prior)
    section.get_by_role("button", name="Registra l'opposizione").click()
    expect(page.get_by_role("status")).to_have_text("Da ora nessun altro lo vede.")
    assert not sees(doors, MAUGERI, patient.prior)
    page.get_by_role("button", name="Termina l'opposizione").click()
    expect(page.get_by_role("status")).to_contain_text("terminata")
    assert sees(doors, MAUGERI, patient.prior)
    assert "eva.privacy" in doors.audit(SAN_MATTEO, patient.number)


def test_an_objection_to_all_exams_is_what_the_page_offers_first(doors: Doors, patient: Patient, page_of: Opener):
    patient.arrives()
    patient.transferred()
    page = page_of(SAN_MATTEO, "privacy", number=patient.number)
    page.get_by_role("region", name="Opposizioni").get_by_role("button", name="Registra l'opposizione").click()
    expect(page.get_by_role("status")).to_have_text("Da ora nessun altro lo vede.")
    assert not sees(doors, MAUGERI, patient.prior)


def test_an_objection_under_a_number_that_was_merged_is_shown_where_the_patient_is_found_and_ends_there(
    doors: Doors, patient: Patient, page_of: Opener
):
    patient.arrives()
    patient.transferred()
    given_up, client = f"{patient.number}-0", doors.city.client(SAN_MATTEO)
    doors.send(SAN_MATTEO, image(given_up, f"{patient.prior}.8"))
    assert client.post(f"/patients/{given_up}/objections", json={}).status_code == 201
    assert client.post(f"/patients/{patient.number}/links", json={"id": given_up}).status_code == 201
    assert not sees(doors, MAUGERI, patient.prior)
    page = page_of(SAN_MATTEO, "privacy", number=patient.number)
    section = page.get_by_role("region", name="Opposizioni")
    expect(section.get_by_role("listitem")).to_contain_text(f"registrata con il numero {given_up}")
    section.get_by_role("button", name="Termina l'opposizione").click()
    expect(page.get_by_role("status")).to_contain_text("terminata")
    expect(section).to_contain_text("Nessuna opposizione")
    assert sees(doors, MAUGERI, patient.prior)


def test_a_protected_exam_is_seen_by_whom_the_patient_names(doors: Doors, patient: Patient, page_of: Opener):
    patient.arrives()
    patient.transferred()
    page = page_of(SAN_MATTEO, "privacy", number=patient.number)
    section = page.get_by_role("region", name="Protezione rafforzata e consensi")
    section.get_by_label("Proteggi un esame").select_option(patient.prior)
    section.get_by_role("button", name="Proteggi").click()
    expect(page.get_by_role("status")).to_contain_text("protetto")
    assert not sees(doors, MAUGERI, patient.prior)
    section.get_by_label("Consenso a").select_option(MAUGERI)
    section.get_by_role("button", name="Registra il consenso").click()
    expect(page.get_by_role("status")).to_contain_text("registrato")
    assert sees(doors, MAUGERI, patient.prior)
    page.get_by_role("button", name="Termina il consenso").click()
    expect(page.get_by_role("status")).to_contain_text("terminato")
    assert not sees(doors, MAUGERI, patient.prior)


def test_why_somebody_sees_it_and_what_another_would_see(doors: Doors, patient: Patient, page_of: Opener):
    patient.arrives()
    patient.transferred()
    page = page_of(SAN_MATTEO, "privacy", number=patient.number)
    section = page.get_by_role("region", name="Perché")
    section.get_by_label("Ospedale").select_option(MAUGERI)
    section.get_by_role("button", name="Mostra").click()
    row = section.get_by_role("row", name="TC TORACE")
    expect(row).to_contain_text("lo vede")
    expect(row).to_contain_text("È aperto un trasferimento")
    section.get_by_label("Ospedale").select_option(MONDINO)
    section.get_by_label("Se ci fosse un trasferimento fino al").fill("2027-01-31")
    section.get_by_role("button", name="Mostra").click()
    expect(row).to_contain_text("non lo vede")
    expect(row).to_contain_text("lo vedrebbe")
    assert not sees(doors, MONDINO, patient.prior)


def test_the_report_of_accesses_is_a_pdf_in_the_persons_language(doors: Doors, patient: Patient, page_of: Opener):
    patient.arrives()
    page = page_of(SAN_MATTEO, "privacy", number=patient.number)
    with page.expect_download() as download:
        page.get_by_role("link", name="Rapporto degli accessi").click()
    content = download.value.path().read_bytes()
    assert "chi ha consultato i suoi esami" in PdfReader(io.BytesIO(content)).pages[0].extract_text().lower()


def test_numbers_are_confirmed_with_their_evidence_and_undone(doors: Doors, patient: Patient, page_of: Opener):
    patient.arrives()
    other = f"{patient.number}-BIS"
    doors.send(SAN_MATTEO, image(other, f"{patient.prior}.8"))
    archive = doors.city.client(SAN_MATTEO)  # which proposes a number in its own time, and the page is no live one
    wait_until(lambda: other in archive.get(f"/patients/{patient.number}/links").text)
    page = page_of(SAN_MATTEO, "registry", number=patient.number)
    section = page.get_by_role("region", name="Numeri dello stesso paziente")
    card = section.get_by_role("listitem").filter(has=page.get_by_role("heading", name=other))
    expect(card).to_contain_text("stessa data di nascita")
    expect(card).to_contain_text("Bianchi Ada")
    expect(card).to_contain_text("TC TORACE")
    card.get_by_role("button", name="È lo stesso paziente").click()
    expect(page.get_by_role("status")).to_contain_text("stesso paziente")
    card.get_by_text("Scollega…").click()
    card.get_by_role("button", name="Scollega").click()
    expect(page.get_by_role("status")).to_contain_text("non sono più")
    expect(card).to_contain_text("già scollegato in passato")


def joined(doors: Doors, patient: Patient) -> list[str]:
    links = doors.city.client(SAN_MATTEO).get(f"/patients/{patient.number}/links").json()["links"]
    return [link["identifier"]["id"] for link in links if link["status"] == "confirmed"]


def join_with(page: Page, number: str) -> None:
    """As the registry office does on a patient's page."""
    page.get_by_text("Un altro numero dello stesso paziente qui…").click()
    page.get_by_label("Secondo numero in questo ospedale").fill(number)
    page.get_by_role("button", name="Collega", exact=True).click()


def test_a_number_of_another_person_is_not_joined_without_a_second_look(doors: Doors, patient: Patient, page_of: Opener):
    """A digit is wrong, and it is somebody else's: all that see the one's exams would see the other's."""
    patient.arrives()
    other = f"{patient.number}-BIS"
    doors.send(SAN_MATTEO, image(other, f"{patient.prior}.8", name="Verdi^Ugo", birth="19410523", date="20190512"))
    page = page_of(SAN_MATTEO, "registry", number=patient.number)
    join_with(page, other)
    expect(page.get_by_role("heading", level=1)).to_have_text("È la stessa persona?")
    expect(page.get_by_role("alert")).to_contain_text("Ciò che è noto sotto i due numeri è diverso")
    expect(page.get_by_role("row", name="Nome")).to_contain_text("Bianchi Ada")
    expect(page.get_by_role("row", name="Nome")).to_contain_text("Verdi Ugo")
    expect(page.get_by_role("row", name="Data di nascita")).to_contain_text("23/05/1941")
    expect(page.get_by_role("region", name="Esami").last).to_contain_text("12/05/2019")
    assert patient.number not in page.url and other not in page.url
    assert joined(doors, patient) == []
    page.get_by_role("link", name="Indietro").click()
    expect(page.get_by_role("main")).to_contain_text(patient.number)
    assert joined(doors, patient) == []
    join_with(page, other)
    page.get_by_role("button", name="È lo stesso paziente: unisci i numeri").click()
    expect(page.get_by_role("status")).to_contain_text("stesso paziente")
    assert joined(doors, patient) == [other]


def test_a_number_of_which_nothing_is_known_is_asked_about_and_what_agrees_is_not(
    doors: Doors, patient: Patient, page_of: Opener
):
    patient.arrives()
    slip, same = f"{patient.number}-SLIP", f"{patient.number}-BIS"
    doors.send(SAN_MATTEO, image(same, f"{patient.prior}.8"))
    page = page_of(SAN_MATTEO, "registry", number=patient.number)
    join_with(page, slip)
    expect(page.get_by_role("alert")).to_contain_text("Mai visto qui")
    page.get_by_role("link", name="Indietro").click()
    join_with(page, same)
    expect(page.get_by_role("status")).to_contain_text("stesso paziente")
    assert joined(doors, patient) == [same]


def test_a_proposed_number_under_which_another_person_is_named_too_is_asked_about(
    doors: Doors, patient: Patient, page_of: Opener
):
    """Whom the number is shown as is the one who is looked for; one of its exams is somebody else's."""
    patient.arrives()
    other = f"{patient.number}-BIS"
    doors.send(SAN_MATTEO, image(other, f"{patient.prior}.7", name="Verdi^Ugo", birth="19410523", date="20190512"))
    doors.send(SAN_MATTEO, image(other, f"{patient.prior}.8"))
    archive = doors.city.client(SAN_MATTEO)
    wait_until(lambda: other in archive.get(f"/patients/{patient.number}/links").text)
    page = page_of(SAN_MATTEO, "registry", number=patient.number)
    card = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name=other))
    card.get_by_role("button", name="È lo stesso paziente").click()
    expect(page.get_by_role("alert")).to_contain_text("nominato anche qualcun altro")
    expect(page.get_by_role("region", name="Esami").last).to_contain_text("Verdi Ugo")
    assert joined(doors, patient) == []
    page.get_by_role("button", name="È lo stesso paziente: unisci i numeri").click()
    expect(page.get_by_role("status")).to_contain_text("stesso paziente")
    assert joined(doors, patient) == [other]


def test_the_question_whose_two_numbers_are_is_for_the_registry_office_and_for_this_door(doors: Doors, patient: Patient):
    patient.arrives()
    staff = doors.staff(SAN_MATTEO, "eva", "registry")
    token = re.search(r'name="token" value="([0-9a-f]+)"', staff.get("/patients").text)
    assert token
    found = staff.post("/patients", data={"token": token[1], "act": "find", "number": patient.number})
    form = {"token": token[1], "act": "add-link", "number": f"{patient.number}-SLIP"}
    asked = staff.post(found.url, data=form, allow_redirects=False).headers["Location"]
    assert patient.number not in asked
    assert staff.get(asked).status_code == 200
    assert doors.staff(SAN_MATTEO, "eva", "radiology").get(asked).status_code == 403
    assert doors.staff(MAUGERI, "eva", "registry").get(asked).status_code == 404
    assert staff.get(asked[:-3]).status_code == 404
    assert staff.post(found.url, data=form | {"number": patient.number}).status_code == 400, "a number is not another one"


def declare_an_emergency(doors: Doors, patient: Patient, page: Page) -> None:
    """A radiologist at Mondino declares one, by the codice fiscale, for a patient who is known to San Matteo alone."""
    birth = f"19{patient.unique % 80 + 10}{patient.unique % 12 + 1:02d}{patient.unique % 28 + 1:02d}"  # a code of this test alone
    code = fiscal_code(birth, "F")
    doors.send(SAN_MATTEO, image(patient.number, patient.prior, birth=birth, code=code))
    page.get_by_label("Numero o codice fiscale").fill(code.lower())
    page.get_by_label("Nome e cognome di chi dichiara").fill("Eva Neri")
    page.get_by_label("Motivo dell'emergenza").fill(f"coma {patient.unique}")
    page.get_by_role("button", name="Dichiara l'emergenza").click()
    expect(page.get_by_role("status")).to_contain_text("dichiarata")


def test_where_another_objection_stands_the_end_of_one_does_not_say_that_all_is_shared_again(doors: Doors, patient: Patient):
    """As after a double click, or where one exam was objected to, and then all."""
    patient.arrives()
    patient.transferred()
    staff = doors.staff(SAN_MATTEO, "eva", "privacy")
    staff.headers["Accept-Language"] = "en"
    token = re.search(r'name="token" value="([0-9a-f]+)"', staff.get("/patients").text)
    assert token
    found = staff.post("/patients", data={"token": token[1], "act": "find", "number": patient.number})
    for study in (patient.prior, ""):
        assert staff.post(found.url, data={"token": token[1], "act": "object", "study": study}).status_code == 200
    listed = doors.city.client(SAN_MATTEO).get(f"/patients/{patient.number}/objections").json()["objections"]
    for objection, told, seen in ((listed[0], "Another one stands", False), (listed[1], "shared again as before", True)):
        answer = staff.post(found.url, data={"token": token[1], "act": "end-objection", "objection": objection["id"]})
        assert told in answer.text
        assert sees(doors, MAUGERI, patient.prior) is seen


def test_reviews_go_on_where_the_archive_says_and_a_cursor_that_is_none_begins_anew(doors: Doors, patient: Patient):
    patient.arrives()
    maugeri, san_matteo = doors.city.client(MAUGERI), doors.city.client(SAN_MATTEO)
    listed = san_matteo.get("/institutions").json()["institutions"]
    issuer = next(each["patient_id_issuer"] for each in listed if each["id"] == SAN_MATTEO)
    asked = {"patient": {"id": patient.number, "issuer": issuer}, "reason": "trauma", "practitioner": "verdi"}
    declared = [maugeri.post("/emergency-access", json=asked).json()["id"] for _ in range(2)]
    newest = san_matteo.get("/emergency-access", params={"limit": "1"}).json()
    assert newest["reviews"][0]["id"] == declared[1]
    staff = doors.staff(SAN_MATTEO, "eva", "privacy")

    def shown(cursor: str) -> list[str]:
        answer = staff.get("/patients", params={"reviews": cursor})
        assert answer.status_code == 200
        return [emergency for emergency in declared if f'value="{emergency}"' in answer.text]

    assert shown(newest["next"]) == declared[:1]
    for cursor in ("", "none", "%00", "x" * 2000):
        assert shown(cursor) == declared
    for emergency in declared:
        reviewed = san_matteo.post(f"/emergency-access/{emergency}/review", json={"conclusion": "justified"})
        assert reviewed.status_code == 200


def test_an_emergency_is_declared_opens_and_is_reviewed_by_the_owner(doors: Doors, patient: Patient, page_of: Opener):
    page = page_of(MONDINO, "radiology")
    declare_an_emergency(doors, patient, page)
    assert sees(doors, MONDINO, patient.prior)
    page.get_by_role("link", name="Apri immagini").click()
    page.wait_for_url(doors.city.endpoints["viewer"] + "/**")
    owner = page_of(SAN_MATTEO, "privacy")
    card = owner.get_by_role("listitem").filter(has_text=f"coma {patient.unique}")
    expect(card).to_contain_text("Eva Neri")
    card.get_by_label("Conclusione").select_option("justified")
    card.get_by_role("button", name="Chiudi la verifica").click()
    expect(owner.get_by_role("status")).to_contain_text("chiusa")
    expect(owner.get_by_role("listitem").filter(has_text=f"coma {patient.unique}")).to_have_count(0)


def test_who_opens_the_images_right_after_declaring_waits_and_is_not_turned_away(doors: Doors, patient: Patient, page_of: Opener):
    """What an emergency opens is found when the table's stream was read, which may be seconds behind."""
    page = page_of(MONDINO, "radiology")
    faults = doors.city.state / "faults.json"
    faults.write_text(json.dumps({"records_late_seconds": 1}))
    try:
        declare_an_emergency(doors, patient, page)
        page.get_by_role("link", name="Apri immagini").click()
        page.wait_for_url(doors.city.endpoints["viewer"] + "/**")
    finally:
        faults.unlink()


def test_the_images_open_as_this_person(doors: Doors, patient: Patient, page_of: Opener):
    patient.arrives()
    page = page_of(SAN_MATTEO, "radiology", number=patient.number)
    page.get_by_role("link", name="Apri immagini").click()
    page.wait_for_url(doors.city.endpoints["viewer"] + "/**")
    expect(page.locator(f'.exam[data-uid="{patient.prior}"]')).to_be_visible(timeout=30_000)
    wait_until(lambda: "eva.radiology" in doors.audit(SAN_MATTEO, patient.number))


@pytest.mark.parametrize("language", ["it", "en"])
def test_the_pages_are_read_by_everybody_in_both_languages(doors: Doors, patient: Patient, page_of: Opener, language: str):
    patient.arrives()
    page = page_of(SAN_MATTEO, "privacy", "registry", "radiology", number=patient.number)
    own = page.url.partition("?")[0]
    join_with(page, f"{patient.number}-SLIP")
    expect(page.get_by_role("heading", level=1)).to_have_text("È la stessa persona?")
    asked = page.url
    links = page.get_by_role("link").evaluate_all("found => found.map(link => link.href)")
    assert links and not any(patient.number in link for link in links)
    for address in (own, asked, doors.endpoints(SAN_MATTEO)["page"] + "/patients"):
        page.goto(address + f"?language={language}")
        assert page.locator("html").get_attribute("lang") == language
        page.set_viewport_size({"width": 640, "height": 360})
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


class TestRoles:
    def address(self, doors: Doors, patient: Patient, *roles: str) -> str:
        staff = doors.staff(SAN_MATTEO, "eva", *roles)
        token = re.search(r'name="token" value="([0-9a-f]+)"', staff.get("/patients").text)
        assert token
        form = {"token": token[1], "act": "find", "number": patient.number}
        return str(staff.post("/patients", data=form, allow_redirects=False).headers["Location"])

    def test_each_act_takes_its_role(self, doors: Doors, patient: Patient):
        patient.arrives()
        acts = {
            "registry": ["confirm-link", "undo-link"],
            "privacy": ["object", "end-objection", "protect", "consent", "end-consent"],
            "radiology": [],
        }  # fmt: skip
        address = self.address(doors, patient, "registry")
        for role in acts:
            staff = doors.staff(SAN_MATTEO, "eva", role)
            token = re.search(r'name="token" value="([0-9a-f]+)"', staff.get("/patients").text)
            assert token
            for act in [own for other, several in acts.items() if other != role for own in several]:
                assert staff.post(address, data={"token": token[1], "act": act, "study": ""}).status_code == 403, (role, act)
        assert doors.city.client(SAN_MATTEO).get(f"/patients/{patient.number}/objections").json()["objections"] == []
        for path, role in (("/images", "registry"), ("/accesses.pdf", "radiology"), ("/accesses.pdf", "registry")):
            answer = doors.staff(SAN_MATTEO, "eva", role).get(address + path, allow_redirects=False)
            assert answer.status_code == 403

    def test_who_may_not_know_of_objections_is_shown_none(self, doors: Doors, patient: Patient):
        patient.arrives()
        address = self.address(doors, patient, "registry")
        assert "Opposizioni" in doors.staff(SAN_MATTEO, "eva", "privacy").get(address).text
        for role in ("registry", "radiology"):
            assert "Opposizioni" not in doors.staff(SAN_MATTEO, "eva", role).get(address).text

    def test_an_address_of_another_hospitals_door_opens_nothing(self, doors: Doors, patient: Patient):
        patient.arrives()
        address = self.address(doors, patient, "registry")
        assert doors.staff(SAN_MATTEO, "eva", "registry").get(address).status_code == 200
        assert doors.staff(MAUGERI, "eva", "registry").get(address).status_code == 404
        for wrong in (address[:-2], "/patients/AAAA", "/patients/" + "A" * 5000, "/patients/%00", "/patients/..%2f.."):
            assert doors.staff(SAN_MATTEO, "eva", "registry").get(wrong).status_code == 404

    def test_a_page_on_which_no_exam_is_seen_any_more_says_so_and_opens_none(self, doors: Doors, patient: Patient):
        doors.send(SAN_MATTEO, image(patient.number, patient.prior))
        maugeri, transfer = doors.city.client(MAUGERI), patient.transferred()
        assert maugeri.put(f"/transfers/{transfer}/receiving-patient", json={"id": patient.elsewhere}).ok
        staff = doors.staff(MAUGERI, "eva", "radiology")
        staff.headers["Accept-Language"] = "it"
        token = re.search(r'name="token" value="([0-9a-f]+)"', staff.get("/patients").text)
        assert token
        form = {"token": token[1], "act": "find", "number": patient.elsewhere}
        address = str(staff.post("/patients", data=form, allow_redirects=False).headers["Location"])
        wait_until(lambda: "Bianchi Ada" in (seen := staff.get(address).text) and "Apri immagini" in seen)
        assert maugeri.delete(f"/transfers/{transfer}").ok
        left = staff.get(address).text
        assert patient.elsewhere in left and "PACS vi restano" in left
        assert "Apri immagini" not in left and "Senza nome" not in left
