"""`/transfers` as the registry office uses it, in a real browser; and what no form can do."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from forwarder.web.days import HERE
from forwarder.web.transfer_lists import SHOWN
from tests.browser.chromium import Watch, new_context
from tests.harness import hospital_day, is_linked, wait_until
from tests.integration.door.doors import MAUGERI, MONDINO, SAN_MATTEO, Doors, Patient, Staff
from tests.sharing.codes import omocode, somebodys_code
from tests.sharing.images import image


@pytest.fixture
def registry(doors: Doors, browser: Browser) -> Iterator[dict[str, Page]]:
    """The registry offices of two hospitals, each with its page open, in Italian."""
    contexts, pages, watches = [], {}, []
    for institution in (SAN_MATTEO, MAUGERI):
        headers = {"X-Remote-User": f"anna.{institution}", "X-Remote-Roles": "registry"}
        contexts.append(new_context(browser, locale="it-IT", extra_http_headers=headers, viewport={"width": 1280, "height": 720}))
        page = contexts[-1].new_page()
        watches.append(Watch(page))
        page.goto(doors.endpoints(institution)["page"] + "/transfers")
        pages[institution] = page
    yield pages
    for context in contexts:
        context.close()
    for watch in watches:
        watch.expect("404", "409", "400", "412")
        watch.check()


def open_transfer(page: Page, patient: Patient, to: str = MAUGERI) -> None:
    page.get_by_label("Numero paziente", exact=True).fill(patient.number)
    page.get_by_label("Destinazione").select_option(to)
    page.get_by_label("Motivo").fill("Riabilitazione")
    page.get_by_role("button", name="Apri trasferimento").click()


def test_a_patient_is_transferred_and_accepted_by_two_people_in_a_few_clicks(doors: Doors, patient: Patient, registry):
    patient.arrives()
    began = time.monotonic()
    open_transfer(registry[SAN_MATTEO], patient)
    expect(registry[SAN_MATTEO].get_by_role("main")).to_contain_text("Bianchi Ada")
    expect(registry[SAN_MATTEO].get_by_role("main")).to_contain_text("15/03/1960")
    expect(registry[SAN_MATTEO].get_by_role("main")).to_contain_text("TC TORACE")
    assert patient.number not in registry[SAN_MATTEO].url
    registry[SAN_MATTEO].reload()  # sends nothing again: the page was asked for, not posted
    registry[SAN_MATTEO].get_by_role("button", name="Conferma").click()
    told = registry[SAN_MATTEO].get_by_role("status")
    expect(told).to_contain_text(re.compile("Bianchi Ada è aperto. Verso: .*Maugeri.*qui dopo l'accettazione"))
    expect(told).to_be_focused()
    assert time.monotonic() - began < 20
    registry[SAN_MATTEO].reload()
    expect(told).to_have_count(0)
    assert doors.city.client(MAUGERI).get(f"/studies/{patient.prior}/manifest").status_code == 200

    receiving = registry[MAUGERI]
    receiving.reload()
    card = receiving.get_by_role("listitem").filter(has_text=patient.number)
    expect(card).to_contain_text("Bianchi Ada")
    card.get_by_label("Numero paziente locale").fill(patient.elsewhere)
    card.get_by_role("button", name="Accetta").click()
    expect(receiving.get_by_role("status")).to_contain_text(f"Bianchi Ada è accettato con il numero {patient.elsewhere}. Da: ")
    expect(receiving.get_by_role("region", name="Pazienti ricevuti")).to_contain_text(patient.elsewhere)
    assert doors.city.client(SAN_MATTEO).get(f"/studies/{patient.follow_up}/manifest").status_code == 200
    for institution, number in ((SAN_MATTEO, patient.number), (MAUGERI, patient.elsewhere)):
        assert f"anna.{institution}" in doors.audit(institution, number)
    for page in registry.values():
        assert patient.number not in page.url and patient.elsewhere not in page.url


def test_nothing_is_opened_before_it_is_confirmed_nor_twice(doors: Doors, patient: Patient, registry):
    patient.arrives()
    open_transfer(registry[SAN_MATTEO], patient)
    expect(registry[SAN_MATTEO].get_by_role("button", name="Conferma")).to_be_visible()
    mine = doors.city.client(SAN_MATTEO).get("/transfers", params={"direction": "outgoing", "limit": "1000"}).json()["transfers"]
    assert not [transfer for transfer in mine if transfer["patient"]["id"] == patient.number]
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', registry[SAN_MATTEO].content()))
    staff = doors.staff(SAN_MATTEO, f"anna.{SAN_MATTEO}", "registry")
    for _ in range(2):  # as by a double click
        assert staff.post("/transfers", data=fields, allow_redirects=False).status_code == 303
    mine = doors.city.client(SAN_MATTEO).get("/transfers", params={"direction": "outgoing", "limit": "1000"}).json()["transfers"]
    assert len([transfer for transfer in mine if transfer["patient"]["id"] == patient.number]) == 1


def test_a_number_that_is_nobodys_is_told_and_what_was_written_stays(patient: Patient, registry):
    page = registry[SAN_MATTEO]
    open_transfer(page, patient)
    expect(page.get_by_role("alert")).to_have_text("Nessun paziente di questo ospedale ha questo numero.")
    expect(page.get_by_label("Numero paziente", exact=True)).to_have_value(patient.number)
    expect(page.get_by_label("Motivo")).to_have_value("Riabilitazione")


def test_exams_of_another_person_under_the_number_are_shown_before_they_are_shared(doors: Doors, patient: Patient, registry):
    """A number that was given again, or one under which many are filed: a transfer shares all that lies under it."""
    patient.arrives()
    doors.send(SAN_MATTEO, image(patient.number, f"{patient.prior}.9", date="20190512", birth="19310807", name="Neri^Ugo"))
    page = registry[SAN_MATTEO]
    open_transfer(page, patient)
    expect(page.get_by_role("alert")).to_have_text(
        "Sotto questo numero ci sono esami di un'altra persona: verrebbero condivisi anche quelli."
    )
    expect(page.get_by_role("listitem").filter(has_text="12/05/2019")).to_contain_text("Neri Ugo, data di nascita 07/08/1931")
    expect(page.get_by_role("listitem").filter(has_text="Bianchi")).to_have_count(0)
    page.get_by_role("link", name="Indietro").click()
    assert doors.city.client(SAN_MATTEO).get(f"/patients/{patient.number}/timeline").json()["transfers"] == []
    open_transfer(page, patient)
    page.get_by_role("button", name="Apri comunque").click()
    expect(page.get_by_role("status")).to_contain_text("Bianchi Ada")


def test_exams_of_another_person_that_come_while_a_transfer_is_open_are_told_where_it_stands(
    doors: Doors, patient: Patient, registry
):
    """At either hospital under its own number; at the one that received, of those since the opening alone: older ones stay."""
    patient.arrives()
    transfer = patient.transferred()
    accepted = {"id": patient.elsewhere}
    assert doors.city.client(MAUGERI).put(f"/transfers/{transfer}/receiving-patient", json=accepted).ok
    told = "esami di un'altra persona"
    cards = {
        SAN_MATTEO: registry[SAN_MATTEO].get_by_role("region", name="Pazienti inviati"),
        MAUGERI: registry[MAUGERI].get_by_role("region", name="Pazienti ricevuti"),
    }
    for hospital, number in ((SAN_MATTEO, patient.number), (MAUGERI, patient.elsewhere)):
        registry[hospital].reload()
        cards[hospital] = cards[hospital].locator("li.card").filter(has_text=number)
        expect(cards[hospital]).to_contain_text("Bianchi Ada")
        expect(cards[hospital]).not_to_contain_text(told)
    someone = {"name": "Neri^Ugo", "birth": "19310807"}
    doors.send(MAUGERI, image(patient.elsewhere, f"{patient.follow_up}.8", date="20190512", **someone))
    registry[MAUGERI].reload()
    expect(cards[MAUGERI]).to_contain_text("Bianchi Ada")
    expect(cards[MAUGERI]).not_to_contain_text(told)
    doors.send(SAN_MATTEO, image(patient.number, f"{patient.prior}.8", date="20190512", **someone))
    doors.send(MAUGERI, image(patient.elsewhere, f"{patient.follow_up}.9", date=hospital_day(), **someone))
    for hospital, card in cards.items():
        registry[hospital].reload()
        expect(card).to_contain_text(told)
        expect(card).to_contain_text("Neri Ugo, data di nascita 07/08/1931")


def asked_who_it_is(page: Page, patient: Patient) -> Locator:
    """The patient is accepted under their number elsewhere, and the page asks; the card of what waits."""
    page.reload()
    card = page.get_by_role("listitem").filter(has_text=patient.number)
    card.get_by_label("Numero paziente locale").fill(patient.elsewhere)
    card.get_by_role("button", name="Accetta").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("È la stessa persona?")
    return card


def test_a_number_of_somebody_else_is_not_accepted_without_a_second_look(doors: Doors, patient: Patient, registry):
    patient.arrives(birth="19711224", name="Bianchi^Ida")
    patient.transferred()
    page = registry[MAUGERI]
    card = asked_who_it_is(page, patient)
    expect(page.get_by_role("row", name="Data di nascita")).to_contain_text("diverso")
    assert doors.city.client(SAN_MATTEO).get(f"/studies/{patient.follow_up}/manifest").status_code == 404
    page.get_by_role("link", name="Indietro").click()
    card.get_by_label("Numero paziente locale").fill(f"MX{patient.unique}")
    card.get_by_role("button", name="Accetta").click()
    expect(page.get_by_role("alert")).to_contain_text("Mai visto qui")
    page.get_by_role("button", name=f"È la stessa persona: accetta con MX{patient.unique}").click()
    expect(page.get_by_role("status")).to_contain_text(f"Bianchi Ada è accettato con il numero MX{patient.unique}")


def test_a_number_under_which_another_person_has_exams_too_is_not_accepted_without_a_second_look(
    doors: Doors, patient: Patient, registry
):
    """The number is shown as the patient; what is made under it is shared from now on, whomever it is of."""
    doors.send(MAUGERI, image(patient.elsewhere, f"{patient.follow_up}.9", date="20190512", birth="19310807", name="Neri^Ugo"))
    patient.arrives()
    transfer = patient.transferred()
    page = registry[MAUGERI]
    asked_who_it_is(page, patient)
    expect(page.get_by_role("alert")).to_contain_text("nominato anche qualcun altro")
    expect(page.get_by_role("region", name="Esami").first).to_contain_text("Neri Ugo, data di nascita 07/08/1931")
    assert "accepted_at" not in doors.city.client(SAN_MATTEO).get(f"/transfers/{transfer}").json()
    page.get_by_role("button", name=f"È la stessa persona: accetta con {patient.elsewhere}").click()
    expect(page.get_by_role("status")).to_contain_text(f"è accettato con il numero {patient.elsewhere}")


def test_codes_that_are_the_same_only_without_omocodia_are_always_asked_about(doors: Doors, patient: Patient, registry):
    code = somebodys_code("19600315", "F")
    doors.send(SAN_MATTEO, image(patient.number, patient.prior, code=code))
    doors.send(MAUGERI, image(patient.elsewhere, patient.follow_up, code=omocode(code), name="Bianchi^Ada Maria"))
    maugeri = doors.city.client(MAUGERI)
    wait_until(lambda: is_linked(maugeri, patient.elsewhere))
    wait_until(lambda: is_linked(doors.city.client(SAN_MATTEO), patient.number))
    transfer = patient.transferred()
    assert maugeri.get(f"/transfers/{transfer}").json()["linked_patients"] == []
    page = registry[MAUGERI]
    asked_who_it_is(page, patient)
    expect(page.get_by_role("alert")).to_contain_text("uguali solo senza omocodia")
    page.get_by_role("link", name="Indietro").click()
    assert "accepted_at" not in maugeri.get(f"/transfers/{transfer}").json()


def test_what_is_linked_comes_first_and_what_is_not_certain_is_asked_once(doors: Doors, patient: Patient, registry):
    patient.arrives()
    maugeri = doors.city.client(MAUGERI)
    assert maugeri.put(f"/transfers/{patient.transferred()}/receiving-patient", json={"id": patient.elsewhere}).ok
    second, page, slip = patient.transferred(), registry[MAUGERI], f"MX{patient.unique}"
    waiting = page.get_by_role("region", name="In arrivo").get_by_role("listitem").filter(has_text=patient.number)
    page.reload()
    expect(waiting).to_contain_text(f"già collegato a questa persona: {patient.elsewhere}")
    expect(waiting.get_by_label("Numero paziente locale")).to_have_value(patient.elsewhere)
    waiting.get_by_label("Numero paziente locale").fill(slip)
    waiting.get_by_role("button", name="Accetta").click()
    expect(page.get_by_role("alert")).to_contain_text("già collegato un altro numero")
    expect(page.get_by_role("alert")).to_contain_text("Mai visto qui")
    expect(page.get_by_role("row", name="Data di nascita")).to_contain_text(re.compile("non noto.*15/03/1960"))
    expect(page.get_by_role("link", name="Indietro")).to_be_focused()
    assert slip not in page.url and patient.number not in page.url
    assert "accepted_at" not in maugeri.get(f"/transfers/{second}").json()
    page.get_by_role("button", name="Accetta con questo numero").click()  # the one that is linked
    expect(page.get_by_role("status")).to_contain_text(patient.elsewhere)
    assert maugeri.get(f"/transfers/{second}").json()["receiving_patient"]["id"] == patient.elsewhere

    card = page.get_by_role("region", name="Pazienti ricevuti").get_by_role("listitem").filter(has_text=patient.elsewhere).first
    expect(card).to_contain_text("Può prolungare il trasferimento solo l'ospedale che ha inviato")
    for still_open in (True, False):
        card.get_by_text("Termina…").click()
        card.get_by_role("button", name="Termina trasferimento").click()
        told = page.get_by_role("status")
        expect(told).to_contain_text(re.compile("Bianchi Ada è terminato.*PACS"))
        assert ("ancora aperto" in told.inner_text()) is still_open
    ended = page.get_by_role("region", name="Conclusi").get_by_role("row").filter(has_text=patient.elsewhere)
    expect(ended.first.get_by_role("link", name=patient.elsewhere)).to_be_visible()


def test_a_transfer_is_extended_and_ended_here(doors: Doors, patient: Patient, registry):
    patient.arrives()
    transfer = patient.transferred()
    page = registry[SAN_MATTEO]
    page.reload()
    card = page.get_by_role("listitem").filter(has_text=patient.number)
    client = doors.city.client(SAN_MATTEO)
    last = datetime.fromisoformat(client.get(f"/transfers/{transfer}").json()["expires_at"]).astimezone(HERE).date()
    expect(page.get_by_label("Fino al")).to_have_value(last.isoformat())  # as long as where no end is said
    expect(card.get_by_label("Nuovo ultimo giorno")).to_have_value(last.isoformat())
    card.get_by_role("button", name="+7 giorni").click()
    expect(page.get_by_role("status")).to_contain_text(f"prolungato: è aperto fino al {last + timedelta(days=7):%d/%m/%Y}")
    card.get_by_label("Nuovo ultimo giorno").evaluate("field => { field.min = ''; field.value = '2027-01-01'; }")
    card.get_by_role("button", name="Prolunga").click()
    expect(card.get_by_role("alert")).to_contain_text("deve essere successivo")  # beside the field
    card.get_by_label("Nuovo ultimo giorno").fill("2028-01-31")
    card.get_by_role("button", name="Prolunga").click()
    expect(page.get_by_role("status")).to_contain_text("prolungato")
    assert client.get(f"/transfers/{transfer}").json()["expires_at"].startswith("2028-01-31T22:59:59")
    card = page.get_by_role("listitem").filter(has_text=patient.number)
    card.get_by_text("Termina…").click()
    card.get_by_role("button", name="Termina trasferimento").click()
    expect(page.get_by_role("status")).to_contain_text("terminato")
    assert client.get(f"/transfers/{transfer}").json()["status"] == "revoked"


def test_who_acts_on_a_page_of_before_does_nothing_and_is_told_what_the_transfer_is_now(
    doors: Doors, patient: Patient, registry
) -> None:
    """Two pages of one office, or two of its people: the second one's form is of what was there when its page was made."""
    patient.arrives()
    transfer = patient.transferred()
    page = registry[MAUGERI]
    maugeri, san_matteo = doors.city.client(MAUGERI), doors.city.client(SAN_MATTEO)
    card = page.get_by_role("listitem").filter(has_text=patient.number)
    told = page.get_by_role("alert")
    path = f"/transfers/{transfer}"

    page.reload()
    card.get_by_label("Numero paziente locale").fill(f"MY{patient.unique}")
    card.get_by_role("button", name="Accetta", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("È la stessa persona?")
    assert maugeri.put(f"{path}/receiving-patient", json={"id": f"MX{patient.unique}"}).ok
    page.get_by_role("button", name="È la stessa persona").click()
    expect(told).to_contain_text("Non è stato fatto nulla: il trasferimento di Bianchi Ada è cambiato")
    expect(told).to_contain_text(f"accettato con il numero MX{patient.unique}")
    expect(told).to_be_focused()
    assert maugeri.get(path).json()["receiving_patient"]["id"] == f"MX{patient.unique}"

    assert maugeri.put(f"{path}/receiving-patient", json={"id": patient.elsewhere}).ok
    received = page.get_by_role("region", name="Pazienti ricevuti").get_by_role("listitem").filter(has_text=f"MX{patient.unique}")
    received.get_by_text("Paziente sbagliato…").click()
    received.get_by_role("button", name="Annulla accettazione").click()
    expect(told).to_contain_text(f"accettato con il numero {patient.elsewhere}")
    assert "accepted_at" in maugeri.get(path).json()

    sender = registry[SAN_MATTEO]
    sender.reload()
    sent = sender.get_by_role("region", name="Pazienti inviati").get_by_role("listitem").filter(has_text=patient.number)
    later = (datetime.fromisoformat(san_matteo.get(path).json()["expires_at"]) + timedelta(days=7)).isoformat()
    assert san_matteo.patch(path, json={"expires_at": later}).ok
    sent.get_by_role("button", name="+7 giorni").click()
    expect(sender.get_by_role("alert")).to_contain_text("Non è stato fatto nulla")
    assert datetime.fromisoformat(san_matteo.get(path).json()["expires_at"]) == datetime.fromisoformat(later)

    assert maugeri.delete(path).ok
    sent.get_by_text("Termina…").click()
    sent.get_by_role("button", name="Termina trasferimento").click()
    expect(sender.get_by_role("alert")).to_contain_text("Bianchi Ada era già terminato. Con: ")
    expect(sender.get_by_role("status")).to_have_count(0)


def test_a_transfer_that_somebody_else_opened_meanwhile_is_shown_before_a_second_one_is(
    doors: Doors, patient: Patient, registry
) -> None:
    patient.arrives()
    page = registry[SAN_MATTEO]
    open_transfer(page, patient)
    expect(page.get_by_role("button", name="Conferma")).to_be_visible()
    patient.transferred()
    page.get_by_role("button", name="Conferma").click()
    expect(page.get_by_role("alert")).to_contain_text("è già aperto")
    mine = {"direction": "outgoing", "patient": patient.number}
    assert len(doors.city.client(SAN_MATTEO).get("/transfers", params=mine).json()["transfers"]) == 1
    page.get_by_role("button", name="Apri comunque").click()
    expect(page.get_by_role("status")).to_contain_text("Bianchi Ada è aperto")
    assert len(doors.city.client(SAN_MATTEO).get("/transfers", params=mine).json()["transfers"]) == 2


@pytest.mark.parametrize("language", ["it", "en"])
def test_the_page_is_read_by_everybody_in_both_languages(doors: Doors, patient: Patient, registry, language: str):
    patient.arrives()
    patient.transferred()
    page = registry[MAUGERI]
    page.goto(doors.endpoints(MAUGERI)["page"] + f"/transfers?language={language}")
    assert page.locator("html").get_attribute("lang") == language
    page.set_viewport_size({"width": 640, "height": 360})  # 1280 × 720 at 200 %
    assert Axe().run(page).violations_count == 0
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_of_hundreds_of_transfers_each_is_reached_and_found_and_done_where_it_stands(doors: Doors, patient: Patient, registry):
    patient.arrives()
    client, mondino = doors.city.client(SAN_MATTEO), doors.city.client(MONDINO)
    body = {"patient": {"id": patient.number}, "to": MAUGERI, "reason": "riabilitazione"}
    first = client.post("/transfers", json=body | {"to": MONDINO}).json()["id"]
    opened = [client.post("/transfers", json=body).json()["id"] for _ in range(2 * SHOWN + 5)]
    page = registry[SAN_MATTEO]
    page.reload()
    outgoing = page.get_by_role("region", name="Pazienti inviati")
    seen = []
    for shown in (SHOWN, SHOWN, None):  # page by page, none lost, none twice
        cards = outgoing.locator("li.card input[name=transfer]")
        assert shown is None or outgoing.locator("li.card").count() == shown
        seen += list(dict.fromkeys(cards.evaluate_all("fields => fields.map(field => field.value)")))
        if shown:
            outgoing.get_by_role("link", name="Mostra i precedenti").click()
    mine = [*reversed(opened), first]
    assert len(seen) == len(set(seen)) and [each for each in seen if each in {*mine}] == mine

    page.get_by_role("link", name="Tutti i trasferimenti").click()
    page.get_by_label("Per numero").fill(patient.number)
    page.get_by_label("Con l'ospedale").select_option(MONDINO)
    page.get_by_role("button", name="Trova").click()
    expect(outgoing.get_by_role("listitem")).to_have_count(1)
    assert patient.number not in page.url
    expect(page.get_by_label("Per numero")).to_have_value(patient.number)
    outgoing.get_by_role("button", name="+7 giorni").click()
    expect(page.get_by_role("status")).to_contain_text("prolungato")
    expect(outgoing.get_by_role("listitem")).to_have_count(1)  # found still
    page.get_by_role("link", name="English").click()
    expect(page.get_by_role("region", name="Patients sent").get_by_role("listitem")).to_have_count(1)
    page.get_by_label("With hospital").select_option(MAUGERI)
    page.get_by_role("button", name="Find").click()
    sent = page.get_by_role("region", name="Patients sent")
    sent.get_by_role("link", name="Show the earlier ones").click()  # narrowed as it was
    expect(sent.get_by_label("New last day").first).to_be_visible()
    assert sent.locator("li.card").filter(has_text="Mondino").count() == 0
    assert Axe().run(page).violations_count == 0

    client.delete(f"/transfers/{opened[0]}")
    page.goto(doors.endpoints(SAN_MATTEO)["page"] + "/transfers?language=it")
    expect(page.get_by_role("region", name="Conclusi")).to_contain_text(patient.number)  # however many run
    for transfer in (first, *opened):
        client.delete(f"/transfers/{transfer}")
    assert mondino.get("/transfers", params={"status": "active", "patient": patient.number}).json()["transfers"] == []


def test_everything_can_be_done_with_the_keyboard(patient: Patient, registry):
    patient.arrives()
    page = registry[SAN_MATTEO]
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Al contenuto")).to_be_focused()
    page.get_by_label("Numero paziente", exact=True).focus()
    page.keyboard.type(patient.number)
    page.keyboard.press("Tab")
    page.keyboard.type("Istituti")
    page.keyboard.press("Tab")
    page.keyboard.type("Riabilitazione")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Conferma")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("aperto")
    open_transfer(page, patient)  # again: what is at hand now opens nothing, and the one that is open can be extended
    expect(page.get_by_role("alert")).to_contain_text("già aperto")
    expect(page.get_by_role("button", name="Prolunga")).to_be_visible()
    expect(page.get_by_role("link", name="Indietro")).to_be_focused()
    page.keyboard.press("Enter")
    expect(
        page.get_by_role("region", name="Pazienti inviati").get_by_role("listitem").filter(has_text=patient.number)
    ).to_have_count(1)


def test_a_page_is_there_within_a_third_of_a_second(doors: Doors, patient: Patient):
    staff = doors.staff(MONDINO, "anna", "registry")
    staff.get("/transfers")
    assert min(staff.get("/transfers").elapsed.total_seconds() for _ in range(5)) < 0.3


class TestForms:
    @pytest.mark.parametrize(
        ("name", "roles", "status"),
        [(None, (), 401), ("anna", (), 403), ("anna", ("radiology", "privacy", "admin"), 403), ("anna", ("registry",), 200)],
    )
    def test_the_page_takes_the_role(self, doors: Doors, name, roles, status):
        answer = doors.staff(SAN_MATTEO, name, *roles).get("/transfers")
        assert answer.status_code == status
        assert answer.headers["Content-Type"].startswith("text/html")

    @pytest.mark.parametrize("token", ["", "x", "0" * 64, None])
    def test_a_form_that_is_not_ours_does_nothing(self, doors: Doors, patient: Patient, token):
        patient.arrives()
        transfer = patient.transferred()
        staff = doors.staff(SAN_MATTEO, "anna", "registry")
        form = {"act": "end", "transfer": transfer} | ({} if token is None else {"token": token})
        assert staff.post("/transfers", data=form).status_code == 403
        assert doors.city.client(SAN_MATTEO).get(f"/transfers/{transfer}").json()["status"] == "active"

    def test_neither_does_another_persons_nor_one_from_another_site(self, doors: Doors, patient: Patient):
        patient.arrives()
        transfer = patient.transferred()
        staff = doors.staff(SAN_MATTEO, "anna", "registry")
        token = self.token(staff)
        form = {"act": "end", "transfer": transfer, "token": token}
        assert doors.staff(SAN_MATTEO, "eva", "registry").post("/transfers", data=form).status_code == 403
        assert staff.post("/transfers", data=form, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        assert doors.city.client(SAN_MATTEO).get(f"/transfers/{transfer}").json()["status"] == "active"

    def token(self, staff: Staff) -> str:
        found = re.search(r'name="token" value="([0-9a-f]+)"', staff.get("/transfers").text)
        assert found
        return found[1]

    def test_a_third_hospital_reaches_no_transfer_of_two_others(self, doors: Doors, patient: Patient):
        patient.arrives()
        transfer = patient.transferred()
        stranger = doors.staff(MONDINO, "anna", "registry")
        for act in ("end", "extend", "take-back", "accept"):
            form = {"act": act, "transfer": transfer, "number": "1", "until": "2028-01-01", "token": self.token(stranger)}
            assert stranger.post("/transfers", data=form).status_code == 404
        assert doors.city.client(SAN_MATTEO).get(f"/transfers/{transfer}").json()["status"] == "active"

    @pytest.mark.parametrize(
        "body",
        [b"", b"act=look", b"act=" + b"x" * 70_000, b"act=a&act=b", b"\xff\xfe=1", b"act=look&number=%ff%fe&to=maugeri&reason=x"],
    )
    def test_no_form_breaks_the_page(self, doors: Doors, body: bytes):
        staff = doors.staff(SAN_MATTEO, "anna", "registry")
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        token = b"&token=" + self.token(staff).encode()
        assert 400 <= staff.post("/transfers", data=body + token, headers=kind).status_code < 500
        assert staff.post("/transfers", data=b"{}", headers={"Content-Type": "application/json"}).status_code == 415

    def test_what_others_wrote_is_shown_as_text(self, doors: Doors, patient: Patient):
        doors.send(SAN_MATTEO, image(patient.number, patient.prior, name="<b>Rossi^Zoe"))
        body = {"patient": {"id": patient.number}, "to": MAUGERI, "reason": "<script>alert(1)</script>"}
        assert doors.city.client(SAN_MATTEO).post("/transfers", json=body).status_code == 201
        text = doors.staff(MAUGERI, "anna", "registry").get("/transfers").text
        assert "&lt;script&gt;" in text and "<script>" not in text and "<b>Rossi" not in text

    def test_the_page_says_so_where_the_archive_is_away(self, doors: Doors):
        doors.with_site(MONDINO, '[archive]\napi = "http://127.0.0.1:9"\n')
        try:
            answer = doors.staff(MONDINO, "anna", "registry").get("/transfers", headers={"Accept-Language": "it"})
            assert (answer.status_code, "L'archivio ora non è raggiungibile" in answer.text.replace("&#39;", "'")) == (502, True)
            assert requests.get(doors.endpoints(MONDINO)["page"] + "/", timeout=60).status_code == 200
        finally:
            doors.put_back(MONDINO)


@pytest.mark.parametrize("width", [683, 512])
def test_nothing_of_the_page_is_beyond_the_edge_of_an_enlarged_window(doors: Doors, patient: Patient, registry, width: int):
    patient.arrives()
    patient.transferred()
    page = registry[SAN_MATTEO]
    page.set_viewport_size({"width": width, "height": 400})
    for path in ("/transfers", "/patients"):
        page.goto(doors.endpoints(SAN_MATTEO)["page"] + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
