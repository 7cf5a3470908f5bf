"""ADT at work: does at the archive what the ledger wants, and looks which transfers wait for a patient who was admitted here."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from forwarder.archive.changes import NOW, Pace, ask, changes
from forwarder.archive.client import Answer, Archive
from forwarder.archive.link import Link
from forwarder.archive.retry import pause
from forwarder.config import AdtConfig
from forwarder.errors import ArchiveError, Failure, SpoolError
from forwarder.hl7.adt.acts import ANOTHERS, WITHIN, Act, ActKind, ActState
from forwarder.hl7.adt.event import CODICE_FISCALE, DISCHARGES, MOVES, WILL_DISCHARGE, RegisteredPerson
from forwarder.hl7.adt.ledger import RegistrationLedger
from forwarder.hl7.adt.merges import concerns_of
from forwarder.hl7.adt.rules import Incoming, Terms, judge
from forwarder.logs import UNFORESEEN, log, log_unforeseen
from forwarder.spool.spool import Spool
from forwarder.stand_in import are_two

PAUSE_SECONDS = 10.0
LOOKS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)
"""Seconds after something happened at which transfers that wait are looked at: the archive links numbers in its own time."""
LOOK_ANYWAY_SECONDS = 600.0
MOST_PAGES = 20
MOST_CHANGES = 3
"""How often a transfer is looked at again that is another way when something is to be done to it."""
MOST_ASKED = 100
"""Transfers of whose patients the sender's word is remembered."""
OF_TRANSFERS = frozenset({"transfer-opened", "transfer-waiting", "transfer-ended", "link-proposed"})
REASONS = {
    DISCHARGES: "Dimissione / discharge (ADT^A03)",
    MOVES: "Trasferimento / transfer (ADT^A02)",
    WILL_DISCHARGE: "Dimissione annunciata / pending discharge (ADT^A16)",
}
ANNOUNCED = "Trasferimento annunciato / pending transfer (ADT^A15)"


def terms_of(config: AdtConfig) -> Terms:
    """What the rules need of the configuration."""
    return Terms(config.open == "consent", config.pending_opens, config.accept_days, config.early_days, config.accept == "named")


class Registration:
    """Two threads: `run` does the work, `follow` reads the archive's feed."""

    def __init__(self, spool: Spool, archive: Archive, line: Link, config: AdtConfig) -> None:
        self._spool = spool
        self._archive = archive
        self._line = line
        self._config = config
        self._terms = terms_of(config)
        self.ledger = RegistrationLedger(spool.journal, self._terms)
        self._wake = threading.Event()
        self._looks: list[float] = []  # when transfers that wait are to be looked at (monotonic), ascending
        self._said: dict[str, RegisteredPerson] = {}  # by transfer, what its sender says of the patient
        self._self: tuple[str, str] | None = None
        self.on_accepted: Callable[[str], None] = lambda _: None
        """Hears of each transfer that an admission accepted."""
        self._look_soon()

    def notice(self) -> None:
        """Something new was told, or it is time to stop."""
        self._look_soon()
        self._wake.set()

    def _look_soon(self) -> None:
        now = time.monotonic()
        self._looks = [now + seconds for seconds in LOOKS]

    def follow(self, stop: threading.Event) -> None:
        """Follow the feed until `stop`: a transfer that is opened or waits again is looked at."""
        cursor, pace = NOW, Pace(self._archive)
        while not stop.is_set():
            wait = PAUSE_SECONDS
            try:
                if not self._line.closed_for():
                    found, cursor = changes(self._archive, cursor)
                    if any(change.get("kind") in OF_TRANSFERS for change in found):
                        self.notice()
                    wait = pace.after(bool(found))
            except ArchiveError as error:
                log.debug("the archive's feed cannot be read", kind=error.failure.value, detail=str(error))
                cursor = NOW if error.failure is Failure.INSTANCE else cursor  # a cursor that the archive does not know any more
            if wait:
                stop.wait(wait)

    def run(self, stop: threading.Event) -> None:
        """Until `stop`; a failing disk is waited out."""
        while not stop.is_set():
            self._wake.clear()
            try:
                wait = self.step()
            except SpoolError as error:
                log.error("the spool fails", detail=str(error))
                wait = 2.0
            if wait and not stop.is_set():
                self._wake.wait(wait)

    def step(self) -> float:
        """Do one thing, if one is due and the line is open; how long to wait (seconds) before the next. Raises SpoolError."""
        if closed := self._line.closed_for():
            return closed
        started = time.monotonic()
        act = self.ledger.next_act()
        try:
            if act is not None:
                self._perform(act)
            elif self._looks and self._looks[0] <= started:
                self._looks = [moment for moment in self._looks if moment > started] or [started + LOOK_ANYWAY_SECONDS]
                self._look()
            else:
                return min(1.0, max(0.05, self._looks[0] - started) if self._looks else 1.0)
        except ArchiveError as error:
            self._failed(act, error, started)
            return 0.0
        except (SpoolError, OSError):
            raise
        except Exception as error:  # nobody foresaw it: it holds up this act alone
            log_unforeseen("an act of ADT failed", error, act=act.seq if act else None)
            if act is not None:
                self.ledger.later(act, pause(Failure.INSTANCE, act.attempts + 1, None), UNFORESEEN)
            return 0.0
        self._line.succeeded()
        return 0.0

    def _failed(self, act: Act | None, error: ArchiveError, started: float) -> None:
        log.warning("an act of ADT failed", act=act.seq if act else None, kind=error.failure.value, detail=str(error))
        blamed = not self._line.failed(error, started)
        if act is None:
            self._looks = sorted([*self._looks, time.monotonic() + PAUSE_SECONDS])
        elif blamed or error.failure in (Failure.SERVER, Failure.REFUSED, Failure.PROTOCOL):
            self.ledger.later(act, pause(Failure.INSTANCE, act.attempts + 1, error.retry_after), error.failure.value)

    # Acts

    def _perform(self, act: Act) -> None:
        """Do or undo one act. Raises ArchiveError, SpoolError."""
        if act.kind is ActKind.OPENING and not act.undo and (patient := self.ledger.unstated(act.number)):
            act = patient  # first things first: a transfer is of a patient whom the archive knows
        if act.kind is ActKind.OPENING and act.subject == self._own()[0]:
            self.ledger.settled(act, ActState.DONE, WITHIN)
            return
        looked_at = act.undo or act.tried or act.released_from == ANOTHERS
        if act.kind is ActKind.OPENING and not looked_at and self._has_exams_of_another(act):
            log.warning("exams under the number name another person: what is to be opened waits for a person", act=act.seq)
            self.ledger.hold(act, ANOTHERS)
            return
        if not self.ledger.may_begin(act, self._config.per_hour):
            log.error("more is to be opened in an hour than allowed: it waits for a person", act=act.seq)
            return
        self._spool.step("adt-begun")
        does = {
            (ActKind.PATIENT, False): self._state_patient,
            (ActKind.LINK, False): self._link,
            (ActKind.LINK, True): self._unlink,
            (ActKind.OPENING, False): self._open,
            (ActKind.OPENING, True): self._end,
            (ActKind.ACCEPTANCE, False): self._accept,
            (ActKind.ACCEPTANCE, True): self._take_back,
        }[act.kind, act.undo]
        reason, result = does(act)
        self._spool.step("adt-done")
        state = ActState.ASIDE if reason else ActState.UNDONE if act.undo else ActState.DONE
        self.ledger.settled(act, state, reason, result)
        if reason:
            log.warning("an act of ADT was refused", act=act.seq, act_kind=act.kind, reason=reason)
        else:
            log.info("an act of ADT was undone" if act.undo else "an act of ADT was done", act=act.seq, act_kind=act.kind)
        if act.kind in (ActKind.PATIENT, ActKind.LINK):
            self._look_soon()
        if act.kind is ActKind.ACCEPTANCE and state is ActState.DONE:
            self.on_accepted(act.subject)

    def _state_patient(self, act: Act) -> tuple[str | None, str]:
        codes = [{"issuer": CODICE_FISCALE, "id": code} for code in act.content["codes"]]
        said = {name: act.content[name] for name in ("name", "birth_date", "sex")}
        body = said | {"identifiers": codes, "event": act.actor.removeprefix("HL7 ")}
        answer = self._call("PUT", _patient(act.number), act, body, (200, 400))
        return (None if answer.status == 200 else "patient-refused"), ""

    def _has_exams_of_another(self, act: Act) -> bool:
        """Whether an exam of ours under the number is of somebody else than the registration says: a transfer shares all."""
        person = self.ledger.registered(act.number)
        named = self._named_in_exams(act, act.number)
        return any(are_two(person.name, person.birth_date, other.name, other.birth_date) for other in named)

    def _named_in_exams(self, act: Act, number: str) -> set[RegisteredPerson]:
        """Whom our own exams under a number are of, by name and birth date."""
        answer = self._call("GET", f"{_patient(number)}/timeline", act, None, (200, 400, 404))
        exams = _object(answer).get("studies", []) if answer.status == 200 else []
        own = self._own()[0]
        said = [exam.get("patient", {}) for exam in exams if exam.get("owner") == own]
        return {RegisteredPerson(str(who.get("name") or ""), str(who.get("birth_date") or "")) for who in said}

    def _open(self, act: Act) -> tuple[str | None, str]:
        answer = self._post_transfer(act)
        if answer.status != 201:
            return {404: "patient-unknown", 409: "opened-otherwise"}.get(answer.status, "transfer-refused"), ""
        return None, str(_object(answer).get("id", ""))

    def _post_transfer(self, act: Act) -> Answer:
        reason = REASONS.get(str(act.content.get("trigger")), ANNOUNCED)
        body = {"patient": {"id": act.number}, "to": act.subject, "reason": reason}
        return self._call("POST", "/transfers", act, body, (201, 400, 404, 409), **{"Idempotency-Key": act.key})

    def _end(self, act: Act) -> tuple[str | None, str]:
        """End what this act opened. Where the answer to the opening was lost, asking again tells which that is."""
        transfer = act.result
        if not transfer:
            answer = self._post_transfer(act)
            transfer = str(_object(answer).get("id", "")) if answer.status == 201 else ""
        if transfer:
            self._call("DELETE", f"/transfers/{transfer}", act, None, (200, 404))
        return None, transfer

    def _accept(self, act: Act) -> tuple[str | None, str]:
        """Accept, unless a person did under another number since this act was decided on."""
        for _ in range(MOST_CHANGES):
            named, seen = self._accepted(act)
            if named not in ("", act.number):
                return "accepted-otherwise", ""
            asked = f"/transfers/{act.subject}/receiving-patient"
            answer = self._call("PUT", asked, act, {"id": act.number}, (200, 400, 403, 404, 409, 412), **seen)
            if answer.status != 412:
                return (None if answer.status == 200 else "acceptance-refused"), ""
        raise ArchiveError("The transfer is changed again and again.", Failure.INSTANCE)

    def _take_back(self, act: Act) -> tuple[str | None, str]:
        """Take the acceptance back, where it is still under the number that the admission named."""
        for _ in range(MOST_CHANGES):
            named, seen = self._accepted(act)
            if named != act.number:
                return None, ""
            asked = f"/transfers/{act.subject}/receiving-patient"
            if self._call("DELETE", asked, act, None, (200, 404, 409, 412), **seen).status != 412:
                return None, ""
        raise ArchiveError("The transfer is changed again and again.", Failure.INSTANCE)

    def _accepted(self, act: Act) -> tuple[str, dict[str, str]]:
        """Under which number of ours a transfer is accepted now, empty for none; and the header by which nothing is done to it
        once it is another way, by a person who acts at the same moment (412: then it is looked at again)."""
        found = _object(self._call("GET", f"/transfers/{act.subject}", act, None, (200, 404)))
        named = found.get("receiving_patient")
        seen = {"If-Match": f'"{found["state"]}"'} if "state" in found else {}
        return (str(named.get("id")) if isinstance(named, dict) else ""), seen

    def _link(self, act: Act) -> tuple[str | None, str]:
        answer = self._call("POST", f"{_patient(act.number)}/links", act, {"id": act.subject}, (201, 400, 404, 409))
        if answer.status != 201:
            return ("link-refused" if answer.status != 409 else "different-codes"), ""
        self._look_at_merge(act)
        return None, str(_object(answer).get("link", ""))

    def _look_at_merge(self, act: Act) -> None:
        """A merge takes effect whomever it is of; whether a person has to look at it is written down."""
        pair = act.number, act.subject
        number = self.ledger.stays(act)
        other = pair[0] if number == pair[1] else pair[1]
        persons = {person for each in pair for person in (*self._named_in_exams(act, each), self.ledger.registered(each))}
        listed = {}
        for kind in ("links", "objections"):
            answer = self._call("GET", f"{_patient(number)}/{kind}", act, None, (200, 404))
            listed[kind] = _object(answer).get(kind, []) if answer.status == 200 else []
        concerns = concerns_of(number, other, persons, listed["links"], listed["objections"])
        self.ledger.merged(number, other, concerns)
        if concerns:
            log.warning("a merge was done at which a person has to look", act=act.seq, reasons=", ".join(concerns))

    def _unlink(self, act: Act) -> tuple[str | None, str]:
        """Undo what joins two numbers of this house, whoever joined them: its registration says that they are two."""
        found = self._call("GET", f"{_patient(act.number)}/links", act, None, (200, 404))
        links = _object(found).get("links", []) if found.status == 200 else []
        number = {"issuer": self._own()[1], "id": act.subject}
        own = [str(link["link"]) for link in links if link.get("status") == "confirmed" and link.get("identifier") == number]
        for link in own:
            self._call("DELETE", f"{_patient(act.number)}/links/{quote(link, safe='')}", act, None, (200, 404))
        self.ledger.parted(act.number, act.subject)
        return None, ""

    def _own(self) -> tuple[str, str]:
        """(our id, the issuer of our numbers): of our own registration the archive shows all. Raises ArchiveError."""
        if self._self is None:
            listed = ask(self._archive, "/institutions").get("institutions", [])
            own = next((member for member in listed if "patient_id_issuer" in member), None)
            if own is None:
                raise ArchiveError("The archive does not say who we are.", Failure.PROTOCOL)
            self._self = str(own["id"]), str(own["patient_id_issuer"])
        return self._self

    def _call(
        self, method: str, path: str, act: Act, body: object, expected: tuple[int, ...], **headers: str
    ) -> Answer:  # fmt: skip
        """A request under the name of the message that it rests on, which the archive records. Raises ArchiveError."""
        payload = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
        given = {"Accept": "application/json", "X-On-Behalf-Of": act.actor} | headers
        if body is not None:
            given["Content-Type"] = "application/json"
        return self._archive.call(method, path, payload, given, expected)

    # Transfers that wait for us

    def _look(self) -> None:
        """Hold those who were admitted here against the transfers that wait. Raises ArchiveError, SpoolError."""
        if not self.ledger.expects():
            return
        oldest = datetime.now(UTC) - timedelta(days=self._terms.accept_days + self._config.max_age_days)
        waiting = [transfer for transfer in self._waiting() if _opened_at(transfer) > oldest]
        self._said = {name: said for name, said in self._said.items() if any(transfer["id"] == name for transfer in waiting)}
        transfers = [self._incoming(transfer) for transfer in waiting]
        numbers = {number for transfer in transfers for number in transfer.linked}
        days = {
            transfer.person.birth_date for transfer in transfers if transfer.person is not None and transfer.person.birth_date
        }
        candidates = judge(transfers, self.ledger.encounters(numbers, days), self._terms)
        if self.ledger.judged([transfer.id for transfer in transfers], candidates):
            self._wake.set()

    def _waiting(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        path = "/transfers?direction=incoming&accepted=false&limit=100"
        for _ in range(MOST_PAGES):
            page = ask(self._archive, path)
            if not isinstance(page, dict) or not isinstance(page.get("transfers"), list):
                raise ArchiveError("The archive's list of transfers is not what the contract says.", Failure.PROTOCOL)
            found += page["transfers"]
            if not page.get("next"):
                break
            path = f"/transfers?direction=incoming&accepted=false&limit=100&cursor={quote(str(page['next']), safe='')}"
        return found

    def _incoming(self, transfer: dict[str, Any]) -> Incoming:
        try:
            linked = tuple(str(number["id"]) for number in transfer.get("linked_patients", []))
            return Incoming(str(transfer["id"]), str(transfer["from"]), _opened_at(transfer), linked, self._person(transfer))
        except (KeyError, TypeError, ValueError) as error:
            raise ArchiveError("A transfer in the archive's list is not what the contract says.", Failure.PROTOCOL) from error

    def _person(self, transfer: dict[str, Any]) -> RegisteredPerson | None:
        """What the sender says of the patient, asked once: evidence."""
        name = str(transfer["id"])
        if name not in self._said and len(self._said) < MOST_ASKED:
            number = transfer["patient"]
            path = f"{_patient(str(number['id']))}/timeline?issuer={quote(str(number['issuer']), safe='')}"
            answer = self._archive.call("GET", path, b"", {"Accept": "application/json"}, (200, 400, 404))
            who = _object(answer).get("patient") if answer.status == 200 else None
            said = who if isinstance(who, dict) else {}
            called, birth_date, sex = (str(said.get(key) or "") for key in ("name", "birth_date", "sex"))
            self._said[name] = RegisteredPerson(called, birth_date, sex)
        return self._said.get(name)


def _opened_at(transfer: dict[str, Any]) -> datetime:
    try:
        return datetime.fromisoformat(str(transfer["opened_at"]))
    except (KeyError, ValueError) as error:
        raise ArchiveError("A transfer in the archive's list does not say when it was opened.", Failure.PROTOCOL) from error


def _patient(number: str) -> str:
    return f"/patients/{quote(number, safe='')}"


def _object(answer: Answer) -> dict[str, Any]:
    """The JSON object of an answer. Raises ArchiveError."""
    try:
        found = json.loads(answer.data)
    except ValueError as error:
        raise ArchiveError("The archive's answer is not JSON.", Failure.PROTOCOL) from error
    if not isinstance(found, dict):
        raise ArchiveError("The archive's answer is not a JSON object.", Failure.PROTOCOL)
    return found
